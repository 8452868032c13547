"""A monitor's EDID block (VESA E-EDID 1.4): what the card's driver learns of the screen."""

from __future__ import annotations

import struct
from typing import Final

NAME: Final = "QEMU Monitor"
MAKER, PRODUCT = "RHT", 0x1234
WEEK, YEAR = 42, 2014
DPI: Final = 100
# Sizes of the established timings by their bits, and further ones with their aspects' codes.
_ESTABLISHED: Final = bytes((0x21, 0x08, 0x00))  # 640 x 480, 800 x 600, 1024 x 768, at 60 Hz
_WIDE, _OLD, _SQUARER, _TV = range(4)
_STANDARD: Final = ((1920, _TV), (1280, _TV), (1440, _WIDE), (1680, _WIDE), (1280, _SQUARER),
                    (1600, _OLD), (1920, _WIDE), (1280, _OLD))  # fmt: skip
_SRGB: Final = bytes.fromhex("ee91a3544c99260f5054")  # chromaticities
_BLANK: Final = (160, 23)       # pixels and lines: VESA's reduced blanking at 60 Hz
_SYNC: Final = (48, 32, 3, 6)   # front porch and width, across and down
_REFRESH: Final = 60


def edid(width: int = 1280, height: int = 800) -> bytes:
    """128 bytes, with the size that the screen likes best."""
    letters = [ord(letter) - 64 for letter in MAKER]
    maker = letters[0] << 10 | letters[1] << 5 | letters[2]
    centimetres = [round(pixels * 2.54 / DPI) for pixels in (width, height)]
    block = b"\0\xff\xff\xff\xff\xff\xff\0" + struct.pack(">H", maker)
    block += struct.pack("<HLBBBB", PRODUCT, 0, WEEK, YEAR - 1990, 1, 4)
    block += bytes((0xA5, *centimetres, 120, 0x06)) + _SRGB + _ESTABLISHED
    block += b"".join(bytes((size // 8 - 31, aspect << 6 | _REFRESH - 60))
                      for size, aspect in _STANDARD)  # fmt: skip
    block += _timing(width, height)
    block += _text(0xFD, bytes((50, 125, 30, 160, 30, 1)) + b"\n" + b" " * 6)
    block += _text(0xFC, f"{NAME}\n".encode())
    block += _text(0x10, bytes(13)) + b"\0"
    return block + bytes((-sum(block) & 0xFF,))


def _text(kind: int, data: bytes) -> bytes:
    """A display descriptor (3.10.3)."""
    return bytes((0, 0, 0, kind, 0)) + data.ljust(13, b" ")


def _timing(width: int, height: int) -> bytes:
    """A detailed timing (3.10.2)."""
    across, down = _BLANK
    clock = (width + across) * (height + down) * _REFRESH // 10_000
    front, sync, above, lines = _SYNC
    millimetres = [round(pixels * 25.4 / DPI) for pixels in (width, height)]
    return struct.pack(
        "<H6B4B3B3B", clock, width & 0xFF, across, width >> 8 << 4, height & 0xFF, down,
        height >> 8 << 4, front, sync, above << 4 | lines, 0,
        millimetres[0] & 0xFF, millimetres[1] & 0xFF,
        millimetres[0] >> 8 << 4 | millimetres[1] >> 8, 0, 0, 0x18,
    )  # fmt: skip
