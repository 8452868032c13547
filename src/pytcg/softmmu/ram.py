"""Guest RAM: one lazily committed host mapping; `address_map` says where it appears."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import mmap
import os
import weakref
from functools import cache
from typing import Any

_MAP_NORESERVE = 0x4000  # Linux; not a name in Python 3.11's mmap
_MAP_FIXED = 0x10
_MOVE = 1 | 2 | 4  # MREMAP_MAYMOVE, MREMAP_FIXED, MREMAP_DONTUNMAP (Linux 5.7)
_DUPLICATE = 1 | 2
_CHUNK = 1 << 20


class RamError(Exception):
    """Guest memory that can't be had or is laid out wrongly."""


_HUGE = 1 << 21


class HostBuffer:
    """Zeroed, lazily committed memory with a fixed address (for native code).

    In huge pages (unless not ``huge``) where the host has them and it is large: the host's TLB is
    not. They are whole at first touch: wrong for what is made often and used briefly. With
    ``code`` it can be executed.
    """

    def __init__(self, size: int, *, huge: bool = True, code: bool = False):
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE
        allowed = mmap.PROT_READ | mmap.PROT_WRITE | (mmap.PROT_EXEC if code else 0)
        try:
            self._map = mmap.mmap(-1, size, flags=flags, prot=allowed)
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

    def seal(self, offset: int, size: int) -> None:
        """Make whole pages executable, and read-only; RamError."""
        self._protect(offset, size, mmap.PROT_READ | mmap.PROT_EXEC)

    def unseal(self, offset: int, size: int) -> None:
        """Make sealed pages writable again; RamError."""
        self._protect(offset, size, mmap.PROT_READ | mmap.PROT_WRITE)

    def _protect(self, offset: int, size: int, allowed: int) -> None:
        libc: Any = ctypes.CDLL(None, use_errno=True)
        # mprotect(2): the range lies in the mapping that this object owns and keeps.
        libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
        if libc.mprotect(self.address + offset, size, allowed):
            raise RamError(f"cannot make code executable: {os.strerror(ctypes.get_errno())}")

    def discard(self, offset: int, length: int) -> None:
        """Give memory back to the host; it reads as zeroes from now on."""
        if length:
            self._map.madvise(mmap.MADV_DONTNEED, offset, length)


class BufferPart:
    """Whole pages of a buffer, which it keeps."""

    def __init__(self, owner: HostBuffer, offset: int, size: int):
        self.owner = owner
        self.address = owner.address + offset
        self.size = size
        self.view = owner.view[offset : offset + size]


class Image:
    """What buffers may begin with: ``data``, and zeroes up to ``size`` bytes, in whole pages.

    A buffer that isn't in huge pages shares what it does not store to.
    """

    def __init__(self, data: bytes, size: int):
        self.size = size
        self._fd = os.memfd_create("pytcg")
        weakref.finalize(self, os.close, self._fd)
        _write_all(self._fd, memoryview(data))
        os.ftruncate(self._fd, size)

    def put(self, buffer: HostBuffer) -> None:
        """Into a buffer's first pages; RamError."""
        if buffer.huge:
            os.preadv(self._fd, [buffer.view[: self.size]], 0)
        else:
            # The range lies in the mapping that the buffer owns and keeps.
            _map_over(buffer.address, self.size, mmap.MAP_PRIVATE | _MAP_NORESERVE, self._fd)


class RamWindow(HostBuffer):
    """All RAM and ROM of a guest, back to back; ``size`` bytes, committed as touched."""

    def take(self, source: RamWindow, offset: int, size: int) -> None:
        """Move memory from another window, same offset; what was not touched costs nothing."""
        target = self.address + offset
        # Both ranges lie within mappings that these two objects own and keep.
        if _mremap()(source.address + offset, size, size, _MOVE, target) == target:
            return
        for at in range(offset, offset + size, _CHUNK):  # a host without MREMAP_DONTUNMAP
            part = source.view[at : min(at + _CHUNK, offset + size)]
            if bytes(part).count(0) != len(part):
                self.view[at : at + len(part)] = part

    def map_file(self, offset: int, size: int, fd: int, *, share: bool) -> None:
        """Put a file's first bytes at ``offset``, in whole pages; RamError."""
        if offset % mmap.PAGESIZE or not 0 < size <= self.size - offset:
            raise RamError(f"{size:#x} bytes can't be mapped at {offset:#x} of the RAM window")
        # The range lies in the mapping that this object owns and keeps.
        _map_over(self.address + offset, size, mmap.MAP_SHARED if share else mmap.MAP_PRIVATE, fd)

    def share(self, offset: int, size: int, address: int) -> None:
        """Make whole pages of this process's memory at ``address`` those at ``offset``, too.

        Shared mappings are mapped a second time; pages of a private one are first exchanged for
        shared ones with the same contents, while which nobody else may store to them. RamError.
        """
        target = self.address + offset
        # mremap(2) with an old size of 0 maps shared pages once more. The target lies in the
        # mapping that this object owns; who gives ``address`` keeps that memory.
        if _mremap()(address, 0, size, _DUPLICATE, target) == target:
            return
        if ctypes.get_errno() != errno.EINVAL:
            raise RamError(f"cannot share memory: {os.strerror(ctypes.get_errno())}")
        fd = os.memfd_create("pytcg")
        try:
            _write_all(fd, memoryview((ctypes.c_char * size).from_address(address)).cast("B"))
            _map_over(address, size, mmap.MAP_SHARED, fd)
            _map_over(target, size, mmap.MAP_SHARED, fd)
        finally:
            os.close(fd)

    def unshare(self, offset: int, size: int) -> None:
        """Make whole pages the window's own again; they read as zeroes."""
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE
        _map_over(self.address + offset, size, flags, -1)


@cache
def _mremap() -> Any:
    """mremap(2) of the C library."""
    function: Any = ctypes.CDLL(None, use_errno=True).mremap
    function.restype = ctypes.c_void_p
    function.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int,
                         ctypes.c_void_p]  # fmt: skip
    return function


@cache
def _mmap() -> Any:
    """mmap(2) of the C library."""
    function: Any = ctypes.CDLL(None, use_errno=True).mmap
    function.restype = ctypes.c_void_p
    function.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int,
                         ctypes.c_int, ctypes.c_long]  # fmt: skip
    return function


def _map_over(address: int, size: int, flags: int, fd: int) -> None:
    """mmap(2) with MAP_FIXED over pages that the caller answers for; RamError."""
    allowed = mmap.PROT_READ | mmap.PROT_WRITE
    if _mmap()(address, size, allowed, flags | _MAP_FIXED, fd, 0) != address:
        raise RamError(f"cannot map memory: {os.strerror(ctypes.get_errno())}")


def _write_all(fd: int, data: memoryview) -> None:
    try:
        while data:
            data = data[os.write(fd, data) :]
    except OSError as error:
        raise RamError(f"cannot share memory: {error.strerror}") from None
