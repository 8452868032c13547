"""Guest RAM: one lazily committed host mapping, and where it appears in physical memory."""

from __future__ import annotations

import contextlib
import ctypes
import mmap
from collections.abc import Callable
from dataclasses import dataclass

from pytcg.exec.layout import MAX_RANGES, PAGE_SIZE

_MAP_NORESERVE = 0x4000  # Linux; not a name in Python 3.11's mmap


class RamError(Exception):
    """Guest memory that can't be had or is laid out wrongly."""


class HostBuffer:
    """Zeroed, lazily committed memory with a fixed address (for native code)."""

    def __init__(self, size: int):
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE
        try:
            self._map = mmap.mmap(-1, size, flags=flags)
        except (OSError, OverflowError, ValueError) as error:
            raise RamError(f"cannot set up {size >> 20} MiB of memory: {error}") from None
        self.size = size
        # Native code is given this address; the object that owns the mapping outlives its use.
        anchor = ctypes.c_char.from_buffer(self._map)
        self.address = ctypes.addressof(anchor)
        self._anchor = anchor
        self.view = memoryview(self._map)


class RamWindow(HostBuffer):
    """All RAM and ROM of a guest, back to back; ``size`` bytes, committed as touched.

    In huge pages where the host has them: guests are large, and the host's TLB is not.
    """

    def __init__(self, size: int):
        super().__init__(size)
        with contextlib.suppress(OSError, AttributeError):
            self._map.madvise(mmap.MADV_HUGEPAGE)


@dataclass(frozen=True, slots=True)
class Region:
    """``length`` bytes at ``physical`` are those at ``offset`` of the window."""

    physical: int
    length: int
    offset: int
    writable: bool


class AddressMap:
    """Physical memory: RAM and ROM regions of one window; everything else is MMIO."""

    def __init__(self, window: RamWindow):
        self.window = window
        self.regions: list[Region] = []
        self.version = 0  # of the regions
        self.on_write: list[Callable[[int, int], None]] = []
        """Called with (window offset, length) after `write`, in its thread: code may be stale."""

    def add_ram(self, physical: int, length: int, offset: int) -> None:
        self._add(Region(physical, length, offset, True))

    def add_rom(self, physical: int, length: int, offset: int) -> None:
        self._add(Region(physical, length, offset, False))

    def _add(self, new: Region) -> None:
        if (new.physical | new.length | new.offset) % PAGE_SIZE or new.length <= 0:
            raise RamError(f"region {new.physical:#x}+{new.length:#x} is not in whole pages")
        if new.offset + new.length > self.window.size:
            raise RamError(f"region {new.physical:#x}+{new.length:#x} is beyond the RAM window")
        for old in self.regions:
            before, after = old.physical, old.physical + old.length
            if new.physical < after and before < new.physical + new.length:
                raise RamError(f"region {new.physical:#x} overlaps the one at {old.physical:#x}")
        if len(self.regions) >= MAX_RANGES:
            raise RamError(f"more than {MAX_RANGES} memory regions")
        self.regions.append(new)
        self.version += 1

    def find(self, physical: int) -> Region | None:
        """The region that holds a physical address."""
        for region in self.regions:
            if region.physical <= physical < region.physical + region.length:
                return region
        return None

    def _pieces(self, physical: int, length: int) -> list[tuple[int, int]]:
        """(window offset, length) of each part of a physical range; RamError outside RAM."""
        pieces = []
        while length > 0:
            region = self.find(physical)
            if region is None:
                raise RamError(f"no memory at {physical:#x}")
            skip = physical - region.physical
            size = min(length, region.length - skip)
            pieces.append((region.offset + skip, size))
            physical += size
            length -= size
        return pieces

    def read(self, physical: int, length: int) -> bytes:
        """Bytes of RAM or ROM."""
        view = self.window.view
        return b"".join(view[at : at + n] for at, n in self._pieces(physical, length))

    def write(self, physical: int, data: bytes) -> None:
        """Put bytes into RAM or ROM (the host's own doing: a ROM is written too)."""
        done = 0
        for at, n in self._pieces(physical, len(data)):
            self.window.view[at : at + n] = data[done : done + n]
            done += n
            for listener in self.on_write:
                listener(at, n)
