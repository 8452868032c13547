"""FSIN, FCOS, FPTAN and FPATAN (SDM vol. 1, 8.3.7-8.3.8).

Arguments are reduced with the 66-bit pi of the processors (8.3.8), so sin(FLDPI) is what it is
there and not what it is in mathematics.
"""

from __future__ import annotations

from pytcg_native import clz, i32, native, u32, u64, u128
from pytcg_x86.core.state import Env
from pytcg_x86.x87.fixed128 import (
    ARCTANGENTS,
    HALF_PI_Q125,
    ONE_Q126,
    PI_Q125,
    arctangent_series,
    divide_fractions,
    mulhigh,
    shift_right,
    sine_series,
)
from pytcg_x86.x87.softfloat80 import (
    BIAS,
    Kind,
    fp_denormal,
    x80_kind,
    x80_nan,
    x80_normal_exponent,
    x80_normal_mantissa,
    x80_pack,
    x80_round,
    x80_sign,
)
from pytcg_x86.x87.softfloat80_arith import divide_significands

PI_66 = 0xC_90FD_AA22_168C_234C  # pi * 2**66; pi / 2 with 67 fraction bits
_FRACTION = 67


@native
def reduce_angle(x: u128) -> u128:
    """|x| below 2**63 by quadrants: what is left, in Q67, with the quadrant in bits 124-125.

    Bit 126 says the rest counts downwards from the next quadrant's start. The rest is at most pi/4.
    """
    steps: i32 = x80_normal_exponent(x) - BIAS - 63 + _FRACTION
    rest: u128 = u128(x80_normal_mantissa(x))
    quadrant: u128 = 0
    for i in range(steps + 1):
        if i != 0:
            rest = rest << 1
            quadrant = quadrant << 1
        if rest >= PI_66:
            rest -= PI_66
            quadrant |= 1
    if rest << 1 > PI_66:
        return (PI_66 - rest) | (((quadrant + 1) & 3) << 124) | (1 << 126)
    return rest | ((quadrant & 3) << 124)


@native
def angle_sine(significand: u128, exponent: i32, cosine: u32) -> u128:
    """sin or cos of r = significand * 2**(exponent - 127) <= pi/4, r normalised.

    The sine has r's exponent + 1; the cosine the exponent 0. Neither is normalised.
    """
    fixed: u128 = shift_right(significand, u32(-1 - exponent))
    square: u128 = mulhigh(fixed, fixed)
    if cosine != 0:
        return sine_series(square, 30)
    return mulhigh(significand, sine_series(square, 31))


@native
def x80_tangent(env: Env, sine: u128, sine_exponent: i32, cosine: u128, sign: u32,
                inverted: u32) -> u128:  # fmt: skip
    """sin / cos, or cos / sin if ``inverted``."""
    shift_s: u32 = u32(clz(sine))
    shift_c: u32 = u32(clz(cosine))
    above: u128 = sine << shift_s
    below: u128 = cosine << shift_c
    exponent: i32 = sine_exponent - i32(shift_s) + i32(shift_c)
    if inverted != 0:
        above = cosine << shift_c
        below = sine << shift_s
        exponent = -exponent
    if above >= below:
        above = above >> 1
        exponent += 1
    return x80_round(env, sign, exponent - 1 + BIAS, divide_fractions(above, below) | 1, 64)


@native
def x80_angle(env: Env, x: u128, what: u32) -> u128:
    """sin (``what`` 0), cos (1) or tan (2) of a finite, non-zero x below 2**63."""
    exponent: i32 = x80_normal_exponent(x) - BIAS
    significand: u128 = u128(x80_normal_mantissa(x)) << 64
    sign: u32 = x80_sign(x)
    quadrant: u32 = 0
    if exponent >= -1:
        reduced: u128 = reduce_angle(x)
        quadrant = u32(reduced >> 124) & 3
        if (reduced >> 126) != 0:
            sign ^= 1
        rest: u128 = reduced & ((1 << 124) - 1)
        # x is no multiple of pi_66 / 2 short of 2**63, so something is left.
        shift: u32 = u32(clz(rest))
        significand = rest << shift
        exponent = 127 - _FRACTION - i32(shift)
    if what == 2 and exponent < -34 and quadrant == 0:
        # tan(r) = r (1 + r**2 / 3 + ...): only sticky bits above r.
        return x80_round(env, sign, exponent + BIAS, significand | 1, 64)
    if what == 2:
        sine: u128 = angle_sine(significand, exponent, 0)
        cosine: u128 = angle_sine(significand, exponent, 1)
        odd: u32 = quadrant & 1
        return x80_tangent(env, sine, exponent + 1, cosine, sign ^ odd, odd)
    quadrant += what
    # A quadrant turned upside down: sin(x + pi) = -sin(x); cos is even in the rest's sign.
    negative: u32 = (quadrant >> 1) & 1
    if (quadrant & 1) != 0:
        result: u128 = angle_sine(significand, exponent, 1)
        return x80_round(env, negative ^ x80_flip(x, what), BIAS, result | 1, 64)
    result = angle_sine(significand, exponent, 0)
    if what == 1:
        # cos's argument has no sign; only the direction of the rest counts.
        sign ^= x80_sign(x)
    return x80_round(env, negative ^ sign, exponent + 1 + BIAS, result | 1, 64)


@native(inline=True)
def x80_flip(x: u128, what: u32) -> u32:
    """The sign of x where the result is odd in x."""
    if what == 1:
        return 0
    return x80_sign(x)


# FPATAN ----------------------------------------------------------------------------------------


@native
def x80_fixed_angle(env: Env, sign: u32, angle: u128) -> u128:
    """An angle in Q125, rounded."""
    return x80_round(env, sign, BIAS + 2, angle | 1, 64)


@native
def x80_atan2(env: Env, y: u128, x: u128) -> u128:
    """The angle of (x, y), from -pi to pi (SDM vol. 2A, FPATAN's table)."""
    kind_y: u32 = x80_kind(y)
    kind_x: u32 = x80_kind(x)
    if kind_y > Kind.INFINITY or kind_x > Kind.INFINITY:
        return x80_nan(env, y, x)
    if fp_denormal(env, kind_y, kind_x):
        return y
    sign: u32 = x80_sign(y)
    left: bool = x80_sign(x) != 0
    if kind_y == Kind.INFINITY:
        if kind_x == Kind.INFINITY:
            quarter: u128 = HALF_PI_Q125 >> 1
            return x80_fixed_angle(env, sign, HALF_PI_Q125 + quarter if left else quarter)
        return x80_fixed_angle(env, sign, HALF_PI_Q125)
    if kind_y == Kind.ZERO or kind_x == Kind.INFINITY:
        if left:
            return x80_fixed_angle(env, sign, PI_Q125)
        return x80_pack(sign, 0, 0)
    if kind_x == Kind.ZERO:
        return x80_fixed_angle(env, sign, HALF_PI_Q125)
    return x80_atan2_finite(env, y, x)


@native
def x80_atan2_finite(env: Env, y: u128, x: u128) -> u128:
    top: u64 = x80_normal_mantissa(y)
    bottom: u64 = x80_normal_mantissa(x)
    exponent: i32 = x80_normal_exponent(y) - x80_normal_exponent(x)
    steep: bool = exponent > 0 or (exponent == 0 and top > bottom)
    if steep:
        top = x80_normal_mantissa(x)
        bottom = x80_normal_mantissa(y)
        exponent = -exponent
    ratio: u128 = divide_significands(top, bottom)
    if top < bottom:
        exponent -= 1
    left: bool = x80_sign(x) != 0
    if exponent < -5 and not steep and not left:
        return x80_small_angle(env, x80_sign(y), ratio, exponent)
    angle: u128 = arctangent(shift_right(ratio, u32(1 - exponent)))
    if steep:
        angle = HALF_PI_Q125 + angle if left else HALF_PI_Q125 - angle
    elif left:
        angle = PI_Q125 - angle
    return x80_fixed_angle(env, x80_sign(y), angle)


@native
def x80_small_angle(env: Env, sign: u32, ratio: u128, exponent: i32) -> u128:
    """atan of ratio * 2**(exponent - 127) < 1/32, to full relative precision.

    A ratio that divides exactly and is so small that its arctangent is the same 64 bits is still
    inexact, and below it: hence the - 1.
    """
    fixed: u128 = shift_right(ratio, u32(-1 - exponent))
    series: u128 = arctangent_series(mulhigh(fixed, fixed), 1) - 1
    return x80_round(env, sign, exponent + 1 + BIAS, mulhigh(ratio, series) | 1, 64)


@native
def arctangent(z: u128) -> u128:
    """atan(z) in Q125 for z in Q126, 0 <= z <= 1: the table's angle next to z, and the rest."""
    i: u64 = u64((z + (1 << 121)) >> 122)
    middle: u128 = u128(i) << 122
    above: u128 = z - middle if z >= middle else middle - z
    # 1 + z * middle in Q126, at most 2.
    below: u128 = ONE_Q126 + (z >> 4) * u128(i)
    shift: u32 = u32(clz(below))
    t: u128 = divide_fractions(above << shift, below << shift)
    rest: u128 = mulhigh(t, arctangent_series(mulhigh(t, t), 1)) >> 2
    if z >= middle:
        return ARCTANGENTS[i] + rest
    return ARCTANGENTS[i] - rest
