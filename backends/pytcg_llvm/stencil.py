"""Functions with holes, compiled: machine code, and where in it which value has to be put.

A hole is a symbol whose address is the value. What LLVM makes of it (an immediate, a displacement)
is left for us by the object's relocations.
"""

from __future__ import annotations

import functools
import re
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import llvmlite.binding as llvm

from pytcg.ir.blocks import Function
from pytcg_llvm.emit import emit_module
from pytcg_llvm.host import optimised_guest_code

_RANGES = {"imm": (-(1 << 31), 1 << 31), "disp": (-(1 << 31), 1 << 31), "shift": (0, 4),
           "insns": (0, 64), "low": (0, 1 << 32)}
"""What values the holes have; the others are offsets into the CPU state."""
_OFFSETS = (0, 1 << 16)
_WIDTHS = {1: 8, 10: 4, 11: 4, 12: 2, 14: 1}  # R_X86_64_64, _32, _32S, _16, _8
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


@functools.cache
def _machine() -> llvm.TargetMachine:
    from pytcg_llvm import host

    target = host.host_target()
    return target.create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=host.host_features(), opt=2, reloc="static",
        codemodel="small", jit=False,
    )  # fmt: skip


def compile_stencils(functions: Iterable[Function]) -> dict[str, Stencil]:
    """Stencils by function; those that need anything but holes are left out."""
    text = _with_ranges(emit_module(functions, features="optsize"))
    image = optimised_guest_code(text, _machine())
    return dict(_stencils(image))


def _with_ranges(text: str) -> str:
    """Tell LLVM what values the holes may have, so that it picks short instructions."""
    rows: list[str] = []

    def declare(match: re.Match[str]) -> str:
        low, high = _RANGES.get(match[1], _OFFSETS)
        rows.append(f"!{{i64 {low}, i64 {high}}}")
        return f"{match[0]}, !absolute_symbol !{len(rows) + 1}"

    names = "a|b|base|index|shift|imm|disp|insns|low"
    text = re.sub(rf"@hole_({names}) = external global i8", declare, text)
    return text + "\n".join(f"!{n} = {row}" for n, row in enumerate(rows, 2)) + "\n"


# Objects (System V gABI, chapter 4) --------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Section:
    kind: int
    at: int
    size: int
    link: int
    info: int


def _sections(image: bytes) -> list[_Section]:
    start, = struct.unpack_from("<Q", image, 40)
    size, count = struct.unpack_from("<HH", image, 58)
    rows = (struct.unpack_from("<IIQQQQII", image, start + n * size) for n in range(count))
    return [_Section(kind, at, length, link, info)
            for _, kind, _, _, at, length, link, info in rows]  # fmt: skip


def _stencils(image: bytes) -> Iterator[tuple[str, Stencil]]:
    sections = _sections(image)
    table = next(s for s in sections if s.kind == 2)
    strings = sections[table.link]
    symbols = []
    for at in range(table.at, table.at + table.size, 24):
        name_at, _, _, index, value, size = struct.unpack_from("<IBBHQQ", image, at)
        start = strings.at + name_at
        name = image[start : image.index(0, start)].decode()
        symbols.append((name, index, value, size))
    relocations: dict[int, list[tuple[int, int, int, int]]] = {}
    for section in sections:
        if section.kind == 4:  # SHT_RELA
            for at in range(section.at, section.at + section.size, 24):
                place, info, addend = struct.unpack_from("<QQq", image, at)
                row = (place, info & 0xFFFF_FFFF, info >> 32, addend)
                relocations.setdefault(section.info, []).append(row)
    for name, index, value, size in symbols:
        if index in relocations and size and name:
            body = image[sections[index].at + value : sections[index].at + value + size]
            rows = [r for r in relocations[index] if value <= r[0] < value + size]
            made = _stencil(body, [(place - value, kind, symbols[symbol][0], addend)
                                   for place, kind, symbol, addend in rows])  # fmt: skip
            if made is not None:
                yield name, made


def _stencil(code: bytes, rows: list[tuple[int, int, str, int]]) -> Stencil | None:
    patches = []
    for place, kind, symbol, addend in rows:
        if not symbol.startswith("hole_") or (kind not in _WIDTHS and kind not in _RELATIVE):
            return None
        patches.append(Patch(place, _WIDTHS.get(kind, 0), symbol[5:], addend))
    holes = frozenset(patch.hole for patch in patches)
    behind = next((name for name in ("next", "fall", "taken") if name in holes), "")
    last = max(patches, key=lambda patch: patch.place, default=None)
    if (last is not None and last.hole == behind and last.place == len(code) - 4
            and code[-_JUMP] == _JMP):  # fmt: skip
        code = code[:-_JUMP]  # it falls into what follows
        patches.remove(last)
    return Stencil(code, tuple(patches), holes)
