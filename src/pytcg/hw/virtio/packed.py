"""The packed ring: one ring of descriptors that both sides write (virtio 1.2, 2.8)."""

from __future__ import annotations

import struct
from typing import Final

from pytcg.hw.state import State, load, save
from pytcg.hw.virtio.chain import MAX_DESCRIPTORS, Chain, Memory, RingError
from pytcg.hw.virtio.split import INDIRECT, NEXT, WRITE, read_indirect

AVAILABLE: Final = 1 << 7
USED: Final = 1 << 15
WRAP: Final = 1 << 15  # in an event suppression structure's offset
ENABLE, DISABLE, DESCRIPTOR_EVENT = 0, 1, 2
DESCRIPTOR: Final = struct.Struct("<QLHH")


class PackedRing:
    """The device's side of a packed ring of ``size`` descriptors."""

    def __init__(self, memory: Memory, size: int, ring: int, driver_event: int, device_event: int,
                 *, indirect: bool, event_index: bool) -> None:  # fmt: skip
        self._memory = memory
        self._size = size
        self._ring, self._driver_event, self._device_event = ring, driver_event, device_event
        self._indirect = indirect
        self._event_index = event_index
        self.next_available, self.available_wrap = 0, True
        self.next_used, self.used_wrap = 0, True
        self._signalled: int | None = None  # next_used when it was last asked

    _FIELDS = ("next_available", "available_wrap", "next_used", "used_wrap", "_signalled")

    def state(self) -> State:
        """How far it came."""
        return save(self, 1, self._FIELDS)

    def restore(self, state: State) -> None:
        load(self, state, 1, self._FIELDS)

    def pop(self) -> Chain | None:
        """The next chain that the driver offers; RingError, DmaError."""
        slot = self.next_available
        descriptors: list[tuple[int, int, int]] = []
        while True:
            raw = self._memory.dma_read(self._ring + 16 * slot, 16)
            address, length, identity, flags = DESCRIPTOR.unpack(raw)
            if not descriptors and not self._is_available(flags):
                return None
            descriptors.append((address, length, flags))
            slot = (slot + 1) % self._size
            if not flags & NEXT:
                break
            if len(descriptors) >= self._size:
                raise RingError("a chain longer than its ring")
        slots = len(descriptors)
        chain = Chain(self._memory, identity, slots, self._expand(descriptors))
        if self.next_available + slots >= self._size:
            self.available_wrap = not self.available_wrap
        self.next_available = slot
        return chain

    def _is_available(self, flags: int) -> bool:
        wrap = self.available_wrap
        return bool(flags & AVAILABLE) == wrap and bool(flags & USED) != wrap

    def _expand(self, descriptors: list[tuple[int, int, int]]) -> list[tuple[int, int, bool]]:
        if not descriptors[0][2] & INDIRECT:
            if any(flags & INDIRECT for _, _, flags in descriptors):
                raise RingError("an indirect descriptor where none may be")
            if len(descriptors) > MAX_DESCRIPTORS:
                raise RingError("a chain of too many descriptors")
            return [(address, length, bool(flags & WRITE))
                    for address, length, flags in descriptors]  # fmt: skip
        if not self._indirect or len(descriptors) > 1:
            raise RingError("an indirect descriptor where none may be")
        where, size, _ = descriptors[0]
        rows = []
        # The packed ring's descriptors have their identity and flags the other way round.
        for address, length, _, flags in read_indirect(self._memory, where, size):
            if flags & INDIRECT:
                raise RingError("an indirect descriptor in an indirect table")
            rows.append((address, length, bool(flags & WRITE)))
        return rows

    def push(self, chain: Chain, written: int) -> None:
        """Give a chain back with so many bytes written to it; the flags go last."""
        where = self._ring + 16 * self.next_used
        flags = (AVAILABLE | USED if self.used_wrap else 0) | (WRITE if written else 0)
        self._memory.dma_write(where + 8, struct.pack("<LH", written, chain.head))
        self._memory.dma_write(where + 14, struct.pack("<H", flags))
        self.next_used += chain.slots
        if self.next_used >= self._size:
            self.next_used -= self._size
            self.used_wrap = not self.used_wrap

    def wants_interrupt(self) -> bool:
        """Whether the driver asked to hear of what was pushed since the last time."""
        offset, flags = struct.unpack("<HH", self._memory.dma_read(self._driver_event, 4))
        before, self._signalled = self._signalled, self.next_used
        if flags != DESCRIPTOR_EVENT or not self._event_index:
            return bool(flags != DISABLE)
        if before is None:
            return True
        event = offset & ~WRAP
        if bool(offset & WRAP) != self.used_wrap:
            event -= self._size
        moved = self.next_used - before
        if moved <= 0:
            moved += self._size
        return bool(0 <= self.next_used - event - 1 < moved)

    def ask_notification(self, *, wanted: bool) -> None:
        """Tell the driver whether to announce what it offers."""
        if not wanted:
            content = struct.pack("<HH", 0, DISABLE)
        elif self._event_index:
            place = self.next_available | (WRAP if self.available_wrap else 0)
            content = struct.pack("<HH", place, DESCRIPTOR_EVENT)
        else:
            content = struct.pack("<HH", 0, ENABLE)
        self._memory.dma_write(self._device_event, content)
