"""The ``copy-on-read`` filter: what is read from a backing file stays in the image."""

from __future__ import annotations

import errno
import threading

from pytcg.block.device import BlockDevice, BlockError, Extent
from pytcg.block.filters.filter import Filter
from pytcg.block.zeroes import is_zero
from pytcg.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from pytcg.block.open import OpenFlags

CHUNK_BYTES = 1 << 20


class CopyOnRead(Filter):
    """Reads through a disk copy whole clusters that its own layer does not store yet."""

    def __init__(self, below: BlockDevice) -> None:
        if below.read_only:
            raise BlockError("Block node is read-only", errno.EACCES)
        super().__init__(below)
        self.format_name = "copy-on-read"
        self._cluster = max(1, below.cluster_size)
        self._lock = threading.Lock()  # a copy must not overwrite what is written meanwhile

    def read_into(self, offset: int, buffer: memoryview) -> None:
        self.check_range(offset, len(buffer))
        while buffer:
            with self._lock:
                done = self._read_some(offset, buffer)
            offset += done
            buffer = buffer[done:]

    def pread(self, offset: int, length: int) -> bytes:
        buffer = bytearray(length)
        self.read_into(offset, memoryview(buffer))
        return bytes(buffer)

    def _read_some(self, offset: int, buffer: memoryview) -> int:
        """Read a run that is all stored here or all not: its length."""
        start = offset - offset % self._cluster
        end = min(-(-(offset + len(buffer)) // self._cluster) * self._cluster, self.size)
        extent = self.below.layer_status(start, end - start)
        if not (extent.data or extent.zero):
            extent = self._copy_run(start, extent.length)
        length = min(start + extent.length - offset, len(buffer))
        self.below.read_into(offset, buffer[:length])
        return length

    def _copy_run(self, start: int, length: int) -> Extent:
        """Copy a prefix of a run that the layers below this one hold."""
        extent = self.below.status_at(start, length)
        if extent.zero:
            data = b""
        else:
            extent = extent._replace(length=min(extent.length, CHUNK_BYTES))
            data = self.below.pread(start, extent.length)
        self.below.debug_event("cor_write")
        if is_zero(data, 0, len(data)):
            self.below.write_zeroes(start, extent.length, may_unmap=False)
        else:
            self.below.pwrite(start, data)
        return extent

    def pwrite(self, offset: int, data: bytes | bytearray | memoryview, *, fua: bool = False
               ) -> None:
        with self._lock:
            self.below.pwrite(offset, data, fua=fua)

    def write_zeroes(self, offset: int, length: int, *, may_unmap: bool = True,
                     fua: bool = False) -> None:
        with self._lock:
            self.below.write_zeroes(offset, length, may_unmap=may_unmap, fua=fua)

    def discard(self, offset: int, length: int) -> None:
        with self._lock:
            self.below.discard(offset, length)


def open_filter(below: BlockDevice, flags: OpenFlags) -> BlockDevice:
    """Open with the options of QEMU's driver of that name, but for ``bottom``."""
    return CopyOnRead(below)
