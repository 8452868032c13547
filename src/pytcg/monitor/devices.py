"""Devices that come and go while the machine runs, and what ports and balloons tell."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pytcg.hw.storage.scsi.unit import ScsiUnit
from pytcg.hw.virtio.balloon import VirtioBalloon
from pytcg.hw.virtio.pci import VirtioPci
from pytcg.hw.virtio.serial_port import SerialPort
from pytcg.machine.devices.rack import Rack
from pytcg.machine.devices.scsi import ScsiBus
from pytcg.machine.devices.table import BY_NAME
from pytcg.machine.drives import DeviceError
from pytcg.monitor.block.media import watch_tray
from pytcg.monitor.command import (
    CLASS_NO_DEVICE,
    CLASS_NOT_ACTIVE,
    Command,
    CommandError,
)

if TYPE_CHECKING:
    from pytcg.monitor.machine import Machine

HOT: Final = ("SCSI", "virtio-serial-bus")
"""Buses that devices may come to and go from."""
BUS_NAMES: Final = {"PCI": "pci.0", "IDE": "ide.0", "ISA": "isa.0"}
BALLOON_PAGE: Final = 4096


def _rack(machine: Machine) -> Rack:
    assert machine.rack is not None
    return machine.rack


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, str | int):
        return str(value)
    raise CommandError("Invalid parameter type, expected: string")


def add(machine: Machine, given: dict[str, Any]) -> Any:
    """device_add."""
    values = {key: _text(value) for key, value in given.items()}
    name = values.pop("driver")
    model = BY_NAME.get(name)
    if model is None:
        raise CommandError(f"'{name}' is not a valid device model name")
    if model.bus not in HOT:
        raise CommandError(f"Bus '{BUS_NAMES.get(model.bus, model.bus)}' does not support"
                           " hotplugging")  # fmt: skip
    before = set(machine.drives)
    try:
        with machine.loop.lock:
            device = _rack(machine).add(name, values)
            _announce(machine, device)
    except DeviceError as error:
        for key in set(machine.drives) - before:
            machine.drives.unserve(machine.drives.pop(key))
        raise CommandError(str(error).removeprefix(f"-device {name}: ")) from None
    for drive in machine.drives.values():
        if drive.tray is device:
            watch_tray(machine, drive)
    if isinstance(device, SerialPort):
        _watch_port(machine, values.get("id", ""), device)


def _scsi_place(rack: Rack, unit: ScsiUnit) -> tuple[ScsiBus, tuple[int, int]]:
    for bus in rack.buses.values():
        if isinstance(bus, ScsiBus):
            for place, each in bus.adapter.units.items():
                if each is unit:
                    return bus, place
    raise CommandError("the unit is on no bus")


def _announce(machine: Machine, device: object) -> None:
    if isinstance(device, ScsiUnit):
        bus, place = _scsi_place(_rack(machine), device)
        bus.adapter.announce(*place, present=True)


def remove(machine: Machine, id: str) -> Any:
    """device_del."""
    rack = _rack(machine)
    name = id.removeprefix("/machine/peripheral/")
    device = rack.devices.get(name)
    if device is None:
        raise CommandError(f"Device '{id}' not found", CLASS_NO_DEVICE)
    model = BY_NAME[rack.models[name]]
    if model.bus not in HOT:
        raise CommandError(f"Bus '{BUS_NAMES.get(model.bus, model.bus)}' does not support"
                           " hotplugging")  # fmt: skip
    if isinstance(device, ScsiUnit):
        _remove_unit(machine, name, device)
    elif isinstance(device, SerialPort):
        _remove_port(machine, device)
    del rack.devices[name], rack.models[name], rack.values[name]
    machine.runner.tell("DEVICE_DELETED", device=name, path=f"/machine/peripheral/{name}")


def _remove_unit(machine: Machine, name: str, unit: ScsiUnit) -> None:
    graph = machine.drives.graph
    drive = next((each for each in machine.drives.values() if each.device_id == name), None)
    if drive is not None and drive.io is not None:
        graph.check_unused_by_jobs(drive.io.device.node)
    with machine.loop.lock:
        bus, place = _scsi_place(_rack(machine), unit)
        del bus.adapter.units[place]
        bus.adapter.announce(*place, present=False)
    if drive is not None:  # as QEMU does, the drive goes with its device
        machine.drives.unserve(drive)
        machine.drives.forget(drive)


def _remove_port(machine: Machine, port: SerialPort) -> None:
    chardev = port.wire
    with machine.loop.lock:
        port.unplug()
    if chardev is not None:
        machine.chardevs.release(chardev)


def watch_ports(machine: Machine) -> None:
    """Tell clients when the guest opens and closes a port."""
    if machine.rack is None:
        return
    for name, device in machine.rack.devices.items():
        if isinstance(device, SerialPort):
            _watch_port(machine, name, device)


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


def watch_balloon(machine: Machine) -> None:
    """Tell clients when the guest has given or taken memory."""
    try:
        balloon = _balloon(machine)
    except CommandError:
        return
    size = machine.board.config.ram_size
    balloon.on_change = lambda: machine.runner.tell(
        "BALLOON_CHANGE", actual=size - balloon.actual * BALLOON_PAGE)


COMMANDS: Final = (
    Command("device_add", add, "driver: str, *bus: str, *id: str", more=True),
    Command("device_del", remove, "id: str"),
    Command("balloon", set_balloon, "value: int"),
    Command("query-balloon", query_balloon, returns="BalloonInfo"),
)
