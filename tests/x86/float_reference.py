"""IEEE 754 arithmetic by MPFR (gmpy2): results, exception flags, and whether they were rounded up.

A reference that has nothing in common with any processor: exact operands, one correctly rounded
operation, flags from comparing it with the same operation in a format without bounds.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gmpy2

IE, DE, ZE, OE, UE, PE = (1 << n for n in range(6))
"""MXCSR's exception flags and the x87 status word's."""
ROUNDINGS = (gmpy2.RoundToNearest, gmpy2.RoundDown, gmpy2.RoundUp, gmpy2.RoundToZero)
"""By MXCSR.RC's, and the x87 control word's, value."""
_FAR = 1 << 40  # an exponent that nothing reaches
Number = Any  # mpfr


@dataclass(frozen=True, slots=True)
class Format:
    """A binary format: ``precision`` counts the integer bit, which ``explicit`` ones store."""

    precision: int
    exponent_bits: int
    explicit: bool = False

    @property
    def bias(self) -> int:
        return (1 << (self.exponent_bits - 1)) - 1

    @property
    def fraction_bits(self) -> int:
        return self.precision - (0 if self.explicit else 1)

    @property
    def bits(self) -> int:
        return 1 + self.exponent_bits + self.fraction_bits

    @property
    def smallest(self) -> Number:
        """The smallest normal number."""
        return gmpy2.exp2(1 - self.bias)

    def decode(self, image: int) -> Number:
        """A number that is none of the NaNs, exactly."""
        fraction = image & ((1 << self.fraction_bits) - 1)
        exponent = image >> self.fraction_bits & ((1 << self.exponent_bits) - 1)
        sign = -1 if image >> (self.bits - 1) else 1
        if exponent == (1 << self.exponent_bits) - 1:
            return gmpy2.mpfr("-inf" if sign < 0 else "inf")
        if exponent and not self.explicit:
            fraction |= 1 << self.fraction_bits
        if fraction == 0:
            return gmpy2.mpfr("-0" if sign < 0 else "0")
        with gmpy2.context(precision=80, emax=_FAR, emin=-_FAR):
            scale = max(exponent, 1) - self.bias - self.precision + 1
            return gmpy2.mul_2exp(gmpy2.mpfr(sign * fraction), scale) if scale >= 0 else (
                gmpy2.div_2exp(gmpy2.mpfr(sign * fraction), -scale))  # fmt: skip

    def encode(self, value: Number) -> int:
        """The image of a number of this format; a NaN is the default one."""
        everything = (1 << self.exponent_bits) - 1
        integer = 1 << (self.precision - 1)
        if gmpy2.is_nan(value):
            return 1 << (self.bits - 1) | self._pack(everything, integer | integer >> 1)
        sign = int(gmpy2.is_signed(value)) << (self.bits - 1)
        if gmpy2.is_infinite(value):
            return sign | self._pack(everything, integer)
        if gmpy2.is_zero(value):
            return sign
        mantissa, exponent = map(int, value.as_mantissa_exp())
        mantissa = abs(mantissa)
        shift = self.precision - mantissa.bit_length()
        lowest = 1 - self.bias - (self.precision - 1)
        shift = min(shift, exponent - lowest)
        mantissa = mantissa << shift if shift >= 0 else mantissa >> -shift
        exponent -= shift
        biased = exponent + self.precision - 1 + self.bias if mantissa & integer else 0
        return sign | self._pack(biased, mantissa)

    def _pack(self, exponent: int, mantissa: int) -> int:
        return exponent << self.fraction_bits | mantissa & ((1 << self.fraction_bits) - 1)

    def is_denormal(self, image: int) -> bool:
        rest = image & ((1 << (self.bits - 1)) - 1)
        return 0 < rest < 1 << self.fraction_bits

    def random(self, rng: random.Random) -> int:
        """Any number but a NaN, often one where something turns."""
        everything = (1 << self.exponent_bits) - 1
        near = self.bias + rng.randrange(-self.precision - 2, self.precision + 3)
        exponent = rng.choice((near, near, near, rng.randrange(everything), 0, 1, everything - 1,
                               self.bias // 2, self.bias + self.bias // 2, everything))  # fmt: skip
        exponent = min(max(exponent, 0), everything)
        width = self.precision - 1
        ones = (1 << width) - 1
        fraction = rng.choice((0, ones, 1, rng.getrandbits(width), rng.getrandbits(width),
                               rng.getrandbits(width) >> rng.randrange(width) << 3 & ones,
                               rng.getrandbits(5) << (width - 5)))  # fmt: skip
        if exponent == everything:
            fraction = 0
        integer = 1 << width if self.explicit and exponent else 0
        sign = rng.getrandbits(1) << (self.bits - 1)
        return sign | exponent << self.fraction_bits | integer | fraction


HALF, SINGLE, DOUBLE = Format(11, 5), Format(24, 8), Format(53, 11)
EXTENDED = Format(64, 15, explicit=True)


@dataclass(frozen=True, slots=True)
class Result:
    """A rounded result (mpfr), its exception flags, whether it is larger than the exact one."""

    value: Number
    flags: int
    up: bool = False
    tiny: bool = False


def rounded(operation: Callable[..., Number], operands: tuple[Number, ...], target: Format,
            rounding: int, precision: int = 0) -> Result:  # fmt: skip
    """One operation on exact operands, rounded to a format (x87: to fewer bits of it)."""
    bits, mode = precision or target.precision, ROUNDINGS[rounding]
    with gmpy2.context(precision=bits, round=mode, emax=_FAR, emin=-_FAR) as wide:
        free = operation(*operands)
        inexact, divided, invalid = wide.inexact, wide.divzero, wide.invalid
    if invalid or gmpy2.is_nan(free):
        return Result(free, IE)
    if divided:
        return Result(free, ZE)
    if gmpy2.is_infinite(free) or gmpy2.is_zero(free):
        return Result(free, 0)
    tiny = gmpy2.cmp_abs(free, target.smallest) < 0
    lowest, highest = 2 - target.bias - (bits - 1), target.bias + 1
    with gmpy2.context(precision=bits, round=mode, emin=lowest, emax=highest, subnormalize=True):
        value = operation(*operands)
    inexact = bool(inexact or value != free)
    flags = PE if inexact else 0
    if gmpy2.is_infinite(value) or (value != free and not tiny):
        flags |= OE
    if tiny and inexact:
        flags |= UE
    up = inexact and (value.rc > 0) != bool(gmpy2.is_signed(value))
    return Result(value, flags, up, tiny)


def integer(value: Number, bits: int, rounding: int) -> tuple[int, int]:
    """Converted to a signed integer (as an unsigned image), and the flags; IE: out of range."""
    indefinite = 1 << (bits - 1)
    if gmpy2.is_nan(value) or gmpy2.is_infinite(value):
        return indefinite, IE
    with gmpy2.context(precision=20000, emax=_FAR, emin=-_FAR):
        whole = (gmpy2.rint, gmpy2.floor, gmpy2.ceil, gmpy2.trunc)[rounding](value)
    if not -indefinite <= whole < indefinite:
        return indefinite, IE
    return int(whole) & ((1 << bits) - 1), PE if whole != value else 0
