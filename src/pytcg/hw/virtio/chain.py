"""A buffer that a driver offers: descriptors to read, then ones to write (virtio 1.2, 2.6)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from pytcg.hw.pci.device import DmaMap

MAX_DESCRIPTORS = 1024  # of one chain, its indirect table included
FEW = 2  # pieces that are moved one by one
MAX_BYTES = 1 << 27  # that a device takes into its own memory at once


class RingError(Exception):
    """A ring that no driver may make: the device needs a reset."""


class Memory(Protocol):
    """Guest memory; DmaError where there is none."""

    def dma_read(self, address: int, length: int) -> bytes: ...

    def dma_write(self, address: int, data: bytes) -> None: ...

    def dma_map(self, pieces: Iterable[tuple[int, int]]) -> DmaMap | None: ...


class Chain:
    """``head`` is what the ring wants back; ``slots``, how many of its descriptors are taken."""

    def __init__(self, memory: Memory, head: int, slots: int,
                 descriptors: Iterable[tuple[int, int, int]]) -> None:  # fmt: skip
        self._memory = memory
        self.head = head
        self.slots = slots
        self.readable: list[tuple[int, int]] = []
        self.writable: list[tuple[int, int]] = []
        for address, length, writes in descriptors:
            if writes:
                self.writable.append((address, length))
            elif self.writable:
                raise RingError("a descriptor to read follows one to write")
            else:
                self.readable.append((address, length))
        self.to_read = sum([length for _, length in self.readable])
        self.to_write = sum([length for _, length in self.writable])

    def source(self, offset: int, length: int) -> DmaMap | None:
        """A part of what is to read, in place; None where memory is not plain RAM."""
        return self._memory.dma_map(_pieces(self.readable, offset, length))

    def target(self, length: int) -> DmaMap | None:
        """The beginning of what is to write, in place; as `source`."""
        return self._memory.dma_map(_pieces(self.writable, 0, length))

    def write_last(self, byte: int) -> None:
        """Store to the last byte of the writable part."""
        for address, size in reversed(self.writable):
            if size:
                self._memory.dma_write(address + size - 1, bytes((byte,)))
                return

    def read(self, offset: int = 0, length: int | None = None) -> bytes:
        """Bytes of the readable part; RingError for more than a device takes."""
        if length is None:
            length = self.to_read - offset
        if length > MAX_BYTES:
            raise RingError(f"a buffer of {length} bytes")
        pieces = _pieces(self.readable, offset, length)
        if len(pieces) > FEW and (source := self._memory.dma_map(pieces)) is not None:
            return b"".join(source.views)
        return b"".join(self._memory.dma_read(address, size) for address, size in pieces)

    def write(self, data: bytes, offset: int = 0) -> None:
        """Store into the writable part; what doesn't fit is dropped."""
        at, pieces = 0, _pieces(self.writable, offset, len(data))
        if len(pieces) > FEW and (target := self._memory.dma_map(pieces)) is not None:
            bytes_of = memoryview(data)
            for view in target.views:
                view[:] = bytes_of[at : at + len(view)]
                at += len(view)
            target.stored()
            return
        for address, size in pieces:
            self._memory.dma_write(address, data[at : at + size])
            at += size


def _pieces(spans: list[tuple[int, int]], offset: int, length: int) -> list[tuple[int, int]]:
    """The parts of spans that hold so many bytes from an offset, fewer if they end."""
    pieces = []
    for address, size in spans:
        if offset:
            if offset >= size:
                offset -= size
                continue
            address, size, offset = address + offset, size - offset, 0
        if size >= length:
            if length > 0:
                pieces.append((address, length))
            break
        if size:
            pieces.append((address, size))
            length -= size
    return pieces
