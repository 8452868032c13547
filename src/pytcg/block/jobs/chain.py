"""stream and commit: data moves along a backing chain, and layers drop out of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from pytcg.block.device import BlockDevice
from pytcg.block.filters.job_filter import JobFilter
from pytcg.block.graph import Graph
from pytcg.block.jobs.chunks import Ranges
from pytcg.block.jobs.job import CHUNK, Job

UNIT: Final = 64 << 10


def chain_of(node: BlockDevice) -> list[BlockDevice]:
    """A node and those it is backed by."""
    found = [node.node]
    while found[-1].backing is not None:
        found.append(found[-1].backing.node)
    return found


def copy_run(layers: list[BlockDevice], to: BlockDevice, at: int, length: int) -> int:
    """Copy a prefix of a range from the first of ``layers`` that has it: its length.

    Behind the end of a layer there are zeros, whatever those below it have.
    """
    for layer in layers:
        if at >= layer.size:
            to.write_zeroes(at, length)
            return length
        extent = layer.layer_status(at, min(length, layer.size - at))
        length = extent.length
        if extent.zero:
            to.write_zeroes(at, length)
            return length
        if extent.data:
            to.pwrite(at, layer.pread(at, length))
            return length
    return length


class Stream(Job):
    """What lies between a layer and ``base`` (None: all below) goes up into that layer."""

    kind = "stream"

    def __init__(self, id: str, graph: Graph, top: BlockDevice, base: BlockDevice | None, *,
                 speed: int = 0, finalize: bool = True, dismiss: bool = True) -> None:
        chain = chain_of(top)
        between = chain[1 : chain.index(base)] if base is not None else chain[1:]
        super().__init__(id, nodes=[top, *between], speed=speed, finalize=finalize,
                         dismiss=dismiss)  # fmt: skip
        self.graph = graph
        self.top = top
        self.base = base
        self.on_finish: Callable[[], None] = lambda: None
        self._between = between
        self._ranges = Ranges(max(UNIT, top.cluster_size))
        self._filter = JobFilter(top, self._ranges.hold)

    def start(self) -> None:
        with self.graph.drained():
            self.graph.replace(self.top, self._filter)

    def work(self) -> None:
        self.length = self.top.size
        for at in range(0, self.top.size, CHUNK):
            self.check()
            length = min(CHUNK, self.top.size - at)
            with self._ranges.hold(at, length):
                self._fill(at, at + length)
            self.moved(length)
        self.top.flush()

    def _fill(self, at: int, end: int) -> None:
        while at < end:
            own = self.top.layer_status(at, end - at)
            length = own.length
            if not (own.data or own.zero):
                length = copy_run(self._between, self.top, at, length)
            at += length

    def finish(self) -> None:
        with self.graph.drained():
            self.on_finish()

    def clean(self) -> None:
        with self.graph.drained():
            self.graph.replace(self._filter, self.top)


class Commit(Job):
    """What layers below the active one hold, from ``top`` down, goes into ``base``."""

    kind = "commit"

    def __init__(self, id: str, graph: Graph, above: BlockDevice, top: BlockDevice,
                 base: BlockDevice, *, speed: int = 0, finalize: bool = True,
                 dismiss: bool = True) -> None:  # fmt: skip
        chain = chain_of(top)
        self.layers = chain[: chain.index(base)]
        super().__init__(id, nodes=[*self.layers, base], speed=speed, finalize=finalize,
                         dismiss=dismiss)  # fmt: skip
        self.graph = graph
        self.above = above
        self.base = base
        self.on_finish: Callable[[], None] = lambda: None
        self.on_end: Callable[[], None] = lambda: None

    def work(self) -> None:
        top = self.layers[0]
        self.length = top.size
        if self.base.size < top.size:
            self.base.truncate(top.size)
        at = 0
        while at < top.size:
            self.check()
            length = copy_run(self.layers, self.base, at, min(CHUNK, top.size - at))
            at += length
            self.moved(length)
        self.base.flush()

    def finish(self) -> None:
        with self.graph.drained():
            self.on_finish()

    def clean(self) -> None:
        with self.graph.drained():
            self.on_end()
