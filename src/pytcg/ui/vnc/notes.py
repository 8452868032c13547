"""What viewers are told besides pixels, as rectangles that are none: pseudo-encodings."""

from __future__ import annotations

import struct
from typing import Final

import numpy as np

from pytcg.ui.console import Console
from pytcg.ui.vnc.pixelformat import PixelFormat
from pytcg.ui.vnc.protocol import Encoding
from pytcg.ui.vnc.updates import Area

PROHIBITED: Final = 1  # a status of ExtendedDesktopSize
BY_SERVER, BY_THIS_VIEWER = 0, 1
NO_CURSOR: Final = Area(0, 0, 0, 0).head(Encoding.CURSOR)
ARROW: Final = """
#
##
#.#
#..#
#...#
#....#
#.....#
#......#
#...####
#.##.#
## #..#
    ##
"""


class Notes:
    """What one viewer understands, and what it has been told."""

    def __init__(self, console: Console, name: str) -> None:
        self._console = console
        self._name = name
        self._understood: frozenset[int] = frozenset()
        self._told: dict[int, object] = {}
        self._refused = False

    def set(self, wanted: tuple[int, ...]) -> frozenset[int]:
        """The encodings it understands; those it did not before."""
        fresh = frozenset(wanted) - self._understood
        self._understood |= fresh
        for number in fresh:
            self._told.pop(number, None)
        return fresh

    @property
    def resizes(self) -> bool:
        """Whether it can be told of another size."""
        sizes = {Encoding.DESKTOP_SIZE, Encoding.EXTENDED_DESKTOP_SIZE}
        return bool(sizes & self._understood)

    @property
    def relative(self) -> bool:
        """Whether its pointer's places are distances, since it has been told so."""
        return self._told.get(Encoding.POINTER_MOTION) is False

    def refuse_size(self) -> None:
        """It has asked for another size."""
        self._refused = True

    def size(self, width: int, height: int) -> bytes:
        """The screen has another size."""
        if Encoding.EXTENDED_DESKTOP_SIZE in self._understood:
            return _screen(width, height, BY_SERVER, 0)
        return Area(0, 0, width, height).head(Encoding.DESKTOP_SIZE)

    def take(self, size: tuple[int, int], format: PixelFormat) -> list[bytes]:
        """What is new."""
        made = []
        for number, value, rectangle in self._facts(*size, format):
            if number in self._understood and self._told.get(number, self) != value:
                self._told[number] = value
                made.append(rectangle)
        if self._refused:
            self._refused = False
            made.append(_screen(*size, BY_THIS_VIEWER, PROHIBITED))
        return made

    def _facts(
        self, width: int, height: int, format: PixelFormat
    ) -> list[tuple[int, object, bytes]]:
        """(pseudo-encoding, value, rectangle): a viewer is told whenever the value is another."""
        console = self._console
        absolute, leds, name = console.absolute, console.leds, self._name.encode()
        whole = Area(0, 0, width, height)
        return [
            (Encoding.EXTENDED_DESKTOP_SIZE, None, _screen(width, height, BY_SERVER, 0)),
            (Encoding.EXTENDED_KEY, None, whole.head(Encoding.EXTENDED_KEY)),
            (Encoding.POINTER_MOTION, absolute,
             whole._replace(x=int(absolute)).head(Encoding.POINTER_MOTION)),
            (Encoding.CURSOR, (absolute, format), arrow(format) if absolute else NO_CURSOR),
            (Encoding.LED_STATE, leds,
             Area(0, 0, 1, 1).head(Encoding.LED_STATE) + bytes((leds,))),
            (Encoding.DESKTOP_NAME, name, Area(0, 0, 0, 0).head(Encoding.DESKTOP_NAME)
             + struct.pack(">I", len(name)) + name),
        ]  # fmt: skip


def arrow(format: PixelFormat) -> bytes:
    """A pointer for a viewer to draw where its own is (7.8.1)."""
    lines = ARROW.strip("\n").splitlines()
    width, height = max(map(len, lines)), len(lines)
    drawn = np.array([list(line.ljust(width)) for line in lines])
    pixels = format.convert(np.where(drawn == ".", 0xFFFFFF, 0).astype(np.uint32))
    return (Area(0, 0, width, height).head(Encoding.CURSOR) + pixels.tobytes()
            + np.packbits(drawn != " ", axis=1).tobytes())  # fmt: skip


def _screen(width: int, height: int, reason: int, status: int) -> bytes:
    """ExtendedDesktopSize: one screen."""
    return (Area(reason, status, width, height).head(Encoding.EXTENDED_DESKTOP_SIZE)
            + struct.pack(">B3xIHHHHI", 1, 0, 0, 0, width, height, 0))  # fmt: skip
