"""Random VEX cases from the rows of the table: load YMM state, one instruction, save it.

The state goes in and out by VMOVUPS, LDMXCSR and STMXCSR, on the host CPU and on the engines alike.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from functools import cache

from pytcg.fuzz import hostcpu
from pytcg_x86.decode.opcodes import opcodes
from pytcg_x86.decode.table import Row
from x86 import sse_cases
from x86.sse_cases import Variant

OPERAND = hostcpu.DATA + 0x100
BEFORE = hostcpu.DATA + 0x400
AFTER = hostcpu.DATA + 0x800
MXCSR = 16 * 32
RBX, RSI, RDI = sse_cases.RBX, sse_cases.RSI, sse_cases.RDI
_PREFIX = {"np": 0, "66": 1, "f3": 2, "f2": 3}
_MAP = {(0x0F,): 1, (0x0F, 0x38): 2, (0x0F, 0x3A): 3}


@cache
def rows() -> list[Row]:
    return [row for row in opcodes().rows if row.vex]


def vex(prefix: int, opcode_map: int, opcode: int, *, reg: int = 0, rm: int = 0, vvvv: int = 0,
        wide: int = 0, length: int = 0, memory: bool = False, index: int | None = None,
        disp: int | None = None) -> bytes:  # fmt: skip
    """An instruction in three-byte VEX; ``rm`` is the memory operand's base."""
    mod = 0xC0 if not memory else 0x80 if disp is not None else 0x00
    extra = 8 if index is not None and index >= 8 else 0
    first = (~(reg >> 3) & 1) << 7 | (~(extra >> 3) & 1) << 6 | (~(rm >> 3) & 1) << 5 | opcode_map
    second = wide << 7 | (~vvvv & 15) << 3 | length << 2 | prefix
    out = bytes([0xC4, first, second, opcode])
    if index is not None:
        out += bytes([mod | (reg & 7) << 3 | 4, (index & 7) << 3 | rm & 7])
    else:
        out += bytes([mod | (reg & 7) << 3 | rm & 7])
    return out + (struct.pack("<i", disp) if disp is not None and memory else b"")


def _moves() -> tuple[bytes, bytes]:
    """Code that loads and saves all YMM registers and MXCSR."""
    load = b"".join(vex(0, 1, 0x10, reg=n, rm=RDI, length=1, memory=True, disp=32 * n)
                    for n in range(16))  # fmt: skip
    save = b"".join(vex(0, 1, 0x11, reg=n, rm=RSI, length=1, memory=True, disp=32 * n)
                    for n in range(16))  # fmt: skip
    return (load + vex(0, 1, 0xAE, reg=2, rm=RDI, memory=True, disp=MXCSR),
            save + vex(0, 1, 0xAE, reg=3, rm=RSI, memory=True, disp=MXCSR))  # fmt: skip


LOAD, SAVE = _moves()
MOVES = 17


def variants(row: Row, rng: random.Random) -> Iterator[Variant]:
    """Register and memory shapes, W and L where they matter, random registers."""
    kinds = [code[0] for code in row.operands]
    rm = next((k for k in kinds if k in "WUERM"), None)
    shapes = [] if row.mod == "m" or rm == "M" else [False]
    if rm in ("W", "E", "M") and row.mod != "r":
        shapes.append(True)
    wide = (0, 1) if any(code[1:] == "y" for code in row.operands) else (0,)
    sized = any(code[1:] in ("x", "h") for code in row.operands)
    for memory in shapes:
        for w in wide if row.wide is None else (row.wide,):
            for length in ((0, 1) if sized else (0,)) if row.length is None else (row.length,):
                yield Variant(row, _encode(row, rng, memory, w, length), memory)


def _encode(row: Row, rng: random.Random, memory: bool, wide: int, length: int) -> bytes:
    reg, rm, vvvv, tail = row.reg or 0, 0, 0, b""
    index = None
    numbers: list[int] = []
    for code in row.operands:
        kind = code[0]
        number = _register(kind, rng)
        if "vsib" in row.attrs:  # the three must differ
            number = rng.choice([n for n in range(16) if n not in numbers])
            numbers.append(number)
        if kind in "VG":
            reg = number
        elif kind in "WUERM":
            rm = RBX if memory else number
            index = number if "vsib" in row.attrs else None
        elif kind in "HB":
            vvvv = number
        elif kind == "L":
            tail += bytes([number << 4])
        elif code == "Ib":
            tail += bytes([rng.randrange(256)])
    if row.mod == "r" and row.rm is not None:
        rm = row.rm
    code = vex(_PREFIX[row.prefix or "np"], _MAP[row.opcode[:-1]], row.opcode[-1], reg=reg, rm=rm,
               vvvv=vvvv, wide=wide, length=length, memory=memory, index=index)  # fmt: skip
    has_modrm = row.reg is not None or any(c[0] in "VGWUERMHB" for c in row.operands)
    return (code if has_modrm else code[:-1]) + tail


def _register(kind: str, rng: random.Random) -> int:
    return rng.choice(sse_cases.GENERAL) if kind in "GERB" else rng.randrange(16)


def data(rng: random.Random, *, indices: bool = False) -> bytes:
    """The scratch memory: operand, the registers to load, MXCSR, zeros for the result.

    With ``indices`` every register has lanes that a gather may use.
    """
    memory = bytearray(0xC00)
    for at in range(0, 0x200, 16):
        memory[at + 0x80:at + 0x90] = sse_cases.vector(rng)
    before = BEFORE - hostcpu.DATA
    registers = b"".join(sse_cases.vector(rng) for _ in range(32))
    if indices:
        registers = b"".join(struct.pack("<q", rng.randrange(-32, 32)) for _ in range(64))
    memory[before:before + 512] = registers
    mxcsr = 0x1F80 | rng.randrange(4) << 13 | rng.choice((0, 0, 0, 0x8000, 0x40, 0x8040))
    mxcsr |= rng.choice((0, 0, rng.randrange(0x40)))
    memory[before + MXCSR:before + MXCSR + 4] = struct.pack("<I", mxcsr)
    return bytes(memory)
