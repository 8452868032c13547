"""Connecting to a server that is away: attempts in a thread, callers that wait a bounded time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from pytcg.block.device import BlockError
from pytcg.block.protocols.nbd.connection import Connection

_FIRST_PAUSE = 1.0  # seconds between attempts; each is twice the last
_LONGEST_PAUSE = 16.0


class Redial:
    """Calls `dial` until it returns a connection, or `cancel` is called.

    `patience`: for so many seconds from now callers of `wait` are held; later ones are told at
    once how things stand, while the attempts go on.
    """

    def __init__(self, dial: Callable[[], Connection], patience: float) -> None:
        self.error: BlockError | None = None  # the last attempt's
        self._dial = dial
        self._deadline = time.monotonic() + patience
        self._changed = threading.Condition()
        self._made: Connection | None = None
        self._cancelled = False
        threading.Thread(target=self._run, name="nbd-redial", daemon=True).start()

    def wait(self) -> Connection | None:
        """The connection, the same for every caller; None while there is none."""
        with self._changed:
            left = max(self._deadline - time.monotonic(), 0.0)
            self._changed.wait_for(lambda: self._made is not None or self._cancelled, left)
            return self._made

    def cancel(self) -> None:
        """Make no more attempts, and close what was made."""
        with self._changed:
            self._cancelled = True
            made, self._made = self._made, None
            self._changed.notify_all()
        if made is not None:
            made.close()

    def _run(self) -> None:
        pause = _FIRST_PAUSE
        while not self._attempt():
            with self._changed:
                if self._changed.wait_for(lambda: self._cancelled, pause):
                    return
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _attempt(self) -> bool:
        try:
            made = self._dial()
        except BlockError as error:
            self.error = error
            return False
        with self._changed:
            late = self._cancelled
            if not late:
                self._made = made
                self._changed.notify_all()
        if late:
            made.close()
        return True
