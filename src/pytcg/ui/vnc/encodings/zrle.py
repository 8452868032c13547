"""ZRLE (RFC 6143, 7.7.6): tiles of one colour, of few colours, or raw; compressed."""

from __future__ import annotations

from typing import Final

import numpy as np

from pytcg.ui.vnc.encodings.encoder import (
    LEVEL,
    Converted,
    Encoder,
    Tiles,
    ZlibStream,
    few_colours,
    packed,
)
from pytcg.ui.vnc.pixelformat import PixelFormat, Pixels

TILE: Final = 64
MOST_COLOURS: Final = 16


class Zrle(Encoder):
    """Tiles of 64 x 64."""

    def __init__(self, level: int = LEVEL) -> None:
        super().__init__(level)
        self._stream = ZlibStream(level)

    def encode(self, pixels: Pixels, format: PixelFormat) -> bytes:
        """A length and the stream's next bytes."""
        height, width = pixels.shape
        converted = format.convert(pixels)
        tiles = Tiles(converted, TILE)
        bits = np.packbits(tiles.mask, axis=3)
        made = []
        for row in range(-(-height // TILE)):
            for column in range(-(-width // TILE)):
                if tiles.known(row, column) and tiles.one[row, column]:
                    made.append(b"\x01" + format.compact(tiles.low[row, column : column + 1]))
                elif tiles.known(row, column) and tiles.two[row, column]:
                    pair = (format.compact(colours[row, column : column + 1])
                            for colours in (tiles.low, tiles.high))  # fmt: skip
                    made.append(b"\x02" + b"".join(pair) + bits[row, column].tobytes())
                else:
                    y, x = row * TILE, column * TILE
                    made.append(_tile(converted[y : y + TILE, x : x + TILE], format))
        return self._stream.pack_counted(b"".join(made))


def _tile(tile: Converted, format: PixelFormat) -> bytes:
    found = few_colours(tile, MOST_COLOURS)
    if found is None:
        return b"\x00" + format.compact(tile)
    colours, indexes = found
    count = len(colours)
    if count == 1:
        return b"\x01" + format.compact(colours)
    bits = 1 if count == 2 else 2 if count <= 4 else 4
    return bytes((count,)) + format.compact(colours) + packed(indexes, bits)
