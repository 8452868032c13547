"""Serial ports."""

from __future__ import annotations

from pytcg.machine import pc_map as at
from pytcg.machine.acpi.hardware import SerialPort
from pytcg.machine.board.serial import SerialLink, attach_serial_port
from pytcg.machine.devices.model import Values
from pytcg.machine.devices.rack import Rack
from pytcg.machine.drives import DeviceError


def build_isa_serial(rack: Rack, values: Values) -> SerialLink:
    """isa-serial: the next of COM1 to COM4, unless `index`, `iobase` or `irq` say otherwise."""
    chardev = rack.take_chardev("isa-serial", values)
    if chardev is None:
        raise DeviceError("-device isa-serial: Can't create serial device, empty char device")
    links, index = rack.board.serial_links, values["index"]
    if index is None:
        index = len(links)
    if index >= len(at.COM_PORTS):
        raise DeviceError("-device isa-serial: Max. supported number of ISA serial ports is"
                          f" {len(at.COM_PORTS)}.")  # fmt: skip
    usual = at.COM_PORTS[index]
    base, irq = values["iobase"], values["irq"]
    port = SerialPort(usual.base if base is None else base, usual.irq if irq is None else irq)
    if port.base > 0xFFF8 or port.irq > 15:
        raise DeviceError("-device isa-serial: no such ports or IRQ")
    link = attach_serial_port(rack.board.backplane, port, chardev)
    links.append(link)
    rack.chardevs.connect(chardev, link.uart)
    return link
