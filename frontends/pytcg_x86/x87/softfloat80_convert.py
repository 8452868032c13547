"""Conversions between the x87's 80-bit numbers and floats, integers and packed decimals."""

from __future__ import annotations

from pytcg_native import clz, i32, native, u32, u64, u128
from pytcg_x86.core.state import Env
from pytcg_x86.x87.softfloat80 import (
    BIAS,
    EXPONENT_MAX,
    INFINITE,
    INTEGER_BIT,
    WAS_DENORMAL,
    Fsw,
    Kind,
    Round,
    fp_denormal,
    fp_raise,
    fp_rounding,
    shift_right_jam,
    x80_exponent,
    x80_invalid,
    x80_kind,
    x80_normal_exponent,
    x80_normal_mantissa,
    x80_pack,
    x80_quieted,
    x80_round_in,
    x80_rounds_up,
    x80_sign,
)

DECIMAL_LIMIT = 10**18
DECIMAL_INDEFINITE = 0xFFFF_C000_0000_0000_0000
BAD_INTEGER = 1 << 65
"""What `x80_to_int` answers when the value fits no 64-bit integer."""


# Floats ----------------------------------------------------------------------------------------


@native
def x80_from_fields(sign: u32, field: u32, fraction: u64, exponent_max: u32, bias: i32) -> u128:
    """An IEEE number from its fields, ``fraction`` aligned to bit 62; keeps an SNaN an SNaN."""
    if field == exponent_max:
        return x80_pack(sign, EXPONENT_MAX, fraction | INTEGER_BIT)
    if field != 0:
        return x80_pack(sign, i32(field) + (BIAS - bias), fraction | INTEGER_BIT)
    if fraction == 0:
        return x80_pack(sign, 0, 0)
    shift: u64 = clz(fraction)
    exponent: i32 = (BIAS + 1) - bias - i32(u32(shift))
    return x80_pack(sign, exponent, fraction << shift) | WAS_DENORMAL


@native
def x80_from_f32(bits: u32) -> u128:
    fraction: u64 = u64(bits & 0x7F_FFFF) << 40
    return x80_from_fields(bits >> 31, (bits >> 23) & 0xFF, fraction, 0xFF, 127)


@native
def x80_from_f64(bits: u64) -> u128:
    fraction: u64 = (bits & 0xF_FFFF_FFFF_FFFF) << 11
    return x80_from_fields(u32(bits >> 63), u32(bits >> 52) & 0x7FF, fraction, 0x7FF, 1023)


@native
def x80_loaded(env: Env, x: u128) -> u128:
    """What FLD m32/m64 pushes: SNaNs become quiet, denormals are signalled."""
    kind: u32 = x80_kind(x)
    if kind == Kind.SNAN:
        return x80_quieted(env, x)
    fp_denormal(env, kind, kind)
    return x & (WAS_DENORMAL - 1)


@native
def x80_to_float(env: Env, x: u128, precision: u32, bias: i32) -> u128:
    """Rounded to a shorter format: an 80-bit number whose exponent is already the format's."""
    kind: u32 = x80_kind(x)
    sign: u32 = x80_sign(x)
    if kind == Kind.ZERO:
        return x80_pack(sign, 0, 0)
    field_max: i32 = bias + bias + 1
    if kind >= Kind.INFINITY:
        special: u128 = x if kind == Kind.INFINITY else x80_quieted(env, x)
        return x80_pack(x80_sign(special), field_max, u64(special))
    significand: u128 = u128(x80_normal_mantissa(x)) << 64
    rounded: u128 = x80_round_in(env, sign, x80_normal_exponent(x), significand, precision,
                                 BIAS + 1 - bias, BIAS + bias)  # fmt: skip
    exponent: i32 = x80_exponent(rounded)
    if exponent == EXPONENT_MAX:
        return x80_pack(sign, field_max, INTEGER_BIT)
    if exponent == 0:
        return rounded
    return x80_pack(sign, exponent - (BIAS - bias), u64(rounded))


@native
def x80_to_f32(env: Env, x: u128) -> u32:
    y: u128 = x80_to_float(env, x, 24, 127)
    fraction: u32 = u32(u64(y) >> 40) & 0x7F_FFFF
    return (x80_sign(y) << 31) | (u32(x80_exponent(y)) << 23) | fraction


@native
def x80_to_f64(env: Env, x: u128) -> u64:
    y: u128 = x80_to_float(env, x, 53, 1023)
    fraction: u64 = (u64(y) >> 11) & 0xF_FFFF_FFFF_FFFF
    return (u64(x80_sign(y)) << 63) | (u64(u32(x80_exponent(y))) << 52) | fraction


# Integers --------------------------------------------------------------------------------------


@native
def x80_from_int(value: u64) -> u128:
    """A signed 64-bit integer; always exact."""
    if value == 0:
        return 0
    sign: u32 = u32(value >> 63)
    magnitude: u64 = -value if sign != 0 else value
    shift: u64 = clz(magnitude)
    return x80_pack(sign, BIAS + 63 - i32(u32(shift)), magnitude << shift)


@native
def x80_integral(x: u128, rounding: u32) -> u128:
    """|x| of a finite x rounded to an integer (below 2**64), bit 64: inexact, 65: too large.

    Bit 66 says that rounding went up in magnitude.
    """
    if u64(x) == 0:
        return 0
    exponent: i32 = x80_normal_exponent(x) - BIAS
    if exponent > 63:
        return BAD_INTEGER
    fixed: u128 = shift_right_jam(u128(x80_normal_mantissa(x)) << 64, u32(63 - exponent))
    kept: u128 = fixed >> 64
    lost: u128 = fixed & ((1 << 64) - 1)
    if lost == 0:
        return kept
    if x80_rounds_up(rounding, x80_sign(x), kept, lost, 1 << 63):
        kept += 1
        if (kept >> 64) != 0:
            return BAD_INTEGER
        return kept | (5 << 64)
    return kept | (1 << 64)


@native
def x80_to_int(env: Env, x: u128, bits: u32, rounding: u32) -> u64:
    """Rounded to a signed integer of ``bits`` bits; invalid gives the integer indefinite."""
    limit: u64 = u64(1) << (bits - 1)
    kind: u32 = x80_kind(x)
    if kind >= Kind.INFINITY:
        fp_raise(env, Fsw.IE)
        return limit
    whole: u128 = x80_integral(x, rounding)
    magnitude: u64 = u64(whole)
    sign: u32 = x80_sign(x)
    if (whole & BAD_INTEGER) != 0 or magnitude > limit or (magnitude == limit and sign == 0):
        fp_raise(env, Fsw.IE)
        return limit
    fp_inexact(env, whole)
    return -magnitude if sign != 0 else magnitude


@native
def fp_inexact(env: Env, whole: u128) -> None:
    """Signal what `x80_integral` lost."""
    if ((whole >> 64) & 1) != 0:
        fp_raise(env, Fsw.PE)
        if ((whole >> 66) & 1) != 0:
            fp_raise(env, Fsw.C1)


@native
def x80_round_to_integral(env: Env, x: u128) -> u128:
    """FRNDINT's result."""
    kind: u32 = x80_kind(x)
    if kind > Kind.INFINITY:
        return x80_quieted(env, x)
    if kind == Kind.INFINITY or kind == Kind.ZERO or x80_exponent(x) >= BIAS + 63:
        return x
    if fp_denormal(env, kind, kind):
        return x
    whole: u128 = x80_integral(x, fp_rounding(env))
    fp_inexact(env, whole)
    if (whole & BAD_INTEGER) != 0:
        return x
    sign: u128 = u128(x80_sign(x)) << 79
    magnitude: u64 = u64(whole)
    if magnitude == 0:
        return sign
    shift: u64 = clz(magnitude)
    return x80_pack(0, BIAS + 63 - i32(u32(shift)), magnitude << shift) | sign


# Packed decimals -------------------------------------------------------------------------------


@native
def x80_from_decimal(low: u64, high: u32) -> u128:
    """FBLD: 18 decimal digits and, in bit 15 of ``high``, a sign."""
    digits: u128 = (u128(high & 0xFF) << 64) | u128(low)
    value: u64 = 0
    for i in range(18):
        value = value * 10 + u64((digits >> (68 - 4 * i)) & 0xF)
    x: u128 = x80_from_int(value)
    return x | (u128((high >> 15) & 1) << 79)


@native
def x80_to_decimal(env: Env, x: u128) -> u128:
    """FBSTP: the ten bytes to store."""
    kind: u32 = x80_kind(x)
    whole: u128 = BAD_INTEGER
    if kind < Kind.INFINITY:
        whole = x80_integral(x, fp_rounding(env))
    if (whole & BAD_INTEGER) != 0 or u64(whole) >= DECIMAL_LIMIT:
        fp_raise(env, Fsw.IE)
        return DECIMAL_INDEFINITE
    fp_inexact(env, whole)
    rest: u64 = u64(whole)
    packed: u128 = 0
    for i in range(18):
        packed |= u128(rest % 10) << (4 * i)
        rest = rest // 10
    return packed | (u128(x80_sign(x)) << 79)


# Scaling and splitting -------------------------------------------------------------------------


@native
def x80_exponent_number(env: Env, x: u128) -> u128:
    """FXTRACT's first result: the unbiased exponent as a number."""
    kind: u32 = x80_kind(x)
    if kind > Kind.INFINITY:
        return x80_quieted(env, x)
    if kind == Kind.INFINITY:
        return INFINITE
    if kind == Kind.ZERO:
        fp_raise(env, Fsw.ZE)
        return INFINITE | (1 << 79)
    fp_denormal(env, kind, kind)
    exponent: i32 = x80_normal_exponent(x) - BIAS
    magnitude: u64 = u64(u32(exponent if exponent >= 0 else -exponent))
    return x80_from_int(magnitude) | (u128(exponent < 0) << 79)


@native
def x80_significand_number(env: Env, x: u128) -> u128:
    """FXTRACT's second result: the significand with exponent 0."""
    kind: u32 = x80_kind(x)
    if kind > Kind.INFINITY:
        return x80_quieted(env, x)
    if kind == Kind.INFINITY or kind == Kind.ZERO:
        return x
    return x80_pack(x80_sign(x), BIAS, x80_normal_mantissa(x))


@native
def x80_scale_infinite(env: Env, kind: u32, sign: u32, by: u128) -> u128:
    """FSCALE by an infinity (SDM vol. 2A, FSCALE's table)."""
    if x80_sign(by) == 0:
        if kind == Kind.ZERO:
            return x80_invalid(env)
        fp_denormal(env, kind, kind)
        return INFINITE | (u128(sign) << 79)
    if kind == Kind.INFINITY:
        return x80_invalid(env)
    fp_denormal(env, kind, kind)
    return x80_pack(sign, 0, 0)


@native
def x80_scale_count(by: u128) -> i32:
    """FSCALE's power of two: truncated, and clamped far outside the exponent range."""
    whole: u128 = x80_integral(by, Round.CHOP)
    count: i32 = 0x10000
    if (whole & BAD_INTEGER) == 0 and u64(whole) < 0x10000:
        count = i32(u32(whole))
    return -count if x80_sign(by) != 0 else count
