"""Pictures as files: PPM and PNG (RFC 2083)."""

from __future__ import annotations

import struct
import zlib
from typing import Final

import numpy as np
import numpy.typing as npt

PNG_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_RGB_8_BITS: Final = (8, 2, 0, 0, 0)  # depth, colour type, compression, filter, interlace


def rgb_bytes(pixels: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint8]:
    """height x width of 00RRGGBBh as height x width x (red, green, blue)."""
    parts = pixels.astype("<u4").view(np.uint8).reshape(*pixels.shape, 4)
    return np.ascontiguousarray(parts[:, :, 2::-1])


def ppm(pixels: npt.NDArray[np.uint32]) -> bytes:
    """A binary PPM (P6)."""
    height, width = pixels.shape
    return b"P6\n%d %d\n255\n" % (width, height) + rgb_bytes(pixels).tobytes()


def png(pixels: npt.NDArray[np.uint32]) -> bytes:
    """A PNG of 24-bit colour."""
    height, width = pixels.shape
    lines = np.zeros((height, width * 3 + 1), np.uint8)  # filter type 0, then the pixels
    lines[:, 1:] = rgb_bytes(pixels).reshape(height, -1)
    header = struct.pack(">II5B", width, height, *_RGB_8_BITS)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(lines.tobytes(), 6)), (b"IEND", b""))
    return PNG_SIGNATURE + b"".join(_chunk(kind, data) for kind, data in chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    check = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)


FORMATS: Final = {"ppm": ppm, "png": png}
