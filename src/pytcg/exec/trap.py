"""Accesses on which the guest itself has set a breakpoint: an exception behind the instruction.

A page with one has no tags in the TLB, so its accesses take the slow paths, which look here. The
trap is due when the instruction is done, but a block runs on: an instruction that hits within one
is given up as by a fault and run once more, alone (`guest_alone`); then the hit is noted.
"""

from __future__ import annotations

from pytcg.exec.debug import give_up
from pytcg.exec.layout import ExecEnv
from pytcg_native import native, u32, u64

BREAKPOINTS = 4
_WRITE = 1  # softmmu's Access.WRITE


@native(extern=True)
def guest_alone(env: ExecEnv) -> None:
    """Have the instruction at env.pc run next as a block of its own."""


@native
def note_trap(env: ExecEnv, hits: u32) -> None:
    """A trap is due after this instruction, which is done again alone if others would follow it."""
    if env.debug_restarts != 0 and env.alone == 0:
        env.rerun = 1
        give_up(env)
    env.step_pending |= hits
    env.exit_request = 1


@native
def trap_access(env: ExecEnv, address: u64, size: u64, access: u32) -> None:
    """An access to a page that may have breakpoints on it."""
    hits: u32 = 0
    for n in range(u64(0), u64(BREAKPOINTS)):
        bit: u32 = u32(1) << u32(n)
        wanted: bool = access == _WRITE or (env.watch_reads & bit) != 0
        if ((env.watch_mask & bit) != 0 and wanted and address <= env.watch_last[n]
                and address + (size - 1) >= env.break_at[n]):  # fmt: skip
            hits |= bit
    if hits != 0:
        note_trap(env, hits)


@native
def is_trapped(env: ExecEnv, address: u64, size: u64) -> bool:
    """Whether a breakpoint is for any access in a range: its pages go without tags."""
    for n in range(u64(0), u64(BREAKPOINTS)):
        if ((env.watch_mask >> u32(n)) & 1 != 0 and address <= env.watch_last[n]
                and address + (size - 1) >= env.break_at[n]):  # fmt: skip
            return True
    return False


@native
def trap_port(env: ExecEnv, port: u32, size: u32) -> None:
    """An access to ports that may have breakpoints on them."""
    hits: u32 = 0
    for n in range(u64(0), u64(BREAKPOINTS)):
        if ((env.port_mask >> u32(n)) & 1 != 0 and port <= env.watch_last[n]
                and port + (size - 1) >= env.break_at[n]):  # fmt: skip
            hits |= u32(1) << u32(n)
    if hits != 0:
        note_trap(env, hits)


@native
def is_break(env: ExecEnv, linear: u64) -> u32:
    """The breakpoints on an instruction at a linear address, a bit each."""
    hits: u32 = 0
    for n in range(u64(0), u64(BREAKPOINTS)):
        if (env.break_mask >> u32(n)) & 1 != 0 and env.break_at[n] == linear:
            hits |= u32(1) << u32(n)
    return hits
