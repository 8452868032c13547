"""Drives of the command line, opened, and the devices that they bring."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pytcg.block.device import BlockDevice, BlockError
from pytcg.block.open import open_image
from pytcg.block.options import merge, parse_name, unflatten
from pytcg.cli.system import throttling
from pytcg.machine.drives import DeviceError, Drive, DriveBay
from pytcg.machine.io_errors import Policy

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable
    from contextlib import ExitStack

    from pytcg.block.filters.throttle import ThrottleGroup
    from pytcg.cli.system.option_values import Options
    from pytcg.machine.devices.rack import Rack

OWN: Final = ("if", "file", "index", "bus", "unit", "media", "format", "cache", "aio", "snapshot",
              "readonly", "id", "discard", "detect-zeroes", "copy-on-read", "rerror", "werror",
              "bootindex", *throttling.NAMES)  # fmt: skip
UNITS: Final = {"ide": 2}  # of a bus; elsewhere, and on q35, the number is the bus itself
MOST: Final = {"ide": 4, "floppy": 2}
MOST_SATA: Final = 6
CDROM_INDEX: Final = 2  # of the CD-ROM drive that is there by itself
ACTIONS: Final = (("rerror", "report"), ("werror", "enospc"))
NO_CACHE: Final = ("writethrough", "directsync")


class Drives:
    """Every image of the command line. `by_id` is what devices choose from."""

    def __init__(self, options: Options, lock: threading.RLock,
                 fail: Callable[[BaseException], None], stack: ExitStack,
                 groups: dict[str, ThrottleGroup] | None = None) -> None:
        self._options = options
        self._units = {} if options.q35 else UNITS
        self._most = MOST | {"ide": MOST_SATA} if options.q35 else MOST
        self.by_id = DriveBay(lock, fail)
        stack.callback(self.by_id.close)
        self._places: dict[tuple[str, int, int], Drive] = {}
        graph = self.by_id.graph
        graph.groups = groups if groups is not None else {}
        for node in options.blockdevs.values():
            graph.own(open_image(node, exclusive=True, nodes=graph.nodes,
                                 groups=graph.groups))
        for values in sorted(options.drives, key=lambda values: "index" not in values):
            self._add(values)

    def add(self, text: str) -> None:
        """One more, as -drive describes it, without a device; DeviceError."""
        from pytcg.cli.system.drive_options import set_drive
        from pytcg.cli.system.option_values import Information, OptionError, Options

        made = Options()
        try:
            set_drive(made, text)
        except (OptionError, Information) as error:
            raise DeviceError(str(error)) from None
        for values in made.drives:
            if values.get("if", "ide") == "none":
                self._add(values)
                return
        kind = "pflash" if made.flashes else made.drives[0].get("if", "ide")
        raise DeviceError(f"Can't hot-add drive to type {kind}")

    def _add(self, values: dict[str, str]) -> None:
        interface = values.get("if", "ide")
        media = values.get("media", "disk")
        bus, unit = self._place(interface, values)
        name = values.get("id") or _name(interface, media, bus, unit)
        if name in self.by_id:
            raise DeviceError(f"-drive: Duplicate ID '{name}' for drive")
        drive = Drive(name, interface, media, bus=bus, unit=unit,
                      write_cache=values.get("cache", "writeback") not in NO_CACHE)  # fmt: skip
        if values.get("file") or any(key not in OWN for key in values):
            drive.io = self.by_id.serve(self._open(values, media))
            throttling.limit(self.by_id, drive.io, values, name)
            drive.io.policy = Policy(*(_action(values.get(key), usual) for key, usual in ACTIONS))
        elif media == "disk" and interface not in ("none", "floppy"):
            raise DeviceError(f"drive '{name}': Device needs media, but drive is empty")
        self.by_id[name] = self._places[interface, bus, unit] = drive

    def _place(self, interface: str, values: dict[str, str]) -> tuple[int, int]:
        """Bus and unit; the first free ones where nothing is said."""
        units = self._units.get(interface, 1)
        bus, unit = int(values.get("bus", 0)), int(values.get("unit", 0))
        if "index" in values:
            if "bus" in values or "unit" in values:
                raise DeviceError("-drive: index cannot be used with bus and unit")
            bus, unit = divmod(int(values["index"]), units)
        elif "unit" not in values:
            while (interface, bus, unit) in self._places:
                bus, unit = divmod(bus * units + unit + 1, units)
        if bus * units + unit >= self._most.get(interface, 1 << 16) or unit >= units:
            raise DeviceError(f"machine type does not support if={interface},bus={bus},unit={unit}")
        if (interface, bus, unit) in self._places:
            raise DeviceError(f"drive with bus={bus}, unit={unit} (if={interface}) exists")
        return bus, unit

    def _open(self, values: dict[str, str], media: str) -> BlockDevice:
        given: dict[str, Any] = unflatten({key: value for key, value in values.items()
                                           if key not in OWN})  # fmt: skip
        name: Any = values.get("file", "")
        if given:
            name = merge(given, parse_name(name)) if name else given
        read_only = values.get("readonly") == "on" or media == "cdrom"
        snapshot = self._options.snapshot or values.get("snapshot") == "on"
        try:
            image = open_image(
                name, format=values.get("format"), read_only=read_only,
                cache=values.get("cache", "writeback"), discard=values.get("discard", "unmap"),
                detect_zeroes=values.get("detect-zeroes", "off"),
                exclusive=not read_only, snapshot=snapshot and not read_only,
                nodes=self.by_id.graph.nodes, groups=self.by_id.graph.groups,
            )  # fmt: skip
        except BlockError as error:
            shown = values.get("file", "")
            text = str(error)
            raise DeviceError(text if shown in text else f"{shown}: {text}") from None
        if values.get("copy-on-read") == "on" and not image.read_only:
            from pytcg.block.filters.copy_on_read import CopyOnRead

            image = CopyOnRead(image)
        return image

    # --- devices -------------------------------------------------------------------------------

    def add_devices(self, rack: Rack) -> None:
        """The devices of the drives' interfaces, then those of `-device`."""
        for (interface, bus, unit), drive in sorted(self._places.items()):
            if interface == "ide":
                model = "ide-cd" if drive.media == "cdrom" else "ide-hd"
                rack.add(model, {"drive": drive.id, "bus": f"ide.{bus}", "unit": str(unit)})
            elif interface == "virtio":
                rack.add("virtio-blk-pci", {"drive": drive.id})
            elif interface == "floppy":
                rack.add("floppy", {"drive": drive.id, "unit": str(bus)})
            elif interface != "none":
                where = f"if={interface},bus={bus},unit={unit}"
                raise DeviceError(f"machine type does not support {where}")
        for name, values in self._options.devices:
            rack.add(name, values)
        self._default_cdrom(rack)
        self._default_floppy(rack)

    def _default_floppy(self, rack: Rack) -> None:
        """An empty floppy drive, unless there is one."""
        named = any(name == "floppy" for name, _ in self._options.devices)
        if self._options.defaults and not named and rack.board.fdc.drives == [None, None]:
            self.by_id["floppy0"] = Drive("floppy0", "floppy")
            rack.add("floppy", {"drive": "floppy0", "unit": "0"})

    def _default_cdrom(self, rack: Rack) -> None:
        """An empty CD-ROM drive, unless there is one or its place is taken."""
        options = self._options
        named = any(name in ("ide-cd", "scsi-cd") for name, _ in options.devices)
        given = any(drive.media == "cdrom" for drive in self.by_id.values())
        bus, unit = divmod(CDROM_INDEX, self._units.get("ide", 1))
        taken = unit in rack.ide_buses()[f"ide.{bus}"].drives
        if options.defaults and not named and not given and not taken:
            name = _name("ide", "cdrom", bus, unit)
            self.by_id[name] = Drive(name, "ide", "cdrom", bus=bus, unit=unit)
            rack.add("ide-cd", {"drive": name, "bus": f"ide.{bus}", "unit": str(unit)})


def _action(given: str | None, usual: str) -> str:
    return usual if given in (None, "auto") else given


def _name(interface: str, media: str, bus: int, unit: int) -> str:
    """The identifier of a drive without id=."""
    if interface == "ide":
        return f"ide{bus}-{'cd' if media == 'cdrom' else 'hd'}{unit}"
    return f"{interface}{bus}"
