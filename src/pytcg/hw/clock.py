"""Virtual time: the clock that chips count by, and one for tests that moves only when told."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Protocol

NS_PER_SECOND = 1_000_000_000


class Timer(Protocol):
    """A callback that waits for a moment of virtual time."""

    def arm(self, deadline_ns: int) -> None:
        """Call back once `now()` reaches deadline_ns (absolute); arming again replaces it."""

    def cancel(self) -> None:
        """Forget the deadline; harmless when not armed."""


class Clock(Protocol):
    """Nanoseconds since power-on."""

    def now(self) -> int:
        """Virtual time in ns; never goes back."""

    def timer(self, callback: Callable[[], None]) -> Timer:
        """A new timer, not armed."""


class Deadline:
    """A timer as chips use it: set anew after every access, while only a change costs anything."""

    def __init__(self, clock: Clock, callback: Callable[[], None]) -> None:
        self._timer = clock.timer(self._fire)
        self._callback = callback
        self._at: int | None = None

    def set(self, at: int | None) -> None:
        """Call back at this virtual time (ns); None: not at all."""
        if at == self._at:
            return
        self._at = at
        if at is None:
            self._timer.cancel()
        else:
            self._timer.arm(at)

    @property
    def armed(self) -> bool:
        """Is it set?"""
        return self._at is not None

    def _fire(self) -> None:
        self._at = None
        self._callback()


class FakeClock:
    """A clock for tests: stands still until `advance`, then fires timers in deadline order."""

    def __init__(self, now: int = 0) -> None:
        self._now = now
        self._serial = 0
        self._heap: list[tuple[int, int, FakeTimer]] = []

    def now(self) -> int:
        return self._now

    def timer(self, callback: Callable[[], None]) -> FakeTimer:
        return FakeTimer(self, callback)

    def advance(self, ns: int) -> None:
        """Move time on by ns; each timer sees `now()` at its own deadline."""
        end = self._now + ns
        while self._heap and self._heap[0][0] <= end:
            deadline, serial, timer = heapq.heappop(self._heap)
            if timer.serial == serial:
                self._now = max(self._now, deadline)
                timer.fire()
        self._now = end

    def skip(self, ns: int) -> None:
        """Move time on without firing anything: a host that was too busy to run its timers."""
        self._now += ns

    @property
    def queued(self) -> int:
        """Entries in the queue, stale ones included."""
        return len(self._heap)

    def schedule(self, deadline_ns: int, timer: FakeTimer) -> int:
        """Queue a timer; the returned serial tells this arming from later ones."""
        self._serial += 1
        heapq.heappush(self._heap, (deadline_ns, self._serial, timer))
        return self._serial


class FakeTimer:
    """FakeClock's timer; a stale heap entry is known by its serial."""

    def __init__(self, clock: FakeClock, callback: Callable[[], None]) -> None:
        self._clock = clock
        self._callback = callback
        self.serial = 0

    @property
    def armed(self) -> bool:
        return self.serial != 0

    def arm(self, deadline_ns: int) -> None:
        self.serial = self._clock.schedule(deadline_ns, self)

    def cancel(self) -> None:
        self.serial = 0

    def fire(self) -> None:
        self.serial = 0
        self._callback()
