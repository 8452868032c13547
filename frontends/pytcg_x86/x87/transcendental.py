"""The transcendental instructions on the register stack; they round by RC, to 64 bits always."""

from __future__ import annotations

from typing import Any

from pytcg_native import native, u32, u128
from pytcg_native.types import NativeFunction
from pytcg_x86.core.state import Env
from pytcg_x86.x87.logarithm import x80_2xm1, x80_yl2x, x80_yl2xp1
from pytcg_x86.x87.softfloat80 import (
    BIAS,
    INDEFINITE,
    ONE,
    Fsw,
    Kind,
    fp_abandoned,
    fp_denormal,
    fp_raise,
    x80_exponent,
    x80_invalid,
    x80_kind,
    x80_quieted,
)
from pytcg_x86.x87.stack import (
    fp_clear_c1,
    fp_empty,
    fp_get,
    fp_move_top,
    fp_result,
    fp_set,
    fp_underflow,
)
from pytcg_x86.x87.trigonometry import x80_angle, x80_atan2

SINE, COSINE, TANGENT = 0, 1, 2


@native
def fp_2xm1(env: Env) -> None:
    """F2XM1."""
    fp_clear_c1(env)
    x: u128 = fp_get(env, 0)
    fp_result(env, 0, fp_underflow(env) if fp_empty(env, 0) else x80_2xm1(env, x), 0)


@native(inline=True)
def fp_pair_missing(env: Env) -> bool:
    return fp_empty(env, 0) or fp_empty(env, 1)


@native
def fp_yl2x(env: Env) -> None:
    """FYL2X: ST(1) := ST(1) * log2(ST(0)); pop."""
    fp_clear_c1(env)
    y: u128 = fp_get(env, 1)
    x: u128 = fp_get(env, 0)
    fp_result(env, 1, fp_underflow(env) if fp_pair_missing(env) else x80_yl2x(env, y, x), 1)


@native
def fp_yl2xp1(env: Env) -> None:
    """FYL2XP1: ST(1) := ST(1) * log2(ST(0) + 1); pop."""
    fp_clear_c1(env)
    y: u128 = fp_get(env, 1)
    x: u128 = fp_get(env, 0)
    fp_result(env, 1, fp_underflow(env) if fp_pair_missing(env) else x80_yl2xp1(env, y, x), 1)


@native
def fp_patan(env: Env) -> None:
    """FPATAN: ST(1) := the angle of (ST(0), ST(1)); pop."""
    fp_clear_c1(env)
    y: u128 = fp_get(env, 1)
    x: u128 = fp_get(env, 0)
    fp_result(env, 1, fp_underflow(env) if fp_pair_missing(env) else x80_atan2(env, y, x), 1)


# Angles ----------------------------------------------------------------------------------------


@native
def fp_angle_in_range(env: Env) -> bool:
    """Clear C1 and C2; set C2 for a number of 2**63 or more, which stays as it is."""
    env.fp_status &= 0xFFFF ^ (Fsw.C1 | Fsw.C2)
    x: u128 = fp_get(env, 0)
    if fp_empty(env, 0) or x80_kind(x) >= Kind.INFINITY or x80_exponent(x) < BIAS + 63:
        return True
    env.fp_status |= Fsw.C2
    return False


@native
def fp_angle(env: Env, x: u128, what: u32) -> u128:
    """SINE, COSINE or TANGENT of ST(0)'s value."""
    kind: u32 = x80_kind(x)
    if kind == Kind.INFINITY:
        return x80_invalid(env)
    if kind > Kind.INFINITY:
        return x80_quieted(env, x)
    if kind == Kind.ZERO:
        return ONE if what == COSINE else x
    if fp_denormal(env, kind, kind):
        return x
    return x80_angle(env, x, what)


@native
def fp_one_angle(env: Env, what: u32) -> None:
    if fp_angle_in_range(env):
        x: u128 = fp_get(env, 0)
        fp_result(env, 0, fp_underflow(env) if fp_empty(env, 0) else fp_angle(env, x, what), 0)


@native
def fp_two_angles(env: Env, first: u32, second: u32) -> None:
    """ST(0) := ``first``, then push ``second`` (TANGENT here means FPTAN's 1.0)."""
    in_range: bool = fp_angle_in_range(env)
    x: u128 = fp_get(env, 0)
    a: u128 = INDEFINITE
    b: u128 = INDEFINITE
    if fp_empty(env, 0):
        fp_underflow(env)
    elif not fp_empty(env, 7):
        env.fp_status &= 0xFFFF ^ Fsw.C2
        fp_raise(env, Fsw.IE | Fsw.SF | Fsw.C1)
    elif not in_range:
        return
    else:
        b = ONE
        if second != TANGENT:
            b = fp_angle(env, x, second)
            fp_clear_c1(env)
        a = fp_angle(env, x, first)
        if x80_kind(x) >= Kind.INFINITY:
            b = a
    if not fp_abandoned(env):
        fp_set(env, 0, a)
        fp_move_top(env, 7)
        fp_set(env, 0, b)


@native
def fp_sin(env: Env) -> None:
    """FSIN."""
    fp_one_angle(env, SINE)


@native
def fp_cos(env: Env) -> None:
    """FCOS."""
    fp_one_angle(env, COSINE)


@native
def fp_sincos(env: Env) -> None:
    """FSINCOS."""
    fp_two_angles(env, SINE, COSINE)


@native
def fp_ptan(env: Env) -> None:
    """FPTAN."""
    fp_two_angles(env, TANGENT, TANGENT)


CORES: dict[str, NativeFunction[Any, Any]] = {
    "F2XM1": fp_2xm1, "FYL2X": fp_yl2x, "FYL2XP1": fp_yl2xp1, "FPTAN": fp_ptan,
    "FPATAN": fp_patan, "FSIN": fp_sin, "FCOS": fp_cos, "FSINCOS": fp_sincos,
}  # fmt: skip
