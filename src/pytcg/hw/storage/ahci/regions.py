"""A command's data in guest memory: its physical region descriptors (AHCI 1.3.1, 4.2.3.3)."""

from __future__ import annotations

import struct

from pytcg.hw.pci.device import DmaError, DmaMap, PciDevice
from pytcg.hw.storage.ahci.regs import MAX_REGION, REGION, TABLE_REGIONS, Header


class Regions:
    """Taken piece by piece as the command's data comes; `open` is the beginning of a command."""

    def __init__(self, card: PciDevice) -> None:
        self._card = card
        self.table = self._count = self._next = self._used = 0
        self.moved = 0
        self.overflow = False  # the drive had more data than there was room

    def open(self, header: Header) -> None:
        """The regions of this command, from the first."""
        self.table, self._count = header.table, header.regions
        self._next = self._used = self.moved = 0
        self.overflow = False

    def _take(self, length: int) -> list[tuple[int, int]]:
        """(address, length) pieces, fewer bytes than asked for where the list ends; DmaError."""
        pieces = []
        while length and self._next < self._count:
            at = self.table + TABLE_REGIONS + self._next * REGION
            address, count = struct.unpack("<Q4xL", self._card.dma_read(at, REGION))
            size = (count & MAX_REGION - 1) + 1
            step = min(size - self._used, length)
            pieces.append(((address & ~1) + self._used, step))
            length -= step
            self.moved += step
            self._used += step
            if self._used >= size:
                self._next, self._used = self._next + 1, 0
        return pieces

    def map(self, length: int) -> DmaMap | None:
        """Just as many bytes in place; nothing is taken. None: see `PciDevice.dma_map`."""
        place = self._next, self._used, self.moved
        try:
            pieces = self._take(length)
        except DmaError:
            pieces = []
        self._next, self._used, self.moved = place
        if sum(size for _, size in pieces) < length:
            return None
        return self._card.dma_map(pieces)

    def skip(self, length: int) -> None:
        """So many bytes were moved."""
        self._take(length)

    def gather(self, length: int) -> bytes:
        """Bytes for the drive; DmaError."""
        return b"".join(self._card.dma_read(address, size) for address, size in self._take(length))

    def scatter(self, data: bytes) -> None:
        """Bytes of the drive; DmaError."""
        at = 0
        for address, size in self._take(len(data)):
            self._card.dma_write(address, data[at : at + size])
            at += size
        self.overflow = self.overflow or at < len(data)
