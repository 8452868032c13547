"""A disk's content in memory, for storage chips under test: requests end at once, or when told."""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence

from pytcg.hw.storage.medium import Done


class FakeMedium:
    """A `Medium`; while `held`, requests wait for `release`; if `cached`, it can be quick."""

    cached = True

    def __init__(self, size: int, *, read_only: bool = False) -> None:
        self.data = bytearray(size)
        self.size = size
        self.read_only = read_only
        self.held = False
        self.waiting: list[Callable[[], None]] = []
        self.log: list[tuple[object, ...]] = []
        self.broken = False

    def release(self, index: int = 0) -> None:
        """End a request that waits."""
        self.waiting.pop(index)()

    def _end(self, work: Callable[[], bytes], done: Done) -> None:
        def finish() -> None:
            if self.broken:
                done(b"", errno.EIO)
            else:
                done(work(), 0)

        if self.held:
            self.waiting.append(finish)
        else:
            finish()

    def read(self, offset: int, length: int, done: Done, *, waits: bool = False) -> None:
        assert 0 <= offset <= offset + length <= self.size
        self._end(lambda: bytes(self.data[offset : offset + length]), done)

    def read_now(self, offset: int, buffers: Sequence[memoryview]) -> bool:
        if not self.cached or self.held or self.broken:
            return False
        for buffer in buffers:
            buffer[:] = self.data[offset : offset + len(buffer)]
            offset += len(buffer)
        assert offset <= self.size
        return True

    def write_now(self, offset: int, buffers: Sequence[memoryview]) -> bool:
        if not self.cached or self.held or self.broken:
            return False
        self.write(offset, b"".join(buffers), lambda data, errno: None)
        return True

    def write(self, offset: int, data: bytes, done: Done, *, fua: bool = False,
              waits: bool = False) -> None:  # fmt: skip
        assert 0 <= offset <= offset + len(data) <= self.size
        assert not self.read_only

        def work() -> bytes:
            self.data[offset : offset + len(data)] = data
            self.log.append(("write", offset, len(data), fua))
            return b""

        self._end(work, done)

    def write_zeroes(self, offset: int, length: int, done: Done, *, may_unmap: bool) -> None:
        self.log.append(("zeroes", offset, length, may_unmap))
        self.data[offset : offset + length] = bytes(length)
        self._end(bytes, done)

    def discard(self, offset: int, length: int, done: Done) -> None:
        assert 0 <= offset <= offset + length <= self.size
        self.log.append(("discard", offset, length))
        self._end(bytes, done)

    def flush(self, done: Done) -> None:
        self.log.append(("flush",))
        self._end(bytes, done)
