"""Multiplication and division: MUL IMUL DIV IDIV."""

from __future__ import annotations

from pytcg.ir.blocks import Value
from pytcg.ir.ops import Type
from pytcg_x86.core.state import ENV, Vector
from pytcg_x86.core.translate import Operand, Translator
from pytcg_x86.decode.table import lower, rows

UNDEFINED = {"MUL": "SZAP", "IMUL": "SZAP", "IMUL1": "SZAP", "IMUL3": "SZAP", "DIV": "OSZAPC",
             "IDIV": "OSZAPC"}  # fmt: skip

rows("""
f6/4        MUL    Eb
f7/4        MUL    Ev
f6/5        IMUL1  Eb
f7/5        IMUL1  Ev
0f.af       IMUL   Gv,Ev
69          IMUL3  Gv,Ev,Iz
6b          IMUL3  Gv,Ev,Is
f6/6        DIV    Eb
f7/6        DIV    Ev
f6/7        IDIV   Eb
f7/7        IDIV   Ev
""")


def _byte_pair(t: Translator) -> tuple[Operand, Operand]:
    """AL and AH."""
    high = Operand("reg", 8, t.b.ptradd(t.env, ENV.offset("gpr") + 1))
    return t.reg(0, 8), high


def _pair(t: Translator, bits: int) -> tuple[Operand, Operand]:
    """Low and high half of the implied double-width operand: AH:AL or rDX:rAX."""
    return _byte_pair(t) if bits == 8 else (t.reg(0, bits), t.reg(2, bits))


def _multiply_flags(t: Translator, overflow: Value) -> None:
    t.flags.put(cf=overflow, of=overflow)


@lower("MUL", dst="r")
def mul(t: Translator, src: Value) -> None:
    """MUL: rDX:rAX := rAX * SRC; CF = OF = the high half is not 0 (SDM vol. 2B)."""
    low, high = _pair(t, src.bits)
    factor = t.read(low)
    upper = t.b.op("mulhu", factor, src)
    t.write(low, factor * src)
    t.write(high, upper)
    _multiply_flags(t, upper.ne(0))


@lower("IMUL1", dst="r")
def imul1(t: Translator, src: Value) -> None:
    """IMUL, one operand: rDX:rAX := rAX * SRC, signed (SDM vol. 2A)."""
    low, high = _pair(t, src.bits)
    factor = t.read(low)
    product = factor * src
    upper = t.b.op("mulhs", factor, src)
    t.write(low, product)
    t.write(high, upper)
    _multiply_flags(t, upper.ne(product.ashr(src.bits - 1)))


def _signed_product(t: Translator, a: Value, b: Value) -> Value:
    product = a * b
    _multiply_flags(t, t.b.op("mulhs", a, b).ne(product.ashr(a.bits - 1)))
    return product


@lower("IMUL")
def imul(t: Translator, dst: Value, src: Value) -> Value:
    """IMUL, two operands: DEST := DEST * SRC, truncated; CF = OF = truncated (SDM vol. 2A)."""
    return _signed_product(t, dst, src)


@lower("IMUL3", dst="w")
def imul3(t: Translator, src: Value, factor: Value) -> Value:
    """IMUL, three operands: DEST := SRC1 * SRC2 (SDM vol. 2A)."""
    return _signed_product(t, src, factor)


def _no_quotient(t: Translator, condition: Value) -> None:
    t.raise_if(condition, Vector.DE)


@lower("DIV", dst="r")
def div(t: Translator, src: Value) -> None:
    """DIV: rAX := rDX:rAX / SRC, rDX := the remainder; #DE if it does not fit (SDM vol. 2A)."""
    low, high = _pair(t, src.bits)
    lower_half, upper = t.read(low), t.read(high)
    # Covers division by zero too: no upper half is below 0.
    _no_quotient(t, upper.ult(src) ^ 1)
    _divided(t, src, lower_half, _wide_quotient(t, upper, lower_half, src))


def _wide_quotient(t: Translator, upper: Value, lower_half: Value, divisor: Value) -> Value:
    """upper:lower / divisor, where upper < divisor."""
    if divisor.bits > 8:
        return t.b.op("udivw", upper, lower_half, divisor)
    dividend = (upper.zext(Type.I16) << 8) | lower_half.zext(Type.I16)
    return t.b.op("udiv", dividend, divisor.zext(Type.I16)).trunc(Type.I8)


def _divided(t: Translator, src: Value, lower_half: Value, quotient: Value) -> None:
    """Write the quotient, and the remainder that follows from it."""
    low, high = _pair(t, src.bits)
    remainder = lower_half - quotient * src
    t.write(low, quotient)
    t.write(high, remainder)


@lower("IDIV", dst="r")
def idiv(t: Translator, src: Value) -> None:
    """IDIV: as DIV, signed, rounding towards 0; the remainder has the dividend's sign.

    Compilers divide what they have sign-extended: a division of one register's width, which
    overflows by a divisor of 0 or -1 only.
    """
    low, high = _pair(t, src.bits)
    lower_half, upper = t.read(low), t.read(high)
    quotient = t.b.local(src.type, "quotient")
    plain = upper.eq(lower_half.ashr(src.bits - 1)) & (src + 1).ugt(1)
    with t.when(plain, likely=True):
        t.b.set(quotient, t.b.op("sdiv", lower_half, src))
    with t.when(plain ^ 1, likely=False):
        t.b.set(quotient, _signed_wide_quotient(t, upper, lower_half, src))
    _divided(t, src, lower_half, t.b.get(quotient))


def _signed_wide_quotient(t: Translator, upper: Value, lower_half: Value,
                          divisor: Value) -> Value:  # fmt: skip
    """upper:lower / divisor by the magnitudes of both; #DE if it does not fit."""
    negative = upper.slt(0)
    low = t.b.select(negative, -lower_half, lower_half)
    carry = lower_half.eq(0).zext(upper.type)
    high = t.b.select(negative, ~upper + carry, upper)
    magnitude = t.b.select(divisor.slt(0), -divisor, divisor)
    _no_quotient(t, high.ult(magnitude) ^ 1)
    quotient = _wide_quotient(t, high, low, magnitude)
    negative = negative ^ divisor.slt(0)
    # -2**(n-1) has a representation, +2**(n-1) has not.
    limit = negative.zext(divisor.type) + ((1 << (divisor.bits - 1)) - 1)
    _no_quotient(t, quotient.ugt(limit))
    return t.b.select(negative, -quotient, quotient)
