"""QEMU's pc-testdev: ports and memory for test kernels (its hw/misc/pc-testdev.c says what).

A latch at E0h, a byte latch at E8h, a port that flushes (E4h), ports that drive ISA interrupts
(2000h + number), and 64 KiB of memory behind calls at FF000000h.
"""

from __future__ import annotations

from typing import Final

from pytcg.hw.line import Line
from pytcg.hw.state import State, load, save

ISA_IRQS: Final = 16
IRQ_PORTS: Final = 24
MEMORY_SIZE: Final = 0x10000


class PcTestdev:
    """The device; `irq[n]` are what the ports drive."""

    _FIELDS = ("latch", "byte", "levels", "memory")

    def __init__(self) -> None:
        self.irq = [Line() for _ in range(ISA_IRQS)]
        self.memory = bytearray(MEMORY_SIZE)
        self.latch = self.byte = 0
        self.levels = [False] * ISA_IRQS

    def reset(self) -> None:
        self.latch = self.byte = 0
        self.levels = [False] * ISA_IRQS
        self.memory[:] = bytes(MEMORY_SIZE)
        self._sync()

    def read_latch(self, offset: int, size: int) -> int:
        """The latch, or a part of it."""
        return self.latch >> 8 * offset & (1 << 8 * size) - 1

    def write_latch(self, offset: int, size: int, value: int) -> None:
        """Store to the latch, or to a part of it."""
        mask = (1 << 8 * size) - 1 << 8 * offset
        self.latch = self.latch & ~mask | value << 8 * offset & mask

    def write_irq(self, number: int, value: int) -> None:
        """Drive an ISA interrupt."""
        if number < ISA_IRQS:
            self.levels[number] = bool(value)
            self._sync()

    def read_memory(self, offset: int, size: int) -> int:
        """A load from the memory."""
        return int.from_bytes(self.memory[offset : offset + size], "little")

    def write_memory(self, offset: int, size: int, value: int) -> None:
        """A store to the memory."""
        self.memory[offset : offset + size] = value.to_bytes(size, "little")

    def _sync(self) -> None:
        for line, level in zip(self.irq, self.levels, strict=True):
            line.set(level)

    def state(self) -> State:
        return save(self, 1, self._FIELDS)

    def restore(self, state: State) -> None:
        load(self, state, 1, self._FIELDS)
        self._sync()
