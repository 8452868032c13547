"""Host memory that begins amid a page of the host as guest memory: copied as runs begin and end.

No page of the guest can be such memory itself. Between runs both hold the same: what the host has
stored is seen by the next run or `Uc.mem_read`, what the guest has stored by the host. While the
guest runs its memory is what counts.
"""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytcg.cpu import Cpu

_PAGE = 0x1000


def is_page(pointer: int, size: int) -> bool:
    """Whether host memory can be guest memory itself."""
    return not (pointer | size) % _PAGE


class Shadows:
    """The pieces of such memory that one `Uc` has: (guest address, size, host address)."""

    def __init__(self, cpu: Cpu):
        self._cpu = cpu
        self._pieces: list[tuple[int, int, int]] = []

    def add(self, address: int, size: int, pointer: int) -> None:
        self._pieces.append((address, size, pointer))
        self.take()

    def take(self) -> None:
        """What the host has stored comes to the guest; not while it runs."""
        if self._cpu.running:
            return
        for address, size, pointer in self._pieces:
            # The caller answers for the memory at ``pointer``, as it does in Unicorn.
            data = ctypes.string_at(pointer, size)
            if data != self._cpu.read(address, size):
                self._cpu.write(address, data)

    def give(self) -> None:
        """What the guest has stored comes to the host."""
        for address, size, pointer in self._pieces:
            ctypes.memmove(pointer, self._cpu.read(address, size), size)

    def forget(self, address: int, size: int) -> None:
        """The guest's memory there has gone away."""
        end, left = address + size, []
        for first, length, pointer in self._pieces:
            last = first + length
            if first < min(last, address):
                left.append((first, min(last, address) - first, pointer))
            if max(first, end) < last:
                left.append((max(first, end), last - max(first, end),
                             pointer + max(first, end) - first))  # fmt: skip
        self._pieces = left
