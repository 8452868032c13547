"""SSE's floating point in exact integers: binary32 and binary64 under a given MXCSR.

Nothing here depends on the host: every result is computed exactly and rounded once, in the mode
MXCSR names, and the sticky flags are raised as hardware does with all exceptions masked (SDM vol.
1, 4.9 and 11.5). A float is its bit pattern; ``w`` is its width, 32 or 64.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntFlag

from pytcg.ir.meaning import join, split
from pytcg.ir.ops import FMA


class Mxcsr(IntFlag):
    """Bits of MXCSR (SDM vol. 1, 10.2.3)."""

    IE = 1 << 0
    DE = 1 << 1
    ZE = 1 << 2
    OE = 1 << 3
    UE = 1 << 4
    PE = 1 << 5
    DAZ = 1 << 6
    UM = 1 << 11
    RC = 3 << 13
    FTZ = 1 << 15
    DEFAULT = 0x1F80


NEAREST, DOWN, UP, ZERO = range(4)


@dataclass(frozen=True, slots=True)
class Format:
    """A binary interchange format: ``low`` is the exponent of a denormal's last bit."""

    width: int
    fraction: int  # explicit fraction bits

    @property
    def sign(self) -> int:
        return 1 << (self.width - 1)

    @property
    def infinity(self) -> int:
        return self.sign - (1 << self.fraction)

    @property
    def quiet(self) -> int:
        return 1 << (self.fraction - 1)

    @property
    def default_nan(self) -> int:
        return self.sign | self.infinity | self.quiet

    @property
    def low(self) -> int:
        return {16: -24, 32: -149, 64: -1074}[self.width]


FORMATS = {16: Format(16, 10), 32: Format(32, 23), 64: Format(64, 52)}
_SIGNALLING = 0b0110_0110_0110_0110
"""Predicates below 16 that are invalid on quiet NaNs; their likes from 16 on are the others."""


def is_nan(x: int, w: int) -> bool:
    f = FORMATS[w]
    return x & ~f.sign > f.infinity


def is_signalling(x: int, w: int) -> bool:
    return is_nan(x, w) and not x & FORMATS[w].quiet


class FloatUnit:
    """The operations, on one MXCSR."""

    def __init__(self) -> None:
        self.mxcsr = int(Mxcsr.DEFAULT)

    # Operands ----------------------------------------------------------------------------------

    def _raise(self, flags: int) -> None:
        self.mxcsr |= flags

    def _daz(self, x: int, f: Format) -> int:
        """``x``, a denormal made zero when DAZ says so."""
        denormal = not x & f.infinity and x & ~f.sign
        return x & f.sign if denormal and self.mxcsr & Mxcsr.DAZ else x

    def _denormals(self, f: Format, *operands: int) -> None:
        if any(not x & f.infinity and x & ~f.sign for x in operands):
            self._raise(Mxcsr.DE)

    def _nan(self, f: Format, *operands: int) -> int | None:
        """The quiet NaN an operation on NaNs yields: the first operand that is one."""
        nans = [x for x in operands if is_nan(x, f.width)]
        if not nans:
            return None
        if any(not x & f.quiet for x in nans):
            self._raise(Mxcsr.IE)
        return nans[0] | f.quiet

    def _invalid(self, f: Format) -> int:
        self._raise(Mxcsr.IE)
        return f.default_nan

    @staticmethod
    def _parts(x: int, f: Format) -> tuple[int, int]:
        """(signed mantissa, exponent of its last bit) of a finite number."""
        field = (x & f.infinity) >> f.fraction
        mantissa = x & ((1 << f.fraction) - 1)
        if field:
            mantissa |= 1 << f.fraction
        return (-mantissa if x & f.sign else mantissa), f.low + max(field, 1) - 1

    # Rounding ----------------------------------------------------------------------------------

    def _shifted(self, sign: bool, mantissa: int, shift: int) -> tuple[int, bool]:
        """``mantissa >> shift`` rounded, and whether that was inexact."""
        if shift <= 0:
            return mantissa << -shift, False
        kept, lost = mantissa >> shift, mantissa & ((1 << shift) - 1)
        mode = (self.mxcsr >> 13) & 3
        half = 1 << (shift - 1)
        if mode == NEAREST:
            up = lost > half or (lost == half and bool(kept & 1))
        else:
            up = bool(lost) and mode == (DOWN if sign else UP)
        return kept + up, bool(lost)

    def _round(self, sign: bool, mantissa: int, exponent: int, f: Format) -> int:
        """The float nearest to (-1)**sign * mantissa * 2**exponent, flags raised."""
        signed = f.sign if sign else 0
        if mantissa == 0:
            return signed
        precision = f.fraction + 1
        natural = exponent + mantissa.bit_length() - precision
        unbounded, _ = self._shifted(sign, mantissa, natural - exponent)
        tiny = unbounded.bit_length() + natural < f.low + precision
        last = max(natural, f.low)
        kept, inexact = self._shifted(sign, mantissa, last - exponent)
        if tiny and self.mxcsr & Mxcsr.FTZ and self.mxcsr & Mxcsr.UM:
            self._raise(Mxcsr.UE | Mxcsr.PE)
            return signed
        if inexact:
            self._raise(Mxcsr.PE | (Mxcsr.UE if tiny else 0))
        # A carry out of the fraction runs into the exponent field, which is just what is wanted.
        field = last - f.low
        bits = (field << f.fraction) + kept
        if bits >= f.infinity:
            return self._overflow(sign, f)
        return signed | bits

    def _overflow(self, sign: bool, f: Format) -> int:
        self._raise(Mxcsr.OE | Mxcsr.PE)
        mode = (self.mxcsr >> 13) & 3
        to_infinity = mode == NEAREST or mode == (DOWN if sign else UP)
        return (f.sign if sign else 0) | (f.infinity if to_infinity else f.infinity - 1)

    # Arithmetic --------------------------------------------------------------------------------

    def add(self, a: int, b: int, w: int) -> int:
        f = FORMATS[w]
        a, b = self._daz(a, f), self._daz(b, f)
        nan = self._nan(f, a, b)
        if nan is not None:
            return nan
        a_infinite, b_infinite = (x & ~f.sign == f.infinity for x in (a, b))
        if a_infinite and b_infinite and a != b:
            return self._invalid(f)
        self._denormals(f, a, b)
        if a_infinite or b_infinite:
            return a if a_infinite else b
        (ma, ea), (mb, eb) = self._parts(a, f), self._parts(b, f)
        exponent = min(ea, eb)
        total = (ma << (ea - exponent)) + (mb << (eb - exponent))
        if total == 0:
            if ma == 0 and mb == 0 and (a ^ b) & f.sign == 0:
                return a
            return f.sign if (self.mxcsr >> 13) & 3 == DOWN else 0
        return self._round(total < 0, abs(total), exponent, f)

    def sub(self, a: int, b: int, w: int) -> int:
        return self.add(a, b if is_nan(b, w) else b ^ FORMATS[w].sign, w)

    def mul(self, a: int, b: int, w: int) -> int:
        f = FORMATS[w]
        a, b = self._daz(a, f), self._daz(b, f)
        nan = self._nan(f, a, b)
        if nan is not None:
            return nan
        sign = (a ^ b) & f.sign
        if f.infinity in (a & ~f.sign, b & ~f.sign):
            if a & ~f.sign == 0 or b & ~f.sign == 0:
                return self._invalid(f)
            self._denormals(f, a, b)
            return sign | f.infinity
        self._denormals(f, a, b)
        (ma, ea), (mb, eb) = self._parts(a, f), self._parts(b, f)
        return self._round(sign != 0, abs(ma * mb), ea + eb, f)

    def div(self, a: int, b: int, w: int) -> int:
        f = FORMATS[w]
        a, b = self._daz(a, f), self._daz(b, f)
        nan = self._nan(f, a, b)
        if nan is not None:
            return nan
        sign = (a ^ b) & f.sign
        size_a, size_b = a & ~f.sign, b & ~f.sign
        if size_a == size_b and size_a in (0, f.infinity):
            return self._invalid(f)
        if size_b == 0:
            if size_a != f.infinity:
                self._raise(Mxcsr.ZE)
            return sign | f.infinity
        self._denormals(f, a, b)
        if size_a == f.infinity or size_b == f.infinity:
            return sign | (f.infinity if size_a == f.infinity else 0)
        (ma, ea), (mb, eb) = self._parts(a, f), self._parts(b, f)
        extra = f.fraction + 3 + abs(mb).bit_length()
        quotient, rest = divmod(abs(ma) << extra, abs(mb))
        # One more bit holds whether anything was left over: enough to round right.
        return self._round(sign != 0, quotient << 1 | (rest != 0), ea - eb - extra - 1, f)

    def sqrt(self, a: int, w: int) -> int:
        f = FORMATS[w]
        a = self._daz(a, f)
        nan = self._nan(f, a)
        if nan is not None:
            return nan
        if a & ~f.sign == 0 or a == f.infinity:
            return a
        if a & f.sign:
            return self._invalid(f)
        self._denormals(f, a)
        mantissa, exponent = self._parts(a, f)
        extra = 2 * f.fraction + 6 + (exponent & 1)
        root = math.isqrt(mantissa << extra)
        rest = root * root != mantissa << extra
        return self._round(False, root << 1 | rest, (exponent - extra) // 2 - 1, f)

    # Comparison --------------------------------------------------------------------------------

    def _ordered(self, a: int, b: int, w: int, *, signal: bool) -> tuple[int, int] | None:
        """Keys that order as the operands do, or None when either is a NaN."""
        f = FORMATS[w]
        a, b = self._daz(a, f), self._daz(b, f)
        if is_nan(a, w) or is_nan(b, w):
            if signal or is_signalling(a, w) or is_signalling(b, w):
                self._raise(Mxcsr.IE)
            return None
        self._denormals(f, a, b)
        first, second = (-(x & ~f.sign) if x & f.sign else x for x in (a, b))
        return first, second

    def eq(self, a: int, b: int, w: int) -> int:
        """Quiet: only a signalling NaN is invalid."""
        keys = self._ordered(a, b, w, signal=False)
        return int(keys is not None and keys[0] == keys[1])

    def lt(self, a: int, b: int, w: int) -> int:
        """Signalling: any NaN is invalid."""
        keys = self._ordered(a, b, w, signal=True)
        return int(keys is not None and keys[0] < keys[1])

    def le(self, a: int, b: int, w: int) -> int:
        """Signalling: any NaN is invalid."""
        keys = self._ordered(a, b, w, signal=True)
        return int(keys is not None and keys[0] <= keys[1])

    def unordered(self, a: int, b: int, w: int) -> int:
        """Quiet: only a signalling NaN is invalid."""
        return int(self._ordered(a, b, w, signal=False) is None)

    def compare(self, a: int, b: int, w: int, predicate: int) -> int:
        """One of CMPPS's and VCMPPS's predicates (SDM vol. 2A, table 3-1)."""
        signal = bool(_SIGNALLING >> (predicate & 15) & 1) != bool(predicate & 16)
        keys = self._ordered(a, b, w, signal=signal)
        if keys is None:
            result = predicate & 3 == 3 if predicate & 8 == 0 else predicate & 3 != 3
        else:
            x, y = keys
            result = (x == y, x < y, x <= y, False)[predicate & 3]
        return int(result != bool(predicate & 4))

    # Multiply and add --------------------------------------------------------------------------

    def fma(self, a: int, b: int, c: int, w: int, mode: int) -> int:
        """a * b + c by one of `pytcg.ir.ops.FMA`; of NaNs the first operand's counts."""
        f = FORMATS[w]
        a, b, c = (self._daz(x, f) for x in (a, b, c))
        sizes = [x & ~f.sign for x in (a, b)]
        wild = sorted(sizes) == [0, f.infinity]  # 0 times infinity
        nan = self._nan(f, a, b, c)
        if nan is not None:
            return nan
        if wild:
            return self._invalid(f)
        sign = (a ^ b ^ (f.sign if FMA[mode][0] == "n" else 0)) & f.sign
        addend = c ^ (f.sign if FMA[mode].endswith("sub") else 0)
        if f.infinity in sizes:
            if addend & ~f.sign == f.infinity and (addend ^ sign) & f.sign:
                return self._invalid(f)
            self._denormals(f, a, b, c)
            return sign | f.infinity
        self._denormals(f, a, b, c)
        if addend & ~f.sign == f.infinity:
            return addend
        (ma, ea), (mb, eb), (mc, ec) = (self._parts(x, f) for x in (a, b, addend))
        product = abs(ma * mb) * (-1 if sign else 1)
        exponent = min(ea + eb, ec)
        total = (product << (ea + eb - exponent)) + (mc << (ec - exponent))
        if total == 0:
            if product == 0 and mc == 0 and (addend ^ sign) & f.sign == 0:
                return sign
            return f.sign if (self.mxcsr >> 13) & 3 == DOWN else 0
        return self._round(total < 0, abs(total), exponent, f)

    # Conversion --------------------------------------------------------------------------------

    def from_half(self, a: int) -> int:
        """binary16 to binary32: exact, and a denormal raises nothing."""
        if not a & 0x7C00 and a & 0x3FF:
            mantissa, exponent = self._parts(a, FORMATS[16])
            return self._round(bool(a & 0x8000), abs(mantissa), exponent, FORMATS[32])
        return self.convert(a, 16, 32)

    def to_half(self, a: int, mode: int) -> int:
        """binary32 to binary16 by VCVTPS2PH's immediate; FTZ doesn't count."""
        before = self.mxcsr
        if not mode & 4:
            self.mxcsr = self.mxcsr & ~Mxcsr.RC | (mode & 3) << 13
        self.mxcsr &= ~Mxcsr.FTZ
        result = self.convert(a, 32, 16)
        self.mxcsr = before | self.mxcsr & 0x3F
        return result

    def convert(self, a: int, w: int, to: int) -> int:
        """binary32 to binary64 or back."""
        f, g = FORMATS[w], FORMATS[to]
        a = self._daz(a, f)
        sign = g.sign if a & f.sign else 0
        shift = g.fraction - f.fraction
        nan = self._nan(f, a)
        if nan is not None:
            payload = nan & ((1 << f.fraction) - 1)
            return sign | g.infinity | (payload << shift if shift > 0 else payload >> -shift)
        if a & ~f.sign == f.infinity:
            return sign | g.infinity
        self._denormals(f, a)
        mantissa, exponent = self._parts(a, f)
        return self._round(sign != 0, abs(mantissa), exponent, g)

    def round(self, a: int, w: int, mode: int) -> int:
        """To a whole number; mode: bits 0-1 the rounding, 2 take MXCSR's, 3 no precision flag."""
        f = FORMATS[w]
        a = self._daz(a, f)
        nan = self._nan(f, a)
        if nan is not None:
            return nan
        exponent = self._parts(a, f)[1]
        if a & f.infinity == f.infinity or exponent >= 0:
            return a
        mantissa, sign = abs(self._parts(a, f)[0]), bool(a & f.sign)
        before = self.mxcsr
        if not mode & 4:
            self.mxcsr = self.mxcsr & ~Mxcsr.RC | (mode & 3) << 13
        whole, inexact = self._shifted(sign, mantissa, -exponent)
        result = self._round(sign, whole, 0, f)
        self.mxcsr = before | (Mxcsr.PE if inexact and not mode & 8 else 0)
        return result

    def from_int(self, value: int, bits: int, w: int) -> int:
        """A signed integer of ``bits`` bits."""
        half = 1 << (bits - 1)
        number = (value ^ half) - half
        return self._round(number < 0, abs(number), 0, FORMATS[w])

    def to_int(self, a: int, w: int, bits: int, *, truncate: bool) -> int:
        """To a signed integer; the "integer indefinite" when it has no room."""
        f = FORMATS[w]
        a = self._daz(a, f)
        indefinite = 1 << (bits - 1)
        if a & f.infinity == f.infinity:
            self._raise(Mxcsr.IE)
            return indefinite
        mantissa, exponent = self._parts(a, f)
        negative, size = mantissa < 0, abs(mantissa)
        if truncate:
            whole = size << exponent if exponent >= 0 else size >> -exponent
            inexact = exponent < 0 and whole << -exponent != size
        else:
            whole, inexact = self._shifted(negative, size, -exponent)
        number = -whole if negative else whole
        if not -indefinite <= number < indefinite:
            self._raise(Mxcsr.IE)
            return indefinite
        if inexact:
            self._raise(Mxcsr.PE)
        return number & ((1 << bits) - 1)

    # Vectors -----------------------------------------------------------------------------------

    def lanes(self, meaning: Callable[[int, int, int], int], a: int, b: int, lane: int) -> int:
        pairs = zip(split(lane, a), split(lane, b), strict=True)
        return join(lane, [meaning(x, y, lane) for x, y in pairs])

    def compare_lanes(self, a: int, b: int, lane: int, predicate: int) -> int:
        pairs = zip(split(lane, a), split(lane, b), strict=True)
        return join(lane, [-self.compare(x, y, lane, predicate) for x, y in pairs])

    def fma_lanes(self, a: int, b: int, c: int, lane: int, mode: int) -> int:
        """In turn, if the mode says so: even lanes subtract and odd ones add, or vice versa."""
        even, odd = {4: (1, 0), 5: (0, 1)}.get(mode, (mode, mode))
        lanes = zip(split(lane, a), split(lane, b), split(lane, c), strict=True)
        return join(lane, [self.fma(x, y, z, lane, odd if i & 1 else even)
                           for i, (x, y, z) in enumerate(lanes)])  # fmt: skip

    def from_halves(self, a: int) -> int:
        return join(32, [self.from_half(x) for x in split(16, a)[:4]])

    def to_halves(self, a: int, mode: int) -> int:
        return join(16, [self.to_half(x, mode) for x in split(32, a)])

    def round_lanes(self, a: int, lane: int, mode: int) -> int:
        return join(lane, [self.round(x, lane, mode) for x in split(lane, a)])

    def sqrt_lanes(self, a: int, lane: int) -> int:
        return join(lane, [self.sqrt(x, lane) for x in split(lane, a)])
