"""Encodings of rectangles (RFC 6143, 7.7): raw, zlib, ZRLE. Each viewer has one of each."""

from __future__ import annotations

import zlib
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from pytcg.ui.vnc.pixelformat import PixelFormat, Pixels

RAW, ZLIB, ZRLE = 0, 6, 16
TILE: Final = 64
_PALETTE: Final = 16
_LEVEL: Final = 3  # of compression: a fast network is the rule


class Encoder(Protocol):
    """Makes a rectangle's bytes."""

    def encode(self, pixels: Pixels, format: PixelFormat) -> bytes: ...


class Raw:
    """The pixels."""

    def encode(self, pixels: Pixels, format: PixelFormat) -> bytes:
        """Row by row."""
        return np.ascontiguousarray(format.convert(pixels)).tobytes()


class _Stream:
    """A zlib stream that lasts as long as the connection."""

    def __init__(self) -> None:
        self._zlib = zlib.compressobj(_LEVEL)

    def pack(self, data: bytes) -> bytes:
        made = self._zlib.compress(data) + self._zlib.flush(zlib.Z_SYNC_FLUSH)
        return len(made).to_bytes(4, "big") + made


class Zlib:
    """Raw, compressed."""

    def __init__(self) -> None:
        self._stream = _Stream()

    def encode(self, pixels: Pixels, format: PixelFormat) -> bytes:
        """A length and the stream's next bytes."""
        return self._stream.pack(Raw().encode(pixels, format))


class Zrle:
    """Tiles of 64 x 64, each of one colour, of few colours, or raw; compressed."""

    def __init__(self) -> None:
        self._stream = _Stream()

    def encode(self, pixels: Pixels, format: PixelFormat) -> bytes:
        """A length and the stream's next bytes."""
        height, width = pixels.shape
        converted = format.convert(pixels)
        tiles = [
            _tile(converted[y : y + TILE, x : x + TILE], format)
            for y in range(0, height, TILE)
            for x in range(0, width, TILE)
        ]
        return self._stream.pack(b"".join(tiles))


def _tile(tile: npt.NDArray[np.unsignedinteger[npt.NBitBase]], format: PixelFormat) -> bytes:
    first = tile.flat[0]
    if (tile == first).all():
        return b"\x01" + format.compact(np.array([first], tile.dtype))
    colours, indexes = np.unique(tile, return_inverse=True)
    if len(colours) > _PALETTE:
        return b"\x00" + format.compact(tile)
    bits = 1 if len(colours) <= 2 else 2 if len(colours) <= 4 else 4
    return (bytes((len(colours),)) + format.compact(colours)
            + _packed(indexes.reshape(tile.shape).astype(np.uint8), bits))  # fmt: skip


def _packed(indexes: npt.NDArray[np.uint8], bits: int) -> bytes:
    """Indexes of 1, 2 or 4 bits, the leftmost in the highest; rows fill whole bytes."""
    per_byte = 8 // bits
    height, width = indexes.shape
    padded = np.zeros((height, -(-width // per_byte) * per_byte), np.uint8)
    padded[:, :width] = indexes
    parts = padded.reshape(height, -1, per_byte)
    made = np.zeros(parts.shape[:2], np.uint8)
    for place in range(per_byte):
        made |= parts[:, :, place] << np.uint8(bits * (per_byte - 1 - place))
    return made.tobytes()


ENCODERS: Final[dict[int, type[Raw] | type[Zlib] | type[Zrle]]] = {
    ZRLE: Zrle, ZLIB: Zlib, RAW: Raw,
}  # fmt: skip
