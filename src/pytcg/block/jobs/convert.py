"""Copying one disk's content into another: zero detection, compression, reading ahead."""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Iterator

from pytcg.block.device import BlockDevice, BlockError, Extent, ProgressCallback
from pytcg.block.formats.qcow2.device import Qcow2Device
from pytcg.block.jobs.ahead import run_ordered
from pytcg.block.memory import page_aligned
from pytcg.block.zeroes import is_zero, split_zeroes
from pytcg.typed import NamedTuple

CHUNK = 2 << 20
SALVAGE_STEP = 512


class Concatenation(BlockDevice):
    """Several disks one after the other, for reading."""

    format_name = "concat"
    read_only = True

    def __init__(self, parts: list[BlockDevice]) -> None:
        self.parts = parts
        self.filename = parts[0].filename
        self.starts = [sum(part.size for part in parts[:index]) for index in range(len(parts))]
        self._size = sum(part.size for part in parts)

    @property
    def size(self) -> int:
        return self._size

    @property
    def is_cached(self) -> bool:
        return all(part.is_cached for part in self.parts)

    def _at(self, offset: int) -> tuple[BlockDevice, int]:
        index = next(index for index in range(len(self.parts) - 1, -1, -1)
                     if self.starts[index] <= offset)
        return self.parts[index], offset - self.starts[index]

    def read_into(self, offset: int, buffer: memoryview) -> None:
        while buffer:
            part, inside = self._at(offset)
            step = min(len(buffer), part.size - inside)
            part.read_into(inside, buffer[:step])
            offset, buffer = offset + step, buffer[step:]

    def status_at(self, offset: int, length: int) -> Extent:
        part, inside = self._at(offset)
        return part.status_at(inside, min(length, part.size - inside))

    def layer_status(self, offset: int, length: int) -> Extent:
        part, inside = self._at(offset)
        return part.layer_status(inside, min(length, part.size - inside))

    def pwrite(self, offset: int, data: bytes | bytearray | memoryview, *, fua: bool = False
               ) -> None:
        self.check_range(offset, len(data), write=True)

    def flush(self) -> None:
        """Nothing is ever written."""

    def close(self) -> None:
        for part in self.parts:
            part.close()


class CopyOptions(NamedTuple):
    """How to copy."""

    min_sparse: int = 4096  # zeroes of at least this many bytes become holes; 0 looks for none
    fill_zeroes: bool = False  # write what the source says is zero as data
    target_is_zero: bool = False
    keep_backing: bool = False  # leave out what the source's own layer lacks
    backing_size: int = 0  # of the target's backing file, with keep_backing
    compressed: bool = False
    workers: int = 8
    out_of_order: bool = False
    salvage: bool = False  # warn of what can't be read and go on
    copy_range: bool = False
    rate: int = 0  # bytes a second, 0 for no limit
    count_data: bool = False  # report progress as a share of the data, not of the disk


class _Task(NamedTuple):
    offset: int
    length: int
    data: bool  # else it is to be zeroed


class _Packed(NamedTuple):
    offset: int
    data: memoryview
    packed: bytes | None  # None when the data don't get smaller
    zero: bool = False


class _Loaded(NamedTuple):
    buffer: mmap.mmap
    packed: list[_Packed] | None = None  # the buffer's clusters, where they are to be compressed


class Copier:
    """One copy."""

    def __init__(self, source: BlockDevice, target: BlockDevice, options: CopyOptions,
                 progress: ProgressCallback = lambda done, total: None,
                 warn: Callable[[str], None] = lambda message: None) -> None:
        self.source, self.target, self.options = source, target, options
        self.progress, self.warn = progress, warn
        self.size = min(source.size, target.size)
        unit = options.min_sparse
        if options.compressed:
            unit = max(1, target.cluster_size)
        elif unit and isinstance(target, Qcow2Device):
            unit = max(unit, 1 << target.map.sub_bits)
        self.unit = unit
        self.chunk = max(CHUNK, target.cluster_size)
        self._spare: list[mmap.mmap] = []  # fresh memory would cost as much as the copy

    def run(self) -> None:
        """Copy everything. The target is not flushed."""
        limit = _RateLimit(self.options.rate)
        counted = self.options.count_data
        total = self.size
        if counted or self.options.salvage:  # salvaging QEMU looks twice too, and warns each time
            data = sum(task.length for task in self._tasks() if task.data)
            total = data if counted else total
        done = 0

        def report(task: _Task, result: object) -> None:
            nonlocal done
            if not counted:
                self.progress(task.offset + task.length, total)
            elif task.data:
                done += task.length
                self.progress(done, total)

        def finish(task: _Task, result: _Loaded | None) -> None:
            self._store(task, result)
            limit.wait(task.length)
            report(task, result)

        # Reading ahead pays even within the page cache (bench/disk.py, "convert").
        workers = min(self.options.workers, 4 if self.options.compressed else 2)
        if self.size <= self.chunk * 2 or self.options.rate or self.options.salvage:
            workers = 0
        if self.options.out_of_order and not self.options.compressed:
            def whole(task: _Task) -> None:
                self._store(task, self._load(task))

            run_ordered(self._tasks(), whole, report, workers)
        else:
            run_ordered(self._tasks(), self._load, finish, workers)

    def _tasks(self) -> Iterator[_Task]:
        offset = 0
        while offset < self.size:
            extent = self._status(offset, self.size - offset)
            length = min(extent.length, self.size - offset)
            skip = self.options.keep_backing and not (extent.data or extent.zero)
            if extent.data and not extent.zero:
                length = self._align(offset, length)
                yield from self._chunks(offset, length)
            elif not skip and not extent.zero and not self.options.keep_backing:
                yield from self._chunks(offset, self._align(offset, length))
            elif not skip:
                whole = self._whole_clusters(offset, length)
                if whole:
                    length = whole
                    yield from self._zero_tasks(offset, length)
                else:
                    length = self._align(offset, length)
                    yield from self._chunks(offset, length)
            offset += length

    def _status(self, offset: int, length: int) -> Extent:
        """What the source says of a range's beginning; salvaging, a guess if it can't say."""
        ask = self.source.layer_status if self.options.keep_backing else self.source.status_at
        while True:
            try:
                return ask(offset, length)
            except BlockError as error:
                message = (f"error while reading block status at offset {offset}: "
                           f"{os.strerror(error.errno)}")
                if not self.options.salvage:
                    raise BlockError(message, error.errno) from None
                if length <= SALVAGE_STEP:
                    self.warn(message)
                    return Extent(length, data=True, zero=False)
            # A shorter range may not have what the error is about.
            length = -(-length // (4 * SALVAGE_STEP)) * SALVAGE_STEP

    def _align(self, offset: int, length: int) -> int:
        """Compressed clusters are written whole: end data runs at cluster borders."""
        if not self.options.compressed:
            return length
        end = -(-(offset + length) // self.unit) * self.unit
        return min(end, self.size) - offset

    def _whole_clusters(self, offset: int, length: int) -> int:
        """How much of a zero run is whole clusters, where that matters."""
        end = offset + length
        if not self.options.compressed or end == self.size:
            return length
        return max(0, end // self.unit * self.unit - offset)

    def _zero_tasks(self, offset: int, length: int) -> Iterator[_Task]:
        options = self.options
        if options.keep_backing:  # beyond its end zeroes show as it is
            length = min(length, options.backing_size - offset)
        if length <= 0:
            return
        if options.fill_zeroes:
            yield from self._chunks(offset, length)
        elif not options.target_is_zero:
            yield _Task(offset, length, False)

    def _chunks(self, offset: int, length: int) -> Iterator[_Task]:
        end = offset + length
        while offset < end:
            stop = min(end, (offset // self.chunk + 1) * self.chunk)
            yield _Task(offset, stop - offset, True)
            offset = stop

    def _load(self, task: _Task) -> _Loaded | None:
        """What _store needs, None where that is nothing; runs in a worker."""
        if not task.data or (self.options.copy_range and self._copy_range(task)):
            return None
        buffer = self._buffer()
        try:
            self.source.read_into(task.offset, memoryview(buffer)[: task.length])
        except BlockError as error:
            if not self.options.salvage:
                raise BlockError(f"error while reading at byte {task.offset}: "
                             f"{os.strerror(error.errno)}",
                                 error.errno) from None
            self._salvage(task, buffer)
        return _Loaded(buffer, self._pack(task, buffer) if self.options.compressed else None)

    def _pack(self, task: _Task, buffer: mmap.mmap) -> list[_Packed]:
        packed = []
        for start in range(0, task.length, self.unit):
            stop = min(start + self.unit, task.length)
            data = memoryview(buffer)[start:stop]
            if not self.options.min_sparse or not is_zero(buffer, start, stop):
                packed.append(_Packed(task.offset + start, data, self.target.pack(data)))
            elif not self.options.target_is_zero:
                packed.append(_Packed(task.offset + start, data, None, zero=True))
        return packed

    def _buffer(self) -> mmap.mmap:
        try:
            return self._spare.pop()
        except IndexError:
            return page_aligned(self.chunk)

    def _salvage(self, task: _Task, buffer: mmap.mmap) -> None:
        """Read sector by sector; what can't be read stays zero."""
        for start in range(0, task.length, SALVAGE_STEP):
            part = memoryview(buffer)[start : min(start + SALVAGE_STEP, task.length)]
            try:
                self.source.read_into(task.offset + start, part)
            except BlockError as error:
                self.warn(f"error while reading offset {task.offset + start}: "
                          f"{os.strerror(error.errno)}")
                part[:] = bytes(len(part))

    def _copy_range(self, task: _Task) -> bool:
        from pytcg.block.jobs.copy_range import copy_range

        return copy_range(self.source, self.target, task.offset, task.length)

    def _store(self, task: _Task, loaded: _Loaded | None) -> None:
        try:
            if not task.data:
                self.target.write_zeroes(task.offset, task.length)
            elif loaded is not None:
                if loaded.packed is None:
                    self._store_data(task, loaded.buffer)
                else:
                    self._store_packed(loaded.packed)
                self._spare.append(loaded.buffer)
        except BlockError as error:
            raise BlockError(f"error while writing at byte {task.offset}: "
                             f"{os.strerror(error.errno)}",
                             error.errno) from None

    def _store_packed(self, clusters: list[_Packed]) -> None:
        for offset, data, packed, zero in clusters:
            if zero:
                self.target.write_zeroes(offset, len(data))
            elif packed is None:
                self.target.pwrite(offset, data)
            else:
                self.target.write_compressed(offset, data, packed)

    def _store_data(self, task: _Task, data: mmap.mmap) -> None:
        offset, view = task.offset, memoryview(data)
        if self.options.min_sparse == 0:
            self.target.pwrite(offset, view[: task.length])
            return
        blank = self.options.target_is_zero
        for start, stop, has_data in split_zeroes(data, offset, self.unit, task.length):
            if has_data:
                self.target.pwrite(offset + start, view[start:stop])
            elif not blank:
                self.target.write_zeroes(offset + start, stop - start)


class _RateLimit:
    """Sleeps so that not more than ``rate`` bytes a second go by."""

    def __init__(self, rate: int) -> None:
        self._rate = rate

    def wait(self, length: int) -> None:
        """``length`` bytes were copied."""
        if self._rate:
            import time

            time.sleep(length / self._rate)
