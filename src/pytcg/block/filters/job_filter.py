"""What jobs put between a disk and its users while they run: none of these is a node of its own."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from pytcg.block.device import BlockDevice
from pytcg.block.filters.filter import Thin

Around = Callable[[int, int], AbstractContextManager[None]]


class JobFilter(Thin):
    """Every change of the disk happens inside of ``around(offset, length)``."""

    def __init__(self, below: BlockDevice, around: Around) -> None:
        super().__init__(below)
        self._around = around

    def pwrite(self, offset: int, data: bytes | bytearray | memoryview, *, fua: bool = False
               ) -> None:
        with self._around(offset, len(data)):
            self.below.pwrite(offset, data, fua=fua)

    def write_zeroes(self, offset: int, length: int, *, may_unmap: bool = True,
                     fua: bool = False) -> None:
        with self._around(offset, length):
            self.below.write_zeroes(offset, length, may_unmap=may_unmap, fua=fua)

    def discard(self, offset: int, length: int) -> None:
        with self._around(offset, length):
            self.below.discard(offset, length)
