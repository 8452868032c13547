"""What an encoding is, and what several of them need: zlib streams, tiles of few colours."""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt

from pytcg.ui.vnc.pixelformat import PixelFormat, Pixels

LEVEL: Final = 3  # of compression, unless a viewer asks for another: a fast network is the rule
SAMPLES: Final = 256  # pixels that are looked at before all are counted
NO_LIMIT: Final = 1 << 16
Converted = npt.NDArray[Any]  # pixels in a viewer's format
Indexes = npt.NDArray[np.uint8]


class Encoder(ABC):
    """Makes rectangles' bytes, for one viewer, in the order they are sent."""

    widest: ClassVar[int] = NO_LIMIT
    """Pixels across that a rectangle may have."""
    largest: ClassVar[int] = NO_LIMIT * NO_LIMIT
    """Pixels that a rectangle may have."""

    def __init__(self, level: int = LEVEL) -> None:
        self._level = level

    @abstractmethod
    def encode(self, pixels: Pixels, format: PixelFormat) -> bytes:
        """A rectangle of 00RRGGBBh."""


class ZlibStream:
    """A zlib stream that lasts as long as the connection."""

    def __init__(self, level: int) -> None:
        self._zlib = zlib.compressobj(level)

    def pack(self, data: bytes) -> bytes:
        """The stream's next bytes, which hold all of this."""
        return self._zlib.compress(data) + self._zlib.flush(zlib.Z_SYNC_FLUSH)

    def pack_counted(self, data: bytes) -> bytes:
        """The same behind its length."""
        made = self.pack(data)
        return len(made).to_bytes(4, "big") + made


def few_colours(tile: Converted, most: int) -> tuple[Converted, Indexes] | None:
    """The colours and which of them each pixel has; None for more than ``most``."""
    flat = tile.reshape(-1)
    other = flat != flat[0]
    at = int(other.argmax())
    if not other[at]:
        return flat[:1], np.zeros(tile.shape, np.uint8)
    if (flat[other] == flat[at]).all():
        return flat[[0, at]], other.reshape(tile.shape).astype(np.uint8)
    if len(_distinct(flat[:: max(1, len(flat) // SAMPLES)])) > most:
        return None
    colours = _distinct(flat).astype(tile.dtype)
    if len(colours) > most:
        return None
    indexes = np.searchsorted(colours, flat)
    return colours, indexes.reshape(tile.shape).astype(np.uint8)


def _distinct(values: Converted) -> Converted:
    """Each value once, in order; numpy's own `unique` takes three to fifteen times as long."""
    ordered = np.sort(values)
    first = np.ones(len(ordered), np.bool_)
    first[1:] = ordered[1:] != ordered[:-1]
    return ordered[first]


def packed(indexes: Indexes, bits: int) -> bytes:
    """Indexes of 1, 2 or 4 bits, the leftmost in the highest; rows fill whole bytes."""
    if bits == 1:
        return np.packbits(indexes, axis=1).tobytes()
    per_byte = 8 // bits
    height, width = indexes.shape
    padded = np.zeros((height, -(-width // per_byte) * per_byte), np.uint8)
    padded[:, :width] = indexes
    parts = padded.reshape(height, -1, per_byte)
    made = np.zeros(parts.shape[:2], np.uint8)
    for place in range(per_byte):
        made |= parts[:, :, place] << np.uint8(bits * (per_byte - 1 - place))
    return made.tobytes()


class Tiles:
    """Whole tiles of a rectangle looked at together: which are of one colour, which of two.

    ``low`` and ``high`` are each tile's colours then; ``mask`` says where the high one is.
    """

    def __init__(self, pixels: Converted, size: int) -> None:
        self.rows: int = pixels.shape[0] // size
        self.columns: int = pixels.shape[1] // size
        whole = pixels[: self.rows * size, : self.columns * size]
        parts = whole.reshape(self.rows, size, self.columns, size).swapaxes(1, 2)
        self.low, self.high = (found.astype(pixels.dtype)  # whose byte order min() forgets
                               for found in (parts.min(axis=(2, 3)), parts.max(axis=(2, 3))))
        self.mask = parts == self.high[:, :, None, None]
        either = self.mask | (parts == self.low[:, :, None, None])
        self.one = self.low == self.high
        self.two = either.all(axis=(2, 3))

    def known(self, row: int, column: int) -> bool:
        """Whether there is a whole tile."""
        return row < self.rows and column < self.columns
