"""Guest memory of devices under test: a bytearray that answers a bus master."""

from __future__ import annotations

from collections.abc import Iterable

from pytcg.hw.pci.device import DmaError


class Place:
    """Parts of memory in place."""

    def __init__(self, memory: DmaBytes, views: list[memoryview]) -> None:
        self.views = views
        self._memory = memory

    def stored(self) -> None:
        self._memory.stores += 1


class DmaBytes:
    """``memory``; how often parts of it were given out in place, and were stored to."""

    def __init__(self, size: int) -> None:
        self.memory = bytearray(size)
        self.maps = self.stores = 0

    def dma_read(self, address: int, length: int) -> bytes:
        if address + length > len(self.memory):
            raise DmaError("nobody")
        return bytes(self.memory[address : address + length])

    def dma_write(self, address: int, data: bytes) -> None:
        if address + len(data) > len(self.memory):
            raise DmaError("nobody")
        self.memory[address : address + len(data)] = data

    def dma_map(self, pieces: Iterable[tuple[int, int]]) -> Place | None:
        pieces = list(pieces)
        if any(address + length > len(self.memory) for address, length in pieces):
            return None
        self.maps += 1
        view = memoryview(self.memory)
        return Place(self, [view[at : at + length] for at, length in pieces])
