"""The x87 register stack: access by TOP, tags, stack faults, and each instruction's native core.

Every core clears C1, looks for empty registers, computes, and then commits: an unmasked invalid,
denormal or zero-divide exception leaves the registers and TOP as they were.
"""

from __future__ import annotations

from pytcg_native import Table, i32, native, u8, u16, u32, u64, u128
from pytcg_x86.exceptions import raise_exception
from pytcg_x86.softfloat80 import (
    BIAS,
    INDEFINITE,
    INFINITE,
    SIGN,
    Fsw,
    Kind,
    fp_abandoned,
    fp_denormal,
    fp_raise,
    fp_rounding,
    fp_unmasked,
    x80_kind,
    x80_nan,
    x80_normal_exponent,
    x80_normal_mantissa,
    x80_round,
    x80_sign,
)
from pytcg_x86.softfloat80_arith import Order, x80_arith, x80_compare, x80_sqrt
from pytcg_x86.softfloat80_convert import (
    x80_exponent_number,
    x80_from_f32,
    x80_from_f64,
    x80_loaded,
    x80_round_to_integral,
    x80_scale_count,
    x80_scale_infinite,
    x80_significand_number,
)
from pytcg_x86.state import Cr0, Env, Flag, Vector


@native
def fp_wait(env: Env) -> None:
    """#MF for an unmasked exception of an earlier instruction.

    With CR0.NE clear the exception would come as IRQ 13; no line is wired, the code goes on.
    """
    if (env.fp_status & Fsw.ES) != 0 and (env.cr0 & Cr0.NE) != 0:
        raise_exception(env, Vector.MF)


@native
def fp_fwait(env: Env) -> None:
    """WAIT: #NM if CR0.MP and CR0.TS are set, then #MF."""
    if (env.cr0 & (Cr0.MP | Cr0.TS)) == Cr0.MP | Cr0.TS:
        raise_exception(env, Vector.NM)
    fp_wait(env)


# Registers -------------------------------------------------------------------------------------


@native(inline=True)
def fp_physical(env: Env, i: u32) -> u32:
    n: u32 = (env.fp_top + i) & 7
    return n


@native(inline=True)
def fp_empty(env: Env, i: u32) -> bool:
    empty: bool = env.fp_tag[fp_physical(env, i)] != 0
    return empty


@native(inline=True)
def fp_get(env: Env, i: u32) -> u128:
    n: u32 = fp_physical(env, i)
    return (u128(env.fp_exponent[n]) << 64) | u128(env.fp_mantissa[n])


@native(inline=True)
def fp_set(env: Env, i: u32, x: u128) -> None:
    n: u32 = fp_physical(env, i)
    env.fp_mantissa[n] = u64(x)
    env.fp_exponent[n] = u16(x >> 64)
    env.fp_tag[n] = 0


@native(inline=True)
def fp_clear_c1(env: Env) -> None:
    env.fp_status &= 0xFFFF ^ Fsw.C1


@native(inline=True)
def fp_underflow(env: Env) -> u128:
    """Stack underflow: an empty register was read (C1 = 0)."""
    fp_raise(env, Fsw.IE | Fsw.SF)
    return INDEFINITE


@native(inline=True)
def fp_move_top(env: Env, by: u32) -> None:
    env.fp_top = (env.fp_top + by) & 7


@native
def fp_pop(env: Env) -> None:
    env.fp_tag[fp_physical(env, 0)] = 1
    fp_move_top(env, 1)


@native
def fp_push(env: Env, x: u128) -> None:
    """Push a result; a register in the way is a stack overflow (C1 = 1)."""
    if not fp_empty(env, 7):
        fp_raise(env, Fsw.IE | Fsw.SF | Fsw.C1)
        x = INDEFINITE
    if not fp_abandoned(env):
        fp_move_top(env, 7)
        fp_set(env, 0, x)


@native
def fp_result(env: Env, i: u32, x: u128, pops: u32) -> None:
    """Write a result to ST(i) and pop, unless an exception forbids it."""
    if not fp_abandoned(env):
        fp_set(env, i, x)
        for _ in range(pops):
            fp_pop(env)


# Loads -----------------------------------------------------------------------------------------


@native
def fp_load(env: Env, mantissa: u64, exponent: u32) -> None:
    """FLD m80, FILD, FBLD and the constants: no exception but stack overflow."""
    fp_clear_c1(env)
    fp_push(env, (u128(exponent & 0xFFFF) << 64) | u128(mantissa))


@native
def fp_load_float(env: Env, x: u128) -> None:
    """FLD m32 and m64; an overflow of the stack goes before what is wrong with the number."""
    fp_clear_c1(env)
    if not fp_empty(env, 7):
        fp_push(env, x)
        return
    x = x80_loaded(env, x)
    # A denormal is pushed even if its exception is unmasked, as processors do.
    if not fp_unmasked(env, Fsw.IE):
        fp_move_top(env, 7)
        fp_set(env, 0, x)


@native
def fp_load_register(env: Env, i: u32) -> None:
    fp_clear_c1(env)
    if not fp_empty(env, i):
        fp_push(env, fp_get(env, i))
        return
    x: u128 = fp_underflow(env)
    if not fp_abandoned(env):
        fp_move_top(env, 7)
        fp_set(env, 0, x)


CONSTANT_MANTISSAS = Table("fp_constant_mantissas", "u64", [
    0x8000_0000_0000_0000, 0xD49A_784B_CD1B_8AFE, 0xB8AA_3B29_5C17_F0BB, 0xC90F_DAA2_2168_C234,
    0x9A20_9A84_FBCF_F798, 0xB172_17F7_D1CF_79AB, 0,
])  # fmt: skip
CONSTANT_EXPONENTS = Table("fp_constant_exponents", "u32", [
    BIAS, BIAS + 1, BIAS, BIAS + 1, BIAS - 2, BIAS - 1, 0,
])  # fmt: skip
# Bit n set: constant n, truncated above, grows by one when rounding to nearest / upwards.
_GROWS_NEAREST = 0b0111100
_GROWS_UP = 0b0111110


@native
def fp_load_constant(env: Env, which: u32) -> None:
    """FLD1 FLDL2T FLDL2E FLDPI FLDLG2 FLDLN2 FLDZ, in the encoding's order; rounded by RC."""
    rounding: u32 = fp_rounding(env)
    grows: u32 = 0
    if rounding == 0:
        grows = _GROWS_NEAREST
    elif rounding == 2:
        grows = _GROWS_UP
    mantissa: u64 = CONSTANT_MANTISSAS[which] + u64((grows >> which) & 1)
    fp_load(env, mantissa, CONSTANT_EXPONENTS[which])


# Arithmetic ------------------------------------------------------------------------------------


@native
def fp_arith_memory(env: Env, operation: u32, b: u128) -> None:
    """ST(0) := ST(0) op a memory operand."""
    fp_clear_c1(env)
    if fp_empty(env, 0):
        fp_result(env, 0, fp_underflow(env), 0)
    else:
        fp_result(env, 0, x80_arith(env, operation, fp_get(env, 0), b), 0)


@native
def fp_arith_m32(env: Env, operation: u32, bits: u32) -> None:
    fp_arith_memory(env, operation, x80_from_f32(bits))


@native
def fp_arith_m64(env: Env, operation: u32, bits: u64) -> None:
    fp_arith_memory(env, operation, x80_from_f64(bits))


@native
def fp_arith_register(env: Env, operation: u32, i: u32, to: u32, pops: u32) -> None:
    """ST(to) := ST(0) op ST(i), where ``to`` is 0 or i."""
    fp_clear_c1(env)
    if fp_empty(env, 0) or fp_empty(env, i):
        fp_result(env, to, fp_underflow(env), pops)
    else:
        fp_result(env, to, x80_arith(env, operation, fp_get(env, 0), fp_get(env, i)), pops)


# Comparison ------------------------------------------------------------------------------------


@native
def fp_compare(env: Env, b: u128, missing: bool, quiet: u32, pops: u32) -> u32:
    """Compare ST(0) with b and pop; an unmasked exception only forbids the pop."""
    fp_clear_c1(env)
    order: u32 = Order.UNORDERED
    if fp_empty(env, 0) or missing:
        fp_underflow(env)
    else:
        order = x80_compare(env, fp_get(env, 0), b, quiet)
    if not fp_abandoned(env):
        for _ in range(pops):
            fp_pop(env)
    return order


@native
def fp_compare_codes(env: Env, b: u128, missing: bool, quiet: u32, pops: u32) -> None:
    """FCOM's family: the order goes to C3, C2, C0."""
    order: u32 = fp_compare(env, b, missing, quiet, pops)
    env.fp_status = (env.fp_status & (0xFFFF ^ (Fsw.C0 | Fsw.C2 | Fsw.C3))) | u16(order)


@native
def fp_compare_register(env: Env, i: u32, quiet: u32, pops: u32) -> None:
    fp_compare_codes(env, fp_get(env, i), fp_empty(env, i), quiet, pops)


@native
def fp_compare_m32(env: Env, bits: u32, pops: u32) -> None:
    fp_compare_codes(env, x80_from_f32(bits), False, 0, pops)


@native
def fp_compare_m64(env: Env, bits: u64, pops: u32) -> None:
    fp_compare_codes(env, x80_from_f64(bits), False, 0, pops)


@native
def fp_compare_wide(env: Env, b: u128, pops: u32) -> None:
    """FICOM and FTST: with a number that is never denormal nor NaN."""
    fp_compare_codes(env, b, False, 0, pops)


@native
def fp_order_flags(env: Env, i: u32, quiet: u32, pops: u32) -> u32:
    """FCOMI's family: an EFLAGS image of ZF, PF, CF."""
    order: u32 = fp_compare(env, fp_get(env, i), fp_empty(env, i), quiet, pops)
    flags: u32 = 0
    if (order & Fsw.C3) != 0:
        flags |= Flag.ZF
    if (order & Fsw.C2) != 0:
        flags |= Flag.PF
    if (order & Fsw.C0) != 0:
        flags |= Flag.CF
    return flags


CLASS_CODES = Table("fp_class_codes", "u16", [
    Fsw.C3, Fsw.C3 | Fsw.C2, Fsw.C2, Fsw.C2 | Fsw.C0, Fsw.C0, Fsw.C0, 0,
])  # fmt: skip


@native
def fp_examine(env: Env) -> None:
    """FXAM: C1 is the sign, C3 C2 C0 the class (SDM vol. 2A), of an empty register too."""
    x: u128 = fp_get(env, 0)
    codes: u16 = Fsw.C3 | Fsw.C0
    if not fp_empty(env, 0):
        codes = CLASS_CODES[x80_kind(x)]
    if x80_sign(x) != 0:
        codes |= Fsw.C1
    env.fp_status = (env.fp_status & (0xFFFF ^ Fsw.CODES)) | codes


# Moves -----------------------------------------------------------------------------------------


@native
def fp_exchange(env: Env, i: u32) -> None:
    fp_clear_c1(env)
    a: u128 = fp_get(env, 0)
    b: u128 = fp_get(env, i)
    if fp_empty(env, 0):
        a = fp_underflow(env)
    if fp_empty(env, i):
        b = fp_underflow(env)
    if not fp_abandoned(env):
        fp_set(env, 0, b)
        fp_set(env, i, a)


@native
def fp_store_register(env: Env, i: u32, pops: u32) -> None:
    fp_clear_c1(env)
    x: u128 = fp_get(env, 0)
    if fp_empty(env, 0):
        x = fp_underflow(env)
    fp_result(env, i, x, pops)


@native
def fp_store_unchecked(env: Env, i: u32) -> None:
    """FSTPNCE: copy ST(0), unless it is empty, and pop; no exception either way."""
    fp_clear_c1(env)
    if not fp_empty(env, 0):
        fp_set(env, i, fp_get(env, 0))
    fp_pop(env)


@native
def fp_conditional_move(env: Env, i: u32, condition: bool) -> None:
    """FCMOVcc; both registers must be full whether or not the condition holds."""
    if fp_empty(env, 0) or fp_empty(env, i):
        fp_clear_c1(env)
        fp_result(env, 0, fp_underflow(env), 0)
    elif condition:
        fp_set(env, 0, fp_get(env, i))


@native
def fp_free(env: Env, i: u32, pops: u32) -> None:
    fp_clear_c1(env)
    env.fp_tag[fp_physical(env, i)] = 1
    for _ in range(pops):
        fp_pop(env)


@native
def fp_step(env: Env, by: u32) -> None:
    """FINCSTP and FDECSTP."""
    fp_clear_c1(env)
    fp_move_top(env, by)


# One operand -----------------------------------------------------------------------------------


@native
def fp_sign(env: Env, keep: u32, flip: u32) -> None:
    """FCHS (keep, flip) and FABS (drop): the sign bit alone; NaNs and unnormals pass."""
    fp_clear_c1(env)
    if fp_empty(env, 0):
        fp_result(env, 0, fp_underflow(env), 0)
        return
    x: u128 = fp_get(env, 0)
    sign: u32 = (x80_sign(x) & keep) ^ flip
    fp_set(env, 0, (x & (SIGN - 1)) | (u128(sign) << 79))


@native
def fp_sqrt(env: Env) -> None:
    fp_clear_c1(env)
    x: u128 = fp_get(env, 0)
    fp_result(env, 0, fp_underflow(env) if fp_empty(env, 0) else x80_sqrt(env, x), 0)


@native
def fp_round_to_integral(env: Env) -> None:
    fp_clear_c1(env)
    x: u128 = fp_get(env, 0)
    fp_result(env, 0, fp_underflow(env) if fp_empty(env, 0) else x80_round_to_integral(env, x), 0)


@native
def fp_extract(env: Env) -> None:
    """FXTRACT: ST(0) becomes the exponent, then the significand is pushed."""
    fp_clear_c1(env)
    x: u128 = fp_get(env, 0)
    exponent: u128 = INDEFINITE
    significand: u128 = INDEFINITE
    if fp_empty(env, 0):
        fp_underflow(env)
    elif not fp_empty(env, 7):
        fp_raise(env, Fsw.IE | Fsw.SF | Fsw.C1)
    else:
        exponent = x80_exponent_number(env, x)
        significand = x80_significand_number(env, x)
    if not fp_abandoned(env):
        fp_set(env, 0, exponent)
        fp_move_top(env, 7)
        fp_set(env, 0, significand)


@native
def x80_scale(env: Env, x: u128, by: u128) -> u128:
    """x * 2**trunc(by); the precision control does not apply."""
    kind: u32 = x80_kind(x)
    kind_by: u32 = x80_kind(by)
    if kind > Kind.INFINITY or kind_by > Kind.INFINITY:
        return x80_nan(env, x, by)
    sign: u32 = x80_sign(x)
    if kind_by == Kind.INFINITY:
        return x80_scale_infinite(env, kind, sign, by)
    if fp_denormal(env, kind, kind_by) or kind == Kind.ZERO:
        return x
    if kind == Kind.INFINITY:
        return INFINITE | (u128(sign) << 79)
    exponent: i32 = x80_normal_exponent(x) + x80_scale_count(by)
    return x80_round(env, sign, exponent, u128(x80_normal_mantissa(x)) << 64, 64)


@native
def fp_scale(env: Env) -> None:
    fp_clear_c1(env)
    if fp_empty(env, 0) or fp_empty(env, 1):
        fp_result(env, 0, fp_underflow(env), 0)
    else:
        fp_result(env, 0, x80_scale(env, fp_get(env, 0), fp_get(env, 1)), 0)


@native(inline=True)
def fp_tag_all(env: Env, empty: u8) -> None:
    for n in range(8):
        env.fp_tag[n] = empty
