"""What a storage chip is connected to: bytes that are read and written beside the processor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from pytcg.hw.pci.device import DmaMap

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

    def read(self, offset: int, length: int, done: Done, *, waits: bool = False) -> None:
        """Fetch bytes; ``waits``: `read_now` has just said no."""
        ...

    def write(self, offset: int, data: bytes, done: Done, *, fua: bool = False,
              waits: bool = False) -> None:  # fmt: skip
        """Store bytes; with ``fua`` they are on stable storage when `done` is called."""
        ...

    def read_now(self, offset: int, buffers: Sequence[memoryview]) -> bool:
        """Fetch bytes into buffers, if they are at hand; else their contents are undefined."""
        ...

    def write_now(self, offset: int, buffers: Sequence[memoryview]) -> bool:
        """Store the buffers' bytes, if that can be done at once."""
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


def read_into(medium: Medium, offset: int, memory: DmaMap | None) -> bool:
    """Fetch bytes straight into guest memory, if both are at hand."""
    if memory is None or not medium.read_now(offset, memory.views):
        return False
    memory.stored()
    return True
