"""Random x87 states: every kind of number, tag, rounding, precision and mask."""

from __future__ import annotations

import importlib
import random
import struct
from collections.abc import Sequence
from functools import cache

from pytcg.fuzz.values import control, number
from pytcg_x86.decode.table import ROWS, Row
from x86.x87_host import EMPTY_TAG, X87

IMAGES = {"FNSTENV", "FNSAVE", "FLDENV", "FRSTOR"}
TRANSCENDENTAL = {"F2XM1", "FYL2X", "FYL2XP1", "FPTAN", "FPATAN", "FSIN", "FCOS", "FSINCOS"}
PUSHES = {"FLD", "FLD80", "FILD", "FBLD", "FXTRACT", "FPTAN", "FSINCOS",
          "FLD1", "FLDL2T", "FLDL2E", "FLDPI", "FLDLG2", "FLDLN2", "FLDZ"}  # fmt: skip
DOUBLES = (0.0, -0.0, 1.0, float("inf"), float("nan"), 5e-324, 1e-310, 1.5, -3.0)
SINGLES = (0.0, -0.0, 1.0, float("-inf"), float("nan"), 1e-45, 1e-40, 1.5, -3.0)


@cache
def x87_rows() -> list[Row]:
    importlib.import_module("pytcg_x86.x87.instructions")
    return [row for row in ROWS if 0xD8 <= row.opcode[0] <= 0xDF and len(row.opcode) == 1]


def encoding(row: Row, rm: int) -> bytes:
    """The instruction, with [rsi] as its memory operand or ST(rm) as its register."""
    assert row.reg is not None
    if row.mod == "m":
        return bytes([row.opcode[0], row.reg << 3 | 6])
    return bytes([row.opcode[0], 0xC0 | row.reg << 3 | (rm if row.rm is None else row.rm)])


def operand(rng: random.Random, mnemonic: str) -> bytes:
    """16 bytes of memory that make sense as some operand."""
    if mnemonic == "FBLD":  # bytes that are no decimal digits are left open by the manual
        digits = bytes(int(f"{rng.randrange(100):02}", 16) for _ in range(9))
        return digits + bytes([rng.choice((0, 0x80))]) + bytes(6)
    if mnemonic == "FLDCW":
        return control(rng).to_bytes(2, "little") + bytes(14)
    kind = rng.randrange(5)
    if kind == 0:
        return struct.pack("<dd", rng.choice(DOUBLES), 0)
    if kind == 1:
        return struct.pack("<ffd", rng.choice(SINGLES), 0, 0)
    if kind == 2:
        return struct.pack("<qq", rng.choice((0, 1, -1, rng.randrange(-99999, 99999))), 0)
    if kind == 3:
        return number(rng).to_bytes(10, "little") + bytes(6)
    return rng.randbytes(16)


def state(rng: random.Random, mnemonic: str, tops: Sequence[int] = range(8)) -> X87:
    """A random state in which no unmasked exception is pending, TOP one of ``tops``."""
    holes = rng.choice((0.0, 0.0, 0.15, 0.5))
    tags = sum(EMPTY_TAG << 2 * n for n in range(8) if rng.random() < holes)
    top, word = rng.choice(tops), control(rng)
    if mnemonic in PUSHES and rng.random() < 0.8:
        tags |= EMPTY_TAG << 2 * ((top - 1) & 7)
    status = top << 11 | rng.getrandbits(16) & 0x4700
    if rng.random() < 0.3:
        status |= rng.getrandbits(7) & (word & 0x3F | 0x40)
    numbers = [number(rng) for _ in range(8)]
    flags = rng.getrandbits(12) & 0x8D5 | 0x202
    return X87(word, status, tags, numbers, flags, operand(rng, mnemonic))
