"""Hextile (RFC 6143, 7.7.4): tiles of 16 x 16, one colour with runs of another on it, or raw."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from pytcg.ui.vnc.encodings.encoder import Converted, Encoder, Tiles
from pytcg.ui.vnc.pixelformat import PixelFormat, Pixels

TILE: Final = 16
RAW, BACKGROUND, FOREGROUND, SUBRECTS = 1, 2, 4, 8


class Hextile(Encoder):
    """Each tile names its colours."""

    def encode(self, pixels: Pixels, format: PixelFormat) -> bytes:
        """Tile by tile."""
        height, width = pixels.shape
        converted = np.ascontiguousarray(format.convert(pixels))
        tiles = Tiles(converted, TILE)
        made = []
        for row in range(-(-height // TILE)):
            for column in range(-(-width // TILE)):
                y, x = row * TILE, column * TILE
                tile = converted[y : y + TILE, x : x + TILE]
                if tiles.known(row, column) and tiles.two[row, column]:
                    made.append(_drawn(tiles.mask[row, column], tile))
                else:
                    made.append(_tile(tile))
        return b"".join(made)


def _tile(tile: Converted) -> bytes:
    mask = tile == tile.max()
    if (mask | (tile == tile.min())).all():
        return _drawn(mask, tile)
    return bytes((RAW,)) + tile.tobytes()


def _drawn(mask: npt.NDArray[np.bool_], tile: Converted) -> bytes:
    """One colour, or two: the rarer one as runs on the other."""
    count = int(mask.sum())
    if count == mask.size:
        return bytes((BACKGROUND,)) + tile[:1, :1].tobytes()
    if 2 * count > mask.size:
        mask = ~mask
    below, above = tile[~mask][:1], tile[mask][:1]
    edges = np.diff(mask.astype(np.int8), axis=1, prepend=0, append=0)
    rows, begins = np.nonzero(edges == 1)
    ends = np.nonzero(edges == -1)[1]
    runs = np.stack([begins << 4 | rows, ends - begins - 1 << 4], axis=1).astype(np.uint8)
    made = (bytes((BACKGROUND | FOREGROUND | SUBRECTS,)) + below.tobytes() + above.tobytes()
            + bytes((len(runs),)) + runs.tobytes())  # fmt: skip
    raw = bytes((RAW,)) + tile.tobytes()
    return min(made, raw, key=len)
