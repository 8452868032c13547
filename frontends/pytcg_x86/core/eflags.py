"""The EFLAGS register as one value, for native code: PUSHF, POPF, IRET, SYSCALL, gates.

The arithmetic flags live in their own slots (`pytcg_x86.core.state`), the others in env.eflags.
"""

from __future__ import annotations

from pytcg_native import native, popcnt, u8, u32, u64
from pytcg_x86.core.modes import update_mode
from pytcg_x86.core.state import Env, Flag

_MODE_FLAGS = Flag.TF | Flag.RF | Flag.AC | Flag.VM
_IOPL_SHIFT = 12
_POPF_ALWAYS = Flag.ARITHMETIC | Flag.TF | Flag.DF | Flag.NT | Flag.AC | Flag.ID


@native
def get_eflags(env: Env) -> u32:
    """All of EFLAGS."""
    value: u32 = env.eflags | Flag.FIXED | env.flag_c | (u32(env.flag_o) << 11)
    if env.flag_z == 0:
        value |= Flag.ZF
    if (env.flag_s >> 63) != 0:
        value |= Flag.SF
    if (popcnt(env.flag_s & 0xFF) & 1) == 0:
        value |= Flag.PF
    return value | ((u32(env.flag_x) ^ u32(env.flag_s)) & Flag.AF)


@native
def set_arithmetic(env: Env, value: u64) -> None:
    """Fill the flag slots from an EFLAGS image."""
    odd: u64 = ((value >> 2) & 1) ^ 1
    env.flag_z = (value & Flag.ZF) ^ Flag.ZF
    env.flag_s = (((value >> 7) & 1) << 63) | odd
    env.flag_c = u8(value & 1)
    env.flag_o = u8((value >> 11) & 1)
    env.flag_x = u8((value & Flag.AF) ^ odd)


@native
def set_eflags(env: Env, value: u64, mask: u32) -> None:
    """Set the flags in ``mask`` from ``value``; brings the mode up to date.

    When IF lets a waiting interrupt in, asks threaded code to stop for it.
    """
    arithmetic: u32 = mask & Flag.ARITHMETIC
    if arithmetic != 0:
        old: u32 = get_eflags(env)
        set_arithmetic(env, (value & arithmetic) | (old & ~arithmetic))
    system: u32 = mask & ~arithmetic
    before: u32 = env.eflags
    env.eflags = (before & ~system) | (u32(value) & system)
    if ((before ^ env.eflags) & _MODE_FLAGS) != 0:
        update_mode(env)
    if (env.eflags & Flag.IF) != 0 and env.intr_line != 0:
        env.exit_request = 1


@native
def pushf_image(env: Env) -> u64:
    """What PUSHF pushes: VM and RF read as 0 (SDM vol. 2B)."""
    return get_eflags(env) & ~(Flag.VM | Flag.RF)


@native
def popf(env: Env, value: u64, size: u32) -> None:
    """POPF of ``size`` bytes: IOPL changes at CPL 0 only, IF if CPL <= IOPL (SDM vol. 2B)."""
    mask: u32 = _POPF_ALWAYS
    if env.cpl == 0:
        mask |= Flag.IOPL
    if env.cpl <= (env.eflags >> _IOPL_SHIFT) & 3:
        mask |= Flag.IF
    if size == 2:
        mask = mask & 0xFFFF
    else:
        env.eflags = env.eflags & ~Flag.RF
    set_eflags(env, value, mask)
