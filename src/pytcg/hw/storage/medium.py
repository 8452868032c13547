"""What a storage chip is connected to: bytes that are read and written beside the processor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

Done = Callable[[bytes, int], None]
"""Called once, later or at once, with the device lock held: data read (or b""), errno or 0."""


class Medium(Protocol):
    """A disk's content. Requests may overlap and end in any order; none of these raises."""

    @property
    def size(self) -> int:
        """Bytes."""
        ...

    @property
    def read_only(self) -> bool:
        """Whether writes are refused."""
        ...

    def read(self, offset: int, length: int, done: Done) -> None:
        """Fetch bytes."""
        ...

    def write(self, offset: int, data: bytes, done: Done, *, fua: bool = False) -> None:
        """Store bytes; with ``fua`` they are on stable storage when `done` is called."""
        ...

    def write_zeroes(self, offset: int, length: int, done: Done, *, may_unmap: bool) -> None:
        """Make a range read as zeroes."""
        ...

    def discard(self, offset: int, length: int, done: Done) -> None:
        """A range is not needed any more."""
        ...

    def flush(self, done: Done) -> None:
        """What was written before is on stable storage when `done` is called."""
        ...
