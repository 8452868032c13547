"""virtio-serial cards, and the ports and consoles on their buses."""

from __future__ import annotations

from functools import partial
from typing import Final

from pytcg.hw.virtio.serial import MOST_PORTS, VirtioSerial
from pytcg.hw.virtio.serial_port import SerialPort
from pytcg.machine.devices.model import Values
from pytcg.machine.devices.rack import Rack
from pytcg.machine.devices.virtio import plug
from pytcg.machine.drives import DeviceError

COMMUNICATION_OTHER: Final = 0x078000  # class code
CARD, PORT, CONSOLE = "virtio-serial-pci", "virtserialport", "virtconsole"


def build_card(rack: Rack, values: Values) -> object:
    """virtio-serial-pci; its bus is ID.0, or virtio-serial-bus.N."""
    most = values["max_ports"]
    if not 1 <= most <= MOST_PORTS:
        raise DeviceError(f"-device {CARD}: maximum ports supported: {MOST_PORTS}")
    device = VirtioSerial(most, emergency_write=values["emergency-write"])
    if values["vectors"] is None:
        values = {**values, "vectors": most + 1}
    card = plug(rack, CARD, values, device, COMMUNICATION_OTHER)
    number = sum(isinstance(bus, VirtioSerial) for bus in rack.buses.values())
    rack.add_bus(f"{values['id']}.0" if values["id"] else f"virtio-serial-bus.{number}", device)
    return card


def build_port(rack: Rack, values: Values) -> SerialPort:
    """virtserialport."""
    if values["nr"] == 0:
        raise DeviceError(f"-device {PORT}: Port number 0 on virtio-serial devices reserved for"
                          " virtconsole devices for backward compatibility.")  # fmt: skip
    return _build(rack, PORT, values)


def build_console(rack: Rack, values: Values) -> SerialPort:
    """virtconsole."""
    return _build(rack, CONSOLE, values)


def _build(rack: Rack, name: str, values: Values) -> SerialPort:
    device, console = _bus(rack, name, values["bus"]), name == CONSOLE
    rack.put_on(device)
    label = values["name"] or ""
    if label and any(port.name == label for other in _buses(rack).values()
                     for port in other.ports.values()):  # fmt: skip
        raise DeviceError(f"-device {name}: virtio-serial-bus: A port already exists by name"
                          f" {label}")  # fmt: skip
    number = _number(device, name, values["nr"], console=console)
    chardev = rack.take_chardev(name, values)
    port = SerialPort(chardev, label, console=console)
    device.add(port, number)
    rack.undo_by(partial(_unplug, rack, port))
    if chardev is not None:
        chardev.on_open = lambda: port.set_host_open(is_open=True)
        chardev.on_close = lambda: port.set_host_open(is_open=False)
        chardev.on_room = port.serve_output
        rack.chardevs.connect(chardev, port)
        chardev.frontend_open = console
    return port


def _unplug(rack: Rack, port: SerialPort) -> None:
    with rack.chardevs.context.lock:
        port.unplug()


def _number(device: VirtioSerial, name: str, wanted: int | None, *, console: bool) -> int:
    """The port's number: as asked for, else the first free one, 0 for consoles only."""
    prefix = f"-device {name}: virtio-serial-bus:"
    if wanted is None:
        free = (number for number in range(0 if console else 1, device.max_ports)
                if number not in device.ports)  # fmt: skip
        wanted = next(free, None)
        if wanted is None:
            raise DeviceError(f"{prefix} Maximum port limit for this device reached")
    if wanted in device.ports:
        raise DeviceError(f"{prefix} A port already exists at id {wanted}")
    if wanted >= device.max_ports:
        raise DeviceError(f"{prefix} Out-of-range port id specified, max. allowed:"
                          f" {device.max_ports - 1}")  # fmt: skip
    return wanted


def _buses(rack: Rack) -> dict[str, VirtioSerial]:
    return {name: bus for name, bus in rack.buses.items() if isinstance(bus, VirtioSerial)}


def _bus(rack: Rack, name: str, wanted: str | None) -> VirtioSerial:
    for known, bus in _buses(rack).items():
        if wanted in (None, known):
            return bus
    if wanted is None:
        raise DeviceError(f"-device {name}: No 'virtio-serial-bus' bus found for device '{name}'")
    raise DeviceError(f"-device {name}: Bus '{wanted}' not found")
