"""virtio-balloon: memory that the guest gives back (virtio 1.2, 5.5)."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final

from pytcg.hw.state import State
from pytcg.hw.virtio.chain import Chain
from pytcg.hw.virtio.device import VirtioDevice, Virtqueue

INFLATE, DEFLATE, STATISTICS = range(3)
STATS_VQ: Final = 1  # feature bits
DEFLATE_ON_OOM: Final = 2
PAGE_SHIFT: Final = 12
MOST: Final = 1 << 16  # bytes of page numbers in one buffer
STAT: Final = struct.Struct("<HQ")


class VirtioBalloon(VirtioDevice):
    """``discard(address, length)`` hears of pages whose content the guest does not need."""

    kind = 5
    queue_sizes = (128, 128, 128)
    own_features = 1 << STATS_VQ

    def __init__(self, discard: Callable[[int, int], None], *, deflate_on_oom: bool = False
                 ) -> None:  # fmt: skip
        self._discard = discard
        self.target = 0  # pages that the guest shall give
        self.actual = 0  # pages that it gave
        self.statistics: dict[int, int] = {}
        self._held: Chain | None = None
        self.on_change: Callable[[], None] = lambda: None
        super().__init__()
        if deflate_on_oom:
            self.own_features |= 1 << DEFLATE_ON_OOM

    def reset(self) -> None:
        super().reset()
        self.actual = 0
        self.statistics = {}
        self._held = None

    _FIELDS = ("target", "actual")

    def state(self) -> State:
        held = self._held
        kept = None if held is None else [
            held.head, held.slots, [[*span, False] for span in held.readable]
            + [[*span, True] for span in held.writable]]
        return super().state() | {"held": kept}

    def restore(self, state: State) -> None:
        super().restore(state)
        self.statistics, self._held = {}, None
        if state["held"] is not None:
            head, slots, descriptors = state["held"]
            assert self.transport is not None
            self._held = Chain(self.transport, head, slots, descriptors)

    def set_target(self, pages: int) -> None:
        """How many pages the guest shall give up."""
        self.target = pages
        self.changed()

    def ask_statistics(self) -> None:
        """Let the guest tell its memory's figures anew."""
        if self._held is not None:
            held, self._held = self._held, None
            self.queues[STATISTICS].push(held, 0)

    def config(self) -> bytes:
        return struct.pack("<LL", self.target, self.actual)

    def write_config(self, offset: int, data: bytes) -> None:
        raw = bytearray(self.config())
        raw[offset : offset + len(data)] = data
        self.actual = struct.unpack("<LL", raw)[1]
        self.on_change()

    def notified(self, queue: Virtqueue) -> None:
        def serve(chain: Chain) -> None:
            data = chain.read(0, min(chain.to_read, MOST))
            if queue.index == STATISTICS:
                self._take_statistics(chain, data)
                return
            if queue.index == INFLATE:
                for (page,) in struct.iter_unpack("<L", data[: len(data) & ~3]):
                    self._discard(page << PAGE_SHIFT, 1 << PAGE_SHIFT)
            queue.push(chain, 0)

        queue.take_all(serve)

    def _take_statistics(self, chain: Chain, data: bytes) -> None:
        """The buffer is kept until figures are wanted again."""
        self.ask_statistics()
        self._held = chain
        usable = data[: len(data) // STAT.size * STAT.size]
        self.statistics = dict(STAT.iter_unpack(usable))
