"""Multiplication and division: MUL IMUL DIV IDIV."""

from __future__ import annotations

from pytcg.ir.blocks import Value
from pytcg.ir.ops import INT_OF_BITS, Type
from pytcg_native import clz, likely, native, u64
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


@native
def divide_wide(high: u64, low: u64, divisor: u64) -> u64:
    """The 64-bit quotient of high:low / divisor, where high < divisor.

    Schoolbook division in base 2**32: the divisor is shifted until its top bit is set, then two
    quotient digits are estimated from its upper half and corrected (Knuth vol. 2, 4.3.1 D).
    """
    if likely(high == 0):
        return low // divisor
    shift: u64 = clz(divisor)
    divisor = divisor << shift
    upper: u64 = high << shift
    if shift != 0:
        upper |= low >> (64 - shift)
    low = low << shift
    digit: u64 = quotient_digit(upper, low >> 32, divisor)
    # The partial remainder is smaller than the divisor, so wrapping arithmetic finds it.
    rest: u64 = ((upper << 32) | (low >> 32)) - digit * divisor
    return (digit << 32) | quotient_digit(rest, low & 0xFFFF_FFFF, divisor)


@native
def quotient_digit(upper: u64, next_digit: u64, divisor: u64) -> u64:
    """One base 2**32 digit of (upper:next_digit) / divisor, whose top bit is set."""
    top: u64 = divisor >> 32
    bottom: u64 = divisor & 0xFFFF_FFFF
    digit: u64 = upper // top
    rest: u64 = upper - digit * top
    while (digit >> 32) != 0 or digit * bottom > ((rest << 32) | next_digit):
        digit -= 1
        rest += top
        if (rest >> 32) != 0:
            break
    return digit


def _no_quotient(t: Translator, condition: Value) -> None:
    t.raise_if(condition, Vector.DE)


@lower("DIV", dst="r")
def div(t: Translator, src: Value) -> None:
    """DIV: rAX := rDX:rAX / SRC, rDX := the remainder; #DE if it does not fit (SDM vol. 2A)."""
    low, high = _pair(t, src.bits)
    lower_half, upper = t.read(low), t.read(high)
    # Covers division by zero too: no upper half is below 0.
    _no_quotient(t, upper.ult(src) ^ 1)
    if src.bits == 64:
        quotient = t.call(divide_wide, upper, lower_half, src)
        assert quotient is not None
        remainder = lower_half - quotient * src
    else:
        double = INT_OF_BITS[2 * src.bits]
        dividend = (upper.zext(double) << src.bits) | lower_half.zext(double)
        quotient = t.b.op("udiv", dividend, src.zext(double)).trunc(src.type)
        remainder = lower_half - quotient * src
    t.write(low, quotient)
    t.write(high, remainder)


def _magnitude(t: Translator, value: Value) -> Value:
    """The absolute value, as an unsigned number of the same width."""
    return t.b.select(value.slt(0), -value, value)


def _unsigned_quotient(t: Translator, upper: Value, lower_half: Value, divisor: Value) -> Value:
    """|rDX:rAX| / |SRC| as i64; #DE if even that does not fit the operand size."""
    if divisor.bits < 64:
        dividend = (upper.sext(Type.I64) << divisor.bits) | lower_half.zext(Type.I64)
        _no_quotient(t, divisor.eq(0))
        magnitude = _magnitude(t, divisor).zext(Type.I64)
        return t.b.op("udiv", _magnitude(t, dividend), magnitude)
    negative = upper.slt(0)
    low = t.b.select(negative, -lower_half, lower_half)
    carry = lower_half.eq(0).zext(Type.I64)
    high = t.b.select(negative, ~upper + carry, upper)
    magnitude = _magnitude(t, divisor)
    _no_quotient(t, high.ult(magnitude) ^ 1)
    quotient = t.call(divide_wide, high, low, magnitude)
    assert quotient is not None
    return quotient


@lower("IDIV", dst="r")
def idiv(t: Translator, src: Value) -> None:
    """IDIV: as DIV, signed, rounding towards 0; the remainder has the dividend's sign."""
    low, high = _pair(t, src.bits)
    lower_half, upper = t.read(low), t.read(high)
    magnitude = _unsigned_quotient(t, upper, lower_half, src)
    negative = upper.slt(0) ^ src.slt(0)
    # -2**(n-1) has a representation, +2**(n-1) has not.
    limit = negative.zext(Type.I64) + ((1 << (src.bits - 1)) - 1)
    _no_quotient(t, magnitude.ugt(limit))
    quotient = t.b.select(negative, -magnitude, magnitude).trunc(src.type)
    remainder = lower_half - quotient * src
    t.write(low, quotient)
    t.write(high, remainder)
