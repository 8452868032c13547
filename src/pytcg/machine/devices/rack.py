"""The machine as a builder of devices sees it: its buses, drives and character devices."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from pytcg.chardev.base import Chardev, ChardevError
from pytcg.chardev.registry import Chardevs
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
from pytcg.machine.memory_backend import MemoryBackend
from pytcg.machine.pc import Pc

if TYPE_CHECKING:
    from pytcg.ninep.service import Service

ROOT_BUSES = (None, "pci.0", "pci", "pcie.0")


class Rack:
    """Where devices are plugged in."""

    def __init__(self, board: Pc, drives: DriveBay,
                 chardevs: Chardevs,
                 backends: Mapping[str, MemoryBackend] | None = None,
                 fsdevs: Mapping[str, Callable[[], Service]] | None = None) -> None:  # fmt: skip
        self.board = board
        self.fsdevs = fsdevs or {}  # what makes a server of each, by id
        self.backends = backends or {}
        self.drives = drives
        self.chardevs = chardevs
        self.devices: dict[str, object] = {}  # by id
        self.models: dict[str, str] = {}  # likewise, their names
        self.values: dict[str, Values] = {}  # likewise, their properties
        self.buses: dict[str, object] = {}  # by name: of drives, and those that devices bring
        for number, bus in enumerate(self._on_board()):
            self.buses[f"ide.{number}"] = bus

    def _on_board(self) -> list[IdeBus]:
        if self.board.sata is not None:
            path = f"/pci@i0cf8/pci8086,2922@{at.ICH9:x},{at.ICH9_SATA}"
            return ide_bus.ports(self.board.sata, path)
        assert self.board.ide is not None
        return ide_bus.channels(self.board.ide, f"/pci@i0cf8/ide@{at.PIIX:x},1")

    def add(self, name: str, given: Mapping[str, str]) -> object:
        """Build a model with properties as text; DeviceError says what is wrong."""
        model = BY_NAME.get(name)
        if model is None:
            raise DeviceError(f"'{name}' is not a valid device model name")
        return self.build(name, values_of(model, given))

    def build(self, name: str, values: Values) -> object:
        """Build a model with checked properties."""
        identity = values.get("id")
        if identity in self.devices:
            raise DeviceError(f"Duplicate device ID '{identity}'")
        module, function = BY_NAME[name].build.split(":")
        try:
            device: object = load(f"{__package__}.{module}", function)(self, values)
        except Claimed as error:
            raise DeviceError(str(error)) from None
        if identity:
            self.devices[identity] = device
            self.models[identity], self.values[identity] = name, values
        return device

    # --- what builders ask for -----------------------------------------------------------------

    def take_drive(self, name: str, values: Values) -> Drive:
        """The drive a property names; DeviceError if it isn't there or in use."""
        wanted = values.get("drive")
        if wanted is None:
            raise DeviceError(f"-device {name}: drive property not set")
        drive = self.drives.get(wanted) or self.drives.for_node(wanted)
        if drive is None:
            raise DeviceError(f"-device {name}: can't find value '{wanted}' of property 'drive'")
        drive.take(name)
        self._name(drive, name, values)
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
        drive.take(name)
        self._name(drive, name, values)
        return drive

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
            return self.chardevs.take(wanted)
        except ChardevError as error:
            raise DeviceError(f"-device {name}: Property '{name}.chardev' {error}") from None

    def plug_pci(self, device: PciDevice, name: str, values: Values) -> None:
        """Put a card into the slot that `addr` names, or the first free one."""
        if values.get("bus") not in ROOT_BUSES:
            raise DeviceError(f"-device {name}: Bus '{values['bus']}' not found")
        slot, function = values.get("addr") or (None, 0)
        try:
            self.board.pci.plug(device, slot, function)
        except ValueError as error:
            raise DeviceError(f"-device {name}: {error}") from None

    def add_boot(self, values: Values, path: str) -> None:
        """Enter a device into the boot order if it has a bootindex."""
        index = values.get("bootindex")
        if index is not None and index >= 0:
            try:
                self.board.boot_order.add(index, path)
            except ValueError as error:
                raise DeviceError(str(error)) from None
