"""The x87's loads and stores of integers, floats and decimals: native cores.

A store's core only computes; the lowering has probed the destination before and stores after it
if `fp_storable`, so neither a page fault nor an unmasked exception leaves half an instruction.
"""

from __future__ import annotations

from pytcg_native import native, u16, u32, u64, u128
from pytcg_x86.core.state import Env
from pytcg_x86.x87.operate import fp_arith_memory, fp_compare_wide
from pytcg_x86.x87.softfloat80 import Fsw, Round, fp_rounding, fp_unmasked
from pytcg_x86.x87.softfloat80_convert import (
    x80_from_decimal,
    x80_from_f32,
    x80_from_f64,
    x80_from_int,
    x80_to_decimal,
    x80_to_f32,
    x80_to_f64,
    x80_to_int,
)
from pytcg_x86.x87.stack import (
    fp_clear_c1,
    fp_empty,
    fp_get,
    fp_load_float,
    fp_push,
    fp_underflow,
)


@native
def fp_load_m32(env: Env, bits: u32) -> None:
    fp_load_float(env, x80_from_f32(bits))


@native
def fp_load_m64(env: Env, bits: u64) -> None:
    fp_load_float(env, x80_from_f64(bits))


@native
def fp_load_int(env: Env, value: u64) -> None:
    """FILD: ``value`` is sign-extended."""
    fp_clear_c1(env)
    fp_push(env, x80_from_int(value))


@native
def fp_load_decimal(env: Env, low: u64, high: u16) -> None:
    """FBLD."""
    fp_clear_c1(env)
    fp_push(env, x80_from_decimal(low, high))


@native
def fp_arith_int(env: Env, operation: u32, value: u64) -> None:
    """FIADD's family."""
    fp_arith_memory(env, operation, x80_from_int(value))


@native
def fp_compare_int(env: Env, value: u64, pops: u32) -> None:
    """FICOM, FICOMP; FTST with 0."""
    fp_compare_wide(env, x80_from_int(value), pops)


# Stores ----------------------------------------------------------------------------------------


@native(inline=True)
def fp_storable(env: Env) -> bool:
    """May a store go ahead? An inexact result doesn't stop it."""
    return not fp_unmasked(env, Fsw.EXCEPTIONS ^ Fsw.PE)


@native
def fp_stored(env: Env) -> u128:
    """ST(0), or the indefinite of a stack underflow: FSTP m80's value as it stands."""
    fp_clear_c1(env)
    if fp_empty(env, 0):
        return fp_underflow(env)
    return fp_get(env, 0)


@native
def fp_to_m32(env: Env) -> u32:
    return x80_to_f32(env, fp_stored(env))


@native
def fp_to_m64(env: Env) -> u64:
    return x80_to_f64(env, fp_stored(env))


@native
def fp_to_int(env: Env, bits: u32, chop: u32) -> u64:
    """FIST, and FISTTP with ``chop`` 1. The indefinite of an underflow converts to itself."""
    return x80_to_int(env, fp_stored(env), bits, Round.CHOP if chop != 0 else fp_rounding(env))


@native
def fp_to_decimal(env: Env) -> u128:
    """FBSTP."""
    return x80_to_decimal(env, fp_stored(env))
