"""The x87's numbers in integers: unpacking, NaN rules, and rounding as the control word says.

A number travels as one u128: the significand in bits 0-63, the biased exponent in 64-78, the sign
in bit 79. Bit 80 marks an operand that was denormal in the (shorter) format it was loaded from.

Significands on the way to rounding are u128 with the leading one in bit 127 and everything lost
below bit 0 ORed into bit 0 (sticky), so one rounding routine serves every operation and format.
Tininess is detected after rounding (SDM vol. 1, 4.9.1.5).
"""

from __future__ import annotations

from enum import IntEnum, IntFlag

from pytcg_native import clz, i32, native, u16, u32, u64, u128
from pytcg_x86.core.state import Env


class Fsw(IntFlag):
    """The x87 status word (SDM vol. 1, 8.1.3); TOP is kept elsewhere."""

    IE = 1 << 0
    DE = 1 << 1
    ZE = 1 << 2
    OE = 1 << 3
    UE = 1 << 4
    PE = 1 << 5
    SF = 1 << 6
    ES = 1 << 7
    C0 = 1 << 8
    C1 = 1 << 9
    C2 = 1 << 10
    C3 = 1 << 14
    B = 1 << 15
    EXCEPTIONS = IE | DE | ZE | OE | UE | PE
    CODES = C0 | C1 | C2 | C3


class Kind(IntEnum):
    """What an operand is, in an order that lets ranges of kinds be compared."""

    ZERO = 0
    DENORMAL = 1
    NORMAL = 2
    INFINITY = 3
    QNAN = 4
    SNAN = 5
    UNSUPPORTED = 6


class Round(IntEnum):
    """The control word's RC field."""

    NEAREST = 0
    DOWN = 1
    UP = 2
    CHOP = 3


BIAS = 16383
SIGN = 1 << 79
WAS_DENORMAL = 1 << 80
INTEGER_BIT = 1 << 63
QUIET_BIT = 1 << 62
EXPONENT_MAX = 0x7FFF
INDEFINITE = (0xFFFF << 64) | (3 << 62)
INFINITE = (0x7FFF << 64) | (1 << 63)
ONE = (BIAS << 64) | (1 << 63)
WRAP = 24576  # what unmasked overflow and underflow add to the exponent (SDM vol. 1, 8.5.4)


@native(inline=True)
def x80_sign(x: u128) -> u32:
    return u32(x >> 79) & 1


@native(inline=True)
def x80_exponent(x: u128) -> i32:
    return i32(u32(x >> 64) & EXPONENT_MAX)


@native(inline=True)
def x80_pack(sign: u32, exponent: i32, mantissa: u64) -> u128:
    return (u128(sign & 1) << 79) | (u128(u32(exponent) & EXPONENT_MAX) << 64) | u128(mantissa)


@native
def x80_kind(x: u128) -> u32:
    """`Kind` of an operand; unnormals, pseudo-infinities and pseudo-NaNs are unsupported."""
    exponent: i32 = x80_exponent(x)
    mantissa: u64 = u64(x)
    if exponent == 0:
        if mantissa == 0:
            return Kind.ZERO
        return Kind.DENORMAL
    if (mantissa >> 63) == 0:
        return Kind.UNSUPPORTED
    if exponent == EXPONENT_MAX:
        if mantissa == INTEGER_BIT:
            return Kind.INFINITY
        if (mantissa & QUIET_BIT) != 0:
            return Kind.QNAN
        return Kind.SNAN
    if (x & WAS_DENORMAL) != 0:
        return Kind.DENORMAL
    return Kind.NORMAL


# Exceptions ------------------------------------------------------------------------------------


@native
def fp_raise(env: Env, flags: u32) -> None:
    """Set status bits, and the summary bits if one of them is an unmasked exception."""
    if (flags & ~u32(env.fp_control) & Fsw.EXCEPTIONS) != 0:
        flags |= Fsw.ES | Fsw.B
        env.fp_opcode = env.fp_last
    env.fp_status |= u16(flags)


@native(inline=True)
def fp_unmasked(env: Env, which: u32) -> bool:
    """Is one of the exceptions ``which`` both signalled and unmasked?"""
    return (u32(env.fp_status) & ~u32(env.fp_control) & which) != 0


@native(inline=True)
def fp_abandoned(env: Env) -> bool:
    """Does an unmasked exception found before computing leave the destination alone?"""
    return fp_unmasked(env, Fsw.IE | Fsw.DE | Fsw.ZE)


@native
def x80_invalid(env: Env) -> u128:
    """The invalid operation exception's masked response."""
    fp_raise(env, Fsw.IE)
    return INDEFINITE


@native(inline=True)
def x80_quiet(x: u128) -> u128:
    return (x | QUIET_BIT) & (WAS_DENORMAL - 1)


@native
def x80_quieted(env: Env, x: u128) -> u128:
    """A NaN or unsupported operand as the result of a one-operand instruction."""
    kind: u32 = x80_kind(x)
    if kind == Kind.UNSUPPORTED:
        return x80_invalid(env)
    if kind == Kind.SNAN:
        fp_raise(env, Fsw.IE)
    return x80_quiet(x)


@native
def x80_nan(env: Env, a: u128, b: u128) -> u128:
    """The result of two operands of which one is a NaN or unsupported (SDM vol. 1, table 4-7)."""
    kind_a: u32 = x80_kind(a)
    kind_b: u32 = x80_kind(b)
    if kind_a == Kind.UNSUPPORTED or kind_b == Kind.UNSUPPORTED:
        return x80_invalid(env)
    if kind_a == Kind.SNAN or kind_b == Kind.SNAN:
        fp_raise(env, Fsw.IE)
    if kind_b < Kind.QNAN:
        return x80_quiet(a)
    if kind_a < Kind.QNAN:
        return x80_quiet(b)
    if kind_a != kind_b:
        return x80_quiet(a if kind_a == Kind.QNAN else b)
    if u64(a) != u64(b):
        return x80_quiet(a if u64(a) > u64(b) else b)
    return x80_quiet(b if x80_sign(a) != 0 else a)


@native
def fp_denormal(env: Env, kind_a: u32, kind_b: u32) -> bool:
    """Signal a denormal operand; true if that (unmasked) ends the instruction."""
    if kind_a != Kind.DENORMAL and kind_b != Kind.DENORMAL:
        return False
    fp_raise(env, Fsw.DE)
    stops: bool = (env.fp_control & Fsw.DE) == 0
    return stops


# Rounding --------------------------------------------------------------------------------------


@native(inline=True)
def x80_precision(env: Env) -> u32:
    """Significand bits the control word's PC field asks for."""
    control: u32 = (u32(env.fp_control) >> 8) & 3
    if control == 0:
        return 24
    if control == 2:
        return 53
    return 64


@native(inline=True)
def fp_rounding(env: Env) -> u32:
    return (u32(env.fp_control) >> 10) & 3


@native
def shift_right_jam(value: u128, count: u32) -> u128:
    """``value`` >> ``count``, with a one in bit 0 if anything was shifted out."""
    if count == 0:
        return value
    if count > 127:
        return u128(value != 0)
    return (value >> count) | u128((value << (128 - count)) != 0)


@native
def x80_rounds_up(rounding: u32, sign: u32, kept: u128, lost: u128, half: u128) -> bool:
    """Does rounding add one to ``kept``, given what is ``lost`` below it?"""
    if lost == 0:
        return False
    if rounding == Round.NEAREST:
        return lost > half or (lost == half and (kept & 1) != 0)
    if rounding == Round.DOWN:
        return sign != 0
    return rounding == Round.UP and sign == 0


@native
def x80_carries(env: Env, sign: u32, significand: u128, precision: u32) -> bool:
    """Does rounding to ``precision`` bits carry into the next power of two?"""
    shift: u32 = 128 - precision
    kept: u128 = significand >> shift
    lost: u128 = significand & ((u128(1) << shift) - 1)
    if kept != (u128(1) << precision) - 1:
        return False
    return x80_rounds_up(fp_rounding(env), sign, kept, lost, u128(1) << (shift - 1))


@native
def x80_overflow(env: Env, sign: u32, precision: u32, emax: i32) -> u128:
    """Masked overflow: infinity or the largest number, by rounding mode (SDM vol. 1, 8.5.4)."""
    rounding: u32 = fp_rounding(env)
    if rounding == Round.NEAREST or rounding == (Round.DOWN if sign != 0 else Round.UP):
        fp_raise(env, Fsw.OE | Fsw.PE | Fsw.C1)
        return x80_pack(sign, EXPONENT_MAX, INTEGER_BIT)
    fp_raise(env, Fsw.OE | Fsw.PE)
    largest: u128 = (u128(1) << precision) - 1
    return x80_pack(sign, emax, u64(largest << (64 - precision)))


@native
def x80_round_in(env: Env, sign: u32, exponent: i32, significand: u128, precision: u32, emin: i32,
                 emax: i32) -> u128:  # fmt: skip
    """Round a normalised significand to ``precision`` bits and the exponents emin…emax.

    Exponents carry the 80-bit format's bias. A result below 2**emin comes back with exponent 0 and
    its significand aligned to emin. Unmasked overflow and underflow wrap the exponent, except in
    results for memory, which won't be stored; FSCALE can leave even the wrapped range, for zero
    or infinity.
    """
    tiny: bool = False
    wraps: bool = emin == 1
    if exponent < emin:
        tiny = exponent < emin - 1 or not x80_carries(env, sign, significand, precision)
        if tiny and (env.fp_control & Fsw.UE) == 0:
            fp_raise(env, Fsw.UE)
            if not wraps:
                return 0
            exponent += WRAP
            if exponent < emin:
                fp_raise(env, Fsw.PE)
                return x80_pack(sign, 0, 0)
            tiny = False
        else:
            significand = shift_right_jam(significand, u32(emin - exponent))
            exponent = emin
    shift: u32 = 128 - precision
    kept: u128 = significand >> shift
    lost: u128 = significand & ((u128(1) << shift) - 1)
    up: bool = x80_rounds_up(fp_rounding(env), sign, kept, lost, u128(1) << (shift - 1))
    if up:
        kept += 1
        if (kept >> precision) != 0:
            kept = kept >> 1
            exponent += 1
    if exponent > emax:
        if (env.fp_control & Fsw.OE) != 0:
            return x80_overflow(env, sign, precision, emax)
        fp_raise(env, Fsw.OE)
        if not wraps:
            return 0
        exponent -= WRAP
        if exponent > emax:
            fp_raise(env, Fsw.PE | Fsw.C1)
            return x80_pack(sign, EXPONENT_MAX, INTEGER_BIT)
    if lost != 0:
        fp_raise(env, Fsw.PE)
        if tiny:
            fp_raise(env, Fsw.UE)
        if up:
            fp_raise(env, Fsw.C1)
    mantissa: u64 = u64(kept << (64 - precision))
    if (mantissa >> 63) == 0:
        exponent = 0
    return x80_pack(sign, exponent, mantissa)


@native
def x80_round(env: Env, sign: u32, exponent: i32, significand: u128, precision: u32) -> u128:
    """Round to the 80-bit format's exponents and ``precision`` bits; normalises first."""
    if significand == 0:
        return x80_pack(sign, 0, 0)
    shift: u32 = u32(clz(significand))
    return x80_round_in(env, sign, exponent - i32(shift), significand << shift, precision,
                        1, 0x7FFE)  # fmt: skip


# Significands of finite, non-zero operands -------------------------------------------------------


@native(inline=True)
def x80_normal_mantissa(x: u128) -> u64:
    """The significand with its leading one in bit 63."""
    return u64(x) << clz(u64(x))


@native(inline=True)
def x80_normal_exponent(x: u128) -> i32:
    """The exponent that belongs to `x80_normal_mantissa`; below 1 for denormals."""
    exponent: i32 = x80_exponent(x)
    if exponent == 0:
        exponent = 1
    return exponent - i32(u32(clz(u64(x))))
