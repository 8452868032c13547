"""pc-testdev at its ports."""

from __future__ import annotations

from functools import partial
from typing import Final

from pytcg.hw.testing.pc_testdev import IRQ_PORTS, MEMORY_SIZE, PcTestdev
from pytcg.machine.board.backplane import Backplane
from pytcg.machine.bus import MmioRegion, PortHandlers

LATCH: Final = 0xE0
FLUSH: Final = 0xE4
BYTE: Final = 0xE8
IRQS: Final = 0x2000
MEMORY: Final = 0xFF000000


def attach_testdev(board: Backplane) -> PcTestdev:
    """Claimed if the debug console has one of its ports."""
    device = board.add(PcTestdev())
    board.attach_wide(LATCH, 4, device.read_latch, device.write_latch)
    board.attach_wide(FLUSH, 4, lambda offset, size: 0, lambda offset, size, value: None)

    def read_byte() -> int:
        return device.byte

    def write_byte(value: int) -> None:
        device.byte = value

    board.ports.attach_port(PortHandlers(read_byte, write_byte), BYTE, size=1)
    for number, line in enumerate(device.irq):
        board.connect_irq(line, number)
    for number in range(IRQ_PORTS):
        handlers = PortHandlers(lambda: 0, partial(device.write_irq, number))
        for size in (1, 2, 4):
            board.ports.attach_port(handlers, IRQS + number, size=size)
    board.mmio.attach(MmioRegion(MEMORY, MEMORY_SIZE, device.read_memory, device.write_memory))
    return device
