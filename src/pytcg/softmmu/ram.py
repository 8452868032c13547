"""Guest RAM: one lazily committed host mapping; `address_map` says where it appears."""

from __future__ import annotations

import contextlib
import ctypes
import mmap

_MAP_NORESERVE = 0x4000  # Linux; not a name in Python 3.11's mmap


class RamError(Exception):
    """Guest memory that can't be had or is laid out wrongly."""


_HUGE = 1 << 21


class HostBuffer:
    """Zeroed, lazily committed memory with a fixed address (for native code).

    In huge pages (unless not ``huge``) where the host has them and it is large: the host's TLB is
    not. They are whole at first touch: wrong for what is made often and used briefly.
    """

    def __init__(self, size: int, *, huge: bool = True):
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
        self.huge = huge
        if huge and size >= 2 * _HUGE:
            with contextlib.suppress(OSError, AttributeError):
                self._map.madvise(mmap.MADV_HUGEPAGE)


class RamWindow(HostBuffer):
    """All RAM and ROM of a guest, back to back; ``size`` bytes, committed as touched."""

    def discard(self, offset: int, length: int) -> None:
        """Give memory back to the host; it reads as zeroes from now on."""
        self._map.madvise(mmap.MADV_DONTNEED, offset, length)


