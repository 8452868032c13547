"""The ``compress`` filter: what is written through it is stored compressed."""

from __future__ import annotations

import threading

from pytcg.block.device import BlockDevice, NotSupported
from pytcg.block.filters.filter import Filter
from pytcg.block.json_name import json_name, options_of
from pytcg.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from pytcg.block.open import OpenFlags


class Compress(Filter):
    """Writes whole clusters; what a request leaves of one is read and compressed with it."""

    def __init__(self, below: BlockDevice) -> None:
        if not below.can_compress:
            raise NotSupported("Compression is not supported for underlying format: "
                               f"{below.format_name}")
        super().__init__(below)
        self.format_name = "compress"
        self.filename = json_name({"driver": "compress", "file": options_of(below)})
        self.request_alignment = max(1, below.cluster_size)
        self._lock = threading.Lock()  # nothing may come between the reading and the writing

    def pwrite(self, offset: int, data: bytes | bytearray | memoryview, *, fua: bool = False
               ) -> None:
        self.check_range(offset, len(data), write=True)
        view = memoryview(data)
        with self._lock:
            while view:
                step = self.request_alignment - offset % self.request_alignment
                self._write_cluster(offset, view[:step])
                offset, view = offset + step, view[step:]
        if fua:
            self.flush()

    def _write_cluster(self, offset: int, data: memoryview) -> None:
        """Write within one cluster."""
        start = offset - offset % self.request_alignment
        whole = min(self.request_alignment, self.size - start)
        if len(data) < whole:
            merged = bytearray(self.below.pread(start, whole))
            merged[offset - start : offset - start + len(data)] = data
            data = memoryview(merged)
        self.below.write_compressed(start, data)

    def write_zeroes(self, offset: int, length: int, *, may_unmap: bool = True,
                     fua: bool = False) -> None:
        self.check_range(offset, length, write=True)
        unit, end = self.request_alignment, offset + length
        low = min(end, -(-offset // unit) * unit)
        high = end if end == self.size else max(low, end // unit * unit)
        self.pwrite(offset, bytes(low - offset))
        with self._lock:
            self.below.write_zeroes(low, high - low, may_unmap=may_unmap)
        self.pwrite(high, bytes(end - high))
        if fua:
            self.flush()

    def discard(self, offset: int, length: int) -> None:
        with self._lock:
            self.below.discard(offset, length)


def open_filter(below: BlockDevice, flags: OpenFlags) -> BlockDevice:
    """Open with the options of QEMU's driver of that name: it has none of its own."""
    return Compress(below)
