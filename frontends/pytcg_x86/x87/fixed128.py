"""128-bit fixed-point arithmetic and constants for the x87's transcendental instructions.

Qn means n fraction bits. Series are evaluated with about 120 good bits, so the one rounding to 64
bits at the end is right except where the true value lies within 2**-50 ulp of a rounding boundary.
"""

from __future__ import annotations

from math import isqrt

from pytcg_native import Table, native, u32, u64, u128

_WORK = 160  # fraction bits while computing constants
_UNIT = 1 << _WORK


def _arctan_inverse(n: int) -> int:
    """atan(1/n) in Q160."""
    total, power, k = 0, _UNIT // n, 1
    while power:
        total += power // k if k & 2 == 0 else -(power // k)
        power //= n * n
        k += 2
    return total


def _artanh_inverse(n: int) -> int:
    """atanh(1/n) in Q160."""
    total, power, k = 0, _UNIT // n, 1
    while power:
        total += power // k
        power //= n * n
        k += 2
    return total


def _arctan_sixteenth(i: int) -> int:
    """atan(i/16) in Q160, by halving the angle until the series is short."""
    x, doublings = _UNIT * i // 16, 0
    while x > _UNIT >> 6:
        x = (x << _WORK) // (_UNIT + isqrt(_UNIT * _UNIT + x * x))
        doublings += 1
    total, power, k = 0, x, 1
    while power:
        total += power // k if k & 2 == 0 else -(power // k)
        power = power * x * x >> 2 * _WORK
        k += 2
    return total << doublings


_PI = 4 * (4 * _arctan_inverse(5) - _arctan_inverse(239))  # Machin
_LN2 = 2 * _artanh_inverse(3)

PI_Q125 = _PI >> (_WORK - 125)
HALF_PI_Q125 = _PI >> (_WORK - 124)
LN2_Q128 = _LN2 >> (_WORK - 128)
TWO_OVER_LN2_Q126 = (_UNIT << 127) // _LN2
ONE_Q127 = 1 << 127
ONE_Q126 = 1 << 126

RECIPROCALS = Table("fixed_reciprocals", "u128", [0, *(
    min((1 << 128) // k, (1 << 128) - 1) for k in range(1, 64))])  # fmt: skip
"""1/k in Q128."""
PRODUCT_RECIPROCALS = Table("fixed_product_reciprocals", "u128", [0, 0, *(
    (1 << 128) // (k * (k - 1)) for k in range(2, 64))])  # fmt: skip
"""1/(k (k-1)) in Q128."""
ARCTANGENTS = Table("fixed_arctangents", "u128", [
    _arctan_sixteenth(i) >> (_WORK - 125) for i in range(17)])  # fmt: skip
"""atan(i/16) in Q125."""


@native
def mulhigh(a: u128, b: u128) -> u128:
    """The upper half of the 256-bit product."""
    high_a: u128 = a >> 64
    low_a: u128 = u128(u64(a))
    high_b: u128 = b >> 64
    low_b: u128 = u128(u64(b))
    cross: u128 = high_a * low_b
    other: u128 = low_a * high_b
    middle: u128 = ((low_a * low_b) >> 64) + u128(u64(cross)) + u128(u64(other))
    return high_a * high_b + (cross >> 64) + (other >> 64) + (middle >> 64)


@native
def divide_fractions(a: u128, b: u128) -> u128:
    """a / b in Q128, for a < b with bit 127 of b set."""
    rest: u128 = a
    quotient: u128 = 0
    for _ in range(128):
        carry: bool = (rest >> 127) != 0
        rest = rest << 1
        quotient = quotient << 1
        if carry or rest >= b:
            rest -= b
            quotient |= 1
    return quotient


@native
def shift_right(value: u128, count: u32) -> u128:
    """``value`` >> ``count``, any count."""
    if count > 127:
        return 0
    return value >> count


@native
def exponential_series(t: u128, negative: u32) -> u128:
    """(e**t - 1) / t in Q126 for |t| < 0.7, ``t`` in Q128."""
    sum_: u128 = ONE_Q126
    for k in range(32, 1, -1):
        term: u128 = mulhigh(mulhigh(t, sum_), RECIPROCALS[k])
        sum_ = ONE_Q126 - term if negative != 0 else ONE_Q126 + term
    return sum_


@native
def arctangent_series(w: u128, alternates: u32) -> u128:
    """atan(z) / z, or atanh(z) / z, in Q127 from w = z * z in Q128, for z < 0.34."""
    sum_: u128 = 0
    for step in range(31):
        term: u128 = mulhigh(w, sum_)
        reciprocal: u128 = RECIPROCALS[61 - 2 * step] >> 1
        sum_ = reciprocal - term if alternates != 0 else reciprocal + term
    return sum_


@native
def sine_series(w: u128, first: u64) -> u128:
    """sin(r) / r (``first`` 31) or cos(r) (30) in Q127 from w = r * r in Q128; never quite 1."""
    sum_: u128 = ONE_Q127
    k: u64 = first
    while k > 1:
        sum_ = ONE_Q127 - mulhigh(mulhigh(w, sum_), PRODUCT_RECIPROCALS[k]) - 1
        k -= 2
    return sum_
