"""DES (FIPS 46-3), for VNC's passwords and nothing else: one block at a time, encryption only."""

from __future__ import annotations

from typing import Final

_PC1: Final = (57, 49, 41, 33, 25, 17, 9, 1, 58, 50, 42, 34, 26, 18, 10, 2, 59, 51, 43, 35, 27,
               19, 11, 3, 60, 52, 44, 36, 63, 55, 47, 39, 31, 23, 15, 7, 62, 54, 46, 38, 30, 22,
               14, 6, 61, 53, 45, 37, 29, 21, 13, 5, 28, 20, 12, 4)  # fmt: skip
_PC2: Final = (14, 17, 11, 24, 1, 5, 3, 28, 15, 6, 21, 10, 23, 19, 12, 4, 26, 8, 16, 7, 27, 20,
               13, 2, 41, 52, 31, 37, 47, 55, 30, 40, 51, 45, 33, 48, 44, 49, 39, 56, 34, 53, 46,
               42, 50, 36, 29, 32)  # fmt: skip
_SHIFTS: Final = (1, 1, 2, 2, 2, 2, 2, 2, 1, 2, 2, 2, 2, 2, 2, 1)
_IP: Final = tuple(start - 8 * step for start in (58, 60, 62, 64, 57, 59, 61, 63)
                   for step in range(8))  # fmt: skip
_FP: Final = tuple(_IP.index(bit) + 1 for bit in range(1, 65))
_E: Final = tuple((4 * group + step - 1) % 32 + 1 for group in range(8) for step in range(6))
_P: Final = (16, 7, 20, 21, 29, 12, 28, 17, 1, 15, 23, 26, 5, 18, 31, 10, 2, 8, 24, 14, 32, 27, 3,
             9, 19, 13, 30, 6, 22, 11, 4, 25)  # fmt: skip
# The S-boxes: four rows of sixteen entries, a hexadecimal digit each.
_S: Final = (
    "e4d12fb83a6c59070f74e2d1a6cb953841e8d62bfc973a50fc8249175b3ea06d",
    "f18e6b34972dc05a3d47f28ec01a69b50e7ba4d158c6932fd8a13f42b67c05e9",
    "a09e63f51dc7b428d709346a285ecbf1d6498f30b12c5ae71ad069874fe3b52c",
    "7de3069a1285bc4fd8b56f03472c1ae9a690cb7df13e52843f06a1d8945bc72e",
    "2c417ab6853fd0e9eb2c47d150fa3986421bad78f9c5630eb8c71e2d6f09a453",
    "c1af92680d34e75baf427c9561de0b389ef528c3704a1db6432c95fabe17608d",
    "4b2ef08d3c975a61d0b7491ae35c2f8614bdc37eaf6805926bd814a7950fe23c",
    "d2846fb1a93e50c71fd8a374c56b0e927b419ce206adf35821e74a8dfc90356b",
)
_HALF: Final = (1 << 28) - 1


def _permute(value: int, width: int, table: tuple[int, ...]) -> int:
    """Bits of a value in another order; 1 is the highest."""
    made = 0
    for place in table:
        made = made << 1 | value >> width - place & 1
    return made


def _round_keys(key: bytes) -> list[int]:
    joined = _permute(int.from_bytes(key, "big"), 64, _PC1)
    left, right = joined >> 28, joined & _HALF
    keys = []
    for shift in _SHIFTS:
        left = (left << shift | left >> 28 - shift) & _HALF
        right = (right << shift | right >> 28 - shift) & _HALF
        keys.append(_permute(left << 28 | right, 56, _PC2))
    return keys


def _mix(half: int, key: int) -> int:
    """The cipher function f."""
    wide = _permute(half, 32, _E) ^ key
    made = 0
    for number, box in enumerate(_S):
        six = wide >> 42 - 6 * number & 63
        row, column = six >> 4 & 2 | six & 1, six >> 1 & 15
        made = made << 4 | int(box[16 * row + column], 16)
    return _permute(made, 32, _P)


def encrypt_block(key: bytes, block: bytes) -> bytes:
    """Eight bytes by a key of eight bytes, whose parity bits don't count."""
    value = _permute(int.from_bytes(block, "big"), 64, _IP)
    left, right = value >> 32, value & 0xFFFF_FFFF
    for round_key in _round_keys(key):
        left, right = right, left ^ _mix(right, round_key)
    return _permute(right << 32 | left, 64, _FP).to_bytes(8, "big")
