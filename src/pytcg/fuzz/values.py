"""Random operands of every kind, with those at which something turns more often than by chance."""

from __future__ import annotations

import random
import struct

BIAS = 0x3FFF
EDGES = (0, 1, 2, 0x7FFE, 0x7FFF, BIAS, BIAS - 1023, BIAS - 1022, BIAS - 127, BIAS - 126,
         BIAS + 127, BIAS + 128, BIAS + 1023, BIAS + 1024, BIAS + 63)  # fmt: skip
RANGES = ((0, 0x8000), (BIAS - 1080, BIAS - 1015), (BIAS - 160, BIAS - 120), (BIAS - 70, BIAS + 70),
          (BIAS, BIAS + 64), (BIAS - 5, BIAS + 20))  # fmt: skip
F32 = (0, 1 << 31, 0x3F80_0000, 0xBF80_0000, 0x7F80_0000, 0xFF80_0000, 0x7FC0_0001, 0xFFC0_0000,
       0x7F80_0001, 1, 0x807F_FFFF, 0x0080_0000, 0x7F7F_FFFF, 0x4F00_0000, 0xCF00_0000,
       0x4EFF_FFFF, 0x3F00_0000, 0x3FC0_0000, 0x4B00_0001, 0x5F00_0000)  # fmt: skip
F64 = (0, 1 << 63, 0x3FF << 52, 0xBFF << 52, 0x7FF << 52, 0xFFF << 52, (0x7FF8 << 48) + 1,
       0xFFF8 << 48, (0x7FF << 52) + 1, 1, (1 << 63) + (1 << 52) - 1, 1 << 52, (0x7FF << 52) - 1,
       0x41E0 << 48, 0xC1E0_0000_0020_0000, 0x43E0 << 48, 0x3FE0 << 48, 0x3FF8 << 48,
       0x47EF_FFFF_F000_0000, 0x3810 << 48, 0x36A0 << 48)  # fmt: skip
INTEGERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0x7FFF_FFFF, 0x8000_0000, (1 << 63) - 1,
            1 << 63)  # fmt: skip


def integer(rng: random.Random) -> int:
    """64 bits for a general register."""
    value = rng.choice(INTEGERS) if rng.random() < 0.4 else rng.getrandbits(rng.choice((8, 32, 64)))
    return (-value if rng.random() < 0.3 else value) & (1 << 64) - 1


def number(rng: random.Random) -> int:
    """An 80-bit pattern: mostly numbers near something, with every special among them."""
    sign = rng.getrandbits(1) << 79
    shape = rng.choice((0, 0, 11, 40, rng.randrange(64)))
    mantissa = rng.choice((rng.getrandbits(64), 0, (1 << 64) - 1)) >> shape << shape
    kind = rng.randrange(10)
    if kind == 0:
        return sign | rng.getrandbits(63) >> rng.randrange(64)  # zeros and denormals
    if kind == 1:
        quiet = rng.getrandbits(1) << 62
        return sign | 0x7FFF << 64 | 1 << 63 | rng.choice((0, quiet | mantissa & ~(1 << 62)))
    if kind == 2:
        return sign | rng.choice(EDGES) << 64 | mantissa  # unsupported ones too
    exponent = rng.choice(EDGES) if kind == 3 else rng.randrange(*rng.choice(RANGES))
    return sign | (exponent & 0x7FFF) << 64 | 1 << 63 | mantissa


def vector(rng: random.Random) -> bytes:
    """128 bits: random, or lanes where something turns."""
    choice = rng.randrange(4)
    if choice == 0:
        return rng.randbytes(16)
    if choice == 1:
        return struct.pack("<4I", *(rng.choice(F32) for _ in range(4)))
    if choice == 2:
        return struct.pack("<2Q", *(rng.choice(F64) for _ in range(2)))
    small = [rng.choice((0, 1, -1, 5, 17, 127, 128, -128, 32767, -32768)) for _ in range(8)]
    return struct.pack("<8h", *((x + 32768) % 65536 - 32768 for x in small))


def control(rng: random.Random) -> int:
    masks = rng.choice((0x3F, 0x3F, 0x3F, rng.getrandbits(6)))
    return 0x40 | masks | rng.getrandbits(2) << 10 | rng.choice((0, 2, 3, 3)) << 8


def mxcsr(rng: random.Random) -> int:
    """MXCSR: most often every exception masked; any rounding, DAZ and FTZ, some flags set."""
    masks = rng.choice((0x3F, 0x3F, 0x3F, rng.getrandbits(6)))
    modes = rng.choice((0, 0, 0, 0x8000, 0x40, 0x8040))
    return masks << 7 | rng.getrandbits(2) << 13 | modes | rng.choice((0, rng.getrandbits(6)))
