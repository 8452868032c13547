"""A floppy drive with or without a disk: formats by size, tracks, the disk change line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from pytcg.hw.state import State, load, save
from pytcg.hw.storage.medium import Medium

SECTOR: Final = 512
MAX_TRACK: Final = 85


class Kind(IntEnum):
    """Drive types, by the number that CMOS has for each."""

    NONE = 0
    FIVE_INCH = 2  # 1.2 MB
    THREE_INCH = 4  # 1.44 MB
    EXTENDED = 5  # 2.88 MB


class Rate(IntEnum):
    """Data rates, by the number in DSR and CCR."""

    KBPS_500 = 0
    KBPS_300 = 1
    KBPS_250 = 2
    MBPS_1 = 3


@dataclass(frozen=True)
class Format:
    """How a disk is laid out."""

    kind: Kind  # the drive made for it
    sectors: int
    tracks: int
    heads: int
    rate: Rate

    @property
    def size(self) -> int:
        """Bytes."""
        return self.sectors * self.tracks * self.heads * SECTOR


def _formats(kind: Kind, rate: Rate, *shapes: tuple[int, int, int]) -> tuple[Format, ...]:
    return tuple(Format(kind, *shape, rate) for shape in shapes)


FORMATS: Final = (
    *_formats(Kind.THREE_INCH, Rate.KBPS_500, (18, 80, 2), (20, 80, 2), (21, 80, 2), (21, 82, 2),
              (21, 83, 2), (22, 80, 2), (23, 80, 2), (24, 80, 2)),
    *_formats(Kind.EXTENDED, Rate.MBPS_1, (36, 80, 2), (39, 80, 2), (40, 80, 2), (44, 80, 2),
              (48, 80, 2)),
    *_formats(Kind.THREE_INCH, Rate.KBPS_250, (9, 80, 2), (10, 80, 2), (10, 82, 2), (10, 83, 2)),
    *_formats(Kind.FIVE_INCH, Rate.KBPS_500, (15, 80, 2), (18, 82, 2), (17, 80, 2)),
    *_formats(Kind.FIVE_INCH, Rate.KBPS_300, (9, 40, 2), (9, 40, 1), (10, 41, 2), (8, 40, 2),
              (8, 40, 1)),
)  # fmt: skip


def format_of(size: int, kind: Kind | None = None) -> Format:
    """The layout of a disk of so many bytes; the drive's own where no size fits."""
    fitting = [format for format in FORMATS if kind is None or _takes(kind, format)]
    return next((format for format in fitting if format.size == size), fitting[0])


def _takes(kind: Kind, format: Format) -> bool:
    """A 2.88 MB drive takes 1.44 MB disks too."""
    smaller = kind is Kind.EXTENDED and format.kind is Kind.THREE_INCH
    return format.kind is kind or smaller


class FloppyDrive:
    """`change` puts another disk in, or takes it out; ``kind`` None: what fits the first disk."""

    def __init__(self, medium: Medium | None, kind: Kind | None = None) -> None:
        first = Kind.EXTENDED if medium is None else format_of(medium.size).kind
        self.kind = first if kind is None else kind
        self.track = 0
        self.locked = False
        self.on_eject: Callable[[bool], None] | None = None  # nothing but a hand takes disks out
        self.change(medium)

    def open_tray(self) -> None:
        """Take hold of the disk: it can't be read any more."""
        self.change(None)
        self.tray_open = True

    def ask_to_eject(self) -> None:
        """Nobody keeps a disk in."""

    def change(self, medium: Medium | None) -> None:
        """Put a disk in; None takes it out."""
        self.tray_open = False
        self.medium = medium
        self.format = None if medium is None else format_of(medium.size, self.kind)
        self.changed = True

    def seek(self, track: int) -> None:
        """Steps take the disk change line back if there is a disk."""
        self.track = min(track, MAX_TRACK)
        if self.medium is not None:
            self.changed = False

    def offset(self, head: int, sector: int) -> int | None:
        """Where a sector of the present track is in the image, in bytes; None: not there."""
        where = self.format
        if where is None or self.medium is None:
            return None
        if head >= where.heads or not 1 <= sector <= where.sectors or self.track >= where.tracks:
            return None
        offset = ((self.track * where.heads + head) * where.sectors + sector - 1) * SECTOR
        return offset if offset + SECTOR <= self.medium.size else None

    @property
    def read_only(self) -> bool:
        """The notch."""
        return self.medium is not None and self.medium.read_only

    def state(self) -> State:
        return save(self, 1, ("track", "changed"))

    def restore(self, state: State) -> None:
        load(self, state, 1, ("track", "changed"))
