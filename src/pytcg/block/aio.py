"""The asynchronous face of a disk: requests run in parallel in threads, awaited by asyncio."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType

from pytcg.block.device import BlockDevice, Extent
from pytcg.typed import TypeVar

T = TypeVar("T")
DEFAULT_PARALLEL = 8  # host I/O drops the GIL, so more threads than CPUs are of use


class AsyncDevice:
    """A BlockDevice for an event loop. At most ``parallel`` requests are under way."""

    def __init__(self, device: BlockDevice, *, parallel: int = DEFAULT_PARALLEL) -> None:
        self.device = device
        self._pool = ThreadPoolExecutor(parallel, thread_name_prefix="block")
        self._in_flight = 0
        self._idle = threading.Condition()

    @property
    def in_flight(self) -> int:
        """Requests that were begun and have not ended."""
        return self._in_flight

    async def _run(self, function: Callable[[], T]) -> T:
        with self._idle:
            self._in_flight += 1
        try:
            future = self._pool.submit(function)
            future.add_done_callback(lambda _: self._ended())
        except BaseException:
            self._ended()
            raise
        # A cancelled await must not cancel I/O that may have begun: the bytes are on their way.
        return await asyncio.shield(asyncio.wrap_future(future))

    def _ended(self) -> None:
        with self._idle:
            self._in_flight -= 1
            self._idle.notify_all()

    async def read(self, offset: int, length: int) -> bytes:
        """``length`` bytes from ``offset``."""
        return await self._run(lambda: self.device.pread(offset, length))

    async def write(self, offset: int, data: bytes | bytearray | memoryview, *, fua: bool = False
                    ) -> None:
        """Store ``data``; it must not change until this returns."""
        await self._run(lambda: self.device.pwrite(offset, data, fua=fua))

    async def write_zeroes(self, offset: int, length: int, *, may_unmap: bool = True,
                           fua: bool = False) -> None:
        """Make the range read as zeroes."""
        await self._run(lambda: self.device.write_zeroes(offset, length, may_unmap=may_unmap,
                                                         fua=fua))

    async def discard(self, offset: int, length: int) -> None:
        """Hint that the range is not needed."""
        await self._run(lambda: self.device.discard(offset, length))

    async def flush(self) -> None:
        """Everything written and awaited before is on stable storage."""
        await self._run(self.device.flush)

    async def block_status(self, offset: int, length: int) -> list[Extent]:
        """The range's extents."""
        return await self._run(lambda: self.device.block_status(offset, length))

    def drain(self) -> None:
        """Wait, blocking, until no request is under way."""
        with self._idle:
            self._idle.wait_for(lambda: self._in_flight == 0)

    async def close(self) -> None:
        """Finish what is under way, then close the disk."""
        await self._run(lambda: None)
        await asyncio.to_thread(self._pool.shutdown, True)
        await asyncio.to_thread(self.device.close)

    async def __aenter__(self) -> AsyncDevice:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, value: BaseException | None,
                        trace: TracebackType | None) -> None:
        await self.close()
