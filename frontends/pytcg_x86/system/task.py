"""Task switches: JMP, CALL, IRET, and interrupts through task gates (SDM vol. 3A, chapter 8).

A switch has two halves. `switch_task` does what happens in the old task: it checks and touches all
that the switch reads or writes, so that nothing can fault once it has begun, saves the old task,
and loads all that the TSS says, selectors without their descriptors. `finish_task` is the new
task's: LDT, segments, trap bit, error code. What is wrong there is an exception of the new task,
before its first instruction: rIP has moved on.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag

from pytcg_native import NULL, native, ptr, u8, u32, u64
from pytcg_x86.core.eflags import get_eflags, set_eflags
from pytcg_x86.core.exceptions import raise_selector
from pytcg_x86.core.modes import update_mode
from pytcg_x86.core.state import Attr, Cr0, Cr4, Env, Flag, Seg, Vector
from pytcg_x86.system.debugregs import DR6_BT, update_debug
from pytcg_x86.system.descriptor import (
    check_data,
    check_stack,
    descriptor_address,
    descriptor_attr,
    descriptor_limit,
    dpl_of,
    is_null,
    kernel_load,
    kernel_store,
    mark_accessed,
    read_descriptor,
    set_null,
    set_segment,
)
from pytcg_x86.system.frame import frame_commit, frame_here, frame_push, tss_room
from pytcg_x86.system.paging import check_pdptes, tlb_flush_local
from pytcg_x86.system.transfer import check_present, check_target, is_code, is_conforming
from pytcg_x86.system.vm86 import set_vm86_segments

TSS_16, TSS_32, TASK_GATE = 1, 9, 5
_BUSY = 2
_TABLE = 4  # selector: the LDT's
_LDT = 2
_LINK, _TRAP, _CR3 = 0, 100, 0x1C
_LOCAL_BREAKPOINTS = 0x155  # DR7: L0 to L3, LE
_LOADED = (Flag.ARITHMETIC | Flag.TF | Flag.IF | Flag.DF | Flag.IOPL | Flag.NT | Flag.RF | Flag.VM
           | Flag.AC | Flag.VIF | Flag.VIP | Flag.ID)  # fmt: skip


class Source(IntEnum):
    """What switches tasks."""

    JUMP = 0
    CALL = 1
    RETURN = 2
    INTERRUPT = 3


class Switch(IntFlag):
    """env.task_switch: the half that is still to do."""

    PENDING = 1
    HAS_ERROR = 2  # env.task_error is pushed
    TRAP = 4       # the TSS's T bit


# Finding the TSS -------------------------------------------------------------------------------


@native
def task_descriptor(env: Env, selector: u32, busy: u32, vector: u32) -> u64:
    """A TSS's descriptor: ``vector``(selector) unless it is in the GDT, a TSS, and (not) busy."""
    if (selector & _TABLE) != 0:
        raise_selector(env, vector, selector)
    descriptor: u64 = read_descriptor(env, selector, vector)
    kind: u32 = descriptor_attr(descriptor) & 0x1F
    if kind != TSS_16 | busy and kind != TSS_32 | busy:
        raise_selector(env, vector, selector)
    check_present(env, selector, descriptor)
    return descriptor


@native
def is_task(attr: u32) -> bool:
    """A task gate or a TSS, busy or not."""
    kind: u32 = attr & 0x1F
    return kind == TASK_GATE or (kind & 0x15) == 1


@native
def task_transfer(env: Env, selector: u32, descriptor: u64, source: u32, next_pc: u64) -> None:
    """JMP or CALL to a TSS or a task gate (SDM vol. 2A, JMP: TASK-GATE, TASK-STATE-SEGMENT)."""
    attr: u32 = descriptor_attr(descriptor)
    if dpl_of(attr) < env.cpl or dpl_of(attr) < (selector & 3):
        raise_selector(env, Vector.GP, selector)
    target: u32 = selector
    if (attr & 0x1F) == TASK_GATE:
        check_present(env, selector, descriptor)
        target = u32(descriptor >> 16) & 0xFFFF
    tss: u64 = task_descriptor(env, target, 0, Vector.GP)
    switch_task(env, target, tss, source, next_pc, get_eflags(env))


@native
def task_return(env: Env, next_pc: u64) -> None:
    """IRET with NT set: back to the task that the link names."""
    link: u32 = u32(kernel_load(env, env.seg_base[Seg.TR] + _LINK, 2))
    tss: u64 = task_descriptor(env, link, _BUSY, Vector.TS)
    switch_task(env, link, tss, Source.RETURN, next_pc, get_eflags(env) & ~Flag.NT)


@native
def task_interrupt(env: Env, selector: u32, image: u64, error: u32) -> None:
    """An interrupt or exception through a task gate; ``error`` is 1 if it has an error code."""
    tss: u64 = task_descriptor(env, selector, 0, Vector.GP)
    code: u32 = env.exception_error
    switch_task(env, selector, tss, Source.INTERRUPT, env.rip, u32(image))
    if error != 0:
        env.task_switch |= Switch.HAS_ERROR
        env.task_error = code


# The old task's half ---------------------------------------------------------------------------


@native
def touch(env: Env, address: u64) -> None:
    """Fault now if a byte can't be read and written."""
    kernel_store(env, address, 1, kernel_load(env, address, 1))


@native
def touch_all(env: Env, selector: u32, base: u64, last: u64, links: bool) -> None:
    """All the memory that a switch to the TSS at ``base`` needs."""
    if links:
        touch(env, base)
        touch(env, base + 1)
    kernel_load(env, base, 1)
    kernel_load(env, base + last, 1)
    old: u64 = env.seg_base[Seg.TR]
    if (env.seg_attr[Seg.TR] & 8) != 0:
        tss_room(env, 0x5F)
        touch(env, old + 0x20)
        touch(env, old + 0x5D)
    else:
        tss_room(env, 0x29)
        touch(env, old + 0x0E)
        touch(env, old + 0x29)
    touch(env, descriptor_address(env, env.seg_sel[Seg.TR]) + 5)
    touch(env, descriptor_address(env, selector) + 5)


@native
def set_busy(env: Env, selector: u32, busy: u32) -> None:
    """Set or clear the busy bit of a TSS's descriptor."""
    where: u64 = descriptor_address(env, selector) + 5
    kernel_store(env, where, 1, (kernel_load(env, where, 1) & ~u64(_BUSY)) | busy)


# The dynamic fields follow one another in both kinds (SDM vol. 3A, 8.2.1 and 8.6): EIP, EFLAGS, the
# general registers and the selectors, in slots of four bytes or two; then LDTR's selector.


@native(inline=True)
def first_slot(wide: bool) -> u64:
    """The offset of EIP, in a 32-bit TSS if ``wide``."""
    return 0x20 if wide else 0x0E


@native(inline=True)
def slot_size(wide: bool) -> u64:
    return 4 if wide else 2


@native(inline=True)
def selector_count(wide: bool) -> u64:
    """A 16-bit TSS has no FS and GS."""
    return 6 if wide else 4


@native
def save_task(env: Env, pc: u64, image: u32) -> None:
    """The dynamic fields of the TSS that TR names."""
    wide: bool = (env.seg_attr[Seg.TR] & 8) != 0
    size: u64 = slot_size(wide)
    at: u64 = env.seg_base[Seg.TR] + first_slot(wide)
    kernel_store(env, at, u32(size), pc)
    kernel_store(env, at + size, u32(size), image)
    at += 2 * size
    for i in range(u64(0), u64(8)):
        kernel_store(env, at + i * size, u32(size), env.gpr[i])
    at += 8 * size
    for k in range(u64(0), selector_count(wide)):
        kernel_store(env, at + k * size, 2, env.seg_sel[k])


@native
def read_task(env: Env, base: u64, wide: bool) -> u64:
    """Registers and selectors from a TSS; returns its EFLAGS."""
    size: u64 = slot_size(wide)
    at: u64 = base + first_slot(wide)
    env.rip = kernel_load(env, at, u32(size))
    flags: u64 = kernel_load(env, at + size, u32(size))
    at += 2 * size
    for i in range(u64(0), u64(8)):
        env.gpr[i] = kernel_load(env, at + i * size, u32(size))
    at += 8 * size
    set_null(env, Seg.FS, 0)
    set_null(env, Seg.GS, 0)
    for k in range(u64(0), selector_count(wide)):
        set_null(env, k, u32(kernel_load(env, at + k * size, 2)))
    set_null(env, Seg.LDTR, u32(kernel_load(env, at + selector_count(wide) * size, 2)))
    return flags


@native
def switch_task(env: Env, selector: u32, descriptor: u64, source: u32, pc: u64,
                image: u32) -> None:  # fmt: skip
    """The old task's half; ``pc`` and ``image`` are its EIP and flags to be saved."""
    wide: bool = (descriptor_attr(descriptor) & 8) != 0
    last: u32 = 0x67 if wide else 0x2B
    if descriptor_limit(descriptor) < last:
        raise_selector(env, Vector.TS, selector)
    nested: bool = source == Source.CALL or source == Source.INTERRUPT
    old: u32 = env.seg_sel[Seg.TR]
    base: u64 = ((descriptor >> 16) & 0xFF_FFFF) | ((descriptor >> 56) << 24)
    touch_all(env, selector, base, u64(last), nested)
    # From here on nothing faults.
    if not nested:
        set_busy(env, old, 0)
    save_task(env, pc, image)
    if nested:
        kernel_store(env, base + _LINK, 2, old)
    if source != Source.RETURN:
        set_busy(env, selector, _BUSY)
    set_segment(env, Seg.TR, selector, descriptor | (_BUSY << 40))
    env.cr0 |= Cr0.TS
    if (env.dr[7] & _LOCAL_BREAKPOINTS) != 0:
        env.dr[7] = env.dr[7] & ~u64(_LOCAL_BREAKPOINTS)
        update_debug(env)
    env.task_switch = Switch.PENDING
    cr3: u64 = kernel_load(env, base + _CR3, 4) if wide else env.cr3
    if wide and (kernel_load(env, base + _TRAP, 2) & 1) != 0:
        env.task_switch |= Switch.TRAP
    flags: u64 = read_task(env, base, wide)
    if (env.cr0 & Cr0.PG) != 0 and cr3 != env.cr3:
        env.cr3 = cr3
        tlb_flush_local(env)
    if nested:
        flags |= Flag.NT
    env.cpl = u8(env.seg_sel[Seg.CS] & 3)
    if (flags & Flag.VM) != 0:
        env.cpl = 3
    set_eflags(env, flags, _LOADED)
    update_mode(env)


# The new task's half ---------------------------------------------------------------------------


@native
def load_task_ldt(env: Env) -> None:
    """LDTR: #TS(selector) unless it is an LDT's, present."""
    selector: u32 = env.seg_sel[Seg.LDTR]
    if is_null(selector):
        return
    if (selector & _TABLE) != 0:
        raise_selector(env, Vector.TS, selector)
    descriptor: u64 = read_descriptor(env, selector, Vector.TS)
    attr: u32 = descriptor_attr(descriptor)
    if (attr & 0x1F) != _LDT or (attr & Attr.P) == 0:
        raise_selector(env, Vector.TS, selector)
    set_segment(env, Seg.LDTR, selector, descriptor)


@native
def load_task_code(env: Env) -> u64:
    """CS: #TS(selector) unless it is code of the level that its RPL says, #NP if not present."""
    selector: u32 = env.seg_sel[Seg.CS]
    if is_null(selector):
        raise_selector(env, Vector.TS, selector)
    descriptor: u64 = read_descriptor(env, selector, Vector.TS)
    attr: u32 = descriptor_attr(descriptor)
    level: bool = dpl_of(attr) == (selector & 3)
    if is_conforming(attr):
        level = dpl_of(attr) <= (selector & 3)
    if not is_code(attr) or not level:
        raise_selector(env, Vector.TS, selector)
    check_present(env, selector, descriptor)
    descriptor = mark_accessed(env, selector, descriptor)
    set_segment(env, Seg.CS, selector, descriptor)
    return descriptor


@native
def load_task_segments(env: Env) -> u64:
    """All segment registers, in protected mode; returns CS's descriptor."""
    code: u64 = load_task_code(env)
    selector: u32 = env.seg_sel[Seg.SS]
    if is_null(selector):
        raise_selector(env, Vector.TS, selector)
    descriptor: u64 = read_descriptor(env, selector, Vector.TS)
    check_stack(env, selector, descriptor, env.cpl, Vector.TS)
    set_segment(env, Seg.SS, selector, mark_accessed(env, selector, descriptor))
    for k in range(u64(0), u64(6)):
        selector = env.seg_sel[k]
        if k != Seg.CS and k != Seg.SS and not is_null(selector):
            descriptor = read_descriptor(env, selector, Vector.TS)
            check_data(env, selector, descriptor, Vector.TS)
            set_segment(env, k, selector, mark_accessed(env, selector, descriptor))
    return code


@native
def enter_task(env: Env) -> None:
    """The new task's half: what is wrong is its own fault, at its first instruction."""
    pending: u32 = env.task_switch
    env.task_switch = 0
    if (env.cr0 & Cr0.PG) != 0 and (env.cr4 & Cr4.PAE) != 0:
        check_pdptes(env, env.cr3)
    load_task_ldt(env)
    if (env.eflags & Flag.VM) != 0:
        set_vm86_segments(env)
        update_mode(env)
    else:
        code: u64 = load_task_segments(env)
        update_mode(env)
        check_target(env, code, env.rip)
    if (pending & Switch.HAS_ERROR) != 0:
        frame_here(env)
        frame_push(env, 4 if (env.seg_attr[Seg.TR] & 8) != 0 else 2, env.task_error)
        frame_commit(env)
    if (pending & Switch.TRAP) != 0:
        env.step_pending |= DR6_BT
        env.exit_request = 1


@native
def finish_task(env: Env, rec: ptr) -> None:
    """Do the rest of a task switch, if one has begun; ``rec`` is the instruction's, or NULL."""
    if env.task_switch == 0:
        return
    env.fault_record = rec
    env.debug_restarts = 0  # an access of its own that is watched can't be given up
    enter_task(env)
    env.fault_record = NULL
    env.delivering = 0
