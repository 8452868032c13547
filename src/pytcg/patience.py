"""When a thread that mustn't wait may do itself what hardly ever waits."""

from __future__ import annotations

from time import monotonic_ns

SLOW = 10_000_000  # nanoseconds: the host made it wait
LEAST, MOST = 10_000_000, 1_000_000_000  # nanoseconds to leave such work to others


class Patience:
    """After work that was slow the next is for others, for a time that doubles with each."""

    def __init__(self) -> None:
        self._until = 0
        self._pause = LEAST

    def begin(self) -> int:
        """When work begins; 0: it is for others."""
        now = monotonic_ns()
        return now if now >= self._until else 0

    def end(self, began: int) -> None:
        """It is done."""
        now = monotonic_ns()
        if now - began <= SLOW:
            self._pause = LEAST
            return
        self._until = now + self._pause
        self._pause = min(2 * self._pause, MOST)
