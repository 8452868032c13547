"""A disk in chunks: which are dirty, and which are being worked on."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class DirtyChunks:
    """A set of chunks of a disk, thread-safe; a chunk is ``granularity`` bytes."""

    def __init__(self, size: int, granularity: int) -> None:
        self.size = size
        self.granularity = granularity
        self.count = 0
        self._bits = bytearray(-(-size // granularity))
        self._lock = threading.Lock()
        self._next = 0

    def mark(self, offset: int, length: int) -> None:
        """Add every chunk that a range touches."""
        first, end = offset // self.granularity, -(-(offset + length) // self.granularity)
        end = min(end, len(self._bits))
        if first < end:
            with self._lock:
                self.count += self._bits.count(0, first, end)
                self._bits[first:end] = b"\1" * (end - first)

    def take(self, most: int) -> tuple[int, int] | None:
        """Remove a run of at most ``most`` bytes, the next one round the disk: (offset, length)."""
        with self._lock:
            first = self._bits.find(1, self._next)
            if first < 0:
                first = self._bits.find(1)
            if first < 0:
                return None
            limit = min(first + max(most // self.granularity, 1), len(self._bits))
            end = self._bits.find(0, first, limit)
            end = limit if end < 0 else end
            self._bits[first:end] = bytes(end - first)
            self.count -= end - first
            self._next = end
        offset = first * self.granularity
        return offset, min(end * self.granularity, self.size) - offset

    @property
    def left(self) -> int:
        """Bytes in it, about."""
        return min(self.count * self.granularity, self.size)


class Ranges:
    """Chunks that one thread at a time works on."""

    def __init__(self, granularity: int) -> None:
        self.granularity = granularity
        self._held: set[int] = set()
        self._changed = threading.Condition()

    @contextmanager
    def hold(self, offset: int, length: int) -> Iterator[None]:
        """Every chunk of a range, once nobody else has one of them."""
        end = -(-(offset + length) // self.granularity)
        chunks = range(offset // self.granularity, end)
        with self._changed:
            self._changed.wait_for(lambda: self._held.isdisjoint(chunks))
            self._held.update(chunks)
        try:
            yield
        finally:
            with self._changed:
                self._held.difference_update(chunks)
                self._changed.notify_all()
