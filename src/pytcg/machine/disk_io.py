"""A disk's I/O beside the processor: worker threads run requests, completions hold the lock.

What the host's page cache takes or gives at once needs no thread: waking one costs more than moving
the bytes (docs/PERFORMANCE.md, "Disks of the machine"). All else is the threads'. They drop the GIL
in the host's reads and writes, so several requests of a disk are under way at once. A request never
waits for the device lock, only its completion does. What the disk stands on may be changed while it
is held: requests that come then wait in their threads.
"""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from pytcg.block.device import BlockDevice, BlockError
from pytcg.machine.io_errors import Failure, OnFailure, Policy
from pytcg.patience import Patience

if TYPE_CHECKING:
    from pytcg.block.filters.throttle import ThrottleGroup
    from pytcg.hw.storage.medium import Done

PARALLEL: Final = 8
NAP: Final = 0.25  # seconds at most that a request sleeps before it looks at its limits again
READ, WRITE, FLUSH, UNMAP = "rd", "wr", "flush", "unmap"
Work = Callable[[BlockDevice], bytes | None]


@dataclass
class Account:
    """Requests of one kind since the start; ``time`` in nanoseconds."""

    operations: int = 0
    bytes: int = 0
    time: int = 0
    failed: int = 0


@dataclass
class Accounts:
    """All kinds; ``highest``: the byte behind the last one ever written."""

    kinds: dict[str, Account] = field(
        default_factory=lambda: {kind: Account() for kind in (READ, WRITE, FLUSH, UNMAP)})
    highest: int = 0
    last: int = 0
    """When the last request ended, by the monotonic clock; 0 if there was none."""


class DiskIo:
    """The `Medium` of a storage chip, made of a block device. ``fail`` hears of our own faults."""

    def __init__(self, device: BlockDevice, lock: threading.RLock,
                 fail: Callable[[BaseException], None]) -> None:  # fmt: skip
        self.device = device
        self.accounts = Accounts()
        self.policy = Policy()
        self.on_failure: OnFailure = lambda failure: None
        """Hears of each failed request; one whose action is "stop" waits for `retry`."""
        self.throttle: ThrottleGroup | None = None
        """What requests wait for, in their threads."""
        self.throttle_name = ""
        self._stopped: list[tuple[str, int, Work, Done]] = []
        self._why: Failure | None = None
        self._lock = lock
        self._fail = fail
        self._pending = 0
        self._active = 0  # of these, in the block layer
        self._held = 0
        self._hurried = 0  # nobody waits for the throttle
        self._patience = Patience()
        self._idle = threading.Condition()
        self._pool = ThreadPoolExecutor(PARALLEL, thread_name_prefix="disk")

    @property
    def size(self) -> int:
        """Bytes."""
        return self.device.size

    @property
    def read_only(self) -> bool:
        """Whether writes are refused."""
        return self.device.read_only

    def read(self, offset: int, length: int, done: Done, *, waits: bool = False) -> None:
        """Fetch bytes; ``waits``: `read_now` has just said no."""
        if not waits:
            buffer = bytearray(length)
            if self.read_now(offset, [memoryview(buffer)]):
                done(bytes(buffer), 0)
                return
        self._submit(READ, length, lambda device: device.pread(offset, length), done)

    def write(self, offset: int, data: bytes, done: Done, *, fua: bool = False,
              waits: bool = False) -> None:  # fmt: skip
        """Store bytes."""
        if not fua and not waits and self.write_now(offset, [memoryview(data)]):
            done(b"", 0)
            return
        self.accounts.highest = max(self.accounts.highest, offset + len(data))
        self._submit(WRITE, len(data), lambda device: device.pwrite(offset, data, fua=fua), done)

    def read_now(self, offset: int, buffers: Sequence[memoryview]) -> bool:
        """Fill memory with what the host has at hand; False: `read` it."""
        return self._now(READ, buffers, lambda device: device.read_now(offset, buffers))

    def write_now(self, offset: int, buffers: Sequence[memoryview]) -> bool:
        """Store memory where the host takes it at once; False: `write` it."""
        if not self._now(WRITE, buffers, lambda device: device.write_now(offset, buffers)):
            return False
        self.accounts.highest = max(self.accounts.highest, offset + sum(map(len, buffers)))
        return True

    def _now(self, kind: str, buffers: Sequence[memoryview], work: Callable[[BlockDevice], bool]
             ) -> bool:  # fmt: skip
        """Do it in the calling thread: the processor's, which holds the device lock meanwhile."""
        began = self._patience.begin()
        with self._idle:
            if self._held or not began or self.throttle is not None:
                return False
            self._active += 1
        moved = work(self.device)
        with self._idle:
            self._active -= 1
            if moved:
                self._count(self.accounts.kinds[kind], sum(map(len, buffers)), began, failed=False)
            if self._held:
                self._idle.notify_all()
        self._patience.end(began)
        return moved

    def write_zeroes(self, offset: int, length: int, done: Done, *, may_unmap: bool) -> None:
        """Make a range read as zeroes."""
        self._submit(WRITE, length, lambda device: device.write_zeroes(
            offset, length, may_unmap=may_unmap), done)  # fmt: skip

    def discard(self, offset: int, length: int, done: Done) -> None:
        """A range is not needed any more."""
        self._submit(UNMAP, length, lambda device: device.discard(offset, length), done)

    def flush(self, done: Done) -> None:
        """What was written before is on stable storage."""
        self._submit(FLUSH, 0, lambda device: device.flush(), done)

    def close(self) -> None:
        """Finish what is under way, then close the image. Not with the device lock held."""
        self.retire()
        self.device.close()

    def retire(self) -> None:
        """The same, but the image stays open."""
        self._hurry(1)
        self._pool.shutdown(wait=True)

    def drain(self) -> None:
        """Wait until nothing is under way. Not with the device lock held."""
        self._hurry(1)
        with self._idle:
            self._idle.wait_for(lambda: not self._pending)
        self._hurry(-1)

    def _hurry(self, change: int) -> None:
        with self._idle:
            self._hurried += change
            self._idle.notify_all()

    def _rest(self, seconds: float) -> bool:
        """Wait as the throttle says, or a part of it: limits change; True: go."""
        with self._idle:
            return self._idle.wait_for(lambda: bool(self._hurried) or self.throttle is None,
                                       min(seconds, NAP))  # fmt: skip

    def hold(self) -> None:
        """Keep new requests waiting; return when none is in the block layer. Without the lock."""
        with self._idle:
            self._held += 1
            self._idle.wait_for(lambda: not self._active)

    def let_go(self) -> None:
        """Undo one `hold`."""
        with self._idle:
            self._held -= 1
            self._idle.notify_all()

    @property
    def stopped(self) -> bool:
        """Whether requests that failed wait to be tried again."""
        return bool(self._stopped)

    @property
    def status(self) -> str:
        """QMP's io-status."""
        if not self._stopped or self._why is None:
            return "ok"
        return "nospace" if self._why.no_space else "failed"

    def retry(self) -> None:
        """Try the requests again that failed and wait."""
        waiting, self._stopped = self._stopped, []
        for request in waiting:
            self._submit(*request)

    @property
    def busy(self) -> bool:
        """Whether something is under way."""
        return bool(self._pending)

    def _submit(self, kind: str, length: int, work: Work, done: Done) -> None:
        with self._idle:
            self._pending += 1
        self._pool.submit(self._run, kind, length, work, done)

    def _run(self, kind: str, length: int, work: Work, done: Done) -> None:
        data, error = self._perform(kind, length, work)
        try:
            if error:
                failure = self.policy.judge(error, is_read=kind == READ)
                if failure.action == "stop":
                    self._stopped.append((kind, length, work, done))
                    self._why = failure
                self.on_failure(failure)
                if failure.action == "stop":
                    return
                if failure.action == "ignore":
                    data, error = bytes(length if kind == READ else 0), 0
            with self._lock:
                done(data, error)
        except BaseException as failure:
            self._fail(failure)
        finally:
            with self._idle:
                self._pending -= 1
                self._idle.notify_all()

    def _perform(self, kind: str, length: int, work: Work) -> tuple[bytes, int]:
        """Data and errno."""
        throttle = self.throttle
        if throttle is not None and kind in (READ, WRITE):
            throttle.admit("read" if kind == READ else "write", length, self._rest)
        with self._idle:
            self._idle.wait_for(lambda: not self._held)
            self._active += 1
        data, error, began = b"", 0, time.monotonic_ns()
        try:
            data = work(self.device) or b""
        except (BlockError, OSError) as failure:
            error = failure.errno or errno.EIO
        except BaseException as failure:
            self._fail(failure)
            error = errno.EIO
        with self._idle:
            self._active -= 1
            self._count(self.accounts.kinds[kind], length, began, failed=bool(error))
            self._idle.notify_all()
        return data, error

    def _count(self, account: Account, length: int, began: int, *, failed: bool) -> None:
        self.accounts.last = now = time.monotonic_ns()
        account.time += now - began
        if failed:
            account.failed += 1
        else:
            account.operations += 1
            account.bytes += length
