"""SSE4a (APM vol. 4): EXTRQ INSERTQ MOVNTSS MOVNTSD."""

from __future__ import annotations

from pytcg.ir.blocks import Value
from pytcg.ir.ops import Type
from pytcg_x86.core.translate import Operand, Translator
from pytcg_x86.decode.table import lower, rows
from pytcg_x86.vector.operands import immediate, lane

UNDEFINED: dict[str, str] = {}

rows("""
66:0f.78/0/r EXTRQI   Ux,Ib,Ib    sse ?sse4a
66:0f.79/r   EXTRQ    Vx,Ux       sse ?sse4a
f2:0f.78/r   INSERTQI Vx,Ux,Ib,Ib sse ?sse4a
f2:0f.79/r   INSERTQ  Vx,Ux       sse ?sse4a
f3:0f.2b/m   MOVNTSS  Md,Vd       sse ?sse4a
f2:0f.2b/m   MOVNTSD  Mq,Vq       sse ?sse4a
""")


def _field_mask(t: Translator, length: Value) -> Value:
    """``length`` ones (i64); 0 is all 64."""
    length = length & 63
    ones = (t.const(1, 64) << length) - 1
    return t.b.select(length.eq(0), t.const((1 << 64) - 1, 64), ones)


def extracted(t: Translator, value: Value, length: Value, at: Value) -> Value:
    """``length`` bits of ``value`` (i64) from bit ``at`` on."""
    return (value >> (at & 63)) & _field_mask(t, length)


def inserted(t: Translator, a: Value, b: Value, length: Value, at: Value) -> Value:
    """``a`` with the low ``length`` bits of ``b`` put in at bit ``at`` (all i64)."""
    mask = _field_mask(t, length)
    return (a & ~(mask << (at & 63))) | ((b & mask) << (at & 63))


def _write(t: Translator, dst: Operand, low: Value) -> None:
    """The low quadword; what becomes of the high one is undefined, and here it is 0."""
    t.write(dst, low.zext(Type.I128))


@lower("EXTRQI", dst="raw")
def extrqi(t: Translator, dst: Operand, length: Operand, at: Operand) -> None:
    """EXTRQ with the field in immediates."""
    numbers = (immediate(t.read(op)) for op in (length, at))
    _write(t, dst, extracted(t, lane(t, t.read(dst), 0, 64), *numbers))


@lower("EXTRQ", dst="raw")
def extrq(t: Translator, dst: Operand, src: Operand) -> None:
    """EXTRQ with length and place in SRC's two low bytes."""
    field = lane(t, t.read(src), 0, 64)
    _write(t, dst, extracted(t, lane(t, t.read(dst), 0, 64), field, field >> 8))


@lower("INSERTQI", dst="raw")
def insertqi(t: Translator, dst: Operand, src: Operand, length: Operand, at: Operand) -> None:
    """INSERTQ with the field in immediates."""
    a, b = (lane(t, t.read(op), 0, 64) for op in (dst, src))
    _write(t, dst, inserted(t, a, b, *(immediate(t.read(op)) for op in (length, at))))


@lower("INSERTQ", dst="raw")
def insertq(t: Translator, dst: Operand, src: Operand) -> None:
    """INSERTQ with length and place in bytes 8 and 9 of SRC."""
    source = t.read(src)
    field = lane(t, source, 1, 64)
    result = inserted(t, lane(t, t.read(dst), 0, 64), lane(t, source, 0, 64), field, field >> 8)
    _write(t, dst, result)


@lower("MOVNTSS", "MOVNTSD", dst="w")
def movntss(t: Translator, src: Value) -> Value:
    """A scalar to memory past the caches."""
    return src
