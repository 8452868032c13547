"""virtio-rng: entropy (virtio 1.2, 5.4), at a limited rate if one is set."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from pytcg.hw.clock import Clock, Deadline
from pytcg.hw.pci.device import DmaError
from pytcg.hw.state import State, StateError
from pytcg.hw.virtio.chain import Chain
from pytcg.hw.virtio.device import VirtioDevice, Virtqueue

MOST: Final = 1 << 16  # bytes a buffer gets; the driver asks again
UNLIMITED: Final = (1 << 63) - 1
PERIOD_MS: Final = 1 << 16
NS_PER_MS: Final = 1_000_000


class Entropy(Protocol):
    """Where random bytes come from."""

    def request(self, length: int, done: Callable[[bytes], None]) -> None:
        """Call ``done`` with 1 to length bytes, now or later; device lock held."""
        ...

    def cancel(self, done: Callable[[bytes], None]) -> None:
        """Don't call it any more."""
        ...


class VirtioRng(VirtioDevice):
    """Fills the buffers it is offered, one after the other: ``most`` bytes in a period."""

    kind = 4
    queue_sizes = (8,)
    _FIELDS = ("_left",)

    def __init__(self, source: Entropy, clock: Clock, most: int = UNLIMITED,
                 period_ms: int = PERIOD_MS) -> None:  # fmt: skip
        self._source = source
        self._clock = clock
        self._most = self._left = most
        self._period = period_ms * NS_PER_MS
        self._timer = Deadline(clock, self._refill)
        self._waiting: Callable[[bytes], None] | None = None  # a request that is under way
        self._serving = False
        super().__init__()

    def reset(self) -> None:
        super().reset()
        self._forget()

    def _forget(self) -> None:
        if self._waiting is not None:
            self._source.cancel(self._waiting)
            self._waiting = None

    def close(self) -> None:
        """The card has left its slot."""
        self._timer.set(None)
        self._forget()

    def notified(self, queue: Virtqueue) -> None:
        if self._serving:
            return
        self._serving = True
        try:
            while self._waiting is None and self._left > 0:
                chain = queue.pop_or_wait()
                if chain is None:
                    return
                self._ask(queue, chain)
        finally:
            self._serving = False

    def _begin_period(self) -> None:
        """With its first request."""
        if self._most != UNLIMITED and not self._timer.armed:
            self._timer.set(self._clock.now() + self._period)

    def _ask(self, queue: Virtqueue, chain: Chain) -> None:
        self._begin_period()
        generation, wanted = self.generation, min(chain.to_write, MOST, self._left)
        if not wanted:
            queue.push(chain, 0)
            return

        def done(data: bytes) -> None:
            self._waiting = None
            if generation != self.generation:
                return
            if self._most != UNLIMITED:
                self._left -= len(data)
            try:
                chain.write(data)
            except DmaError:
                self.fail()
                return
            queue.push(chain, len(data))
            self.notified(queue)

        self._waiting = done
        self._source.request(wanted, done)

    def _refill(self) -> None:
        self._left = self._most
        self.notified(self.queues[0])

    def state(self) -> State:
        if self._waiting is not None:
            raise StateError("virtio-rng waits for entropy")
        return super().state()

    def restore(self, state: State) -> None:
        super().restore(state)
        if self._left < self._most:
            self._begin_period()
