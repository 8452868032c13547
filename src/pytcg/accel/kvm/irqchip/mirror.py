"""A chip that the kernel has: its state is fetched into one of ours, and given back from there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

from pytcg.hw.clock import Clock
from pytcg.hw.state import Chip, State

C = TypeVar("C", bound=Chip)


class Mirror(Chip, Generic[C]):
    """Saved machines hold the model's state: they don't tell who has the chip."""

    def __init__(self, model: C) -> None:
        self.model = model

    def fetch(self) -> C:
        """The model, as the chip is now."""
        raise NotImplementedError

    def push(self) -> None:
        """Make the chip be as the model."""
        raise NotImplementedError

    @contextmanager
    def changed(self) -> Iterator[C]:
        """The model, for a change of what the chip is."""
        yield self.fetch()
        self.push()

    def reset(self) -> None:
        self.model.reset()
        self.push()

    def state(self) -> State:
        return self.fetch().state()

    def restore(self, state: State) -> None:
        self.model.restore(state)
        self.push()


class StillClock:
    """A board's time for a model: it tells what time it is, and wakes nobody."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def now(self) -> int:
        """As the board's clock."""
        return self._clock.now()

    def timer(self, callback: Callable[[], None]) -> StillTimer:
        """One that never fires."""
        del callback
        return StillTimer()


class StillTimer:
    """The kernel's chip has the real one."""

    def arm(self, deadline_ns: int) -> None:
        """Nothing waits."""

    def cancel(self) -> None:
        """Nothing waits."""
