"""Base address registers: windows that software moves (PCI 3.0, 6.2.5)."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntFlag
from typing import Final

from pytcg.hw.bits import register_bits

Read = Callable[[int, int], int]
Write = Callable[[int, int, int], None]

IO_END: Final = 0x10000
END_32: Final = 0xFFFFFFFF  # a window must end below; one at the top is being sized
MIN_IO: Final = 4
MIN_MEMORY: Final = 16


@register_bits
class BarType(IntFlag):
    """The low bits of a base address register."""

    MEMORY = 0x00
    IO = 0x01
    MEMORY_64 = 0x04
    PREFETCH = 0x08


class Bar:
    """One window of ``size`` bytes (a power of two); read(offset, size), write(offset, size, v)."""

    def __init__(self, index: int, size: int, type: int, read: Read, write: Write) -> None:
        least = MIN_IO if type & BarType.IO else MIN_MEMORY
        if size < least or size & size - 1:
            raise ValueError(f"BAR {index}: {size:#x} bytes are no power of two from {least} on")
        self.index = index
        self.size = size
        self.type = type
        self.read = read
        self.write = write
        self.base: int | None = None  # where it answers now

    @property
    def is_io(self) -> bool:
        """Whether it is in the I/O space."""
        return bool(self.type & BarType.IO)

    @property
    def width(self) -> int:
        """Bytes of the register: 8 for a 64-bit window, which takes two."""
        return 8 if self.type & BarType.MEMORY_64 and not self.is_io else 4

    def place(self, register: int) -> int | None:
        """Where the register's value puts the window; None where it can't answer, as at 0."""
        base = register & -self.size
        last = base + self.size - 1
        if self.is_io:
            reachable = last < IO_END
        elif self.width == 4:
            reachable = last < END_32
        else:
            reachable = last < (1 << 64) - 1
        return base if base and reachable else None
