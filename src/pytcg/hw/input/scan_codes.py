"""Scan codes of a PC keyboard: from set 2 into the others.

IBM PS/2 Hardware Interface Technical Reference, "Keyboard and Auxiliary Device": the tables of the
three sets. A key is E0h or not, then its code; F0h before the code says that it went up.
"""

from __future__ import annotations

from typing import Final

EXTENDED: Final = 0xE0
PAUSE_PREFIX: Final = 0xE1
BREAK: Final = 0xF0
SET2_TO_SET1: Final = bytes.fromhex(
    "ff43413f3d3b3c58644442403e0f2959 65382a701d10025a66712c1f1e11035b"
    "672e2d201205045c68392f211413065d 693130232215075e6a7232241608095f"
    "6b332517180b0a606c34352627190c61 6d7328741a0d626e3a361c1b752b6376"
    "55567778797a0e7b7c4f7d4b477e7f6f 5253504c4d480145574e514a37494654"
    "8081824154"
)
"""The controller's scan code translation; codes past its end are passed on unchanged."""

_SET3: Final = {
    0x76: 0x08, 0x05: 0x07, 0x06: 0x0F, 0x04: 0x17, 0x0C: 0x1F, 0x03: 0x27, 0x0B: 0x2F, 0x83: 0x37,
    0x0A: 0x3F, 0x01: 0x47, 0x09: 0x4F, 0x78: 0x56, 0x07: 0x5E, 0x7E: 0x5F, 0x5D: 0x5C, 0x58: 0x14,
    0x14: 0x11, 0x11: 0x19, 0x61: 0x13, 0x77: 0x76, 0x7C: 0x7E, 0x7B: 0x84, 0x79: 0x7C,
}  # fmt: skip
"""Codes that are others in set 3."""
_SET3_EXTENDED: Final = {
    0x11: 0x39, 0x14: 0x58, 0x70: 0x67, 0x71: 0x64, 0x6C: 0x6E, 0x69: 0x65, 0x7D: 0x6F, 0x7A: 0x6D,
    0x75: 0x63, 0x6B: 0x61, 0x72: 0x60, 0x74: 0x6A, 0x4A: 0x77, 0x5A: 0x79, 0x1F: 0x8B, 0x27: 0x8C,
    0x2F: 0x8D, 0x7C: 0x57,
}  # fmt: skip
_PAUSE_3: Final = 0x62
SET3_BREAKS: Final = (0x11, 0x12, 0x14, 0x19, 0x59)
"""Keys that tell when they go up before software says otherwise: Ctrl, Shift, Caps Lock, Alt."""


def set_1(codes: bytes) -> bytes:
    """The same in set 1: going up is bit 7."""
    made, released = bytearray(), 0
    for code in codes:
        if code == BREAK:
            released = 0x80
        elif code in (EXTENDED, PAUSE_PREFIX):
            made.append(code)
        else:
            made.append(SET2_TO_SET1[code] | released)
            released = 0
    return bytes(made)


def set_3(codes: bytes) -> tuple[int, bool]:
    """A key's code in set 3, and whether it goes down."""
    if codes[0] == PAUSE_PREFIX:
        return _PAUSE_3, True
    down, code = BREAK not in codes, codes[-1]
    if codes[0] != EXTENDED:
        return _SET3.get(code, code), down
    if not down and len(codes) > 3:
        code = codes[2]  # Print Screen, whose shift comes last
    return _SET3_EXTENDED[code], down
