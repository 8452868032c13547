"""The data of a command: sectors in order, by DMA or byte by byte (82077AA datasheet, 5.1)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from pytcg.hw.storage.floppy.drive import SECTOR, FloppyDrive
from pytcg.hw.storage.floppy.regs import WRONG_CYLINDER, St1

CODE_512: Final = 2  # the sector size code N of 512 bytes


class Channel(Protocol):
    """A DMA channel's end: see `DmaChannel`."""

    def request(self, level: bool) -> None: ...

    def room(self) -> int: ...

    def send(self, length: int) -> tuple[bytes, bool]: ...

    def receive(self, data: bytes) -> tuple[int, bool]: ...


class NotFound(Exception):
    """A command that finds no data: status 1 and 2."""

    def __init__(self, st1: int, st2: int = 0) -> None:
        super().__init__(st1, st2)
        self.st1, self.st2 = st1, st2


@dataclass
class Place:
    """Cylinder, head and sector as a command counts them, up to EOT."""

    cylinder: int
    head: int
    sector: int
    last: int
    multi_track: bool
    ended: bool = False  # past the last sector

    def step(self) -> None:
        """The next sector, and what the result shows behind the last one."""
        if self.sector != self.last:
            self.sector = self.sector + 1 & 0xFF
            return
        self.sector = 1
        if self.multi_track and not self.head:
            self.head = 1
        else:
            self.ended = True
            self.cylinder = self.cylinder + 1 & 0xFF
            if self.multi_track:
                self.head = 0


@dataclass(frozen=True)
class Piece:
    """Sectors that lie behind each other in the image."""

    offset: int
    length: int


def pieces(drive: FloppyDrive, place: Place, length: int) -> list[Piece]:
    """Where the next ``length`` bytes are, fewer at the cylinder's end; moves ``place`` on.

    NotFound if the first of them is not there.
    """
    found: list[Piece] = []
    while length > 0 and not place.ended:
        offset = drive.offset(place.head, place.sector)
        if offset is None:
            if found:
                break
            raise NotFound(St1.NO_DATA)
        size = min(length, SECTOR)
        if found and found[-1].offset + found[-1].length == offset:
            found[-1] = Piece(found[-1].offset, found[-1].length + size)
        else:
            found.append(Piece(offset, size))
        length -= size
        place.step()
    return found


def check(drive: FloppyDrive | None, rate: int, cylinder: int, code: int) -> FloppyDrive:
    """The drive, if a command can find its data; NotFound."""
    if drive is None or drive.format is None or rate != drive.format.rate:
        raise NotFound(St1.MISSING_MARK)
    if code != CODE_512:
        raise NotFound(St1.NO_DATA)
    if cylinder != drive.track:
        raise NotFound(St1.NO_DATA, WRONG_CYLINDER)
    return drive


Then = Callable[[bytes, int], None]
"""Called with the data, and errno or 0."""


def read(drive: FloppyDrive, where: list[Piece], then: Then) -> None:
    """All of the pieces."""
    rest, data = list(where), bytearray()

    def step(part: bytes, errno: int) -> None:
        data.extend(part)
        if errno or not rest or drive.medium is None:
            then(bytes(data), errno)
        else:
            piece = rest.pop(0)
            drive.medium.read(piece.offset, piece.length, step)

    step(b"", 0)


def write(drive: FloppyDrive, where: list[Piece], data: bytes, then: Then) -> None:
    """All of the pieces; the last one may be the beginning of a sector, which is filled up."""
    rest, at = list(where), 0

    def step(_: bytes, errno: int) -> None:
        nonlocal at
        if errno or not rest or drive.medium is None:
            then(b"", errno)
        else:
            piece = rest.pop(0)
            part = data[at : at + piece.length]
            at += piece.length
            drive.medium.write(piece.offset, part.ljust(-(-len(part) // SECTOR) * SECTOR, b"\0"),
                               step)  # fmt: skip

    step(b"", 0)
