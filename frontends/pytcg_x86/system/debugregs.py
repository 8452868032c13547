"""Debug registers: MOV DR, and what breakpoints mean to the engine (SDM vol. 3B, chapter 18).

Breakpoints on code end blocks and have a head that looks at them (`tb_head_break`); those on data
and ports are `exec.trap`'s. Nothing is paid for any of them while there is none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from pytcg.exec.debug import kill_linear
from pytcg.exec.trap import BREAKPOINTS
from pytcg.ir.ops import Type
from pytcg_native import native, u32, u64
from pytcg_x86.core.exceptions import raise_error, raise_exception
from pytcg_x86.core.modes import update_mode
from pytcg_x86.core.state import Cr4, Env, Flag, Vector
from pytcg_x86.decode.table import lower, rows
from pytcg_x86.system.paging import tlb_flush

if TYPE_CHECKING:
    from pytcg_x86.core.translate import Operand, Translator

rows("""
0f.21       MOV_FROM_DR  Ry,D   cpl0 f64
0f.23       MOV_TO_DR    D,Ry   cpl0 f64 end
""")

DR6_BD, DR6_BS, DR6_BT = 1 << 13, 1 << 14, 1 << 15
DR6_HITS = 0xF
DR7_GD = 1 << 13
DEBUGCTL_LBR, DEBUGCTL_BTF = 1, 2
BRANCH_STEP = 1 << 31
"""In env.step_pending: BS, if the instruction turns out to be a taken branch."""
_DR6_FIXED, _DR6_ZERO = 0xFFFF_0FF0, 1 << 12
_DR7_FIXED, _DR7_ZERO = 0x400, 0xD000
_EXECUTE, _PORT, _ACCESS = 0, 2, 3  # DR7's R/W; 1 is a write
_SIZES = 0x4821  # DR7's LEN to bytes, four bits each


@native
def debug_fault(env: Env, bits: u64) -> NoReturn:  # type: ignore[misc]  # see core.exceptions
    """#DB before an instruction that is not a breakpoint's: RF is set in its frame."""
    env.dr[6] = (env.dr[6] & ~u64(DR6_HITS)) | bits
    env.exception_vector = Vector.DB
    env.exception_error = 1  # for `deliver_exception`
    env.exception_has_error = 0
    env.exception_pending = 1


@native
def raise_debug(env: Env, bits: u64) -> NoReturn:
    """#DB: a trap, or an instruction breakpoint."""
    env.dr[6] = (env.dr[6] & ~u64(DR6_HITS)) | bits
    raise_exception(env, Vector.DB)


# What is armed ---------------------------------------------------------------------------------


@native
def arm(env: Env, n: u64) -> None:
    """Take over one breakpoint that DR7 enables."""
    bit: u32 = u32(1) << u32(n)
    kind: u32 = u32(env.dr[7] >> (16 + 4 * n)) & 3
    size: u64 = (u64(_SIZES) >> (((env.dr[7] >> (18 + 4 * n)) & 3) * 4)) & 15
    env.break_at[n] = env.dr[n]
    if kind == _EXECUTE:
        env.break_mask |= bit
        kill_linear(env, env.dr[n])
        return
    env.break_at[n] = env.dr[n] & ~(size - 1)
    env.watch_last[n] = env.break_at[n] + (size - 1)
    if kind != _PORT:
        env.watch_mask |= bit
        if kind == _ACCESS:
            env.watch_reads |= bit
    elif (env.cr4 & Cr4.DE) != 0:
        env.port_mask |= bit


@native
def update_debug(env: Env) -> None:
    """Derive what the engine looks at from DR0 to DR3, DR7 and CR4.DE."""
    watched: u32 = env.watch_mask
    for n in range(u64(0), u64(BREAKPOINTS)):
        if ((env.break_mask >> u32(n)) & 1) != 0:
            kill_linear(env, env.break_at[n])
    env.break_mask = 0
    env.watch_mask = 0
    env.watch_reads = 0
    env.port_mask = 0
    for n in range(u64(0), u64(BREAKPOINTS)):
        if ((env.dr[7] >> (2 * n)) & 3) != 0:
            arm(env, n)
    if (watched | env.watch_mask) != 0:
        tlb_flush(env)
    env.exit_request = 1  # what runs now does not know of them


@native
def guest_alone(env: Env) -> None:
    """See `pytcg.exec.trap`: an instruction with RF set is a block of its own."""
    env.eflags |= Flag.RF
    update_mode(env)


# MOV DR ----------------------------------------------------------------------------------------


@native
def debug_register(env: Env, number: u64) -> u64:
    """DR4 and DR5 are DR6 and DR7, unless CR4.DE makes them #UD; DR7.GD makes all of them #DB."""
    if number > 7 or ((env.cr4 & Cr4.DE) != 0 and (number == 4 or number == 5)):
        raise_exception(env, Vector.UD)
    if (env.dr[7] & DR7_GD) != 0:
        debug_fault(env, DR6_BD)
    return number | 2 if number == 4 or number == 5 else number


@native
def read_dr(env: Env, number: u64) -> u64:
    """MOV from a debug register."""
    return env.dr[debug_register(env, number)]


@native
def write_dr(env: Env, number: u64, value: u64) -> None:
    """MOV to a debug register: DR6 and DR7 have fixed bits (SDM vol. 3B, 18.2)."""
    index: u64 = debug_register(env, number)
    kept: u64 = value
    if index >= 6 and (value >> 32) != 0:
        raise_error(env, Vector.GP, 0)
    if index == 6:
        kept = (value | _DR6_FIXED) & ~u64(_DR6_ZERO)
    elif index == 7:
        kept = (value | _DR7_FIXED) & ~u64(_DR7_ZERO)
    before: u64 = env.dr[index]
    env.dr[index] = kept
    if index != 6 and kept != before:
        update_debug(env)


@lower("MOV_FROM_DR", dst="raw")
def mov_from_dr(t: Translator, dst: Operand, src: Operand) -> None:
    """MOV r, DR."""
    assert src.where is not None
    value = t.call(read_dr, t.env, src.where)
    assert value is not None
    t.write(dst, value.resize(dst.type))


@lower("MOV_TO_DR", dst="raw")
def mov_to_dr(t: Translator, dst: Operand, src: Operand) -> None:
    """MOV DR, r."""
    assert dst.where is not None
    t.call(write_dr, t.env, dst.where, t.read(src).zext(Type.I64))
