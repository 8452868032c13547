"""A job beside the guest: its thread, its states, and what those who watch it are told.

`work` runs in the job's thread and moves the bytes; `finish` runs in the main loop and changes how
nodes stand. The states are QEMU's ("Background jobs" in its QAPI reference).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from enum import Enum
from typing import Final

from pytcg.block.device import BlockDevice, BlockError

SLICE: Final = 0.1  # seconds at most that a job waits before it looks again
CHUNK: Final = 1 << 20


class Status(Enum):
    """Where a job is in its life, in QMP's words."""

    UNDEFINED = "undefined"
    CREATED = "created"
    RUNNING = "running"
    PAUSED = "paused"
    READY = "ready"
    STANDBY = "standby"
    WAITING = "waiting"
    PENDING = "pending"
    ABORTING = "aborting"
    CONCLUDED = "concluded"
    NULL = "null"


_UNDER_WAY: Final = (Status.CREATED, Status.RUNNING, Status.PAUSED, Status.READY, Status.STANDBY,
                     Status.WAITING, Status.PENDING)  # fmt: skip


class Cancelled(Exception):
    """The job was told to stop."""


class Job:
    """One job. ``tell`` hears of each state, ``call`` runs something in the main loop."""

    kind: str
    can_complete = False

    def __init__(self, id: str, *, nodes: list[BlockDevice], speed: int = 0,
                 finalize: bool = True, dismiss: bool = True) -> None:
        self.id = id
        self.nodes = nodes
        self.speed = speed
        self.auto_finalize = finalize
        self.auto_dismiss = dismiss
        self.status = Status.UNDEFINED
        self.offset = self.length = 0
        self.error: str | None = None
        self.cancelled = self.forced = False
        self.ready = False
        self.completing = False
        self.pauses = 0  # a client's; only one counts
        self.group: list[Job] = []
        """Jobs that end well together or not at all, this one among them."""
        self.tell: Callable[[Job], None] = lambda job: None
        self.call: Callable[[Callable[[], None]], None] = lambda done: done()
        self.changed = threading.Condition()
        self._began = time.monotonic()
        self._moved = 0
        self._thread: threading.Thread | None = None

    # --- for subclasses ------------------------------------------------------------------------

    def start(self) -> None:
        """Prepare, in the main loop: filters go in here. BlockError."""

    def work(self) -> None:
        """Move the bytes, in the job's thread. BlockError, Cancelled."""
        raise NotImplementedError

    def finish(self) -> None:
        """All went well: move nodes, in the main loop. BlockError."""

    def clean(self) -> None:
        """In any case, at last, in the main loop: filters go out, targets are closed."""

    # --- life, in the main loop ----------------------------------------------------------------

    def begin(self) -> None:
        """Run it."""
        self.set(Status.CREATED)
        self.start()
        self.set(Status.RUNNING)
        self._thread = threading.Thread(target=self._main, name=f"job-{self.id}", daemon=True)
        self._thread.start()

    def join(self) -> None:
        """Wait for the job's thread."""
        if self._thread is not None:
            self._thread.join()

    def set(self, status: Status) -> None:
        """Be in another state."""
        self.status = status
        self.tell(self)

    def _main(self) -> None:
        try:
            self.work()
        except Cancelled:
            self.call(lambda: self._abort(None))
        except BlockError as error:
            text = str(error)
            self.call(lambda: self._abort(text))
        except Exception as error:  # our own fault: the guest must not pay for it
            text = f"internal error: {type(error).__name__}: {error}"
            self.call(lambda: self._abort(text))
        else:
            self.call(self._worked)

    def _worked(self) -> None:
        if self.cancelled and (self.forced or not self.ready):
            self._abort(None)
            return
        self.set(Status.WAITING)
        group = self.group or [self]
        if all(job.status is Status.WAITING for job in group):
            for job in group:
                job.set(Status.PENDING)
            for job in group:
                if job.auto_finalize:
                    job.finalize()

    def finalize(self) -> None:
        """Go from pending to the end."""
        try:
            self.finish()
        except BlockError as error:
            self._abort(str(error))
            return
        self._conclude()

    def _abort(self, error: str | None) -> None:
        self.error = error
        self.cancelled = self.cancelled or error is None
        self.set(Status.ABORTING)
        for job in self.group:
            if job is not self and job.status in _UNDER_WAY:
                job.cancel(force=True)
        self._conclude()

    def _conclude(self) -> None:
        try:
            self.clean()
        except BlockError as error:
            self.error = self.error or str(error)
        self.set(Status.CONCLUDED)
        if self.auto_dismiss:
            self.set(Status.NULL)

    def cancel(self, *, force: bool) -> None:
        """End it soon; a mirror that is ready and isn't forced ends well, without a switch."""
        with self.changed:
            self.cancelled = True
            self.forced = force
            self.pauses = 0
            self.changed.notify_all()
        if self.status in (Status.PENDING, Status.WAITING):
            self._abort(None)

    def complete(self) -> None:
        """Let one that is ready end."""
        with self.changed:
            self.completing = True
            self.changed.notify_all()

    def pause(self) -> None:
        """Rest, soon."""
        self.pauses = 1
        self.set(Status.STANDBY if self.ready else Status.PAUSED)

    def resume(self) -> None:
        """Go on."""
        with self.changed:
            self.pauses = 0
            self.changed.notify_all()
        self.set(Status.READY if self.ready else Status.RUNNING)

    def set_speed(self, speed: int) -> None:
        """Bytes a second, 0 for no limit."""
        with self.changed:
            self.speed = speed
            self._began, self._moved = time.monotonic(), 0
            self.changed.notify_all()

    # --- in the job's thread -------------------------------------------------------------------

    @property
    def stopping(self) -> bool:
        """Whether to leave what is being done."""
        return self.cancelled and (self.forced or not self.ready)

    def check(self) -> None:
        """Between two pieces of work: waits while it is paused; Cancelled."""
        with self.changed:
            self.changed.wait_for(lambda: not self.pauses or self.stopping)
        if self.stopping:
            raise Cancelled

    def moved(self, length: int) -> None:
        """So many bytes more are done; waits as the speed asks for."""
        self.offset += length
        self._moved += length
        with self.changed:
            while self.speed and not self.stopping and not self.completing:
                ahead = self._moved / self.speed - (time.monotonic() - self._began)
                if ahead <= 0:
                    break
                self.changed.wait(min(ahead, SLICE))
        if self.stopping:
            raise Cancelled


def join(jobs: list[Job]) -> None:
    """Let jobs that have not begun end together: if one fails, the others are cancelled."""
    for job in jobs:
        job.group = jobs
