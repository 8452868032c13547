"""F2XM1, FYL2X and FYL2XP1 (SDM vol. 1, 8.3.9)."""

from __future__ import annotations

from pytcg_native import clz, i32, native, u32, u64, u128
from pytcg_x86.core.state import Env
from pytcg_x86.x87.fixed128 import (
    LN2_Q128,
    TWO_OVER_LN2_Q126,
    arctangent_series,
    divide_fractions,
    exponential_series,
    mulhigh,
    shift_right,
)
from pytcg_x86.x87.softfloat80 import (
    BIAS,
    INFINITE,
    ONE,
    SIGN,
    Fsw,
    Kind,
    fp_denormal,
    fp_raise,
    x80_exponent,
    x80_invalid,
    x80_kind,
    x80_nan,
    x80_normal_exponent,
    x80_normal_mantissa,
    x80_pack,
    x80_quieted,
    x80_round,
    x80_sign,
)

_SQRT2 = 0xB504_F333_F9DE_6484  # as a significand
_MINUS_HALF = (1 << 79) | ((BIAS - 1) << 64) | (1 << 63)


@native
def x80_2xm1(env: Env, x: u128) -> u128:
    """2**x - 1 for -1 <= x <= 1; other x, whose result the manual leaves open, come back."""
    kind: u32 = x80_kind(x)
    sign: u32 = x80_sign(x)
    if kind > Kind.INFINITY:
        return x80_quieted(env, x)
    if kind == Kind.INFINITY:
        return x if sign == 0 else u128(ONE | SIGN)
    if kind == Kind.ZERO or fp_denormal(env, kind, kind):
        return x
    if x80_exponent(x) >= BIAS:
        if x == ONE | SIGN:
            return _MINUS_HALF
        if x != ONE:
            fp_raise(env, Fsw.PE)
        return x
    t: u128 = mulhigh(u128(x80_normal_mantissa(x)) << 64, LN2_Q128)
    exponent: i32 = x80_normal_exponent(x) - BIAS + 1
    # |x| ln 2 = t * 2**(exponent - 128), below 0.7.
    series: u128 = exponential_series(shift_right(t, u32(-exponent)), sign)
    result: u128 = mulhigh(t, series) | 1
    return x80_round(env, sign, exponent + BIAS + 1, result, 64)


@native
def x80_log_product(env: Env, fraction: u128, fraction_exponent: i32, negative: u32, whole: i32,
                    y: u128) -> u128:  # fmt: skip
    """y * (whole + log2(1 ± f)), f = fraction * 2**(fraction_exponent - 127) normalised or 0.

    log2(1 + f) = 2 / ln 2 * atanh(f / (2 + f)).
    """
    log: u128 = 0
    exponent: i32 = 0
    if fraction != 0:
        fixed: u128 = shift_right(fraction, u32(1 - fraction_exponent))
        below: u128 = (u128(1) << 127) - fixed if negative != 0 else (u128(1) << 127) + fixed
        shift: u32 = u32(clz(below))
        below = below << shift
        exponent = fraction_exponent - (1 - i32(shift)) - 1
        above: u128 = fraction
        if above >= below:
            above = above >> 1
            exponent += 1
        z: u128 = divide_fractions(above, below)
        z_fixed: u128 = shift_right(z, u32(-1 - exponent))
        series: u128 = arctangent_series(mulhigh(z_fixed, z_fixed), 0)
        log = mulhigh(mulhigh(z, series), TWO_OVER_LN2_Q126)
        exponent += 3
    sign: u32 = negative
    if whole != 0:
        # Both in Q111; the logarithm is below a half, so nothing cancels.
        part: u128 = shift_right(log, u32(16 - exponent))
        total: u128 = u128(u32(whole if whole > 0 else -whole)) << 111
        sign = u32(whole < 0)
        log = total + part if sign == negative else total - part
        exponent = 16
    up: u32 = u32(clz(log))
    product: u128 = mulhigh(log << up, u128(x80_normal_mantissa(y)) << 64)
    if fraction != 0:
        product |= 1
    return x80_round(env, sign ^ x80_sign(y), exponent - i32(up) + 1 + x80_normal_exponent(y),
                     product, 64)  # fmt: skip


@native
def x80_yl2x_finite(env: Env, y: u128, x: u128) -> u128:
    mantissa: u64 = x80_normal_mantissa(x)
    whole: i32 = x80_normal_exponent(x) - BIAS
    distance: u64 = mantissa - (1 << 63)
    exponent: i32 = 0
    negative: u32 = 0
    if mantissa > _SQRT2:
        distance = -mantissa  # 2**64 - mantissa: m / 2 is that far below 1
        exponent = -1
        negative = 1
        whole += 1
    if distance == 0:
        return x80_log_product(env, 0, 0, u32(whole < 0), whole, y)
    shift: u32 = u32(clz(distance))
    fraction: u128 = u128(distance << shift) << 64
    return x80_log_product(env, fraction, exponent - i32(shift), negative, whole, y)


@native
def x80_yl2x(env: Env, y: u128, x: u128) -> u128:
    """y * log2(x)."""
    kind_y: u32 = x80_kind(y)
    kind_x: u32 = x80_kind(x)
    if kind_y > Kind.INFINITY or kind_x > Kind.INFINITY:
        return x80_nan(env, y, x)
    if kind_x != Kind.ZERO and x80_sign(x) != 0:
        return x80_invalid(env)
    # The logarithm's sign: infinite for 0 and infinity, 0 for 1.
    negative: u32 = u32(x80_normal_exponent(x) < BIAS) if kind_x != Kind.ZERO else u32(1)
    sign: u32 = x80_sign(y) ^ negative
    if kind_x == Kind.ZERO or kind_x == Kind.INFINITY:
        if kind_y == Kind.ZERO:
            return x80_invalid(env)
        if kind_x == Kind.ZERO and kind_y != Kind.INFINITY:
            fp_raise(env, Fsw.ZE)
        else:
            fp_denormal(env, kind_y, kind_y)
        return INFINITE | (u128(sign) << 79)
    is_one: bool = x == ONE
    if kind_y == Kind.INFINITY and is_one:
        return x80_invalid(env)
    if fp_denormal(env, kind_y, kind_x):
        return y
    if kind_y == Kind.INFINITY:
        return INFINITE | (u128(sign) << 79)
    if kind_y == Kind.ZERO or is_one:
        return x80_pack(sign, 0, 0)
    return x80_yl2x_finite(env, y, x)


@native
def x80_yl2xp1(env: Env, y: u128, x: u128) -> u128:
    """y * log2(x + 1); x at or below -1, which the manual excludes, is invalid."""
    kind_y: u32 = x80_kind(y)
    kind_x: u32 = x80_kind(x)
    if kind_y > Kind.INFINITY or kind_x > Kind.INFINITY:
        return x80_nan(env, y, x)
    sign: u32 = x80_sign(x) ^ x80_sign(y)
    large: bool = x80_exponent(x) >= BIAS
    if large and x80_sign(x) != 0:
        return x80_invalid(env)
    if (kind_x == Kind.ZERO and kind_y == Kind.INFINITY) or (
        kind_x == Kind.INFINITY and kind_y == Kind.ZERO
    ):
        return x80_invalid(env)
    if fp_denormal(env, kind_y, kind_x):
        return y
    if kind_x == Kind.INFINITY or kind_y == Kind.INFINITY:
        return INFINITE | (u128(sign) << 79)
    if kind_x == Kind.ZERO or kind_y == Kind.ZERO:
        return x80_pack(sign, 0, 0)
    if large:
        return x80_yl2xp1_large(env, y, x)
    fraction: u128 = u128(x80_normal_mantissa(x)) << 64
    return x80_log_product(env, fraction, x80_normal_exponent(x) - BIAS, x80_sign(x), 0, y)


@native
def x80_yl2xp1_large(env: Env, y: u128, x: u128) -> u128:
    """x >= 1, outside the manual's range: log2 of x + 1 cut to 64 bits."""
    exponent: i32 = x80_normal_exponent(x)
    sum_: u128 = (u128(x80_normal_mantissa(x)) << 1) + shift_right(
        u128(1) << 64, u32(exponent - BIAS))  # fmt: skip
    if (sum_ >> 65) != 0:
        sum_ = sum_ >> 1
        exponent += 1
    return x80_yl2x_finite(env, y, x80_pack(0, exponent, u64(sum_ >> 1)))
