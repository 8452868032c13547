"""Delivering exceptions and interrupts, in every mode (SDM vol. 3A, chapter 6; vol. 2A, INT n).

Delivery changes nothing until its last store has succeeded; a fault on the way is a new pending
exception, which `cpu_exec` delivers next, combined with the first as SDM table 6-5 says.
"""

from __future__ import annotations

from enum import IntEnum

from pytcg.exec.exits import Exit
from pytcg.exec.logevent import LogEvent
from pytcg_native import NULL, attempt, call_host, native, ptr, u32, u64, unlikely
from pytcg_x86.core.eflags import get_eflags
from pytcg_x86.core.exceptions import WILD, raise_exception, raise_gate, raise_selector
from pytcg_x86.core.modes import update_mode
from pytcg_x86.core.state import Attr, Cr0, Env, Flag, Seg, Vector
from pytcg_x86.system.debugregs import DR6_HITS, DR7_GD
from pytcg_x86.system.descriptor import (
    descriptor_attr,
    dpl_of,
    kernel_load,
    mark_accessed,
    set_real,
)
from pytcg_x86.system.frame import (
    frame_commit,
    frame_from_tss,
    frame_here,
    frame_push,
    frame_wide,
    is_long,
    tss_room,
)
from pytcg_x86.system.task import TASK_GATE, finish_task, task_interrupt
from pytcg_x86.system.transfer import (
    check_present,
    check_target,
    is_conforming,
    is_wide,
    read_code,
    set_code,
)
from pytcg_x86.system.vm86 import leave_vm86, push_vm86_segments

# Gate types (SDM vol. 3A, table 3-2); bit 0: a trap gate, which leaves IF alone.
_INTERRUPT_GATE_16, _TRAP_GATE_16 = 6, 7
_INTERRUPT_GATE, _TRAP_GATE = 14, 15
_LONG_GATES = 1 << _INTERRUPT_GATE | 1 << _TRAP_GATE
_GATES = _LONG_GATES | 1 << TASK_GATE | 1 << _INTERRUPT_GATE_16 | 1 << _TRAP_GATE_16

EXTERNAL_EVENT = 0x100
"""env.delivering while an external interrupt is: it combines with nothing, but sets EXT."""

_CONTRIBUTORY = 1 << Vector.DE | 1 << Vector.TS | 1 << Vector.NP | 1 << Vector.SS | 1 << Vector.GP
_TRAPS = 1 << Vector.DB | 1 << Vector.NMI | 1 << Vector.BP | 1 << Vector.OF | 1 << Vector.DF
_CLEARED = Flag.TF | Flag.NT | Flag.RF | Flag.VM
_IST_TOP = 28  # offset in the TSS of IST 1, less 8


class Cause(IntEnum):
    """Where an interrupt comes from."""

    EXTERNAL = 0  # the INTR or NMI pin, or an exception
    SOFTWARE = 1  # INT n, INT3, INTO: the gate's DPL must let them
    ICEBP = 2     # INT1: it need not


# Gates -----------------------------------------------------------------------------------------


@native
def enter_handler(env: Env, selector: u32, code: u64, cpl: u32, pc: u64, kind: u32) -> None:
    """Nothing can fault any more: load CS, SS and flags."""
    frame_commit(env)
    set_code(env, selector, code, cpl, pc)
    env.eflags = env.eflags & ~_CLEARED
    if (kind & 1) == 0:
        env.eflags = env.eflags & ~Flag.IF


@native
def check_gate(env: Env, vector: u32, gate: u64, cause: u32) -> None:
    """#GP if software may not use the gate, #NP if it is not present."""
    attr: u32 = descriptor_attr(gate)
    if cause == Cause.SOFTWARE and dpl_of(attr) < env.cpl:
        raise_gate(env, Vector.GP, vector)
    if (attr & Attr.P) == 0:
        raise_gate(env, Vector.NP, vector)


@native
def handler_code(env: Env, selector: u32) -> u64:
    """Descriptor of a handler's code segment: it may not be less privileged."""
    code: u64 = read_code(env, selector)
    if dpl_of(descriptor_attr(code)) > env.cpl:
        raise_selector(env, Vector.GP, selector)
    check_present(env, selector, code)
    return mark_accessed(env, selector, code)


@native
def handler_level(env: Env, code: u64) -> u32:
    """The privilege level a handler runs at."""
    attr: u32 = descriptor_attr(code)
    if is_conforming(attr):
        return env.cpl
    return dpl_of(attr)


@native
def protected_gate(env: Env, vector: u32, cause: u32) -> u64:
    """The IDT's gate of a vector, checked."""
    if vector * 8 + 7 > env.idtr_limit:
        raise_gate(env, Vector.GP, vector)
    gate: u64 = kernel_load(env, env.idtr_base + vector * 8, 8)
    kind: u32 = u32(gate >> 40) & 0x1F
    if ((u32(_GATES) >> kind) & 1) == 0:
        raise_gate(env, Vector.GP, vector)
    check_gate(env, vector, gate, cause)
    return gate


@native
def protected_interrupt(env: Env, vector: u32, cause: u32, image: u64) -> None:
    """Through a 16- or 32-bit gate; the error code is env.exception_error."""
    gate: u64 = protected_gate(env, vector, cause)
    kind: u32 = u32(gate >> 40) & 0x1F
    selector: u32 = u32(gate >> 16) & 0xFFFF
    if kind == TASK_GATE:
        error: bool = cause == Cause.EXTERNAL and env.exception_has_error != 0
        task_interrupt(env, selector, image, u32(error))
        return
    code: u64 = handler_code(env, selector)
    level: u32 = handler_level(env, code)
    virtual: bool = (env.eflags & Flag.VM) != 0
    if virtual and level != 0:
        raise_selector(env, Vector.GP, selector)
    size: u32 = 2
    pc: u64 = gate & 0xFFFF
    if kind >= _INTERRUPT_GATE:
        size = 4
        pc |= (gate >> 48) << 16
    if level < env.cpl:
        frame_from_tss(env, level)
        if virtual:
            push_vm86_segments(env, size)
        frame_push(env, size, env.seg_sel[Seg.SS])
        frame_push(env, size, env.gpr[4])
    else:
        frame_here(env)
    push_return(env, size, image, cause)
    check_target(env, code, pc)
    if virtual:
        leave_vm86(env)
    enter_handler(env, selector, code, level, pc, kind)


@native
def push_return(env: Env, size: u32, image: u64, cause: u32) -> None:
    """Flags, CS, rIP and, for exceptions that have one, the error code."""
    frame_push(env, size, image)
    frame_push(env, size, env.seg_sel[Seg.CS])
    frame_push(env, size, env.rip)
    if cause == Cause.EXTERNAL and env.exception_has_error != 0:
        frame_push(env, size, env.exception_error)


@native
def long_stack(env: Env, gate: u64, level: u32) -> None:
    """The stack of a 64-bit handler: IST, the TSS's, or the present one; aligned to 16."""
    ist: u32 = u32(gate >> 32) & 7
    pointer: u64 = env.gpr[4]
    inner: bool = level < env.cpl
    if ist != 0:
        tss_room(env, _IST_TOP + ist * 8 + 7)
        pointer = kernel_load(env, env.seg_base[Seg.TR] + (_IST_TOP + ist * 8), 8)
    elif inner:
        tss_room(env, level * 8 + 11)
        pointer = kernel_load(env, env.seg_base[Seg.TR] + (4 + level * 8), 8)
    frame_wide(env, pointer & ~u64(15), level, inner)


@native
def long_interrupt(env: Env, vector: u32, cause: u32, image: u64) -> None:
    """Through a 16-byte gate (SDM vol. 3A, 6.14)."""
    if vector * 16 + 15 > env.idtr_limit:
        raise_gate(env, Vector.GP, vector)
    gate: u64 = kernel_load(env, env.idtr_base + vector * 16, 8)
    upper: u64 = kernel_load(env, env.idtr_base + (vector * 16 + 8), 8)
    kind: u32 = u32(gate >> 40) & 0x1F
    if ((u32(_LONG_GATES) >> kind) & 1) == 0:
        raise_gate(env, Vector.GP, vector)
    check_gate(env, vector, gate, cause)
    selector: u32 = u32(gate >> 16) & 0xFFFF
    code: u64 = handler_code(env, selector)
    if not is_wide(env, descriptor_attr(code)):
        raise_selector(env, Vector.GP, selector)
    level: u32 = handler_level(env, code)
    pc: u64 = (gate & 0xFFFF) | (((gate >> 48) & 0xFFFF) << 16) | (upper << 32)
    check_target(env, code, pc)
    long_stack(env, gate, level)
    frame_push(env, 8, env.seg_sel[Seg.SS])
    frame_push(env, 8, env.gpr[4])
    push_return(env, 8, image, cause)
    enter_handler(env, selector, code, level, pc, kind)


@native
def real_interrupt(env: Env, vector: u32) -> None:
    """Through the interrupt vector table (SDM vol. 3A, 20.1.4): no error code."""
    if vector * 4 + 3 > env.idtr_limit:
        raise_gate(env, Vector.GP, vector)
    entry: u64 = kernel_load(env, env.idtr_base + vector * 4, 4)
    frame_here(env)
    frame_push(env, 2, get_eflags(env))
    frame_push(env, 2, env.seg_sel[Seg.CS])
    frame_push(env, 2, env.rip)
    frame_commit(env)
    set_real(env, Seg.CS, u32(entry >> 16))
    env.rip = entry & 0xFFFF
    env.eflags = env.eflags & ~(Flag.IF | Flag.TF | Flag.RF | Flag.AC)


@native
def deliver_vector(env: Env, vector: u32, cause: u32, image: u64) -> None:
    """Enter the handler of ``vector``, with ``image`` as the flags it returns to.

    If that is another task, `finish_task` must follow.
    """
    env.step_pending = 0  # a faulting instruction, or INT n: no trap after it
    if vector == Vector.DB:
        env.dr[7] = env.dr[7] & ~u64(DR7_GD)
        env.debugctl = 0
    if is_long(env):
        long_interrupt(env, vector, cause, image)
    elif (env.cr0 & Cr0.PE) != 0:
        protected_interrupt(env, vector, cause, image)
    else:
        real_interrupt(env, vector)
    if env.task_switch == 0:
        env.delivering = 0
    env.exception_has_error = 0
    env.inhibit = 0
    env.halted = 0
    update_mode(env)


# Exceptions ------------------------------------------------------------------------------------


@native
def gate_word(env: Env, vector: u32) -> u64:
    """The IVT's or IDT's entry of a vector (the first half of a 16-byte gate); 0 if outside."""
    size: u32 = 4
    if is_long(env):
        size = 16
    elif (env.cr0 & Cr0.PE) != 0:
        size = 8
    if vector * size + size - 1 > env.idtr_limit:
        return 0
    where: u64 = env.idtr_base + vector * size
    if size == 4:
        return kernel_load(env, where, 4)
    return kernel_load(env, where, 8)


@native
def has_handler(env: Env, vector: u32) -> bool:
    """Library mode: whether the guest has set up anything for this vector.

    With ``stop_exceptions`` 2 that does not count.
    """
    if env.stop_exceptions == 2:
        return False
    error: u32 = env.exception_error
    has_error: u32 = env.exception_has_error
    address: u64 = env.exception_address
    word: u64 = attempt(gate_word(env, vector))
    if env.exception_pending != 0:
        # The table itself is out of reach; the exception that asked is the one to report.
        env.exception_pending = 0
        env.exception_vector = vector
        env.exception_error = error
        env.exception_has_error = has_error
        env.exception_address = address
        return False
    return word != 0


@native
def shut_down(env: Env) -> None:
    """A fault while a double fault is delivered (SDM vol. 3A, 6.15)."""
    env.delivering = 0
    env.exit_reason = Exit.TRIPLE_FAULT
    env.exit_request = 1


@native
def doubles(first: u32, second: u32) -> bool:
    """Whether two exceptions make a double fault (SDM vol. 3A, table 6-5)."""
    contributory: bool = ((u32(_CONTRIBUTORY) >> second) & 1) != 0
    if first == Vector.PF:
        return contributory or second == Vector.PF
    return contributory and ((u32(_CONTRIBUTORY) >> first) & 1) != 0


@native
def combine(env: Env) -> bool:
    """Make a double fault of the pending exception if it came up delivering another.

    False: that was a double fault already, and the processor has shut down.
    """
    if env.delivering == 0 or env.delivering >= EXTERNAL_EVENT:
        return True
    first: u32 = env.delivering - 1
    if first == Vector.DF:
        shut_down(env)
        return False
    if doubles(first, env.exception_vector):
        env.exception_vector = Vector.DF
        env.exception_error = 0
        env.exception_has_error = 1
    return True


@native
def log_delivery(env: Env, event: u32, vector: u32, cause: u32) -> None:
    """Report what is about to be delivered."""
    call_host(ptr(env.log_event), "void", event, u64(vector), u64(cause), u64(0))


@native(extern=True)
def through_stack(env: Env, address: u64) -> u32:
    """See `core.block`."""
    return 0


@native
def settle_wild(env: Env) -> None:
    """A non-canonical address: #SS(0) where it is the stack's."""
    env.exception_has_error = 1
    if through_stack(env, env.exception_address) != 0:
        env.exception_vector = Vector.SS


@native
def deliver_exception(env: Env) -> None:
    """Deliver the exception in env.exception_*; a fault on the way leaves the next one pending."""
    # A helper may have left by a fault with another TLB selected than the mode's.
    update_mode(env)
    if unlikely(env.exception_has_error == WILD):
        settle_wild(env)
    vector: u32 = env.exception_vector
    if vector == Vector.PF:
        env.cr2 = env.exception_address
    if unlikely((env.log & LogEvent.EXCEPTION) != 0):
        log_delivery(env, u32(LogEvent.EXCEPTION), vector, 0)
    if not combine(env):
        return
    vector = env.exception_vector
    if env.stop_exceptions != 0 and not has_handler(env, vector):
        env.delivering = 0
        env.step_pending = 0
        env.exit_reason = Exit.UNHANDLED
        env.exit_request = 1
        return
    env.delivering = vector + 1
    image: u64 = get_eflags(env)
    fault: bool = ((u32(_TRAPS) >> vector) & 1) == 0
    if fault or (vector == Vector.DB and env.exception_error != 0):
        image |= Flag.RF
    deliver_vector(env, vector, Cause.EXTERNAL, image)


@native
def guest_deliver(env: Env) -> None:
    """See `pytcg.exec.dispatch`."""
    deliver_exception(env)
    finish_task(env, NULL)


@native
def deliver_interrupt(env: Env, vector: u32, cause: u32) -> None:
    """Deliver an interrupt that is no exception; env.rip is where its handler returns to."""
    # Neither a handler nor one for the #GP that comes instead: stop, at the INT itself.
    if (cause == Cause.SOFTWARE and env.stop_exceptions != 0 and not has_handler(env, vector)
            and not has_handler(env, Vector.GP)):  # fmt: skip
        raise_exception(env, vector)
    env.exception_has_error = 0
    if unlikely((env.log & LogEvent.INTERRUPT) != 0):
        log_delivery(env, u32(LogEvent.INTERRUPT), vector, cause)
    if cause == Cause.EXTERNAL:
        env.delivering = EXTERNAL_EVENT
    else:
        env.delivering = 0
    image: u64 = get_eflags(env)
    held: u32 = 0
    if cause != Cause.EXTERNAL:
        image = image & ~u64(Flag.RF)  # the instruction has begun (SDM vol. 3B, 18.3.1.1)
        held = env.step_pending & DR6_HITS
    deliver_vector(env, vector, cause, image)
    if unlikely(held != 0):
        hold_hits(env, cause, held)


@native
def hold_hits(env: Env, cause: u32, held: u32) -> None:
    """Data breakpoints of the MOV SS before INT n: due before its handler (SDM vol. 3A, 6.8.3)."""
    if cause == Cause.ICEBP:
        env.dr[6] = env.dr[6] | u64(held)  # which is #DB's handler already
    else:
        env.step_pending |= held
        env.exit_request = 1
