"""Tight, without JPEG (the community's "The RFB Protocol", 7.7.7): fills, palettes, full colour."""

from __future__ import annotations

from typing import ClassVar, Final

import numpy as np

from pytcg.ui.vnc.encodings.encoder import (
    LEVEL,
    Converted,
    Encoder,
    ZlibStream,
    few_colours,
    packed,
)
from pytcg.ui.vnc.pixelformat import PixelFormat, Pixels

FILL: Final = 0x80
FILTER: Final = 0x40
PALETTE: Final = 1
MOST_COLOURS: Final = 256
LEAST_PACKED: Final = 12  # bytes: less goes as it is
FULL_COLOUR, TWO_COLOURS, COLOURS = 0, 1, 2  # whose stream is whose


class Tight(Encoder):
    """A zlib stream for each kind of rectangle."""

    widest: ClassVar[int] = 2048
    largest: ClassVar[int] = 1 << 16

    def __init__(self, level: int = LEVEL) -> None:
        super().__init__(level)
        self._streams = [ZlibStream(level) for _ in range(3)]
        self._reset = 0  # streams that begin anew, to be told with the next rectangle

    def restart(self, level: int) -> None:
        """Another level: new streams."""
        if level != self._level:
            self._level = level
            self._streams = [ZlibStream(level) for _ in range(3)]
            self._reset = 0b111

    def encode(self, pixels: Pixels, format: PixelFormat) -> bytes:
        """One rectangle."""
        reset, self._reset = self._reset, 0
        converted = format.convert(pixels)
        found = few_colours(converted, MOST_COLOURS)
        if found is None:
            return bytes((FULL_COLOUR << 4 | reset,)) + self._pack(
                FULL_COLOUR, _full(converted, format))
        colours, indexes = found
        if len(colours) == 1:
            return bytes((FILL | reset,)) + _full(colours, format)
        stream = TWO_COLOURS if len(colours) == 2 else COLOURS
        head = bytes((FILTER | stream << 4 | reset, PALETTE, len(colours) - 1))
        data = packed(indexes, 1) if stream == TWO_COLOURS else indexes.tobytes()
        return head + _full(colours, format) + self._pack(stream, data)

    def _pack(self, stream: int, data: bytes) -> bytes:
        if len(data) < LEAST_PACKED:
            return data
        made = self._streams[stream].pack(data)
        return _compact(len(made)) + made


def _compact(length: int) -> bytes:
    """Seven bits a byte, the lowest first; three bytes at most, the third of eight bits."""
    if length < 1 << 7:
        return bytes((length,))
    if length < 1 << 14:
        return bytes((length & 0x7F | 0x80, length >> 7))
    return bytes((length & 0x7F | 0x80, length >> 7 & 0x7F | 0x80, length >> 14))


def _full(pixels: Converted, format: PixelFormat) -> bytes:
    """TPIXELs: red, green and blue where a pixel has a byte of each."""
    data = np.ascontiguousarray(pixels)
    if format.bits != 32 or format.depth != 24 or format.maxima != (255, 255, 255):
        return data.tobytes()
    value = data.astype(np.uint32)
    parts = [(value >> shift).astype(np.uint8) for shift in format.shifts]
    return np.stack(parts, axis=-1).tobytes()
