"""Virtual time that stands until a test moves it."""

from __future__ import annotations

from pytcg.machine.loop import HostClock


class SteppedClock(HostClock):
    """Timers fire inside of `advance`, in their order, each at its own time. Device lock held."""

    _now = 0

    def now(self) -> int:
        return self._now

    def set(self, now: int) -> None:
        self._now = now

    def _set_alarm(self, deadline: int) -> None:
        """Nothing fires by itself."""

    def next_deadline(self) -> int | None:
        """When the first timer that is armed fires."""
        self._drop_stale()
        return self._heap[0][0] if self._heap else None

    def advance(self, to: int) -> None:
        """Go to a later time; an earlier one changes nothing."""
        while (deadline := self.next_deadline()) is not None and deadline <= to:
            self._now = max(self._now, deadline)
            self._pop()
        self._now = max(self._now, to)
