"""Threads that run work in the order it comes: a few microseconds for each, where an executor's
futures take a hundred.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue

Work = Callable[[], None]


class Workers:
    """So many threads; they begin with the first work."""

    def __init__(self, count: int, name: str) -> None:
        self._count = count
        self._name = name
        self._queue: SimpleQueue[Work | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []

    def submit(self, work: Work) -> None:
        """Run it soon; it must not raise. From one thread at a time."""
        self._queue.put(work)
        if len(self._threads) < self._count:
            thread = threading.Thread(target=self._run, name=f"{self._name}-{len(self._threads)}",
                                      daemon=True)  # fmt: skip
            self._threads.append(thread)
            thread.start()

    def close(self) -> None:
        """Finish what was submitted."""
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join()
        self._threads.clear()

    def _run(self) -> None:
        while (work := self._queue.get()) is not None:
            work()
