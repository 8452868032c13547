"""SSE3's and SSSE3's packed integers and moves; MMX and SSE by one lowering, as in `sse_int`."""

from __future__ import annotations

from pytcg.ir.blocks import Value
from pytcg.ir.ops import Type
from pytcg_x86.core.translate import Operand, Translator
from pytcg_x86.decode.table import lower, rows
from pytcg_x86.vector.operands import (
    converted,
    immediate,
    mmx_state,
    packed,
    read_vector,
    splat,
    write_vector,
)

UNDEFINED: dict[str, str] = {}

_BOTH = {
    "00": "PSHUFB", "01": "PHADDW", "02": "PHADDD", "03": "PHADDSW", "04": "PMADDUBSW",
    "05": "PHSUBW", "06": "PHSUBD", "07": "PHSUBSW", "08": "PSIGNB", "09": "PSIGNW",
    "0a": "PSIGND", "0b": "PMULHRSW", "1c": "PABSB", "1d": "PABSW", "1e": "PABSD",
}  # fmt: skip

for _opcode, _mnemonic in _BOTH.items():
    rows(f"np:0f.38.{_opcode} {_mnemonic} Pq,Qq mmx ?ssse3\n"
         f"66:0f.38.{_opcode} {_mnemonic} Vx,Wx sse ?ssse3")  # fmt: skip

rows("""
np:0f.3a.0f PALIGNR   Pq,Qq,Ib   mmx ?ssse3
66:0f.3a.0f PALIGNR   Vx,Wx,Ib   sse ?ssse3
f3:0f.12    MOVSLDUP  Vx,Wx      sse ?sse3
f3:0f.16    MOVSHDUP  Vx,Wx      sse ?sse3
f2:0f.12    MOVDDUP   Vx,Wq      sse ?sse3
f2:0f.f0/m  LDDQU     Vx,Mx      sse ?sse3
""")


# Moves -----------------------------------------------------------------------------------------


def _duplicate(mnemonic: str, bits: int, order: tuple[int, ...]) -> None:
    @converted(mnemonic)
    def meaning(t: Translator, source: Value) -> Value:
        return t.b.op("vshuffle", source, source, lane=bits, order=order)


_duplicate("MOVSLDUP", 32, (0, 0, 2, 2))
_duplicate("MOVSHDUP", 32, (1, 1, 3, 3))
_duplicate("MOVDDUP", 64, (0, 0))


# Bytes in any order ----------------------------------------------------------------------------


@lower("PSHUFB", dst="raw")
def pshufb(t: Translator, dst: Operand, src: Operand) -> None:
    """Bytes of DEST chosen by SRC's low bits, zero where its sign is set (SDM vol. 2B)."""
    with mmx_state(t, dst, src):
        a, order = t.read(dst).zext(Type.I128), read_vector(t, src)
        if dst.kind == "mmx":
            order = order & int("87" * 8, 16)
        write_vector(t, dst, t.b.op("vpshufb", a, order, lane=8))


def align_right(t: Translator, high: Value, low: Value, count: Value) -> Value:
    """Bytes ``count`` (i64) and on of high:low, zeros beyond.

    An index that a source hasn't gets its sign by saturation: n + 70H is negative from 16 on.
    """
    op = t.b.op
    if count.const is not None:
        shift, zero = min(count.const, 32), t.const(0, 128)
        if shift <= 16:
            return op("vshuffle", low, high, lane=8, order=tuple(range(shift, shift + 16)))
        return op("vshuffle", high, zero, lane=8, order=tuple(range(shift - 16, shift)))
    numbers = t.const(int.from_bytes(bytes(range(16)), "little"), 128)
    beyond, length = (t.const(int(f"{n:02x}" * 16, 16), 128) for n in (0x70, 16))
    index = op("vaddus", numbers, splat(t, count, 8), lane=8)
    first = op("vpshufb", low, op("vaddus", index, beyond, lane=8), lane=8)
    index = op("vsub", index, length, lane=8)
    return first | op("vpshufb", high, op("vaddus", index, beyond, lane=8), lane=8)


@lower("PALIGNR", dst="raw")
def palignr(t: Translator, dst: Operand, src: Operand, count: Operand) -> None:
    """Bytes of DEST:SRC from an immediate one on (SDM vol. 2B)."""
    with mmx_state(t, dst, src):
        a, b = t.read(dst).zext(Type.I128), read_vector(t, src)
        number = immediate(t.read(count))
        if dst.kind == "mmx":
            joined = b | a << 64
            result = align_right(t, t.const(0, 128), joined, number)
        else:
            result = align_right(t, a, b, number)
        write_vector(t, dst, result)


# Horizontal sums -------------------------------------------------------------------------------


def even_and_odd(t: Translator, a: Value, b: Value, bits: int) -> tuple[Value, Value]:
    """The even lanes of a and b, and the odd ones."""
    count = 256 // bits
    evens, odds = (t.b.op("vshuffle", a, b, lane=bits, order=tuple(range(first, count, 2)))
                   for first in (0, 1))  # fmt: skip
    return evens, odds


def _horizontal(mnemonic: str, op: str, bits: int) -> None:
    """DEST's neighbours added or subtracted, then SRC's (SDM vol. 2B, PHADDW)."""

    @lower(mnemonic, dst="raw")
    def lowering(t: Translator, dst: Operand, src: Operand) -> None:
        with mmx_state(t, dst, src):
            a, b = t.read(dst).zext(Type.I128), read_vector(t, src)
            if dst.kind == "mmx":
                a = b = a | b << 64
            write_vector(t, dst, t.b.op(op, *even_and_odd(t, a, b, bits), lane=bits))


for _mnemonic, _name, _lane in (
    ("PHADDW", "vadd", 16), ("PHADDD", "vadd", 32), ("PHADDSW", "vadds", 16),
    ("PHSUBW", "vsub", 16), ("PHSUBD", "vsub", 32), ("PHSUBSW", "vsubs", 16),
):  # fmt: skip
    _horizontal(_mnemonic, _name, _lane)


# Lane by lane ----------------------------------------------------------------------------------


@packed("PMADDUBSW")
def pmaddubsw(t: Translator, a: Value, b: Value) -> Value:
    """DEST's unsigned bytes times SRC's signed ones, added in pairs, saturated (SDM vol. 2B)."""
    op, eight = t.b.op, t.const(8, 64)
    even = op("vmul", a & int("00ff" * 8, 16),
              op("vashr", op("vshl", b, eight, lane=16), eight, lane=16), lane=16)  # fmt: skip
    odd = op("vmul", op("vlshr", a, eight, lane=16), op("vashr", b, eight, lane=16), lane=16)
    return op("vadds", even, odd, lane=16)


@packed("PMULHRSW")
def pmulhrsw(t: Translator, a: Value, b: Value) -> Value:
    """Words' products, scaled and rounded (SDM vol. 2B)."""
    return t.b.op("vmulhrs", a, b, lane=16)


def _sign(mnemonic: str, bits: int) -> None:
    @packed(mnemonic)
    def meaning(t: Translator, a: Value, b: Value) -> Value:
        """DEST negated where SRC is negative, 0 where it is 0 (SDM vol. 2B)."""
        op, zero = t.b.op, t.const(0, 128)
        negative = op("vgt", zero, b, lane=bits)
        return op("vsub", a ^ negative, negative, lane=bits) & ~op("veq", b, zero, lane=bits)


def _absolute(mnemonic: str, bits: int) -> None:
    @converted(mnemonic)
    def meaning(t: Translator, source: Value) -> Value:
        negated = t.b.op("vsub", t.const(0, 128), source, lane=bits)
        return t.b.op("vmaxs", source, negated, lane=bits)


for _suffix, _lane in (("B", 8), ("W", 16), ("D", 32)):
    _sign(f"PSIGN{_suffix}", _lane)
    _absolute(f"PABS{_suffix}", _lane)
