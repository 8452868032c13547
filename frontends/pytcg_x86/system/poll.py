"""Between blocks: interrupts, single-step traps, and the heads of blocks that need care."""

from __future__ import annotations

from pytcg.exec.debug import DebugFlag
from pytcg.exec.dispatch import HEAD, enter_block, runnable
from pytcg.exec.exits import Exit
from pytcg.exec.layout import Record, Tb
from pytcg.exec.logevent import LogEvent
from pytcg.exec.trap import is_break
from pytcg.softmmu.access import Access, keep_stack
from pytcg_native import NULL, call_host, i64, native, ptr, u32, u64, unlikely
from pytcg_x86.core.exceptions import raise_error, raise_page_fault
from pytcg_x86.core.modes import update_mode
from pytcg_x86.core.state import Env, Flag, Host, Mode, Vector, Vendor
from pytcg_x86.system.debugregs import BRANCH_STEP, DEBUGCTL_BTF, DR6_BS, raise_debug
from pytcg_x86.system.interrupt import deliver_interrupt
from pytcg_x86.system.smm import enter_smm
from pytcg_x86.system.task import finish_task


@native
def begin_step(env: Env, rec: ptr) -> None:
    """TF is set: a trap is due after the instruction, or after it if it branches (BTF)."""
    if (env.debugctl & DEBUGCTL_BTF) != 0:
        env.step_pending |= BRANCH_STEP
        env.step_from = Record(rec).pc
        env.step_next = (Record(rec).pc + Record(rec).length) & env.linear_mask
    else:
        env.step_pending |= DR6_BS
    env.exit_request = 1


@native
def settle_step(env: Env) -> u32:
    """DR6's bits for the traps that are due."""
    traps: u32 = env.step_pending & ~u32(BRANCH_STEP)
    if traps != env.step_pending and env.pc != env.step_next and env.pc != env.step_from:
        traps |= DR6_BS
    return traps


@native(inline=True)
def shadows_breaks(env: Env) -> bool:
    """After MOV SS there is no code breakpoint, but for AMD's processors."""
    return env.inhibit > 1 and env.vendor != Vendor.AMD


@native
def guest_poll(env: Env) -> None:
    """Take what is due before the next instruction, in the order of SDM vol. 3, table 6-2."""
    if env.step_pending != 0:
        traps: u32 = settle_step(env)
        env.step_pending = 0
        env.exit_request = 1  # for what else is due, after the trap
        if traps != 0:
            if (env.eflags & Flag.RF) == 0 and not shadows_breaks(env):
                # The next instruction's breakpoint comes with them (SDM vol. 3B, 18.2.3).
                traps |= is_break(env, (env.code_base + env.pc) & env.linear_mask)
            raise_debug(env, traps)
    if (env.debug_flags & DebugFlag.NO_INTERRUPTS) != 0:
        pass  # whoever set it asks for another look
    elif env.smi_pending != 0 and env.smm == 0:
        env.smi_pending = 0
        halted: u32 = env.halted
        wake(env)
        enter_smm(env, halted)
    elif env.nmi_pending != 0 and env.nmi_blocked == 0:
        env.nmi_pending = 0
        env.nmi_blocked = 1
        wake(env)
        deliver_interrupt(env, Vector.NMI, 0)
        finish_task(env, NULL)
    elif env.intr_line != 0 and (env.eflags & Flag.IF) != 0:
        vector: i64 = call_host(ptr(env.host[Host.ACKNOWLEDGE]), "i64")
        if vector >= 0:
            wake(env)
            deliver_interrupt(env, u32(vector), 0)
            finish_task(env, NULL)
    if env.halted != 0:
        env.exit_reason = Exit.HALT


@native
def guest_keep_stack(env: Env) -> None:
    """Keep the page that the stack pointer is on."""
    keep_stack(env, env.gpr[4] & env.linear_mask)


@native
def guest_unmapped(env: Env, address: u64, access: u32) -> None:
    """Library use: memory that is not mapped is a page that is not present."""
    error: u32 = u32(access == Access.WRITE) << 1 | u32(access == Access.EXECUTE) << 4
    env.unmapped = 1
    raise_page_fault(env, address, error)


@native
def guest_forbidden(env: Env, address: u64, access: u32) -> None:
    """Library use: a page that is there, but not for this."""
    error: u32 = u32(access == Access.WRITE) << 1 | u32(access == Access.EXECUTE) << 4
    env.unmapped = 1
    raise_page_fault(env, address, error | 1)


@native
def guest_misaligned(env: Env) -> None:
    """#AC(0)."""
    raise_error(env, Vector.AC, 0)


@native(inline=True)
def wake(env: Env) -> None:
    env.halted = 0
    if env.exit_reason == Exit.HALT:
        env.exit_reason = Exit.NONE


@native(inline=True)
def enter_shadow(env: Env, rec: ptr) -> ptr:
    """The record to begin with; NULL if the loop is wanted. So are the others."""
    if unlikely(env.budget <= 0):
        env.pc = Tb(rec).pc
        env.exit_reason = Exit.BUDGET
        return NULL
    # RF alone keeps nothing off, and STI keeps no trap off.
    if (env.inhibit == 0 and env.exit_request != 0) or (env.inhibit == 1 and env.step_pending != 0):
        env.pc = Tb(rec).pc
        return NULL
    env.budget -= i64(Tb(rec).insns)
    if unlikely(not runnable(env, rec + HEAD)):
        return rec + HEAD  # it leaves, and the shadow or the trap waits
    env.alone = 1
    if (env.eflags & Flag.TF) != 0:
        begin_step(env, rec + HEAD)
    if env.inhibit != 0:
        env.inhibit = 0
        env.exit_request = 1
    if unlikely((env.watch_mask | env.port_mask) != 0):
        env.exit_request = 1  # for the trap after this instruction
    env.eflags = env.eflags & ~Flag.RF
    update_mode(env)
    return rec + HEAD


@native(inline=True)
def enter_step(env: Env, rec: ptr) -> ptr:
    if unlikely(env.exit_request != 0) or unlikely(env.budget <= 0):
        env.pc = Tb(rec).pc
        if env.exit_request == 0:
            env.exit_reason = Exit.BUDGET
        return NULL
    env.budget -= i64(Tb(rec).insns)
    if unlikely(not runnable(env, rec + HEAD)):
        return rec + HEAD
    env.alone = 1
    begin_step(env, rec + HEAD)
    return rec + HEAD


@native(threaded=True)
def tb_head_shadow(env: Env, rec: ptr, ram: ptr) -> ptr:
    """Head of the one instruction after STI or MOV SS, for which interrupts wait, or with RF."""
    first: ptr = enter_shadow(env, rec)
    if first == NULL:
        return NULL
    return first


@native(threaded=True)
def tb_head_step(env: Env, rec: ptr, ram: ptr) -> ptr:
    """Head of a block with TF set: one instruction, then the trap."""
    first: ptr = enter_step(env, rec)
    if first == NULL:
        return NULL
    return first


@native(inline=True)
def enter_any(env: Env, rec: ptr) -> ptr:
    """By the block's mode."""
    mode: u32 = Tb(rec).flags
    if (mode & Mode.INHIBIT) != 0:
        return enter_shadow(env, rec)
    if (mode & Mode.STEP) != 0:
        return enter_step(env, rec)
    return enter_block(env, rec)


@native
def check_break(env: Env, pc: u64) -> None:
    """#DB if an instruction about to run has a breakpoint, unless RF or MOV SS keeps it off."""
    leaves: bool = env.inhibit == 0 and env.exit_request != 0
    if leaves or (env.eflags & Flag.RF) != 0 or shadows_breaks(env):
        return
    hits: u32 = is_break(env, (env.code_base + pc) & env.linear_mask)
    if hits != 0:
        env.pc = pc
        raise_debug(env, hits)


@native(threaded=True)
def tb_head_break(env: Env, rec: ptr, ram: ptr) -> ptr:
    """Head of a block whose first instruction has a breakpoint of the guest's."""
    check_break(env, Tb(rec).pc)
    first: ptr = enter_any(env, rec)
    if first == NULL:
        return NULL
    return first


@native(threaded=True)
def tb_head_trace(env: Env, rec: ptr, ram: ptr) -> ptr:
    """Head of any block while `-d exec` is on: reports it, then is one of the others."""
    first: ptr = enter_any(env, rec)
    if first == NULL:
        return NULL
    call_host(ptr(env.log_event), "void", u32(LogEvent.ENTER), rec, u64(0), u64(0))
    return first


@native(threaded=True)
def record_too_long(env: Env, rec: ptr, ram: ptr) -> ptr:
    """An instruction of more than 15 bytes: #GP(0)."""
    env.pc = Record(rec).pc
    env.fault_record = rec
    raise_error(env, Vector.GP, 0)
    return NULL
