"""The two 8237s, cascaded, and their page registers."""

from __future__ import annotations

from pytcg.hw.core.i8237 import CHANNELS, I8237, DmaChannel, DmaPages, Memory
from pytcg.machine import pc_map as at
from pytcg.machine.board.backplane import Backplane
from pytcg.machine.bus import PortHandlers

REGISTERS = 16


class IsaDma:
    """`channel(n)` is what a device is given."""

    def __init__(self, board: Backplane, memory: Memory) -> None:
        self.low, self.high = board.add(I8237(memory, 1)), board.add(I8237(memory, 2))
        pages = board.add(DmaPages(self.low, self.high))
        board.ports.attach(self.low, at.DMA_LOW, count=REGISTERS)
        for reg in range(REGISTERS):  # the second one's are two ports apart
            for port in (at.DMA_HIGH + 2 * reg, at.DMA_HIGH + 2 * reg + 1):
                handlers = PortHandlers(lambda reg=reg: self.high.read(reg),  # type: ignore[misc]
                                        lambda value, reg=reg: self.high.write(reg, value))  # type: ignore[misc]
                board.ports.attach_port(handlers, port, size=1)
        board.ports.attach(pages, at.DMA_PAGES, count=REGISTERS)

    def channel(self, number: int) -> DmaChannel:
        """DMA channel 0 to 3 (bytes) or 5 to 7 (words)."""
        return DmaChannel(self.high if number >= CHANNELS else self.low, number % CHANNELS)
