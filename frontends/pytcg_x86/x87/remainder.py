"""FPREM and FPREM1: exact partial remainders (SDM vol. 2A)."""

from __future__ import annotations

from pytcg_native import i32, native, u16, u32, u64, u128
from pytcg_x86.core.state import Env
from pytcg_x86.x87.softfloat80 import (
    Fsw,
    Kind,
    fp_abandoned,
    fp_denormal,
    x80_invalid,
    x80_kind,
    x80_nan,
    x80_normal_exponent,
    x80_normal_mantissa,
    x80_round,
    x80_sign,
)
from pytcg_x86.x87.stack import fp_empty, fp_get, fp_result, fp_underflow

_CODES = 0xFFFF ^ Fsw.CODES


@native(inline=True)
def fp_quotient_codes(quotient: u64) -> u32:
    """Quotient bits 2, 1, 0 as C0, C3, C1."""
    codes: u32 = 0
    if (quotient & 4) != 0:
        codes |= Fsw.C0
    if (quotient & 2) != 0:
        codes |= Fsw.C3
    if (quotient & 1) != 0:
        codes |= Fsw.C1
    return codes


@native(inline=True)
def fp_set_codes(env: Env, codes: u32) -> None:
    env.fp_status = (env.fp_status & _CODES) | u16(codes)


@native
def long_division(a: u64, b: u64, steps: i32) -> u128:
    """a * 2**(steps - 1) by b, both normalised: remainder above, quotient's low 64 bits below."""
    rest: u128 = u128(a)
    quotient: u64 = 0
    for i in range(steps):
        if i != 0:
            rest = rest << 1
        quotient = quotient << 1
        if rest >= u128(b):
            rest -= u128(b)
            quotient |= 1
    return (rest << 64) | u128(quotient)


@native
def x80_remainder_special(env: Env, a: u128, b: u128) -> u128:
    """NaNs, invalid operands and denormals; ``a`` if there is a remainder to compute."""
    kind_a: u32 = x80_kind(a)
    kind_b: u32 = x80_kind(b)
    if kind_a > Kind.INFINITY or kind_b > Kind.INFINITY:
        return x80_nan(env, a, b)
    if kind_a == Kind.INFINITY or kind_b == Kind.ZERO:
        return x80_invalid(env)
    fp_denormal(env, kind_a, kind_b)
    return a


@native
def x80_remainder(env: Env, a: u128, b: u128, nearest: u32) -> u128:
    """The (partial) remainder of finite a by finite b, and the condition codes."""
    distance: i32 = x80_normal_exponent(a) - x80_normal_exponent(b)
    top: u64 = x80_normal_mantissa(a)
    bottom: u64 = x80_normal_mantissa(b)
    if distance >= 64:
        # Take off 32 to 63 bits of the quotient; C2 asks for another round.
        part: i32 = (distance & 31) | 32
        rest: u128 = long_division(top, bottom, part + 1) >> 64
        fp_set_codes(env, Fsw.C2)
        return x80_exact(env, x80_sign(a), x80_normal_exponent(a) - part, rest)
    if distance < (-1 if nearest != 0 else i32(0)):
        fp_set_codes(env, 0)
        return x80_exact(env, x80_sign(a), x80_normal_exponent(a), u128(top))
    return x80_last_remainder(env, a, b, nearest, distance)


@native
def x80_exact(env: Env, sign: u32, exponent: i32, significand: u128) -> u128:
    """A remainder as a number: exact, so neither rounding nor precision control touch it."""
    if significand == 0:
        return u128(sign) << 79
    return x80_round(env, sign, exponent + 64, significand, 64)


@native
def x80_last_remainder(env: Env, a: u128, b: u128, nearest: u32, distance: i32) -> u128:
    sign: u32 = x80_sign(a)
    bottom: u128 = u128(x80_normal_mantissa(b)) << 1
    rest: u128 = u128(x80_normal_mantissa(a))
    quotient: u64 = 0
    # One extra bit below the significand: distance may be -1.
    if distance >= 0:
        division: u128 = long_division(u64(rest), u64(bottom >> 1), distance + 1)
        rest = (division >> 64) << 1
        quotient = u64(division)
    if nearest != 0 and (rest << 1 > bottom or (rest << 1 == bottom and (quotient & 1) != 0)):
        rest = bottom - rest
        quotient += 1
        sign ^= 1
    fp_set_codes(env, fp_quotient_codes(quotient))
    if rest == 0:
        sign = x80_sign(a)
    return x80_exact(env, sign, x80_normal_exponent(b) - 1, rest)


@native
def fp_remainder(env: Env, nearest: u32) -> None:
    """FPREM (truncating) and FPREM1 (``nearest`` 1)."""
    a: u128 = fp_get(env, 0)
    b: u128 = fp_get(env, 1)
    env.fp_status &= 0xFFFF ^ (Fsw.C1 | Fsw.C2)
    if fp_empty(env, 0) or fp_empty(env, 1):
        fp_result(env, 0, fp_underflow(env), 0)
        return
    result: u128 = x80_remainder_special(env, a, b)
    if fp_abandoned(env):
        return
    kind_a: u32 = x80_kind(a)
    kind_b: u32 = x80_kind(b)
    if kind_a < Kind.INFINITY and kind_b != Kind.ZERO and kind_b <= Kind.INFINITY:
        fp_set_codes(env, 0)
        if kind_a != Kind.ZERO and kind_b == Kind.INFINITY:
            top: u128 = u128(x80_normal_mantissa(a))
            result = x80_exact(env, x80_sign(a), x80_normal_exponent(a), top)
        elif kind_a != Kind.ZERO:
            result = x80_remainder(env, a, b, nearest)
    fp_result(env, 0, result, 0)
