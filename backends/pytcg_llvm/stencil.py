"""Functions with holes, compiled: machine code, and where in it which value has to be put.

A hole is a symbol whose address is the value. What LLVM makes of it (an immediate, a displacement)
is left for us by the object's relocations.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache

from capstone import CS_ARCH_X86, CS_GRP_BRANCH_RELATIVE, CS_MODE_64, Cs, CsInsn

from pytcg.exec.layout import NEAR
from pytcg.ir.blocks import Function
from pytcg_llvm.elf import Elf, Relocation
from pytcg_llvm.emit import emit_module
from pytcg_llvm.host import compile_guest_code

_BYTE = (-NEAR, NEAR)
_OFFSET, _SIGNED = (-NEAR, 1 << 15), (-(1 << 31), 1 << 31)
_RANGES = {"a": _OFFSET, "b": _OFFSET, "base": _BYTE, "index": _BYTE,
           "near_a": _BYTE, "near_b": _BYTE, "imm": _SIGNED, "disp": _SIGNED,
           "low": (0, 1 << 32), "shift": (0, 4), "insns": (0, 64),
           "count": (0, 1 << 31), "length": _BYTE}  # fmt: skip
"""What values the holes for values may have."""
_WIDE = re.compile("getelementptr i8, ptr @(hole_(?:pc|far)), i64 0")
"""Holes of 64 bits, which LLVM would take for addresses of 32."""
_WIDTHS = {1: 8, 10: 4, 11: 4, 12: 2, 14: 1}  # R_X86_64_64, _32, _32S, _16, _8
_NEAR = ("near_a", "near_b", "base", "index", "length")
"""Holes that fit a byte: offsets of general registers among them."""
_SIB, _DISP32, _EVEX = 4, 2, 0x62
"""ModRM's r/m that means a SIB byte, its mod that means four bytes; a prefix that scales one."""
_RELATIVE = (2, 4)  # R_X86_64_PC32, _PLT32
_JUMP, _JMP = 5, 0xE9
"""Bytes of a jump with a 32-bit displacement, and its opcode."""


@dataclass(frozen=True, slots=True)
class Patch:
    """A place in a stencil that gets ``hole``'s value + ``addend``, as ``width`` bytes.

    Width 0 stands for 4 bytes that count from the place.
    """

    place: int
    width: int
    hole: str
    addend: int


@dataclass(frozen=True, slots=True)
class Stencil:
    """Machine code and its holes.

    What follows is the next record's code, or the exits to a branch's successors: the one that
    falls through, then the one taken. If the code ends with a jump there, it is left out.
    """

    code: bytes
    patches: tuple[Patch, ...]
    holes: frozenset[str]  # all there were


def compile_stencils(functions: Iterable[Function]) -> dict[str, Stencil]:
    """Stencils by function; those that need anything but holes are left out."""
    text = _with_ranges(emit_module(functions, features="optsize"))
    return dict(_stencils(Elf(compile_guest_code(text, "static"))))


def _with_ranges(text: str) -> str:
    """Tell LLVM what values the holes may have, so that it picks short instructions."""
    rows: list[str] = []

    def declare(match: re.Match[str]) -> str:
        low, high = _RANGES[match[1]]
        rows.append(f"!{{i64 {low}, i64 {high}}}")
        return f"{match[0]}, !absolute_symbol !{len(rows) + 1}"

    text = _WIDE.sub(r'call ptr asm "movabsq $$\1, $0", "=r"()', text)
    text = re.sub(rf"@hole_({'|'.join(_RANGES)}) = external dso_local global i8", declare, text)
    return text + "\n".join(f"!{n} = {row}" for n, row in enumerate(rows, 2)) + "\n"


def _stencils(image: Elf) -> Iterator[tuple[str, Stencil]]:
    symbols = image.symbols()
    by_section: dict[int, list[Relocation]] = {}
    for row in image.relocations():
        by_section.setdefault(row.section, []).append(row)
    for symbol in symbols:
        if symbol.section in by_section and symbol.size and symbol.name:
            rows = [(row.place - symbol.value, row.kind, symbols[row.symbol].name, row.addend)
                    for row in by_section[symbol.section]
                    if 0 <= row.place - symbol.value < symbol.size]  # fmt: skip
            made = _stencil(image.code(symbol), rows)
            if made is not None:
                yield symbol.name, made


def _stencil(code: bytes, rows: list[tuple[int, int, str, int]]) -> Stencil | None:
    patches = []
    for place, kind, symbol, addend in rows:
        if not symbol.startswith("hole_") or (kind not in _WIDTHS and kind not in _RELATIVE):
            return None
        if kind in _RELATIVE and symbol[5:] in _RANGES:
            return None  # a value that LLVM takes for an address nearby
        patches.append(Patch(place, _WIDTHS.get(kind, 0), symbol[5:], addend))
    holes = frozenset(patch.hole for patch in patches)
    behind = next((name for name in ("next", "fall", "taken") if name in holes), "")
    last = max(patches, key=lambda patch: patch.place, default=None)
    if (last is not None and last.hole == behind and last.place == len(code) - 4
            and code[-_JUMP] == _JMP):  # fmt: skip
        code = code[:-_JUMP]  # it falls into what follows
        patches.remove(last)
    return Stencil(*_shortened(code, patches), holes)


def _shortened(code: bytes, patches: list[Patch]) -> tuple[bytes, tuple[Patch, ...]]:
    """The same with displacements of one byte, where LLVM leaves four for a hole that needs one."""
    near = {patch.place for patch in patches if patch.width == 4 and patch.hole in _NEAR}
    insns = list(_disassembler().disasm(code, 0))
    made, moved = bytearray(), {len(code): 0}
    short: set[int] = set()
    for insn in insns:
        at, body = insn.address, bytes(insn.bytes)
        place = insn.disp_offset
        moved[at] = len(made)
        if at + place in near and body[0] != _EVEX:
            modrm = place - 1 - (insn.modrm & 7 == _SIB)
            assert body[modrm] == insn.modrm and body[modrm] >> 6 == _DISP32
            body = (body[:modrm] + bytes([body[modrm] - 0x40]) + body[modrm + 1 : place + 1]
                    + body[place + 4 :])  # fmt: skip
            short.add(at + place)
        made += body
    moved[len(code)] = len(made)
    outside = {patch.place for patch in patches}
    for insn in insns:
        _retarget(insn, made, moved, outside)
    starts = [insn.address for insn in insns]
    return bytes(made), tuple(_moved(patch, starts, moved, short) for patch in patches)


def _retarget(insn: CsInsn, made: bytearray, moved: dict[int, int], outside: set[int]) -> None:
    """Mend a jump within a stencil."""
    if not insn.group(CS_GRP_BRANCH_RELATIVE) or insn.address + insn.imm_offset in outside:
        return
    target = moved[insn.operands[0].imm]
    end = moved[insn.address] + insn.size
    place = moved[insn.address] + insn.imm_offset
    made[place:end] = (target - end).to_bytes(insn.imm_size, "little", signed=True)


def _moved(patch: Patch, starts: list[int], moved: dict[int, int], short: set[int]) -> Patch:
    """A patch where its instruction is now; behind a displacement of its own it comes earlier."""
    start = starts[bisect_right(starts, patch.place) - 1]
    earlier = 3 * sum(start <= place < patch.place for place in short)
    return replace(patch, place=patch.place - start + moved[start] - earlier,
                   width=1 if patch.place in short else patch.width)  # fmt: skip


@cache
def _disassembler() -> Cs:
    made = Cs(CS_ARCH_X86, CS_MODE_64)
    made.detail = True
    return made
