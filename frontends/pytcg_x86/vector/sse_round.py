"""SSE4.1's ROUNDPS, ROUNDPD, ROUNDSS, ROUNDSD."""

from __future__ import annotations

from collections.abc import Callable

from pytcg.ir.blocks import Value
from pytcg.ir.ops import Type
from pytcg_x86.core.translate import Translator
from pytcg_x86.decode.table import lower, rows
from pytcg_x86.vector.operands import bits_of, converted, immediate, xm_check

UNDEFINED: dict[str, str] = {}

rows("""
66:0f.3a.08 ROUNDPS   Vx,Wx,Ib   sse ?sse4.1
66:0f.3a.09 ROUNDPD   Vx,Wx,Ib   sse ?sse4.1
66:0f.3a.0a ROUNDSS   Vd,Wd,Ib   sse ?sse4.1
66:0f.3a.0b ROUNDSD   Vq,Wq,Ib   sse ?sse4.1
""")

_MODES = (*range(5), *range(8, 13))
"""Bits 1:0 round to nearest, down, up, toward zero; 4 takes MXCSR's mode; 8 sets no PE."""


def by_mode(t: Translator, control: Value, type_: Type, rounded: Callable[[int], Value]) -> Value:
    """The value ``rounded`` makes for the mode that an immediate names when the code runs."""
    b = t.b
    result, after = b.local(type_, "rounded"), b.new_block("rounded")
    blocks = {mode: b.new_block(f"mode{mode}_") for mode in _MODES}
    cases = [(n, blocks[n & ~3 if n & 4 else n]) for n in range(16)]
    b.switch(control & 15, cases[1:], cases[0][1])
    for mode, block in blocks.items():
        b.place(block)
        b.set(result, rounded(mode))
        b.br(after)
    b.place(after)
    return b.get(result)


def round_vector(t: Translator, source: Value, control: Value, bits: int) -> Value:
    """Every lane to a whole number (SDM vol. 2B, ROUNDPS)."""
    return by_mode(t, control, source.type,
                   lambda mode: t.b.op("vfround", source, lane=bits, mode=mode))  # fmt: skip


def round_scalar(t: Translator, value: Value, control: Value) -> Value:
    """One float, as its bits, to a whole number (SDM vol. 2B, ROUNDSS)."""
    number = value.bitcast(Type.F32 if value.bits == 32 else Type.F64)
    return by_mode(t, control, value.type,
                   lambda mode: bits_of(t.b.op("fround", number, mode=mode)))  # fmt: skip


def _rounding(suffix: str, bits: int) -> None:
    @converted(f"ROUNDP{suffix}")
    def vector(t: Translator, source: Value, control: Value) -> Value:
        result = round_vector(t, source, control, bits)
        xm_check(t)
        return result

    @lower(f"ROUNDS{suffix}", dst="w")
    def scalar(t: Translator, source: Value, control: Value) -> Value:
        result = round_scalar(t, source, immediate(control))
        xm_check(t)
        return result


_rounding("S", 32)
_rounding("D", 64)
