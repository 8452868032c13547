"""Native cores of the x87's arithmetic, comparisons and one-operand instructions."""

from __future__ import annotations

from pytcg_native import Table, i32, native, u16, u32, u64, u128
from pytcg_x86.core.state import Env, Flag
from pytcg_x86.x87.softfloat80 import (
    INDEFINITE,
    INFINITE,
    SIGN,
    Fsw,
    Kind,
    fp_abandoned,
    fp_denormal,
    fp_raise,
    x80_kind,
    x80_nan,
    x80_normal_exponent,
    x80_normal_mantissa,
    x80_round,
    x80_sign,
)
from pytcg_x86.x87.softfloat80_arith import Order, x80_arith, x80_compare, x80_sqrt
from pytcg_x86.x87.softfloat80_convert import (
    x80_exponent_number,
    x80_from_f32,
    x80_from_f64,
    x80_round_to_integral,
    x80_scale_count,
    x80_scale_infinite,
    x80_significand_number,
)
from pytcg_x86.x87.stack import (
    fp_clear_c1,
    fp_empty,
    fp_get,
    fp_move_top,
    fp_pop,
    fp_result,
    fp_set,
    fp_underflow,
)


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
