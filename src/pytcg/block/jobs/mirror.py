"""mirror, and commit of the active layer: a copy that follows the guest's writes, then a switch.

A chunk is marked dirty when a write to it has ended. What is copied while a write is under way is
therefore copied again, and nothing is lost. The last chunks are copied while all users are held.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from pytcg.block.device import BlockDevice, BlockError, Extent
from pytcg.block.filters.job_filter import JobFilter
from pytcg.block.graph import Graph
from pytcg.block.jobs.chunks import DirtyChunks
from pytcg.block.jobs.job import CHUNK, Job, Status
from pytcg.block.zeroes import is_zero

GRANULARITY: Final = 64 << 10
FEW: Final = 16 * GRANULARITY
"""So little is left that the guest may wait for it."""


class Mirror(Job):
    """``sync``: full, top (what is above ``base``), none (only what is written from now on)."""

    kind = "mirror"
    can_complete = True

    def __init__(self, id: str, graph: Graph, source: BlockDevice, target: BlockDevice, *,
                 nodes: list[BlockDevice], sync: str = "full", base: BlockDevice | None = None,
                 granularity: int = 0, speed: int = 0, finalize: bool = True,
                 dismiss: bool = True) -> None:  # fmt: skip
        super().__init__(id, nodes=nodes, speed=speed, finalize=finalize, dismiss=dismiss)
        self.graph = graph
        self.source = source
        self.target = target
        self.dirty = DirtyChunks(source.size, granularity or GRANULARITY)
        self.on_switch: Callable[[], None] = lambda: None
        self.on_end: Callable[[bool], None] = lambda switched: None
        self._sync = sync
        self._base = base
        self._filter = JobFilter(source, self._around)
        self._switched = False

    @contextmanager
    def _around(self, offset: int, length: int) -> Iterator[None]:
        try:
            yield
        finally:
            self.dirty.mark(offset, length)
            with self.changed:
                self.changed.notify_all()

    def start(self) -> None:
        with self.graph.drained():
            self.graph.replace(self.source, self._filter)

    # --- in the thread -------------------------------------------------------------------------

    def work(self) -> None:
        self.length = self.source.size
        if self._sync != "none":
            self._mark_all()
        self.length = self.dirty.left
        while True:
            self._copy_dirty()
            if not self.ready:
                self.ready = True
                self.call(self._tell_ready)
            with self.changed:
                self.changed.wait_for(lambda: bool(self.dirty.count and not self.pauses)
                                      or self.completing or self.cancelled)  # fmt: skip
            if self.stopping or ((self.completing or self.cancelled) and self.dirty.left <= FEW):
                return

    def _tell_ready(self) -> None:
        self.set(Status.READY)

    def _mark_all(self) -> None:
        at = 0
        while at < self.source.size:
            self.check()
            length = self.source.size - at
            if self._sync == "top":
                extent = self._above_base(at, length)
                wanted = extent.data or extent.zero
            else:
                extent, wanted = self.source.status_at(at, length), True
            if wanted:
                self.dirty.mark(at, extent.length)
            at += extent.length

    def _above_base(self, at: int, length: int) -> Extent:
        layer: BlockDevice | None = self.source
        while True:
            assert layer is not None
            extent = layer.layer_status(at, min(length, layer.size - at))
            below = layer.backing.node if layer.backing is not None else None
            if extent.data or extent.zero or below is None or below is self._base:
                return extent
            length, layer = extent.length, below
            if at >= below.size:
                return extent

    def _copy_dirty(self) -> None:
        while (run := self.dirty.take(CHUNK)) is not None:
            try:
                self.check()
                self._copy(*run)
            except BaseException:
                self.dirty.mark(*run)
                raise
            self.length = max(self.length, self.offset + run[1] + self.dirty.left)
            self.moved(run[1])

    def _copy(self, offset: int, length: int) -> None:
        extent = self.source.status_at(offset, length)
        if extent.zero and extent.length >= length:
            self.target.write_zeroes(offset, length)
            return
        data = self.source.pread(offset, length)
        if is_zero(data, 0, length):
            self.target.write_zeroes(offset, length)
        else:
            self.target.pwrite(offset, data)

    # --- in the main loop ----------------------------------------------------------------------

    def finish(self) -> None:
        with self.graph.drained():
            while (run := self.dirty.take(CHUNK)) is not None:
                try:
                    self._copy(*run)
                except BlockError:
                    self.dirty.mark(*run)
                    raise
                self.offset += run[1]
            self.length = self.offset
            self.target.flush()
            if self.completing:
                self.on_switch()
                self.graph.replace(self._filter, self.target)
                self._switched = True

    def clean(self) -> None:
        with self.graph.drained():
            if not self._switched:
                self.graph.replace(self._filter, self.source)
            self.on_end(self._switched)


class ActiveCommit(Mirror):
    """What lies above the base goes into it, then the guest goes on with the base."""

    kind = "commit"
