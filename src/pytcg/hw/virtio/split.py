"""The split ring: descriptor table, available and used rings (virtio 1.2, 2.7)."""

from __future__ import annotations

import struct
from typing import Final

from pytcg.hw.state import State, load, save
from pytcg.hw.virtio.chain import MAX_DESCRIPTORS, Chain, Memory, RingError

NEXT: Final = 1
WRITE: Final = 2
INDIRECT: Final = 4
NO_INTERRUPT: Final = 1  # available ring's flags
NO_NOTIFY: Final = 1  # used ring's flags
DESCRIPTOR: Final = struct.Struct("<QLHH")

Rows = list[tuple[int, int, int, int]]
"""Descriptors: address, length, flags, the next one's index."""


class SplitRing:
    """The device's side of a ring of ``size`` descriptors."""

    def __init__(self, memory: Memory, size: int, table: int, available: int, used: int, *,
                 indirect: bool, event_index: bool) -> None:  # fmt: skip
        self._memory = memory
        self._size = size
        self._table, self._available, self._used = table, available, used
        self._indirect = indirect
        self._event_index = event_index
        self.next_available = 0
        self.next_used = 0
        self._signalled = 0
        self._ever_signalled = False

    def _read16(self, address: int) -> int:
        return int.from_bytes(self._memory.dma_read(address, 2), "little")

    def _write16(self, address: int, value: int) -> None:
        self._memory.dma_write(address, (value & 0xFFFF).to_bytes(2, "little"))

    _FIELDS = ("next_available", "next_used", "_signalled", "_ever_signalled")

    def state(self) -> State:
        """How far it came."""
        return save(self, 1, self._FIELDS)

    def restore(self, state: State) -> None:
        load(self, state, 1, self._FIELDS)

    def pop(self) -> Chain | None:
        """The next chain that the driver offers; RingError, DmaError."""
        offered = self._read16(self._available + 2)
        count = offered - self.next_available & 0xFFFF
        if not count:
            return None
        if count > self._size:
            raise RingError(f"{count} buffers in a ring of {self._size}")
        slot = self.next_available % self._size
        head = self._read16(self._available + 4 + 2 * slot)
        if head >= self._size:
            raise RingError(f"descriptor {head} of {self._size}")
        chain = Chain(self._memory, head, 1, self._walk(head))
        self.next_available = self.next_available + 1 & 0xFFFF
        return chain

    def _walk(self, head: int) -> list[tuple[int, int, int]]:
        """(address, length, whether to write) of a chain's descriptors."""
        found: list[tuple[int, int, int]] = []
        index = head
        for _ in range(min(self._size, MAX_DESCRIPTORS)):
            if index >= self._size:
                raise RingError("a chain leaves its table")
            raw = self._memory.dma_read(self._table + 16 * index, 16)
            address, length, flags, following = DESCRIPTOR.unpack(raw)
            if flags & INDIRECT:
                if not self._indirect or flags & NEXT:
                    raise RingError("an indirect descriptor where none may be")
                return found + _walk_table(read_indirect(self._memory, address, length))
            found.append((address, length, flags & WRITE))
            if not flags & NEXT:
                return found
            index = following
        raise RingError("a chain that is a loop, or of too many descriptors")

    def push(self, chain: Chain, written: int) -> None:
        """Give a chain back with so many bytes written to it."""
        slot = self.next_used % self._size
        entry = struct.pack("<LL", chain.head, written)
        self._memory.dma_write(self._used + 4 + 8 * slot, entry)
        self.next_used = self.next_used + 1 & 0xFFFF
        self._write16(self._used + 2, self.next_used)

    def wants_interrupt(self) -> bool:
        """Whether the driver asked to hear of what was pushed since the last time."""
        if not self._event_index:
            return not self._read16(self._available) & NO_INTERRUPT
        event = self._read16(self._available + 4 + 2 * self._size)
        before, self._signalled = self._signalled, self.next_used
        if not self._ever_signalled:
            self._ever_signalled = True
            return True
        return (self.next_used - event - 1) & 0xFFFF < (self.next_used - before) & 0xFFFF

    def ask_notification(self, *, wanted: bool) -> None:
        """Tell the driver whether to announce what it offers."""
        if self._event_index:
            if wanted:
                self._write16(self._used + 4 + 8 * self._size, self.next_available)
        else:
            self._write16(self._used, 0 if wanted else NO_NOTIFY)


def _walk_table(rows: Rows) -> list[tuple[int, int, int]]:
    """A chain within an indirect table."""
    index, found = 0, []
    for _ in rows:
        if index >= len(rows):
            raise RingError("a chain leaves its table")
        address, length, flags, following = rows[index]
        if flags & INDIRECT:
            raise RingError("an indirect descriptor in an indirect table")
        found.append((address, length, flags & WRITE))
        if not flags & NEXT:
            return found
        index = following
    raise RingError("a chain that is a loop")


def read_indirect(memory: Memory, address: int, length: int) -> Rows:
    """An indirect table; RingError for impossible sizes."""
    if not length or length % 16 or length // 16 > MAX_DESCRIPTORS:
        raise RingError(f"an indirect table of {length} bytes")
    return list(DESCRIPTOR.iter_unpack(memory.dma_read(address, length)))
