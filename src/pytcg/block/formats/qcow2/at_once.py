"""qcow2 in the processor's thread: what needs no table from the disk and no new cluster."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pytcg.block.formats.qcow2.flush import Qcow2Flushing
from pytcg.block.formats.qcow2.l2 import Kind, Run
from pytcg.block.formats.qcow2.read import fill_zeroes
from pytcg.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from pytcg.block.formats.qcow2.write import Writer

_BELOW = (Kind.UNALLOCATED, Kind.UNALLOCATED_HOSTED)


class Qcow2AtOnce(Qcow2Flushing):
    """The half of a qcow2 device that never waits; Qcow2Device sets it up."""

    _writer: Writer | None
    _writethrough: bool

    def read_now(self, offset: int, buffers: Sequence[memoryview]) -> bool:
        found = self._runs_now(offset, sum(map(len, buffers)))
        if found is None:
            return False
        runs, token = found
        try:
            for run, parts in zip(runs, _cut(buffers, runs), strict=True):
                if not self._read_run_now(run, offset, parts):
                    return False
                offset += run.length
            return True
        finally:
            self.end(token)

    def _read_run_now(self, run: Run, offset: int, parts: Sequence[memoryview]) -> bool:
        if run.kind == Kind.DATA:
            return self.data_file.read_now(run.host, parts)
        if run.kind == Kind.COMPRESSED:
            return False
        if run.kind in _BELOW and self.backing is not None:
            within = offset + run.length <= self.backing.size
            return within and self.backing.read_now(offset, parts)
        for part in parts:
            fill_zeroes(part)
        return True

    def write_now(self, offset: int, buffers: Sequence[memoryview]) -> bool:
        writer = self._writer
        if writer is None or self.read_only or self._writethrough or self.dirty:
            return False
        found = self._runs_now(offset, sum(map(len, buffers)), writer)
        if found is None:
            return False
        runs, token = found
        try:
            return all(self.data_file.write_now(run.host, parts)
                       for run, parts in zip(runs, _cut(buffers, runs), strict=True))
        finally:
            self.end(token)

    def _runs_now(self, offset: int, length: int, writer: Writer | None = None
                  ) -> tuple[list[Run], int] | None:
        """What makes up a range, and the token of a request that is under way.

        None if that has to be read from the disk, is nothing to read, or a ``writer`` couldn't
        write to it in place.
        """
        if (offset < 0 or offset + length > self._size or self.file.debugged
                or not self.lock.acquire(blocking=False)):  # others flush while they hold it
            return None
        try:
            runs, end = [], offset + length
            while offset < end:
                run = self.map.lookup_now(offset, end - offset)
                if run is None or (writer is not None and not writer.in_place(run)):
                    return None
                runs.append(run)
                offset += run.length
            return runs, self.begin()
        finally:
            self.lock.release()


def _cut(buffers: Sequence[memoryview], runs: Sequence[Run]) -> Iterator[Sequence[memoryview]]:
    """The buffers' parts that belong to each run."""
    if len(runs) == 1:
        yield buffers
        return
    rest = iter(buffers)
    buffer = next(rest)
    for run in runs:
        parts, length = [], run.length
        while length > len(buffer):
            parts.append(buffer)
            length -= len(buffer)
            buffer = next(rest)
        parts.append(buffer[:length])
        buffer = buffer[length:]
        yield parts
