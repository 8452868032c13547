"""Requests in threads: a session's requests side by side, their replies under the device lock.

The client's own thread serves what is quick, after it has let go of the lock: waking another one
takes longer than most requests do (docs/PERFORMANCE.md, "Shared folders").
"""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Final

from pytcg.ninep.session import Session
from pytcg.ninep.wire import HEADER, Kind, message
from pytcg.ninep.workers import Workers
from pytcg.patience import Patience

PARALLEL: Final = 8
Done = Callable[[bytes], None]


class Service:
    """Serves a session. ``fail`` hears of our own faults; the client gets EIO for them."""

    def __init__(self, session: Session, lock: AbstractContextManager[object],
                 fail: Callable[[BaseException], None]) -> None:  # fmt: skip
        self.session = session
        self._lock = lock
        self._fail = fail
        self._state = threading.Lock()
        self._waiting: dict[int, list[Callable[[], None]]] = {}  # flushes, by the tag they wait for
        self._workers = Workers(PARALLEL, "9p")
        self.after_store: Callable[[Callable[[], None]], bool] = lambda work: False
        """Has the calling thread work once it holds no lock; False if it can't."""
        self.waits = False
        """Whether the files are far away, or throttled: nothing is quick then."""
        self._patience = Patience()

    def submit(self, request: bytes, done: Done) -> None:
        """Serve a message of at least a header; ``done`` gets the reply."""
        kind, tag = request[4], int.from_bytes(request[5:7], "little")
        if kind == Kind.FLUSH and len(request) >= HEADER.size + 2:
            old = int.from_bytes(request[7:9], "little")
            with self._state:
                if old in self._waiting and old != tag:
                    answer = partial(self._finish, message(Kind.FLUSH + 1, tag, b""), done)
                    self._waiting[old].append(answer)
                    return
        with self._state:
            self._waiting.setdefault(tag, [])
        work = partial(self._serve, tag, request, done)
        began = 0 if self.waits or kind == Kind.FSYNC else self._patience.begin()
        if not began or not self.after_store(partial(self._timed, work)):
            self._workers.submit(work)

    def _timed(self, work: Callable[[], None]) -> None:
        """In the client's thread."""
        began = time.monotonic_ns()
        work()
        self._patience.end(began)

    def reset(self) -> None:
        """The client is gone; what is under way ends by itself."""
        self.session.reset()

    @property
    def in_use(self) -> bool:
        """Whether the client holds anything."""
        return bool(self.session.fids)

    def close(self) -> None:
        """Finish what is under way. Not with the device lock held."""
        self._workers.close()

    def _serve(self, tag: int, request: bytes, done: Done) -> None:
        try:
            reply = self.session.handle(request)
        except BaseException as failure:
            self._fail(failure)
            reply = self.session.dialect.error(tag, errno.EIO)
        self._finish(reply, done)
        with self._state:
            flushes = self._waiting.pop(tag, [])
        for answer in flushes:
            answer()

    def _finish(self, reply: bytes, done: Done) -> None:
        try:
            with self._lock:
                done(reply)
        except BaseException as failure:
            self._fail(failure)
