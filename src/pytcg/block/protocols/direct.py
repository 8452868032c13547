"""``cache=none``: a host file without the host's page cache (O_DIRECT)."""

from __future__ import annotations

import errno
import mmap
import os
import threading
from collections.abc import Sequence

from pytcg.block.device import BlockError, Extent
from pytcg.block.protocols.posix import PosixFile

ALIGNMENT = 4096
BOUNCE_BYTES = 1 << 20


class DirectFile(PosixFile):
    """A file read and written in aligned blocks through an aligned buffer."""

    def __init__(self, filename: str, *, read_only: bool = False, no_flush: bool = False,
                 writethrough: bool = False, driver: str | None = None) -> None:
        super().__init__(filename, read_only=read_only, no_flush=no_flush,
                         writethrough=writethrough, driver=driver)
        flags = os.O_DIRECT | os.O_CLOEXEC | (os.O_RDONLY if read_only else os.O_RDWR)
        if writethrough and not no_flush:
            flags |= os.O_DSYNC
        try:
            direct = os.open(filename, flags)
        except OSError as error:
            self.close()
            if error.errno == errno.EINVAL:
                raise BlockError(f"Could not open '{filename}': filesystem does not support "
                                 "O_DIRECT", errno.EINVAL) from None
            raise BlockError.from_os(f"Could not open '{filename}'", error) from None
        os.close(self.fd)
        self.fd = direct
        self._bounce = mmap.mmap(-1, BOUNCE_BYTES)  # page-aligned, as O_DIRECT wants it
        self._view = memoryview(self._bounce)
        self._lock = threading.Lock()

    @property
    def is_cached(self) -> bool:
        return False

    def read_now(self, offset: int, buffers: Sequence[memoryview]) -> bool:
        return False

    def write_now(self, offset: int, buffers: Sequence[memoryview]) -> bool:
        return False

    def pread(self, offset: int, length: int) -> bytes:
        buffer = bytearray(length)
        self.read_into(offset, memoryview(buffer))
        return bytes(buffer)

    def host_range(self, offset: int, length: int) -> None:
        return None  # not by way of the page cache

    def read_into(self, offset: int, buffer: memoryview) -> None:
        while buffer:
            low, inside = offset & -ALIGNMENT, offset % ALIGNMENT
            length = min(len(buffer), BOUNCE_BYTES - inside)
            span = -(-(inside + length) // ALIGNMENT) * ALIGNMENT
            with self._lock:
                self._load(low, span)
                buffer[:length] = self._view[inside : inside + length]
            offset, buffer = offset + length, buffer[length:]

    def layer_status(self, offset: int, length: int) -> Extent:
        extent = super().layer_status(offset, length)
        end = -(-(offset + extent.length) // ALIGNMENT) * ALIGNMENT  # a block is read as a whole
        return extent._replace(length=min(end - offset, length))

    def _load(self, low: int, span: int) -> None:
        """Fill the buffer from an aligned offset; zeroes past the end of the file."""
        done = 0
        while done < span:
            try:
                got = os.preadv(self.fd, [self._view[done:span]], low + done)
            except OSError as error:
                raise BlockError.from_os("read failed", error) from None
            if got == 0 or got % ALIGNMENT:  # the end of the file
                done += got
                self._view[done:span] = bytes(span - done)
                return
            done += got

    def pwrite(self, offset: int, data: bytes | bytearray | memoryview, *, fua: bool = False
               ) -> None:
        rest = memoryview(data).cast("B")
        end = self.size if self.is_regular else 1 << 63
        new_end = max(end, offset + len(rest))
        while rest:
            low, inside = offset & -ALIGNMENT, offset % ALIGNMENT
            length = min(len(rest), BOUNCE_BYTES - inside)
            span = -(-(inside + length) // ALIGNMENT) * ALIGNMENT
            with self._lock:
                if inside or (inside + length) % ALIGNMENT:
                    self._load(low, span)
                self._view[inside : inside + length] = rest[:length]
                self._store(low, span)
            offset, rest = offset + length, rest[length:]
        if self.is_regular and new_end % ALIGNMENT and self.size > new_end:
            os.ftruncate(self.fd, new_end)  # whole blocks were written past the end
        if fua:
            self.flush()

    def _store(self, low: int, span: int) -> None:
        done = 0
        try:
            while done < span:
                done += os.pwritev(self.fd, [self._view[done:span]], low + done)
        except OSError as error:
            raise BlockError.from_os("write failed", error) from None

    def truncate(self, size: int, *, preallocation: str = "off") -> None:
        if preallocation != "off":
            super().truncate(size, preallocation=preallocation)
            return
        try:
            os.ftruncate(self.fd, size)  # no first block: it would need an aligned buffer
        except OSError as error:
            raise BlockError.from_os("Could not resize file", error) from None
