"""backup: the disk as it was when the job began; old data is copied before it is written over."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from pytcg.block.device import BlockDevice, BlockError
from pytcg.block.dirty import DirtyBitmap, runs_of
from pytcg.block.filters.compress import Compress
from pytcg.block.filters.job_filter import JobFilter
from pytcg.block.graph import Graph
from pytcg.block.jobs.chunks import DirtyChunks, Ranges
from pytcg.block.jobs.job import Job
from pytcg.block.zeroes import is_zero

CLUSTER: Final = 64 << 10


class Backup(Job):
    """``sync``: full, top (what the source's own layer has), none (only what is written over).

    Or "bitmap": what ``bitmap``, which is frozen, says. It starts anew if the job ends well, or,
    with ``bitmap_mode`` always, in any case with what was not copied; with never it stays.
    """

    kind = "backup"

    def __init__(self, id: str, graph: Graph, source: BlockDevice, target: BlockDevice, *,
                 sync: str = "full", bitmap: DirtyBitmap | None = None,
                 bitmap_mode: str = "on-success", compress: bool = False, speed: int = 0,
                 finalize: bool = True, dismiss: bool = True) -> None:  # fmt: skip
        super().__init__(id, nodes=[source, target], speed=speed, finalize=finalize,
                         dismiss=dismiss)  # fmt: skip
        self.graph = graph
        self.source = source
        self.target = Compress(target) if compress else target
        self.on_end: Callable[[], None] = lambda: None
        cluster = max(CLUSTER, target.cluster_size)
        self._left = DirtyChunks(source.size, cluster)  # not copied yet
        self._ranges = Ranges(cluster)
        self._copied = bytearray(-(-source.size // cluster))
        self._sync = sync
        self.bitmap = bitmap
        self._bitmap_mode = bitmap_mode
        if sync == "bitmap" and bitmap is not None:
            self._keep_only(bitmap)
        self._filter = JobFilter(source, self._around)
        self._failed: BlockError | None = None

    def _keep_only(self, bitmap: DirtyBitmap) -> None:
        """All that isn't dirty needs no copy."""
        unit = self._ranges.granularity
        self._copied[:] = b"\1" * len(self._copied)
        for first, stop in runs_of(bitmap.frozen or b""):
            begin = first * bitmap.granularity // unit
            end = min(-(-stop * bitmap.granularity // unit), len(self._copied))
            self._copied[begin:end] = bytes(max(end - begin, 0))

    def thaw(self, *, done: bool) -> None:
        """Give the bitmap back; ``done``: what it said is copied."""
        bitmap, self.bitmap = self.bitmap, None
        if bitmap is None:
            return
        anew = self._bitmap_mode == "always" or (done and self._bitmap_mode != "never")
        bitmap.thaw(back=not anew)
        if anew and not done:
            unit = self._ranges.granularity
            for number in range(len(self._copied)):
                if not self._copied[number]:
                    bitmap.add(number * unit, unit)

    @contextmanager
    def _around(self, offset: int, length: int) -> Iterator[None]:
        if length and self._failed is None:
            with self._ranges.hold(offset, length):
                try:
                    self._save(offset, length)
                except BlockError as error:  # the job fails, not the guest
                    self._failed = error
        yield

    def _save(self, offset: int, length: int) -> None:
        """Copy what is not yet copied of a range's clusters, which are held."""
        unit = self._ranges.granularity
        end = min(-(-(offset + length) // unit), len(self._copied))
        for number in range(offset // unit, end):
            if not self._copied[number]:
                at = number * unit
                self._copy(at, min(unit, self.source.size - at))
                self._copied[number] = 1

    def _copy(self, offset: int, length: int) -> None:
        data = self.source.pread(offset, length)
        if is_zero(data, 0, length):
            self.target.write_zeroes(offset, length)
        else:
            self.target.pwrite(offset, data)

    def start(self) -> None:
        with self.graph.drained():
            self.graph.replace(self.source, self._filter)

    def work(self) -> None:
        unit = self._ranges.granularity
        self.length = (self._copied.count(0) * unit if self._sync == "bitmap"
                       else self.source.size)  # fmt: skip
        if self._sync == "none":
            with self.changed:
                self.changed.wait_for(lambda: self.cancelled or self._failed is not None)
            self.check()
        else:
            self._copy_all()
        if self._failed is not None:
            raise self._failed

    def _copy_all(self) -> None:
        unit = self._ranges.granularity
        for at in range(0, self.source.size, unit):
            self.check()
            if self._failed is not None:
                return
            length = min(unit, self.source.size - at)
            if self._sync == "bitmap" and self._copied[at // unit]:
                continue
            with self._ranges.hold(at, length):
                if self._sync != "top" or self._is_own(at, length):
                    self._save(at, length)
                else:
                    self._copied[at // unit] = 1  # the target stands on the same
            self.moved(length)

    def _is_own(self, at: int, length: int) -> bool:
        end = at + length
        while at < end:
            extent = self.source.layer_status(at, end - at)
            if extent.data or extent.zero:
                return True
            at += extent.length
        return False

    def finish(self) -> None:
        self.target.flush()

    def clean(self) -> None:
        with self.graph.drained():
            self.graph.replace(self._filter, self.source)
            self.thaw(done=self.error is None and not self.cancelled)
            self.on_end()
