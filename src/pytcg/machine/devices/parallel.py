"""Parallel ports."""

from __future__ import annotations

from pytcg.machine import pc_map as at
from pytcg.machine.acpi.hardware import ParallelPort
from pytcg.machine.board.parallel import ParallelLink, attach_parallel_port
from pytcg.machine.devices.model import Values
from pytcg.machine.devices.rack import Rack
from pytcg.machine.drives import DeviceError


def build_isa_parallel(rack: Rack, values: Values) -> ParallelLink:
    """isa-parallel: the next of LPT1 to LPT3, unless `index`, `iobase` or `irq` say otherwise."""
    name = "-device isa-parallel"
    chardev = rack.take_chardev("isa-parallel", values)
    if chardev is None:
        raise DeviceError(f"{name}: Can't create parallel device, empty char device")
    links, index = rack.board.parallel_links, values["index"]
    if index is None:
        index = len(links)
    if index >= len(at.LPT_PORTS):
        raise DeviceError(f"{name}: Max. supported number of parallel ports is"
                          f" {len(at.LPT_PORTS)}.")  # fmt: skip
    usual = at.LPT_PORTS[index]
    base = usual.base if values["iobase"] is None else values["iobase"]
    port = ParallelPort(base, values["irq"])
    if base > 0xFFF8 or port.irq > 15:
        raise DeviceError(f"{name}: no such ports or IRQ")
    link = attach_parallel_port(rack.board.backplane, port, chardev)
    links.append(link)
    rack.chardevs.connect(chardev, None)
    return link
