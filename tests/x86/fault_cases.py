"""Every row with a memory operand, its operand where a page is missing or can't be written.

The pages of `hostcpu`'s data, in order, are `PAGES`: w can be written, r only read, - is missing.
The same cases run on the host CPU (`fault_host.py`) and on the engines.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Iterator
from dataclasses import dataclass, field

from pytcg.fuzz import hostcpu
from pytcg_x86.decode.opcodes import opcodes
from pytcg_x86.decode.table import Row
from x86 import vex_cases

PAGE = hostcpu.PAGE
PAGES = "w-wrwr-w"
RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI = range(8)
SIZES = {"b": 1, "w": 2, "d": 4, "q": 8, "x": 16, "o": 16, "s": 1, "h": 8}
FREE = (RAX, RCX, RDX, 8, 9, 12)  # what else an operand may be
NO_ACCESS = {"LEA", "NOP", "PREFETCH", "PREFETCHW", "UD0", "UD1"}
UMIP = {"SLDT", "STR", "SMSW", "SGDT", "SIDT"}
"""#GP at level 3 with CR4.UMIP, which is the host system's affair."""
MAY_LEAVE = {"RET", "RETI", "RETF", "IRET", "CALLI", "JMPI", "CALLF", "JMPF", "CALL", "POPF",
             "POP_FS", "POP_GS", "MOV_TO_SREG", "LSS", "LFS", "LGS", "XRSTOR", "FXRSTOR",
             "FLDENV", "FRSTOR", "FLDCW", "LDMXCSR", "VLDMXCSR", "LEAVE", "ENTER"}  # fmt: skip
"""Where what is loaded could end the process: only cases that surely fault."""
STACK = {"PUSH", "PUSHF", "POP", "POPF", "ENTER", "LEAVE", "CALL", "CALLI", "RET", "RETI", "RETF",
         "IRET", "PUSH_FS", "PUSH_GS", "POP_FS", "POP_GS", "CALLF"}  # fmt: skip
IMPLICIT = {"MASKMOVDQU": RDI, "MASKMOVQ": RDI, "VMASKMOVDQU": RDI, "CLZERO": RAX}
_PREFIX = {"np": b"", None: b"", "66": b"\x66", "f3": b"\xf3", "f2": b"\xf2"}


@dataclass(frozen=True, slots=True)
class FaultCase:
    """One instruction and the registers it starts from; ``lanes`` are all vector registers'."""

    row: Row
    code: bytes
    regs: tuple[int, ...]
    flags: int
    lanes: int
    what: str = field(default="", compare=False)

    def __str__(self) -> str:
        return f"{self.row} {self.code.hex()} {self.what}"


def page(number: int) -> int:
    return hostcpu.DATA + number * PAGE


def places(sizes: tuple[int, ...], *, surely: bool) -> Iterator[tuple[str, int]]:
    """Addresses for an operand of one of these sizes, with names."""
    yield "missing", page(1) + 0x140
    yield "non-canonical", 0x8000_0000_0000_0140
    if surely:
        sizes = (2,) if sizes[0] > 1 else ()
    else:
        yield "read-only", page(3) + 0x140
    for number in range(1, len(PAGES)):
        before, after = PAGES[number - 1 : number + 1]
        if surely and after != "-":
            continue
        for size in sizes:
            for inside in {1, size // 2, size - 1} - {0}:
                yield f"{before}{after} {inside} of {size}", page(number) - inside


# Encodings -------------------------------------------------------------------------------------


@dataclass(slots=True)
class Shape:
    """An encoding, the registers that address memory, and the operand's possible sizes."""

    row: Row
    code: bytes
    pointers: tuple[tuple[int, ...], ...]
    sizes: tuple[int, ...]
    rep: bool = False


def rows() -> list[Row]:
    """Of the whole table, what 64-bit code at level 3 may run here and touches memory."""
    return [row for row in opcodes().rows[2:]
            if not row.attrs & {"i64", "cpl0"} and hostcpu.has_row(row)
            and row.mnemonic not in NO_ACCESS | UMIP
            and ((row.mod != "r" and any(code[0] in "EMXYOWQ" for code in row.operands))
                 or row.mnemonic in STACK or row.mnemonic in IMPLICIT)]  # fmt: skip


def shapes(row: Row, rng: random.Random) -> Iterator[Shape]:
    if row.vex:
        for variant in vex_cases.variants(row, rng):
            if variant.memory or row.mnemonic in IMPLICIT:
                size = 32 if variant.code[2] & 4 else 16
                pointer = IMPLICIT.get(row.mnemonic, RBX)
                yield Shape(row, variant.code, ((pointer,),), _sizes(row, size))
        return
    memory = next((code for code in row.operands if code[0] in "EMWQ" and row.mod != "r"), "")
    for size in _operand_sizes(row):
        code = _encode(row, size, rng, memory=bool(memory))
        sized = _sizes(row, size // 8)
        if any(code[0] in "XY" for code in row.operands):
            yield from _strings(row, code, sized)
        elif any(code[0] == "O" for code in row.operands):
            yield Shape(row, code, ((),), sized)
        elif row.mnemonic in IMPLICIT:
            yield Shape(row, code, ((IMPLICIT[row.mnemonic],),), (8, 16, 64))
        else:
            if memory:
                yield Shape(row, code, ((RBX,),), sized)
            if row.mnemonic in STACK:
                yield Shape(row, code, ((RBP,) if row.mnemonic == "LEAVE" else (RSP,),), (8,))


def _strings(row: Row, code: bytes, sizes: tuple[int, ...]) -> Iterator[Shape]:
    pointers: tuple[tuple[int, ...], ...] = ((RSI,), (RDI,), (RSI, RDI))
    used = {RSI: "X", RDI: "Y"}
    kinds = "".join(operand[0] for operand in row.operands)
    chosen = tuple(p for p in pointers if all(used[r] in kinds for r in p))
    if row.mnemonic == "XLAT":
        chosen = ((RBX,),)
    for prefix in (b"", b"\xf3", b"\xf2") if "rep" in row.attrs else (b"",):
        yield Shape(row, prefix + code, chosen, sizes, bool(prefix))


def _operand_sizes(row: Row) -> tuple[int, ...]:
    if row.prefix == "66" or "nosize" in row.attrs or row.mnemonic in IMPLICIT:
        return (32,)
    if "f64" in row.attrs:
        return (64,)  # what 66h does to near branches differs from maker to maker
    if any(code[-1] in "vz" or code == "rAX" for code in row.operands) or "d64" in row.attrs:
        sizes = (16, 64) if "d64" in row.attrs else (16, 32, 64)
        return sizes if row.prefix != "np" else tuple(s for s in sizes if s != 16)
    if any(code[-1] in "yp" for code in row.operands) or row.mnemonic in ("RETF", "IRET", "ENTER"):
        return (32, 64)
    return (32,)


def _sizes(row: Row, size: int) -> tuple[int, ...]:
    if row.mnemonic.startswith("CMPXCHG8B"):
        return (2 * size,)
    kind = next((code for code in row.operands if code[0] in "EMWQXYO"), "")
    if kind == "M" or (row.opcode[0] & 0xF8) == 0xD8:
        return (2, 4, 8, 10, 16, 28, 64, 108, 256, 512, 576, 832)
    letter = kind[1:]
    if letter == "p":
        return (size + 2,)
    if letter in ("x", "h") and row.vex:
        return (size if letter == "x" else size // 2,)
    return (SIZES.get(letter, size),)


def _encode(row: Row, size: int, rng: random.Random, *, memory: bool) -> bytes:
    opcode = bytearray(row.opcode)
    if row.plus:
        opcode[-1] |= rng.choice((RCX, RDX))
    wide = size == 64 and not {"d64", "f64"} & row.attrs
    out = (b"\x66" if size == 16 else b"") + _PREFIX[row.prefix] + (b"\x48" if wide else b"")
    out += bytes(opcode)
    reg = row.reg
    if any(code[0] in "GVPS" for code in row.operands):
        reg = rng.choice((0, 3, 5)) if any(c[0] == "S" for c in row.operands) else RDX
    if memory:
        out += bytes([(reg or 0) << 3 | RBX])
    elif reg is not None or row.mod == "r":
        out += bytes([0xC0 | (reg or 0) << 3 | (RCX if row.rm is None else row.rm)])
    for code in row.operands:
        length = {"Ib": 1, "Is": 1, "Iw": 2, "Jz": 4}.get(code, min(size, 32) // 8)
        if code[0] == "O":
            out += bytes(8)  # `cases` puts the address here
        elif code[0] in "IJ":
            out += bytes([rng.choice((1, 2, 3))]) + bytes(length - 1)
    return out


# Cases -----------------------------------------------------------------------------------------


def cases(row: Row) -> Iterator[FaultCase]:
    """All cases of a row."""
    rng = random.Random(f"{row} {row.operands}")
    surely = row.mnemonic in MAY_LEAVE
    for shape in shapes(row, rng):
        for pointers in shape.pointers:
            for what, address in places(shape.sizes, surely=surely):
                yield from _placed(shape, pointers, what, address, rng)


def _placed(shape: Shape, pointers: tuple[int, ...], what: str, address: int,
            rng: random.Random) -> Iterator[FaultCase]:  # fmt: skip
    row, code = shape.row, shape.code
    regs = [rng.getrandbits(64) for _ in range(16)]
    regs[RSP] = hostcpu.STACK
    regs[RSI] = regs[RDI] = page(2) + 0x400
    regs[RBX] = page(2) + 0x800
    regs[RAX], regs[RCX], regs[RDX] = 7, 5, 3
    if row.mnemonic == "XLAT":
        regs[RAX] = 0
    for number in pointers:
        regs[number] = address
    pushes = row.mnemonic.startswith(("PUSH", "CALL", "ENTER"))
    if RSP in pointers and pushes:
        regs[RSP] = address + (8 if address < 1 << 63 else 0)
    if any(operand[0] == "O" for operand in row.operands):
        code = code[:-8] + address.to_bytes(8, "little")
    flags = 0x202 | rng.getrandbits(12) & 0x8D5
    for direction in (0, 0x400) if shape.rep else (0,):
        # All lanes' masks set, those of every other, none.
        for kind in _lanes(row):
            yield FaultCase(row, code, tuple(regs), flags | direction, kind, what)


def _lanes(row: Row) -> tuple[int, ...]:
    """The kinds of `lanes` that make a difference."""
    if "vsib" in row.attrs:
        return (0, 3 if "GATHERQ" in row.mnemonic else 1)
    return (0, 1, 2) if "MASKMOV" in row.mnemonic else (0,)


@functools.cache
def lanes(kind: int, number: int) -> int:
    """What YMM register ``number`` begins as: ones (0), zeros (2), or small numbers of 32 (1) or
    64 (3) bits: masks with half of their lanes chosen, indices near 0."""
    rng, bits = random.Random(number * 4 + kind), 32 if kind == 1 else 64
    if kind in (0, 2):
        return (1 << 256) - 1 if kind == 0 else 0
    small = (rng.randrange(-64, 64) & (1 << bits) - 1 for _ in range(256 // bits))
    return sum(value << bits * n for n, value in enumerate(small))


@functools.cache
def contents() -> bytes:
    """What all pages hold, those that are missing too."""
    return random.Random(1).randbytes(PAGE * len(PAGES))
