"""qcow2 reads: guest data and block status by way of the L2 tables."""

from __future__ import annotations

import threading

from pytcg.block.device import ZERO_BLOCK, BlockDevice, Extent
from pytcg.block.formats.qcow2 import format as fmt
from pytcg.block.formats.qcow2.compress import Decompressor
from pytcg.block.formats.qcow2.l2 import ClusterMap, Kind, Run
from pytcg.block.formats.qcow2.refcount import Refcounts

_NOT_PLAIN = fmt.COMPRESSED | fmt.ZERO


class Qcow2Reading(BlockDevice):
    """The half of a qcow2 device that reads; Qcow2Device sets it up."""

    file: BlockDevice
    data_file: BlockDevice
    header: fmt.Header
    map: ClusterMap
    refcounts: Refcounts
    decompressor: Decompressor
    lock: threading.Condition
    _rlock: threading.RLock
    _size: int
    _slow_map: bool  # entries that peek() can't read by themselves
    _sequence: int  # of the newest request
    _active: set[int]  # requests under way
    _preallocated: bool | None

    def begin(self) -> int:
        """Note that a request is under way: clusters freed from now on are not reused yet."""
        self._sequence += 1
        self._active.add(self._sequence)
        return self._sequence

    def end(self, token: int) -> None:
        """The request of begin() is over."""
        self._active.discard(token)

    def pread(self, offset: int, length: int) -> bytes:
        cluster = self.cluster_size
        inside = offset & (cluster - 1)
        if inside + length <= cluster and 0 <= offset <= self._size - length:
            with self._rlock:
                word = 0 if self._slow_map else self.map.peek(offset)
                self._sequence = token = self._sequence + 1
                self._active.add(token)
            try:
                host = word & fmt.OFFSET_MASK
                if host and not word & _NOT_PLAIN and not host & (cluster - 1):
                    return self.data_file.pread(host + inside, length)
            finally:
                self._active.discard(token)
        return self._pread(offset, length)

    def _pread(self, offset: int, length: int) -> bytes:
        if offset < 0 or offset + length > self.size:
            self.check_range(offset, length)
        with self.lock:
            run = self.map.lookup(offset, length) if length else None
            token = self.begin()
        try:
            if run is not None and run.kind is Kind.DATA and run.length == length:
                self.file.debug_event("read_aio")
                return self.data_file.pread(run.host, length)
            buffer = bytearray(length)
            self.read_range(offset, memoryview(buffer))
            return bytes(buffer)
        finally:
            self.end(token)

    def read_into(self, offset: int, buffer: memoryview) -> None:
        self.check_range(offset, len(buffer))
        with self.lock:
            token = self.begin()
        try:
            self._read(offset, buffer, cleared=False)
        finally:
            self.end(token)

    def _read(self, offset: int, buffer: memoryview, *, cleared: bool) -> None:
        while buffer:
            with self.lock:
                run = self.map.lookup(offset, len(buffer))
            self.read_run(run, offset, buffer[: run.length], cleared=cleared)
            offset += run.length
            buffer = buffer[run.length :]

    def read_range(self, offset: int, buffer: memoryview) -> None:
        """Read into a buffer that is zeroed already, within a request of begin()."""
        self._read(offset, buffer, cleared=True)

    def read_run(self, run: Run, offset: int, part: memoryview, *, cleared: bool = False
                 ) -> None:
        """Fill ``part`` with what a run holds."""
        if run.kind is Kind.DATA:
            self.file.debug_event("read_aio")
            self.data_file.read_into(run.host, part)
        elif run.kind is Kind.COMPRESSED:
            inside = offset & (self.cluster_size - 1)
            self.file.debug_event("read_compressed")
            data = self.decompressor.cluster(run.host)
            part[:] = data[inside : inside + run.length]
        elif run.kind in (Kind.UNALLOCATED, Kind.UNALLOCATED_HOSTED) and self.backing:
            inside_backing = max(0, min(run.length, self.backing.size - offset))
            if inside_backing:
                self.file.debug_event("read_backing_aio")
                self.backing.read_into(offset, part[:inside_backing])
            if not cleared:
                fill_zeroes(part[inside_backing:])
        elif not cleared:
            fill_zeroes(part)

    def layer_status(self, offset: int, length: int) -> Extent:
        with self.lock:
            run = self.map.lookup(offset, length)
        zero = run.kind in (Kind.ZERO, Kind.ZERO_ALLOCATED)
        data = run.kind in (Kind.DATA, Kind.COMPRESSED)
        hosted = run.kind in (Kind.DATA, Kind.ZERO_ALLOCATED, Kind.UNALLOCATED_HOSTED)
        extent = Extent(run.length, data, zero, data or zero, 0,
                        run.host if hosted else None,
                        self.data_file.filename if hosted else None,
                        run.kind is Kind.COMPRESSED)
        if run.kind is Kind.DATA and self._is_preallocated():
            below = self.data_file.layer_status(run.host, run.length)
            if not (below.zero and run.host + below.length >= self.data_file.size):
                extent = extent._replace(length=min(run.length, below.length))
            extent = extent._replace(zero=below.zero)
        return extent

    def _is_preallocated(self) -> bool:
        """Whether the file holds many fewer blocks than its refcounts say (QEMU's heuristic)."""
        if self._preallocated is None:
            taken = (self.file.allocated_size or self.file.size) >> self.header.cluster_bits
            threshold = max(taken * 10 // 9, taken + 2)
            with self.lock:
                used = self.refcounts.count_used(
                    -(-self.file.size // self.cluster_size), threshold)
            self._preallocated = used >= threshold
        return self._preallocated


def fill_zeroes(part: memoryview) -> None:
    """Zero a buffer without making a zero buffer of its size."""
    step = len(ZERO_BLOCK)
    for start in range(0, len(part) - step + 1, step):
        part[start : start + step] = ZERO_BLOCK
    rest = len(part) % step
    if rest:
        part[-rest:] = ZERO_BLOCK[:rest]
