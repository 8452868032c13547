"""Pixel formats of viewers (RFC 6143, 7.4): pixels as the viewer wants them."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

_STRUCT: Final = struct.Struct(">BBBBHHHBBB3x")
Pixels = npt.NDArray[np.uint32]


class FormatError(Exception):
    """A pixel format that can't be."""


@dataclass(frozen=True)
class PixelFormat:
    """Pixels of 8, 16 or 32 bits: a maximum and a shift for each colour."""

    bits: int = 32
    depth: int = 24
    big_endian: bool = False
    maxima: tuple[int, int, int] = (255, 255, 255)
    shifts: tuple[int, int, int] = (16, 8, 0)
    mapped: bool = False

    @classmethod
    def parse(cls, data: bytes) -> PixelFormat:
        """The format in 16 bytes; FormatError. What has a colour map is given `MAPPED`'s."""
        bits, depth, big, true_colour, *rest = _STRUCT.unpack(data)
        if not true_colour and bits == MAPPED.bits:
            return MAPPED
        maxima, shifts = tuple(rest[:3]), tuple(rest[3:])
        if bits not in (8, 16, 32) or not true_colour:
            raise FormatError(f"{bits} bits a pixel, true colour {true_colour}")
        if any(s >= bits or not m or m & m + 1 or m << s >> bits
               for m, s in zip(maxima, shifts, strict=True)):  # fmt: skip
            raise FormatError(f"maxima {maxima}, shifts {shifts}")
        return cls(bits, depth, bool(big), maxima, shifts)

    def pack(self) -> bytes:
        """The 16 bytes that tell it."""
        return _STRUCT.pack(self.bits, self.depth, self.big_endian, 1, *self.maxima, *self.shifts)

    @property
    def dtype(self) -> np.dtype[np.unsignedinteger[npt.NBitBase]]:
        """What an array of such pixels is made of."""
        return np.dtype(f"{'>' if self.big_endian else '<'}u{self.bits // 8}")

    def convert(self, pixels: Pixels) -> npt.NDArray[np.unsignedinteger[npt.NBitBase]]:
        """Pixels of 00RRGGBBh in this format."""
        if self == _PLAIN:
            return pixels.astype(self.dtype, copy=False)
        made = np.zeros(pixels.shape, np.uint32)
        for place, maximum, shift in zip((16, 8, 0), self.maxima, self.shifts, strict=True):
            colour = pixels >> place & 0xFF
            if maximum != 255:
                colour = (colour * maximum + 127) // 255
            made |= colour << shift
        return made.astype(self.dtype)

    def compact(self, pixels: npt.NDArray[np.unsignedinteger[npt.NBitBase]]) -> bytes:
        """CPIXELs (7.7.5): without the byte that a 24-bit colour leaves unused."""
        unused = self._unused_byte()
        data = np.ascontiguousarray(pixels)
        if unused is None:
            return data.tobytes()
        parts = data.reshape(-1).view(np.uint8).reshape(-1, 4)
        return (parts[:, 1:] if unused == 0 else parts[:, :3]).tobytes()

    def _unused_byte(self) -> int | None:
        if self.bits != 32 or self.depth > 24:
            return None
        used = 0
        for maximum, shift in zip(self.maxima, self.shifts, strict=True):
            used |= maximum << shift
        if used < 1 << 24:
            return 0 if self.big_endian else 3
        if not used & 0xFF:
            return 3 if self.big_endian else 0
        return None


_PLAIN: Final = PixelFormat()
MAPPED: Final = PixelFormat(8, 8, False, (7, 7, 3), (5, 2, 0), mapped=True)
"""Eight bits by a colour map, which holds what these bits mean."""


def colour_map() -> bytes:
    """The message that fills a viewer's colour map (7.6.2)."""
    made = struct.pack(">BxHH", 1, 0, 256)
    for pixel in range(256):
        for maximum, shift in zip(MAPPED.maxima, MAPPED.shifts, strict=True):
            made += struct.pack(">H", (pixel >> shift & maximum) * 0xFFFF // maximum)
    return made
