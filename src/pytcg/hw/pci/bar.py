"""Base address registers: windows that software moves (PCI 3.0, 6.2.5)."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntFlag
from typing import Final, NamedTuple, Protocol

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


class Backing(NamedTuple):
    """Memory behind a window: its bytes, and their place in the machine's RAM window."""

    view: memoryview
    offset: int
    writable: bool = True


class BarSpace(Protocol):
    """The address spaces in which windows appear."""

    def map_bar(self, bar: Bar) -> None: ...

    def unmap_bar(self, bar: Bar) -> None: ...


class Bar:
    """One window of ``size`` bytes (a power of two); read(offset, size), write(offset, size, v).

    With a ``backing`` the guest's accesses go to that memory, without a call.
    """

    def __init__(self, index: int, size: int, type: int, read: Read, write: Write,
                 backing: Backing | None = None) -> None:  # fmt: skip
        least = MIN_IO if type & BarType.IO else MIN_MEMORY
        if size < least or size & size - 1:
            raise ValueError(f"BAR {index}: {size:#x} bytes are no power of two from {least} on")
        self.index = index
        self.size = size
        self.type = type
        self.read = read
        self.write = write
        self.backing = backing
        self.base: int | None = None  # where it answers now

    @property
    def is_io(self) -> bool:
        """Whether it is in the I/O space."""
        return bool(self.type & BarType.IO)

    @property
    def width(self) -> int:
        """Bytes of the register: 8 for a 64-bit window, which takes two."""
        return 8 if self.type & BarType.MEMORY_64 and not self.is_io else 4

    def move(self, base: int | None, host: BarSpace) -> None:
        """Let it answer at another base, or nowhere."""
        if base == self.base:
            return
        if self.base is not None:
            host.unmap_bar(self)
        self.base = base
        if base is not None:
            host.map_bar(self)

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


def memory_bar(index: int, type: int, backing: Backing) -> Bar:
    """A window that shows memory, all of it."""
    return Bar(index, len(backing.view), type, *_accessors(backing), backing)


def rom_bar(image: bytes, size: int) -> Bar:
    """A window that reads as an image, padded, by calls."""
    view = memoryview(image.ljust(size, b"\xff"))
    return Bar(-1, size, BarType.MEMORY, *_accessors(Backing(view, 0, writable=False)))


def _accessors(backing: Backing) -> tuple[Read, Write]:
    view = backing.view

    def read(offset: int, size: int) -> int:
        return int.from_bytes(view[offset : offset + size], "little")

    def write(offset: int, size: int, value: int) -> None:
        if backing.writable:
            view[offset : offset + size] = value.to_bytes(size, "little")

    return read, write
