"""The x87 register stack: access by TOP, tags, stack faults, loads and moves.

Every core clears C1, looks for empty registers, computes, and then commits: an unmasked invalid,
denormal or zero-divide exception leaves the registers and TOP as they were.
"""

from __future__ import annotations

from pytcg_native import Table, call_host, native, ptr, u8, u32, u64, u128
from pytcg_x86.core.exceptions import raise_exception
from pytcg_x86.core.state import Cr0, Env, Host, Vector
from pytcg_x86.x87.softfloat80 import (
    BIAS,
    INDEFINITE,
    Fsw,
    fp_abandoned,
    fp_raise,
    fp_rounding,
    fp_unmasked,
)
from pytcg_x86.x87.softfloat80_convert import x80_loaded


@native
def fp_wait(env: Env) -> None:
    """#MF for an unmasked exception of an earlier instruction, or FERR# with CR0.NE clear.

    FERR# is IRQ 13 on a PC (SDM vol. 1, D.2). It is signalled once for an exception; the code goes
    on, as with IGNNE#, to the next place where interrupts are taken.
    """
    if (env.fp_status & Fsw.ES) != 0:
        if (env.cr0 & Cr0.NE) != 0:
            raise_exception(env, Vector.MF)
        if env.fp_ferr == 0:
            env.fp_ferr = 1
            call_host(ptr(env.host[Host.FPU_ERROR]), "void")


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
def fp_number(env: Env, n: u32) -> u128:
    """What is in physical register n."""
    return (u128(env.fp_register[2 * n + 1]) << 64) | u128(env.fp_register[2 * n])


@native(inline=True)
def fp_get(env: Env, i: u32) -> u128:
    return fp_number(env, fp_physical(env, i))


@native(inline=True)
def fp_set(env: Env, i: u32, x: u128) -> None:
    n: u32 = fp_physical(env, i)
    env.fp_register[2 * n] = u64(x)
    env.fp_register[2 * n + 1] = u64(x >> 64) & 0xFFFF
    env.fp_tag[n] = 0


@native
def guest_context(env: Env) -> u32:
    """What regions take for granted: the top of the stack, so that ST(i) is a known register."""
    top: u32 = env.fp_top
    return top


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


@native(inline=True)
def fp_tag_all(env: Env, empty: u8) -> None:
    for n in range(8):
        env.fp_tag[n] = empty
