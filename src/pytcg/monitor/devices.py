"""Devices that come and go while the machine runs, and what ports and balloons tell."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pytcg.hw.pci.device import PciDevice
from pytcg.hw.virtio.balloon import VirtioBalloon
from pytcg.hw.virtio.pci import VirtioPci
from pytcg.hw.virtio.serial_port import SerialPort
from pytcg.machine.devices.model import Model
from pytcg.machine.devices.rack import Plugged, Rack
from pytcg.machine.devices.table import BY_NAME
from pytcg.machine.drives import DeviceError, Drive
from pytcg.monitor.block.media import watch_tray, watch_trays
from pytcg.monitor.command import (
    CLASS_NO_DEVICE,
    CLASS_NOT_ACTIVE,
    Command,
    CommandError,
    option_text,
)

if TYPE_CHECKING:
    from pytcg.monitor.machine import Machine

HOT: Final = ("PCI", "SCSI", "virtio-serial-bus")
"""Buses that devices may come to and go from; of PCI's, `pc`'s."""
STAYS: Final = ("VGA",)
BUS_NAMES: Final = {"PCI": "pcie.0", "IDE": "ide.0", "ISA": "isa.0"}
BALLOON_PAGE: Final = 4096
REPEAT_NS: Final = 5_000_000_000
"""A guest that has not let go by then may be asked again, as by QEMU since 8.1."""


def _rack(machine: Machine) -> Rack:
    if machine.rack is None:  # -machine none
        raise CommandError("there is no machine", CLASS_NO_DEVICE)
    return machine.rack


def _check_hot(machine: Machine, model: Model) -> None:
    if model.bus not in HOT or (model.bus == "PCI" and machine.board.hotplug is None):
        raise CommandError(f"Bus '{BUS_NAMES.get(model.bus, model.bus)}' does not support"
                           " hotplugging")  # fmt: skip


def add(machine: Machine, given: dict[str, Any]) -> Any:
    """device_add."""
    values = {key: option_text(value) for key, value in given.items()}
    name = values.pop("driver")
    model = BY_NAME.get(name)
    if model is None:
        raise CommandError(f"'{name}' is not a valid device model name")
    if name in STAYS:
        raise CommandError("Parameter 'driver' expects a pluggable device type")
    _check_hot(machine, model)
    if machine.rack is None:
        raise CommandError(f"No '{model.bus}' bus found for device '{name}'")
    try:
        with machine.loop.lock:
            _rack(machine).add(name, values, hot=True)
    except DeviceError as error:
        raise CommandError(str(error).removeprefix(f"-device {name}: ")) from None


def remove(machine: Machine, id: str) -> Any:
    """device_del: at once, or when the guest has let go."""
    rack = _rack(machine)
    plugged = rack.find(id)
    if plugged is None:
        raise CommandError(f"Device '{id}' not found", CLASS_NO_DEVICE)
    _check_hot(machine, BY_NAME[plugged.name])
    if plugged.name in STAYS:
        raise CommandError(f"Device '{id}' does not support hotplugging")
    for each in rack.with_children(plugged):
        _check_idle(machine, each)
    if not isinstance(plugged.device, PciDevice):
        rack.remove(plugged)
        return
    hotplug, now = machine.board.hotplug, machine.loop.clock.now()
    assert hotplug is not None
    if plugged.asked is not None and now - plugged.asked < REPEAT_NS:
        raise CommandError(f"Device {id} is already in the process of unplug")
    plugged.asked = now
    with machine.loop.lock:
        hotplug.ask(plugged.device.devfn >> 3)


def _check_idle(machine: Machine, plugged: Plugged) -> None:
    """BlockError while a job works on its disk."""
    for drive in _drives_of(machine, plugged):
        if drive.io is not None:
            machine.drives.graph.check_unused_by_jobs(drive.io.device.node)


def _drives_of(machine: Machine, plugged: Plugged) -> list[Drive]:
    return [drive for drive in machine.drives.values()
            if plugged.id and drive.device_id == plugged.id]  # fmt: skip


def watch_devices(machine: Machine) -> None:
    """Tell clients of devices that go, and what trays, ports and balloons do from the first on."""
    rack = machine.rack
    if rack is None:
        return
    rack.on_added = lambda plugged: _watch(machine, plugged)
    rack.on_removed = lambda plugged: _removed(machine, plugged)
    for plugged in rack.plugged:
        _watch(machine, plugged)
    watch_trays(machine)


def _watch(machine: Machine, plugged: Plugged) -> None:
    device = plugged.device
    for drive in machine.drives.values():
        if drive.tray is device:
            watch_tray(machine, drive)
    if isinstance(device, SerialPort):
        _watch_port(machine, plugged.id, device)
    elif isinstance(device, VirtioPci) and isinstance(device.device, VirtioBalloon):
        _watch_balloon(machine, device.device)


def _removed(machine: Machine, plugged: Plugged) -> None:
    if isinstance(plugged.device, VirtioPci):
        machine.runner.tell("DEVICE_DELETED", path=f"{plugged.path}/virtio-backend")
    known = {"device": plugged.id} if plugged.id else {}
    machine.runner.tell("DEVICE_DELETED", **known, path=plugged.path)


def _watch_port(machine: Machine, name: str, port: SerialPort) -> None:
    before = port.on_guest_open

    def opened(is_open: bool, /) -> None:
        before(is_open)
        if name:
            machine.runner.tell("VSERPORT_CHANGE", id=name, open=is_open)

    port.on_guest_open = opened


# --- the balloon ---------------------------------------------------------------------------------


def _balloon(machine: Machine) -> VirtioBalloon:
    for card in machine.board.pci.devices.values():
        if isinstance(card, VirtioPci) and isinstance(card.device, VirtioBalloon):
            return card.device
    raise CommandError("No balloon device has been activated", CLASS_NOT_ACTIVE)


def query_balloon(machine: Machine) -> Any:
    """How much memory the guest has left itself."""
    balloon = _balloon(machine)
    return {"actual": machine.board.config.ram_size - balloon.actual * BALLOON_PAGE}


def set_balloon(machine: Machine, value: int) -> Any:
    """How much it shall have."""
    balloon = _balloon(machine)
    if value <= 0:
        raise CommandError("Parameter 'value' expects a size")
    size = machine.board.config.ram_size
    with machine.loop.lock:
        balloon.set_target(max(0, size - min(value, size)) // BALLOON_PAGE)


def _watch_balloon(machine: Machine, balloon: VirtioBalloon) -> None:
    size = machine.board.config.ram_size
    balloon.on_change = lambda: machine.runner.tell(
        "BALLOON_CHANGE", actual=size - balloon.actual * BALLOON_PAGE)


COMMANDS: Final = (
    Command("device_add", add, "driver: str, *bus: str, *id: str", more=True),
    Command("device_del", remove, "id: str"),
    Command("balloon", set_balloon, "value: int"),
    Command("query-balloon", query_balloon, returns="BalloonInfo"),
)
