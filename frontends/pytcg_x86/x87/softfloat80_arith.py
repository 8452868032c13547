"""Addition, multiplication, division, square root and comparison of the x87's numbers.

Order of exceptions as in the SDM (vol. 1, 4.9.2): unsupported and SNaN operands, quiet NaNs,
invalid operations and division by zero, denormal operands, then what rounding finds.
"""

from __future__ import annotations

from enum import IntEnum

from pytcg_native import i32, native, u32, u64, u128
from pytcg_x86.core.state import Env
from pytcg_x86.x87.softfloat80 import (
    BIAS,
    INFINITE,
    SIGN,
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
    x80_nan,
    x80_normal_exponent,
    x80_normal_mantissa,
    x80_pack,
    x80_precision,
    x80_quieted,
    x80_round,
    x80_sign,
)


class Arith(IntEnum):
    """Operations as ModRM.reg encodes them in D8 and DC."""

    ADD = 0
    MUL = 1
    SUB = 4
    SUBR = 5
    DIV = 6
    DIVR = 7


class Order(IntEnum):
    """Results of a comparison, as the condition codes C3, C2, C0 show them."""

    GREATER = 0
    LESS = Fsw.C0
    EQUAL = Fsw.C3
    UNORDERED = Fsw.C0 | Fsw.C2 | Fsw.C3


@native
def x80_add(env: Env, a: u128, b: u128, flip: u32) -> u128:
    """a + b, or a - b if ``flip`` is 1 (a NaN keeps its sign all the same)."""
    kind_a: u32 = x80_kind(a)
    kind_b: u32 = x80_kind(b)
    if kind_a > Kind.INFINITY or kind_b > Kind.INFINITY:
        return x80_nan(env, a, b)
    sign_a: u32 = x80_sign(a)
    sign_b: u32 = x80_sign(b) ^ flip
    if kind_a == Kind.INFINITY and kind_b == Kind.INFINITY and sign_a != sign_b:
        return x80_invalid(env)
    if fp_denormal(env, kind_a, kind_b):
        return 0
    if kind_a == Kind.INFINITY:
        return a
    if kind_b == Kind.INFINITY:
        return x80_pack(sign_b, 0x7FFF, u64(b))
    return x80_add_finite(env, a, b, sign_a, sign_b)


@native
def x80_add_finite(env: Env, a: u128, b: u128, sign_a: u32, sign_b: u32) -> u128:
    exponent: i32 = x80_exponent(a) if x80_exponent(a) != 0 else i32(1)
    other: i32 = x80_exponent(b) if x80_exponent(b) != 0 else i32(1)
    # Two free bits above for the carry, 62 below for what alignment shifts out.
    large: u128 = u128(u64(a)) << 62
    small: u128 = u128(u64(b)) << 62
    sign: u32 = sign_a
    if exponent < other or (exponent == other and large < small):
        swap: u128 = large
        large = small
        small = swap
        distance: i32 = other - exponent
        exponent = other
        sign = sign_b
        small = shift_right_jam(small, u32(distance))
    else:
        small = shift_right_jam(small, u32(exponent - other))
    if sign_a == sign_b:
        return x80_round(env, sign, exponent + 2, large + small, x80_precision(env))
    if large == small:
        return x80_pack(u32(fp_rounding(env) == Round.DOWN), 0, 0)
    return x80_round(env, sign, exponent + 2, large - small, x80_precision(env))


@native
def x80_mul(env: Env, a: u128, b: u128) -> u128:
    kind_a: u32 = x80_kind(a)
    kind_b: u32 = x80_kind(b)
    if kind_a > Kind.INFINITY or kind_b > Kind.INFINITY:
        return x80_nan(env, a, b)
    if (kind_a == Kind.INFINITY and kind_b == Kind.ZERO) or (
        kind_a == Kind.ZERO and kind_b == Kind.INFINITY
    ):
        return x80_invalid(env)
    if fp_denormal(env, kind_a, kind_b):
        return 0
    sign: u32 = x80_sign(a) ^ x80_sign(b)
    if kind_a == Kind.INFINITY or kind_b == Kind.INFINITY:
        return INFINITE | (u128(sign) << 79)
    if kind_a == Kind.ZERO or kind_b == Kind.ZERO:
        return x80_pack(sign, 0, 0)
    product: u128 = u128(x80_normal_mantissa(a)) * u128(x80_normal_mantissa(b))
    exponent: i32 = x80_normal_exponent(a) + x80_normal_exponent(b) - (BIAS - 1)
    return x80_round(env, sign, exponent, product, x80_precision(env))


@native
def divide_128_by_64(high: u64, low: u64, divisor: u64) -> u128:
    """(high:low) / divisor for high < divisor and bit 63 of divisor set.

    The quotient is in the low half of the result, the remainder in the high half. Schoolbook
    division in base 2**32 (Knuth, TAOCP vol. 2, 4.3.1, algorithm D).
    """
    remainder: u64 = high
    quotient: u64 = 0
    for half in range(2):
        digit: u64 = (low >> 32) if half == 0 else (low & 0xFFFF_FFFF)
        guess: u64 = remainder // (divisor >> 32)
        if guess > 0xFFFF_FFFF:
            guess = 0xFFFF_FFFF
        product: u128 = u128(guess) * u128(divisor)
        dividend: u128 = (u128(remainder) << 32) | u128(digit)
        while product > dividend:
            guess -= 1
            product -= u128(divisor)
        remainder = u64(dividend - product)
        quotient = (quotient << 32) | guess
    return (u128(remainder) << 64) | u128(quotient)


@native
def divide_significands(a: u64, b: u64) -> u128:
    """a / b for normalised a >= b, or 2 * a / b for a < b: 128 bits, leading one first, sticky."""
    high: u64 = a
    low: u64 = 0
    if a >= b:
        low = a << 63
        high = a >> 1
    first: u128 = divide_128_by_64(high, low, b)
    second: u128 = divide_128_by_64(u64(first >> 64), 0, b)
    return (u128(u64(first)) << 64) | u128(u64(second)) | u128((second >> 64) != 0)


@native
def x80_div(env: Env, a: u128, b: u128) -> u128:
    kind_a: u32 = x80_kind(a)
    kind_b: u32 = x80_kind(b)
    if kind_a > Kind.INFINITY or kind_b > Kind.INFINITY:
        return x80_nan(env, a, b)
    sign: u32 = x80_sign(a) ^ x80_sign(b)
    if kind_a == kind_b and (kind_a == Kind.INFINITY or kind_a == Kind.ZERO):
        return x80_invalid(env)
    if kind_b == Kind.ZERO and kind_a != Kind.INFINITY:
        fp_raise(env, Fsw.ZE)
        return INFINITE | (u128(sign) << 79)
    if fp_denormal(env, kind_a, kind_b):
        return 0
    if kind_a == Kind.INFINITY:
        return INFINITE | (u128(sign) << 79)
    if kind_a == Kind.ZERO or kind_b == Kind.INFINITY:
        return x80_pack(sign, 0, 0)
    top: u64 = x80_normal_mantissa(a)
    bottom: u64 = x80_normal_mantissa(b)
    exponent: i32 = x80_normal_exponent(a) - x80_normal_exponent(b) + BIAS
    if top < bottom:
        exponent -= 1
    return x80_round(env, sign, exponent, divide_significands(top, bottom), x80_precision(env))


@native
def x80_arith(env: Env, operation: u32, a: u128, b: u128) -> u128:
    """One of the `Arith` operations on a = ST(0) and b."""
    if operation == Arith.ADD:
        return x80_add(env, a, b, 0)
    if operation == Arith.MUL:
        return x80_mul(env, a, b)
    if operation == Arith.SUB:
        return x80_add(env, a, b, 1)
    if operation == Arith.SUBR:
        return x80_add(env, b, a, 1)
    if operation == Arith.DIV:
        return x80_div(env, a, b)
    return x80_div(env, b, a)


@native
def root_significand(radicand: u128) -> u128:
    """Square root of a radicand >= 2**126: 64 bits, then a round bit and sticky."""
    root: u64 = 0
    rest: u128 = 0
    left: u128 = radicand
    for _ in range(64):
        rest = (rest << 2) | (left >> 126)
        left = left << 2
        trial: u128 = (u128(root) << 2) | 1
        root = root << 1
        if rest >= trial:
            rest -= trial
            root |= 1
    # (root + 1/2)**2 = root**2 + root + 1/4: the fraction is above a half when rest > root.
    above_half: u64 = u64(rest > u128(root)) << 63
    return (u128(root) << 64) | u128(above_half | u64(rest != 0))


@native
def x80_sqrt(env: Env, x: u128) -> u128:
    kind: u32 = x80_kind(x)
    if kind > Kind.INFINITY:
        return x80_quieted(env, x)
    if kind == Kind.ZERO:
        return x
    if x80_sign(x) != 0:
        return x80_invalid(env)
    if kind == Kind.INFINITY or fp_denormal(env, kind, kind):
        return x
    exponent: i32 = x80_normal_exponent(x) - BIAS
    radicand: u128 = u128(x80_normal_mantissa(x)) << 63
    if (exponent & 1) != 0:
        radicand = radicand << 1
    return x80_round(env, 0, (exponent >> 1) + BIAS, root_significand(radicand),
                     x80_precision(env))  # fmt: skip


# Comparison ------------------------------------------------------------------------------------


@native
def x80_compare(env: Env, a: u128, b: u128, quiet: u32) -> u32:
    """`Order` of a and b; with ``quiet`` 1 a QNaN is unordered without being invalid."""
    kind_a: u32 = x80_kind(a)
    kind_b: u32 = x80_kind(b)
    if kind_a > Kind.INFINITY or kind_b > Kind.INFINITY:
        if quiet == 0 or kind_a > Kind.QNAN or kind_b > Kind.QNAN:
            fp_raise(env, Fsw.IE)
        return Order.UNORDERED
    fp_denormal(env, kind_a, kind_b)
    if kind_a == Kind.ZERO and kind_b == Kind.ZERO:
        return Order.EQUAL
    if x80_sign(a) != x80_sign(b):
        return Order.LESS if x80_sign(a) != 0 else u32(Order.GREATER)
    magnitude_a: u128 = x80_magnitude(a)
    magnitude_b: u128 = x80_magnitude(b)
    if magnitude_a == magnitude_b:
        return Order.EQUAL
    if (magnitude_a < magnitude_b) == (x80_sign(a) == 0):
        return Order.LESS
    return Order.GREATER


@native(inline=True)
def x80_magnitude(x: u128) -> u128:
    """Exponent and significand as one number that orders finite values and infinities."""
    magnitude: u128 = x & (SIGN - 1)
    # A pseudo-denormal has the value of exponent 1.
    if (magnitude >> 63) == 1:
        magnitude += u128(1) << 64
    return magnitude
