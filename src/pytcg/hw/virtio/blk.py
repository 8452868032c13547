"""virtio-blk: a disk (virtio 1.2, 5.2)."""

from __future__ import annotations

import struct
from enum import IntEnum
from functools import partial
from typing import Final, Protocol

from pytcg.hw.pci.device import DmaError
from pytcg.hw.storage.medium import Done, Medium, read_into
from pytcg.hw.virtio.chain import MAX_BYTES, Chain, RingError
from pytcg.hw.virtio.device import VirtioDevice, Virtqueue

SECTOR: Final = 512
HEADER: Final = 16
QUEUE_SIZE: Final = 256
SEG_MAX: Final = QUEUE_SIZE - 2
MAX_SECTORS: Final = 0x3FFFFF  # of one discard or write of zeroes
RANGE: Final = struct.Struct("<QLL")
UNMAP: Final = 1
WCE_AT: Final = 32
ID_LENGTH: Final = 20


class Bit(IntEnum):
    """Feature bits."""

    SEG_MAX = 2
    GEOMETRY = 4
    RO = 5
    BLK_SIZE = 6
    FLUSH = 9
    TOPOLOGY = 10
    CONFIG_WCE = 11
    DISCARD = 13
    WRITE_ZEROES = 14


class Kind(IntEnum):
    """Requests."""

    IN = 0
    OUT = 1
    FLUSH = 4
    GET_ID = 8
    DISCARD = 11
    WRITE_ZEROES = 13


OK, IOERR, UNSUPP = 0, 1, 2
FEATURES: Final = (Bit.SEG_MAX, Bit.GEOMETRY, Bit.BLK_SIZE, Bit.FLUSH, Bit.TOPOLOGY,
                   Bit.CONFIG_WCE, Bit.DISCARD, Bit.WRITE_ZEROES)  # fmt: skip


class VirtioBlk(VirtioDevice):
    """A disk; requests are under way side by side and end in any order."""

    kind = 2
    queue_sizes = (QUEUE_SIZE,)

    def __init__(self, medium: Medium, serial: str = "", *, write_cache: bool = True) -> None:
        self.medium = medium
        self._serial = serial.encode("ascii", "replace")[:ID_LENGTH].ljust(ID_LENGTH, b"\0")
        self._default_cache = write_cache
        self.write_cache = write_cache
        self.own_features = sum(1 << bit for bit in FEATURES)
        if medium.read_only:
            self.own_features |= 1 << Bit.RO
            self.own_features &= ~(1 << Bit.DISCARD | 1 << Bit.WRITE_ZEROES)
        super().__init__()

    _FIELDS = ("write_cache",)

    def reset(self) -> None:
        super().reset()
        self.write_cache = self._default_cache

    @property
    def sectors(self) -> int:
        """Of 512 bytes."""
        return self.medium.size // SECTOR

    def config(self) -> bytes:
        cylinders = min(65535, max(1, self.sectors // (16 * 63)))
        return struct.pack(
            "<QLLHBBLBBHLBBHLLLLLB3x", self.sectors, 0, SEG_MAX, cylinders, 16, 63, SECTOR,
            0, 0, 1, 0, self.write_cache, 0, 1, MAX_SECTORS, 1, 1, MAX_SECTORS, 1, 1,
        )  # fmt: skip

    def write_config(self, offset: int, data: bytes) -> None:
        if offset <= WCE_AT < offset + len(data) and self.has(Bit.CONFIG_WCE):
            self.write_cache = bool(data[WCE_AT - offset] & 1)

    def notified(self, queue: Virtqueue) -> None:
        queue.take_all(partial(self._serve, queue))

    def _serve(self, queue: Virtqueue, chain: Chain) -> None:
        if chain.to_read < HEADER or chain.to_write < 1:
            raise RingError("a request without a header, or without room for its status")
        kind, sector = struct.unpack("<L4xQ", chain.read(0, HEADER))
        end = partial(self._end, self.generation, queue, chain)
        if kind == Kind.IN:
            self._read(chain, sector, end)
        elif kind == Kind.OUT:
            self._write(chain, sector, end)
        elif kind == Kind.FLUSH:
            self.medium.flush(lambda _, errno: end(IOERR if errno else OK))
        elif kind == Kind.GET_ID:
            end(OK, self._serial[: chain.to_write - 1])
        elif kind in (Kind.DISCARD, Kind.WRITE_ZEROES) and not self.medium.read_only:
            self._clear(chain, kind, end)
        else:
            end(UNSUPP)

    def _fits(self, sector: int, length: int) -> bool:
        within = sector * SECTOR + length <= self.sectors * SECTOR
        return not length % SECTOR and length <= MAX_BYTES and within

    def _read(self, chain: Chain, sector: int, end: End) -> None:
        length = chain.to_write - 1
        if not self._fits(sector, length):
            end(IOERR)
            return
        target = chain.target(length)
        if read_into(self.medium, sector * SECTOR, target):
            end(OK, moved=length)
            return
        self.medium.read(sector * SECTOR, length,
                         lambda data, errno: end(IOERR) if errno else end(OK, data),
                         waits=target is not None)  # fmt: skip

    def _write(self, chain: Chain, sector: int, end: End) -> None:
        length = chain.to_read - HEADER
        if self.medium.read_only or not self._fits(sector, length):
            end(IOERR)
            return
        through = not self.write_cache or not self.has(Bit.FLUSH)
        source = None if through else chain.source(HEADER, length)
        if source is not None and self.medium.write_now(sector * SECTOR, source.views):
            end(OK)
            return
        self.medium.write(sector * SECTOR, chain.read(HEADER), _plain(end), fua=through,
                          waits=source is not None)  # fmt: skip

    def _clear(self, chain: Chain, kind: int, end: End) -> None:
        if chain.to_read != HEADER + RANGE.size:  # one range at a time, as the limits say
            end(UNSUPP)
            return
        sector, count, flags = RANGE.unpack(chain.read(HEADER))
        offset, length = sector * SECTOR, count * SECTOR
        if flags & ~UNMAP or (flags and kind == Kind.DISCARD):
            end(UNSUPP)
        elif count > MAX_SECTORS or sector + count > self.sectors:
            end(IOERR)
        elif kind == Kind.DISCARD:
            self.medium.discard(offset, length, _plain(end))
        else:
            self.medium.write_zeroes(offset, length, _plain(end), may_unmap=bool(flags))

    def _end(self, generation: int, queue: Virtqueue, chain: Chain, status: int,
             data: bytes = b"", moved: int = 0) -> None:  # fmt: skip
        """``moved``: bytes that are in the guest's memory already."""
        if generation != self.generation:
            return
        try:
            if data:
                chain.write(data)
            chain.write_last(status)
        except DmaError:
            self.fail()
            return
        queue.push(chain, moved + len(data) + 1)


class End(Protocol):
    """The type of `VirtioBlk._end` with its first arguments bound."""

    def __call__(self, status: int, data: bytes = b"", moved: int = 0) -> None: ...


def _plain(end: End) -> Done:
    return lambda _, errno: end(IOERR if errno else OK)
