"""The machine as a builder of devices sees it: its buses, drives and character devices.

What a builder takes, it takes by the rack, which notes how that is given back: so any device can
leave again, with those on its buses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from pytcg.chardev.base import Chardev, ChardevError
from pytcg.hw.pci.device import PciDevice
from pytcg.lazy import load
from pytcg.machine import pc_map as at
from pytcg.machine.bus import Claimed
from pytcg.machine.devices import ide_bus
from pytcg.machine.devices.ide_bus import IdeBus
from pytcg.machine.devices.model import Values, values_of
from pytcg.machine.devices.table import BY_NAME
from pytcg.machine.drives import DeviceError, Drive, DriveBay
from pytcg.machine.io_errors import READ_ACTIONS, WRITE_ACTIONS, Policy
from pytcg.machine.objects import Objects

if TYPE_CHECKING:
    from pytcg.chardev.registry import Chardevs
    from pytcg.machine.pc import Pc
    from pytcg.ninep.service import Service

ROOT_BUSES = (None, "pci.0", "pci", "pcie.0")
Undo = Callable[[], object]


@dataclass(eq=False)
class Plugged:
    """A device: what it was made of, the bus it is on, those it brought, and what undoes it."""

    name: str  # of its model
    values: Values
    number: int
    device: object = None
    bus: object = None
    brings: list[object] = field(default_factory=list)
    undo: list[Undo] = field(default_factory=list)  # each without the device lock, last one first
    hot: bool = False  # it came while the machine ran
    asked: int | None = None  # when it was asked to leave, by the machine's clock

    @property
    def id(self) -> str:
        """Its name, "" if it has none."""
        return self.values.get("id") or ""

    @property
    def path(self) -> str:
        """By which monitors know it."""
        if self.id:
            return f"/machine/peripheral/{self.id}"
        return f"/machine/peripheral-anon/device[{self.number}]"


class Rack:
    """Where devices are plugged in."""

    def __init__(self, board: Pc, drives: DriveBay,
                 chardevs: Chardevs,
                 objects: Objects | None = None,
                 fsdevs: Mapping[str, Callable[[], Service]] | None = None) -> None:  # fmt: skip
        self.board = board
        self.fsdevs = fsdevs or {}  # what makes a server of each, by id
        self.objects = objects or Objects(chardevs.context)
        drives.graph.groups = self.objects.groups
        self.drives = drives
        self.chardevs = chardevs
        self.plugged: list[Plugged] = []
        self.buses: dict[str, object] = {}  # by name: of drives, and those that devices bring
        self._count = 0  # of devices without ids
        self._building: Plugged | None = None
        self.on_added: Callable[[Plugged], None] = lambda plugged: None
        self.on_removed: Callable[[Plugged], None] = lambda plugged: None
        """Called when a device has left, in the main loop."""
        for number, bus in enumerate(self._on_board()):
            self.buses[f"ide.{number}"] = bus
        if board.hotplug is not None:
            board.hotplug.on_eject = self.ejected

    def _on_board(self) -> list[IdeBus]:
        if self.board.sata is not None:
            path = f"/pci@i0cf8/pci8086,2922@{at.ICH9:x},{at.ICH9_SATA}"
            return ide_bus.ports(self.board.sata, path)
        assert self.board.ide is not None
        return ide_bus.channels(self.board.ide, f"/pci@i0cf8/ide@{at.PIIX:x},1")

    def add(self, name: str, given: Mapping[str, str], *, hot: bool = False) -> object:
        """Build a model with properties as text; DeviceError says what is wrong.

        ``hot``: the machine is there already, and hears of it.
        """
        model = BY_NAME.get(name)
        if model is None:
            raise DeviceError(f"'{name}' is not a valid device model name")
        return self.build(name, values_of(model, given), hot=hot)

    def build(self, name: str, values: Values, *, hot: bool = False) -> object:
        """Build a model with checked properties."""
        if values.get("id") and self.find(values["id"]) is not None:
            raise DeviceError(f"Duplicate device ID '{values['id']}'")
        plugged = self._building = Plugged(name, values, self._count, hot=hot)
        self._count += not plugged.id
        module, function = BY_NAME[name].build.split(":")
        try:
            plugged.device = load(f"{__package__}.{module}", function)(self, values)
        except BaseException as error:
            for undo in reversed(plugged.undo):
                undo()
            if isinstance(error, Claimed):
                raise DeviceError(str(error)) from None
            raise
        finally:
            self._building = None
        self.plugged.append(plugged)
        if hot and isinstance(plugged.device, PciDevice) and self.board.hotplug is not None:
            self.board.hotplug.plugged(plugged.device.devfn >> 3)
        self.on_added(plugged)
        return plugged.device

    # --- who is there, and who leaves ----------------------------------------------------------

    def find(self, identity: str) -> Plugged | None:
        """By its id or path."""
        return next((each for each in self.plugged
                     if identity in (each.path, each.id) and identity), None)  # fmt: skip

    def holding(self, device: object) -> Plugged | None:
        """The record of a device."""
        return next((each for each in self.plugged if each.device is device), None)

    def with_children(self, plugged: Plugged) -> Iterator[Plugged]:
        """Those on a device's buses, then itself."""
        for bus in plugged.brings:
            for other in [each for each in self.plugged if each.bus is bus]:
                yield from self.with_children(other)
        yield plugged

    def remove(self, plugged: Plugged) -> None:
        """Take a device and what is on its buses out; in the main loop, without the lock."""
        for each in list(self.with_children(plugged)):
            self.plugged.remove(each)
            for undo in reversed(each.undo):
                undo()
            self.on_removed(each)

    def ejected(self, slot: int) -> None:
        """Software has given up a slot; device lock held."""
        for card in [card for card in self.board.pci.devices.values() if card.devfn >> 3 == slot]:
            plugged = self.holding(card)
            if plugged is None:
                continue
            self.board.pci.unplug(card)
            self.chardevs.context.loop.call_soon_threadsafe(self.remove, plugged)

    # --- what builders ask for -----------------------------------------------------------------

    def take_drive(self, name: str, values: Values) -> Drive:
        """The drive a property names; DeviceError if it isn't there or in use."""
        wanted = values.get("drive")
        if wanted is None:
            raise DeviceError(f"-device {name}: drive property not set")
        drive = self.drives.get(wanted) or self.drives.for_node(wanted)
        if drive is None:
            raise DeviceError(f"-device {name}: can't find value '{wanted}' of property 'drive'")
        self._take(drive, name, values)
        if drive.io is not None:
            self._set_policy(drive.io.policy, name, values)
        return drive

    def _set_policy(self, policy: Policy, name: str, values: Values) -> None:
        for key, known in (("rerror", READ_ACTIONS), ("werror", WRITE_ACTIONS)):
            action = values.get(key, "auto")
            if action not in (*known, "auto"):
                raise DeviceError(f"-device {name}: Property '{name}.{key}' doesn't take value"
                                  f" '{action}'")  # fmt: skip
            if action != "auto":
                setattr(policy, {"rerror": "read", "werror": "write"}[key], action)

    def ide_buses(self) -> dict[str, IdeBus]:
        """Those for IDE drives, by name."""
        return {name: bus for name, bus in self.buses.items() if isinstance(bus, IdeBus)}

    def take_tray(self, name: str, values: Values) -> Drive:
        """The same for a drive with a tray, which may be empty and have no drive of its own."""
        if values.get("drive") is not None:
            return self.take_drive(name, values)
        drive = self.drives.anonymous()
        self._take(drive, name, values)
        return drive

    def _take(self, drive: Drive, name: str, values: Values) -> None:
        drive.take(name)
        self.undo_by(partial(self._leave, drive, self._building))
        self._name(drive, name, values)

    def _leave(self, drive: Drive, plugged: Plugged | None) -> None:
        """As QEMU does, a drive goes with its device, unless this was never whole."""
        if drive.id and plugged is not None and plugged.device is None:
            drive.taken_by = drive.device_id = drive.qdev = ""
            return
        self.drives.unserve(drive)
        self.drives.forget(drive)

    def _name(self, drive: Drive, name: str, values: Values) -> None:
        drive.device_id = values.get("id") or ""
        path = f"/machine/peripheral/{drive.device_id}"
        if not drive.device_id:
            path = f"/machine/peripheral-anon/device[{len(self.drives)}]"
        is_virtio = name == "virtio-blk-pci"
        drive.qdev = f"{path}/virtio-backend" if is_virtio else drive.device_id or path

    def take_chardev(self, name: str, values: Values) -> Chardev | None:
        """What the property `chardev` names; DeviceError if it isn't there or in use.

        The device sets its listeners and calls `chardevs.connect(chardev, itself)`.
        """
        wanted = values.get("chardev")
        if wanted is None:
            return None
        try:
            chardev = self.chardevs.take(wanted)
        except ChardevError as error:
            raise DeviceError(f"-device {name}: Property '{name}.chardev' {error}") from None
        self.undo_by(partial(self.chardevs.release, chardev))
        return chardev

    def take_object(self, name: str, key: str, values: Values) -> Any:
        """What stands behind the object that a property names, which stays as long as the device.

        DeviceError.
        """
        wanted = values[key]
        found = self.objects.get(wanted)
        kind = {"memdev": "memory-backend"}.get(key, key)
        if found is None:
            raise DeviceError(f"-device {name}: Device '{wanted}' not found")
        if not found.kind.startswith(kind):
            raise DeviceError(f"-device {name}: Invalid parameter type for '{key}', expected:"
                              f" {kind}")  # fmt: skip
        found.users += 1
        self.undo_by(found.release)
        return found.thing

    def take_iothread(self, name: str, values: Values) -> None:
        """The property `iothread`."""
        if values["iothread"] is not None:
            self.take_object(name, "iothread", values)

    def plug_pci(self, device: PciDevice, name: str, values: Values) -> None:
        """Put a card into the slot that `addr` names, or the first free one."""
        if values.get("bus") not in ROOT_BUSES:
            raise DeviceError(f"-device {name}: Bus '{values['bus']}' not found")
        slot, function = values.get("addr") or (None, 0)
        first = self.board.pci.devices.get((slot or 0) << 3)
        if function and first is not None and self._building is not None and self._building.hot:
            other = self.holding(first)
            raise DeviceError(f"-device {name}: PCI: slot {slot} function 0 already occupied by"
                              f" {other.name if other is not None else 'the board'}, new func"
                              f" {name} cannot be exposed to guest.")  # fmt: skip
        try:
            self.board.pci.plug(device, slot, function)
        except ValueError:
            raise DeviceError(f"-device {name}: {self._taken(name, slot, function)}") from None
        self.undo_by(partial(self._unplug, device))

    def _unplug(self, card: PciDevice) -> None:
        if card.host is not None:
            with self.chardevs.context.lock:
                self.board.pci.unplug(card)

    def _taken(self, name: str, slot: int | None, function: int) -> str:
        if slot is None:
            return f"PCI: no slot/function available for {name}, all in use or reserved"
        other = self.holding(self.board.pci.devices[slot << 3 | function])
        by = f"{other.name},id={other.id}" if other is not None else "the board"
        return f"PCI: slot {slot} function {function} not available for {name}, in use by {by}"

    def undo_by(self, undo: Undo) -> None:
        """What gives back what the device that is being built has taken."""
        if self._building is not None:
            self._building.undo.append(undo)

    def add_bus(self, name: str, bus: object) -> None:
        """The device that is being built brings a bus."""
        self.buses[name] = bus
        if self._building is not None:
            self._building.brings.append(bus)
        self.undo_by(partial(self.buses.pop, name))

    def put_on(self, bus: object) -> None:
        """It is on this bus."""
        if self._building is not None:
            self._building.bus = bus

    def add_boot(self, values: Values, path: str) -> None:
        """Enter a device into the boot order if it has a bootindex."""
        index = values.get("bootindex")
        if index is not None and index >= 0:
            try:
                self.board.boot_order.add(index, path)
            except ValueError as error:
                raise DeviceError(str(error)) from None
            self.undo_by(partial(self.board.boot_order.devices.pop, index))
