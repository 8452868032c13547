"""Random SSE and MMX cases from the rows of the table: load vector state, one instruction, save it.

The state goes in by FXRSTOR64 and out by FXSAVE64, on the host CPU and on the engines alike, so a
case compares every vector register, MXCSR, the x87 tags and those two instructions as well.
"""

from __future__ import annotations

import importlib
import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from pytcg.fuzz import hostcpu
from pytcg.fuzz.values import vector
from pytcg_x86.decode import table
from pytcg_x86.decode.table import Row

FAMILIES = ("sse_move", "sse_int", "sse_float", "sse_convert", "mmx", "ssse3", "sse_horizontal",
            "sse41", "sse_lanes", "sse_round", "sse42", "crypto")
APPROXIMATE = {"RCPPS", "RCPSS", "RSQRTPS", "RSQRTSS"}

OPERAND = hostcpu.DATA + 0x100   # what the memory operand addresses, 16-byte aligned
BEFORE = hostcpu.DATA + 0x400    # the image that is loaded
AFTER = hostcpu.DATA + 0x800     # the image that is saved
IMAGE = 512
RBX, RSI, RDI = 3, 6, 7
GENERAL = (0, 1, 2, 5, 8, 9, 12, 15)  # what an operand may be: not the three above, not rSP
LOAD = bytes.fromhex("480fae0f")  # fxrstor64 [rdi]
SAVE = bytes.fromhex("480fae06")  # fxsave64 [rsi]
_PREFIX = {"np": b"", None: b"", "66": b"\x66", "f3": b"\xf3", "f2": b"\xf2"}
_REG_KINDS, _RM_KINDS = "VPG", "WUQNERM"

@dataclass(frozen=True, slots=True)
class Variant:
    """One encoding of one row."""

    row: Row
    code: bytes
    memory: bool

    def __str__(self) -> str:
        return f"{self.row} {self.code.hex()}"


@cache
def family_rows() -> list[Row]:
    modules = {importlib.import_module(f"pytcg_x86.vector.{name}").__name__ for name in FAMILIES}
    modules.add("pytcg_x86.vector.operands")  # where `packed` and `converted` build their lowerings
    return [row for row in table.ROWS
            if not row.vex and table.LOWERINGS[row.mnemonic].function.__module__ in modules
            and hostcpu.has_row(row)]  # fmt: skip


def variants(row: Row, rng: random.Random) -> Iterator[Variant]:
    """Register and memory shapes, both operand sizes where the size matters, random registers."""
    kinds = [code[0] for code in row.operands]
    rm = next((k for k in kinds if k in _RM_KINDS), None)
    shapes = [] if row.mod == "m" or rm == "M" else [False]
    if rm in ("W", "Q", "E", "M") and row.mod != "r":
        shapes.append(True)
    wide = (0, 8) if any(code[1:] == "y" for code in row.operands) else (0,)
    for memory in shapes:
        for rex_w in wide:
            yield Variant(row, _encode(row, memory, rex_w, rng), memory)


def _encode(row: Row, memory: bool, rex_w: int, rng: random.Random) -> bytes:
    reg, rm, rex = row.reg or 0, 0, rex_w
    has_modrm = row.reg is not None
    for code in row.operands:
        if code[0] in _REG_KINDS:
            reg, has_modrm = _register(code[0], rng), True
        elif code[0] in _RM_KINDS:
            rm, has_modrm = RBX if memory else _register(code[0], rng), True
    rex |= (reg >> 3) << 2 | (rm >> 3)
    out = _PREFIX[row.prefix] + (bytes([0x40 | rex]) if rex else b"") + bytes(row.opcode)
    if has_modrm:
        out += bytes([(0x00 if memory else 0xC0) | (reg & 7) << 3 | rm & 7])
    return out + bytes(rng.randrange(256) for code in row.operands if code == "Ib")


def _register(kind: str, rng: random.Random) -> int:
    if kind in "GER":
        return rng.choice(GENERAL)
    return rng.randrange(8 if kind in "PQN" else 16)


# State -----------------------------------------------------------------------------------------


def image(rng: random.Random) -> bytes:
    """An FXSAVE64 image: MMX-like x87 registers, some empty, every exception masked."""
    mxcsr = 0x1F80 | rng.randrange(4) << 13 | rng.choice((0, 0, 0, 0x8000, 0x40, 0x8040))
    mxcsr |= rng.choice((0, 0, rng.randrange(0x40)))
    top = rng.randrange(8) << 11
    head = struct.pack("<HHBxHQQII", 0x37F, top, rng.randrange(256), 0, 0, 0, mxcsr, 0)
    stack = b"".join(vector(rng)[:8] + struct.pack("<HHI", rng.choice((0xFFFF, 0x3FFF, 0)), 0, 0)
                     for _ in range(8))  # fmt: skip
    xmm = b"".join(vector(rng) for _ in range(16))
    return (head + stack + xmm).ljust(IMAGE, b"\0")


def general(rng: random.Random) -> list[int]:
    regs = [rng.choice((rng.getrandbits(64), rng.getrandbits(32), 0, 1 << 63)) for _ in range(16)]
    regs[4] = hostcpu.STACK
    regs[RBX], regs[RSI], regs[RDI] = OPERAND, AFTER, BEFORE
    return regs


def data(rng: random.Random) -> bytes:
    """The scratch memory: the image to load, the operand, zeros where the result comes."""
    memory = bytearray(0xC00)
    for at in range(0, 64, 16):
        start = OPERAND - hostcpu.DATA + at
        memory[start:start + 16] = vector(rng)
    memory[BEFORE - hostcpu.DATA:BEFORE - hostcpu.DATA + IMAGE] = image(rng)
    return bytes(memory)


def comparable(memory: bytes) -> bytes:
    """The data without MXCSR_MASK, which differs from CPU to CPU."""
    at = AFTER - hostcpu.DATA + 28
    return memory[:at] + bytes(4) + memory[at + 4:]
