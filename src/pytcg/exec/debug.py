"""What a debugger wants of native code: stops at an address and at accesses, and single steps.

Its breakpoints and watchpoints are hooks (`exec.hooks`) with `HookFlag.DEBUG`: no function is
called, the guest leaves with `Exit.DEBUG`. A watched access is given up as by a fault, so that the
instruction can be run again, alone, with `DebugFlag.NO_WATCH`; nothing is paid for that elsewhere.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import NoReturn

from pytcg.exec.invalidate import DEAD, tb_kill
from pytcg.exec.layout import ExecEnv, Tb
from pytcg_native import NULL, native, u32, u64

_LOW = 0xFFFF_FFFF


class DebugFlag(IntFlag):
    """env.debug_flags."""

    NO_INTERRUPTS = 1 << 0  # a single step is not to end in an interrupt's handler
    NO_WATCH = 1 << 1       # watchpoints don't stop
    NO_BREAK = 1 << 2       # nor do breakpoints


class DebugReason(IntEnum):
    """env.debug_reason: why code was left with `Exit.DEBUG`."""

    NONE = 0
    BREAK = 1    # env.pc is a breakpoint's
    WATCH = 2    # the instruction at env.pc would access what is watched
    WATCHED = 3  # a delivery has accessed it


@native
def debug_break(env: ExecEnv) -> None:
    """A breakpoint: leave before the instruction, and before an interrupt."""
    if (env.debug_flags & DebugFlag.NO_BREAK) != 0:
        return
    env.debug_reason = DebugReason.BREAK
    env.stop_request = 1
    env.exit_request = 1


@native
def give_up(env: ExecEnv) -> NoReturn:  # type: ignore[misc]  # see pytcg_x86.core.exceptions
    """Leave the instruction as a fault does; `debug_leave` takes the exception back."""
    env.exception_pending = 1


@native
def debug_watch(env: ExecEnv, address: u64, access: u32) -> None:
    """A watched access. Where the processor itself makes it, delivering, it is made first."""
    if (env.debug_flags & DebugFlag.NO_WATCH) != 0:
        return
    if env.debug_reason == DebugReason.NONE:
        env.debug_address = address
        env.debug_access = access
    if env.debug_restarts == 0:
        env.debug_reason = DebugReason.WATCHED
        return
    env.debug_reason = DebugReason.WATCH
    give_up(env)


@native
def kill_linear(env: ExecEnv, linear: u64) -> None:
    """Kill every block with an instruction at a linear address, in whatever address space."""
    tb: Tb = Tb(env.tb_last)
    while tb != NULL:
        distance: u64 = linear - (tb.cs_base + tb.pc)
        if tb.flags != DEAD and (distance < tb.size or (distance & _LOW) < tb.size):
            tb_kill(env, tb)
        tb = Tb(tb.made_before)
