"""What a viewer has been sent, and what it is sent next.

The picture as the viewer has it is kept: what differs from it goes out, as rectangles around runs
of lines, and lines that have only moved (text that scrolls) are copied by the viewer itself.
"""

from __future__ import annotations

import struct
from collections import Counter
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from pytcg.ui.console import Frame
from pytcg.ui.vnc.encodings.encoder import Encoder
from pytcg.ui.vnc.encodings.plain import Raw
from pytcg.ui.vnc.pixelformat import PixelFormat, Pixels
from pytcg.ui.vnc.protocol import Encoding, ServerMessage

UNKNOWN: Final = 0xFFFF_FFFF  # a pixel that is none
GAP: Final = 4                # lines between two runs that are sent along
LEAST_MOVED: Final = 32       # lines that are worth looking for where they came from


class Area(NamedTuple):
    """A rectangle of the screen."""

    x: int
    y: int
    width: int
    height: int

    def head(self, encoding: int) -> bytes:
        """What a rectangle begins with."""
        return struct.pack(">HHHHi", *self, encoding)

    def within(self, width: int, height: int) -> Area:
        """The part of it that is on a screen."""
        x, y = min(self.x, width), min(self.y, height)
        return Area(x, y, min(self.width, width - x), min(self.height, height - y))

    def around(self, other: Area) -> Area:
        """What holds both."""
        x, y = min(self.x, other.x), min(self.y, other.y)
        return Area(x, y, max(self.x + self.width, other.x + other.width) - x,
                    max(self.y + self.height, other.y + other.height) - y)  # fmt: skip


@dataclass
class Job:
    """An update that is still to be encoded, in whatever thread."""

    format: PixelFormat
    encoding: int
    encoder: Encoder
    ready: list[bytes] = field(default_factory=list)  # rectangles as they go
    parts: list[tuple[Area, Pixels]] = field(default_factory=list)

    @property
    def pixels(self) -> int:
        """How much there is to do."""
        return sum(pixels.size for _, pixels in self.parts)

    def run(self) -> bytes:
        """The message."""
        made = list(self.ready)
        for area, pixels in self.parts:
            for piece in _pieces(area, self.encoder):
                y, x = piece.y - area.y, piece.x - area.x
                part = pixels[y : y + piece.height, x : x + piece.width]
                made += piece.head(self.encoding), self.encoder.encode(part, self.format)
        count = len(self.ready) + (len(made) - len(self.ready)) // 2
        return struct.pack(">BxH", ServerMessage.UPDATE, count) + b"".join(made)


def _pieces(area: Area, encoder: Encoder) -> list[Area]:
    """The parts of a rectangle that an encoding can take."""
    width = min(area.width, encoder.widest)
    height = max(1, min(area.height, encoder.largest // width))
    return [Area(area.x + x, area.y + y, min(width, area.width - x), min(height, area.height - y))
            for y in range(0, area.height, height)
            for x in range(0, area.width, width)]  # fmt: skip


class Updates:
    """The picture as the viewer has it, and how it wants to be told of another."""

    def __init__(self, width: int, height: int) -> None:
        self.format = PixelFormat()
        self.encoding: int = Encoding.RAW
        self.encoder: Encoder = Raw()
        self.copies = False
        self.resize(width, height)

    def resize(self, width: int, height: int) -> None:
        """Another size, of which nothing is known yet."""
        self.size = width, height
        self._has = np.full((height, width), UNKNOWN, np.uint32)
        self._seen = -1  # the serial of the frame that it is up to

    def forget(self, area: Area | None = None) -> None:
        """Let it be sent again, wherever it is known."""
        x, y, width, height = area or Area(0, 0, *self.size)
        self._has[y : y + height, x : x + width] = UNKNOWN
        self._seen = -1

    def job(self, frame: Frame, area: Area, notes: list[bytes]) -> Job | None:
        """What is to be sent of a frame within an area, besides notes; None if there is nothing."""
        made = Job(self.format, self.encoding, self.encoder, list(notes))
        area = area.within(*self.size)
        pixels = self._fitted(frame)
        if frame.serial > self._seen and area.width and area.height:
            new = pixels[area.y : area.y + area.height, area.x : area.x + area.width]
            self._compare(made, area, new, self._candidates(frame, area))
            if area == (0, 0, *self.size):
                self._seen = frame.serial
        return made if made.ready or made.parts else None

    def _fitted(self, frame: Frame) -> Pixels:
        """The picture at the size the viewer knows: cut off, or with black around."""
        width, height = self.size
        if frame.pixels.shape == (height, width):
            return frame.pixels
        made = np.zeros((height, width), np.uint32)
        part = frame.pixels[:height, :width]
        made[: part.shape[0], : part.shape[1]] = part
        return made

    def _candidates(self, frame: Frame, area: Area) -> slice:
        """The area's lines among which those are that were drawn since."""
        if len(frame.stamps) != self.size[1]:
            return slice(0, area.height)
        drawn = np.flatnonzero(frame.stamps[area.y : area.y + area.height] > self._seen)
        return slice(int(drawn[0]), int(drawn[-1]) + 1) if len(drawn) else slice(0, 0)

    def _compare(self, job: Job, area: Area, new: Pixels, lines: slice) -> None:
        has = self._has[area.y : area.y + area.height, area.x : area.x + area.width]
        differs = new[lines] != has[lines]
        rows = differs.any(axis=1)
        if self.copies and int(rows.sum()) >= LEAST_MOVED:
            moved = find_moved(has, new, np.flatnonzero(rows) + lines.start)
            if moved is not None:
                job.ready.append(_move(area, has, *moved))
                differs = new[lines] != has[lines]
                rows = differs.any(axis=1)
        for first, last in _runs(np.flatnonzero(rows)):
            columns = np.flatnonzero(differs[first:last].any(axis=0))
            x, end = int(columns[0]), int(columns[-1]) + 1
            y, bottom = lines.start + first, lines.start + last
            part = new[y:bottom, x:end].copy()
            has[y:bottom, x:end] = part
            job.parts.append((Area(area.x + x, area.y + y, end - x, bottom - y), part))


def _move(area: Area, has: Pixels, first: int, last: int, distance: int) -> bytes:
    """Lines first to last come from `distance` further down; the rectangle that says so."""
    has[first:last] = has[first + distance : last + distance].copy()
    place = Area(area.x, area.y + first, area.width, last - first)
    source = struct.pack(">HH", area.x, area.y + first + distance)
    return place.head(Encoding.COPY_RECT) + source


def find_moved(
    old: Pixels, new: Pixels, rows: npt.NDArray[np.int64]
) -> tuple[int, int, int] | None:
    """(first, last, distance): these lines of the new picture are the old one's further down.

    ``rows`` are the lines that differ. A line speaks for a distance when it was there just once.
    """
    before = [hash(line.tobytes()) for line in old]
    after = [hash(line.tobytes()) for line in new]
    count = Counter(before)
    place = {key: y for y, key in enumerate(before) if count[key] == 1}
    votes = Counter(place[after[y]] - y for y in rows.tolist() if after[y] in place)
    if not votes:
        return None
    distance, voters = votes.most_common(1)[0]
    if voters * 4 < len(rows) or not distance:
        return None
    return _longest(before, after, distance)


def _longest(before: list[int], after: list[int], distance: int) -> tuple[int, int, int] | None:
    """The longest run of lines that came from that distance."""
    best, begin = (0, 0), None
    for y in range(len(after) + 1):
        source = y + distance
        same = y < len(after) and 0 <= source < len(before) and after[y] == before[source]
        if same and begin is None:
            begin = y
        elif not same and begin is not None:
            best = max(best, (begin, y), key=lambda run: run[1] - run[0])
            begin = None
    return (*best, distance) if best[1] - best[0] >= LEAST_MOVED else None


def _runs(lines: npt.NDArray[np.int64]) -> list[tuple[int, int]]:
    """Runs of lines that are near each other, as (first, behind the last)."""
    if not len(lines):
        return []
    breaks = np.flatnonzero(np.diff(lines) > GAP)
    starts = [0, *(breaks + 1).tolist()]
    ends = [*breaks.tolist(), len(lines) - 1]
    return [(int(lines[a]), int(lines[b]) + 1) for a, b in zip(starts, ends, strict=True)]
