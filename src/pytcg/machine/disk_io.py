"""A disk's I/O beside the processor: worker threads run requests, completions hold the lock.

The threads drop the GIL in the host's reads and writes, so several requests of a disk are under way
at once. A request never waits for the device lock, only its completion does.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final

from pytcg.block.device import BlockDevice, BlockError
from pytcg.hw.storage.medium import Done

PARALLEL: Final = 8


class DiskIo:
    """The `Medium` of a storage chip, made of a block device. ``fail`` hears of our own faults."""

    def __init__(self, device: BlockDevice, lock: threading.RLock,
                 fail: Callable[[BaseException], None]) -> None:  # fmt: skip
        self.device = device
        self._lock = lock
        self._fail = fail
        self._pending = 0
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

    def read(self, offset: int, length: int, done: Done) -> None:
        """Fetch bytes."""
        self._submit(partial(self.device.pread, offset, length), done)

    def write(self, offset: int, data: bytes, done: Done, *, fua: bool = False) -> None:
        """Store bytes."""
        self._submit(partial(self._write, offset, data, fua), done)

    def _write(self, offset: int, data: bytes, fua: bool) -> None:
        self.device.pwrite(offset, data, fua=fua)

    def write_zeroes(self, offset: int, length: int, done: Done, *, may_unmap: bool) -> None:
        """Make a range read as zeroes."""
        work = partial(self.device.write_zeroes, offset, length, may_unmap=may_unmap)
        self._submit(work, done)

    def discard(self, offset: int, length: int, done: Done) -> None:
        """A range is not needed any more."""
        self._submit(partial(self.device.discard, offset, length), done)

    def flush(self, done: Done) -> None:
        """What was written before is on stable storage."""
        self._submit(self.device.flush, done)

    def close(self) -> None:
        """Finish what is under way, then close the image. Not with the device lock held."""
        self._pool.shutdown(wait=True)
        self.device.close()

    def drain(self) -> None:
        """Wait until nothing is under way. Not with the device lock held."""
        with self._idle:
            self._idle.wait_for(lambda: not self._pending)

    @property
    def busy(self) -> bool:
        """Whether something is under way."""
        return bool(self._pending)

    def _submit(self, work: Callable[[], bytes | None], done: Done) -> None:
        with self._idle:
            self._pending += 1
        self._pool.submit(self._run, work, done)

    def _run(self, work: Callable[[], bytes | None], done: Done) -> None:
        data, error = b"", 0
        try:
            data = work() or b""
        except BlockError as failure:
            error = failure.errno or errno.EIO
        except OSError as failure:
            error = failure.errno or errno.EIO
        except BaseException as failure:
            self._fail(failure)
            error = errno.EIO
        try:
            with self._lock:
                done(data, error)
        except BaseException as failure:
            self._fail(failure)
        finally:
            with self._idle:
                self._pending -= 1
                self._idle.notify_all()
