"""Far JMP, CALL and RET, through call gates and to other tasks too (SDM vol. 2A; vol. 3A, 5.8)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytcg.ir.ops import INT_OF_BITS, Type
from pytcg_native import native, u32, u64
from pytcg_x86.core.exceptions import raise_error, raise_selector
from pytcg_x86.core.modes import select_tlb, update_mode
from pytcg_x86.core.state import Attr, Env, Seg, Vector
from pytcg_x86.decode.table import lower, rows
from pytcg_x86.system.descriptor import (
    descriptor_attr,
    dpl_of,
    is_null,
    mark_accessed,
    read_descriptor,
    read_upper_base,
    set_real,
)
from pytcg_x86.system.frame import (
    frame_commit,
    frame_from_tss,
    frame_here,
    frame_push,
    is_long,
    is_protected,
    peek,
    present_mask,
    set_pointer,
)
from pytcg_x86.system.task import Source, finish_task, is_task, task_transfer
from pytcg_x86.system.transfer import (
    check_present,
    check_target,
    drop_inaccessible,
    is_code,
    is_conforming,
    is_wide,
    read_code,
    return_code,
    return_stack,
    set_code,
    set_stack,
)

if TYPE_CHECKING:
    from pytcg.ir.blocks import Value
    from pytcg_x86.core.translate import Operand, Translator

rows("""
ea      JMPF   Ap   branch i64
9a      CALLF  Ap   branch i64
ff/5/m  JMPF   Mp   branch
ff/3/m  CALLF  Mp   branch
cb      RETF        branch
ca      RETF   Iw   branch
""")

_CALL_GATE_16, _CALL_GATE = 4, 12


# JMP and CALL ----------------------------------------------------------------------------------


@native
def real_jump(env: Env, selector: u32, pc: u64) -> None:
    """Real mode: the segment's limit stays."""
    if pc > env.seg_limit[Seg.CS]:
        raise_error(env, Vector.GP, 0)
    set_real(env, Seg.CS, selector)
    env.rip = pc


@native
def direct_code(env: Env, selector: u32, descriptor: u64) -> u64:
    """A code segment jumped to or called directly: the level can't change."""
    attr: u32 = descriptor_attr(descriptor)
    allowed: bool = dpl_of(attr) == env.cpl and (selector & 3) <= env.cpl
    if is_conforming(attr):
        allowed = dpl_of(attr) <= env.cpl
    if not allowed or (is_long(env) and (attr & Attr.L) != 0 and (attr & Attr.DB) != 0):
        raise_selector(env, Vector.GP, selector)
    check_present(env, selector, descriptor)
    return mark_accessed(env, selector, descriptor)


@native
def check_call_gate(env: Env, selector: u32, gate: u64) -> None:
    """Type, privilege and presence of what must be a call gate."""
    attr: u32 = descriptor_attr(gate)
    kind: u32 = attr & 0x1F
    if kind != _CALL_GATE and (kind != _CALL_GATE_16 or is_long(env)):
        raise_selector(env, Vector.GP, selector)
    if dpl_of(attr) < env.cpl or dpl_of(attr) < (selector & 3):
        raise_selector(env, Vector.GP, selector)
    check_present(env, selector, gate)


@native
def gate_offset(env: Env, selector: u32, gate: u64) -> u64:
    """A call gate's target offset: 16, 32 or 64 bits."""
    pc: u64 = gate & 0xFFFF
    if (descriptor_attr(gate) & 8) != 0:
        pc |= (gate >> 48) << 16
    if is_long(env):
        pc |= read_upper_base(env, selector, Vector.GP)
    return pc


@native
def gate_code(env: Env, gate: u64, call: bool) -> u64:
    """A call gate's code segment; only CALL may go to an inner non-conforming one."""
    selector: u32 = u32(gate >> 16) & 0xFFFF
    code: u64 = read_code(env, selector)
    attr: u32 = descriptor_attr(code)
    level: u32 = dpl_of(attr)
    allowed: bool = level <= env.cpl and (level == env.cpl or call or is_conforming(attr))
    if not allowed or (is_long(env) and not is_wide(env, attr)):
        raise_selector(env, Vector.GP, selector)
    check_present(env, selector, code)
    return mark_accessed(env, selector, code)


@native
def protected_jump(env: Env, selector: u32, offset: u64, next_pc: u64) -> None:
    """JMP far in protected and IA-32e mode."""
    if is_null(selector):
        raise_error(env, Vector.GP, 0)
    descriptor: u64 = read_descriptor(env, selector, Vector.GP)
    if is_code(descriptor_attr(descriptor)):
        code: u64 = direct_code(env, selector, descriptor)
        check_target(env, code, offset)
        set_code(env, selector, code, env.cpl, offset)
        return
    if is_task(descriptor_attr(descriptor)) and not is_long(env):
        task_transfer(env, selector, descriptor, Source.JUMP, next_pc)
        return
    check_call_gate(env, selector, descriptor)
    pc: u64 = gate_offset(env, selector, descriptor)
    target: u64 = gate_code(env, descriptor, False)
    check_target(env, target, pc)
    set_code(env, u32(descriptor >> 16), target, env.cpl, pc)


@native
def far_jump(env: Env, selector: u32, offset: u64, next_pc: u64) -> None:
    """JMP far."""
    if is_protected(env):
        protected_jump(env, selector, offset, next_pc)
    else:
        real_jump(env, selector, offset)
    update_mode(env)


@native
def push_return_address(env: Env, size: u32, return_pc: u64) -> None:
    """CS and rIP, on the frame under way."""
    frame_push(env, size, env.seg_sel[Seg.CS])
    frame_push(env, size, return_pc)


@native
def copy_parameters(env: Env, size: u32, count: u32, level: u32) -> None:
    """A call gate's parameters, from the old stack to the frame; each with its level's rights."""
    at: u32 = count
    while at != 0:
        at -= 1
        select_tlb(env, env.cpl)
        value: u64 = peek(env, at * size, size)
        select_tlb(env, level)
        frame_push(env, size, value)


@native
def call_gate(env: Env, selector: u32, gate: u64, return_pc: u64) -> None:
    """CALL through a call gate, to an inner level or the same."""
    check_call_gate(env, selector, gate)
    pc: u64 = gate_offset(env, selector, gate)
    code: u64 = gate_code(env, gate, True)
    attr: u32 = descriptor_attr(code)
    level: u32 = env.cpl
    size: u32 = 2
    if (descriptor_attr(gate) & 8) != 0:
        size = 4
    if is_long(env):
        size = 8
    check_target(env, code, pc)
    if not is_conforming(attr) and dpl_of(attr) < env.cpl:
        level = dpl_of(attr)
        frame_from_tss(env, level)
        frame_push(env, size, env.seg_sel[Seg.SS])
        frame_push(env, size, env.gpr[4])
        if size != 8:
            copy_parameters(env, size, u32(gate >> 32) & 0x1F, level)
    else:
        frame_here(env)
    push_return_address(env, size, return_pc)
    frame_commit(env)
    set_code(env, u32(gate >> 16), code, level, pc)


@native
def protected_call(env: Env, selector: u32, offset: u64, size: u32, return_pc: u64) -> None:
    """CALL far in protected and IA-32e mode."""
    if is_null(selector):
        raise_error(env, Vector.GP, 0)
    descriptor: u64 = read_descriptor(env, selector, Vector.GP)
    if is_task(descriptor_attr(descriptor)) and not is_long(env):
        task_transfer(env, selector, descriptor, Source.CALL, return_pc)
        return
    if not is_code(descriptor_attr(descriptor)):
        call_gate(env, selector, descriptor, return_pc)
        return
    code: u64 = direct_code(env, selector, descriptor)
    check_target(env, code, offset)
    frame_here(env)
    push_return_address(env, size, return_pc)
    frame_commit(env)
    set_code(env, selector, code, env.cpl, offset)


@native
def far_call(env: Env, selector: u32, offset: u64, size: u32, return_pc: u64) -> None:
    """CALL far with an operand size of ``size`` bytes."""
    if is_protected(env):
        protected_call(env, selector, offset, size, return_pc)
    else:
        if offset > env.seg_limit[Seg.CS]:
            raise_error(env, Vector.GP, 0)
        frame_here(env)
        push_return_address(env, size, return_pc)
        frame_commit(env)
        real_jump(env, selector, offset)
    update_mode(env)


# RET -------------------------------------------------------------------------------------------


@native
def return_outer(env: Env, selector: u32, code: u64, size: u32, drop: u32) -> None:
    """Load the outer stack, which the parameters are dropped from too."""
    wide: bool = is_wide(env, descriptor_attr(code))
    level: u32 = selector & 3
    pointer: u64 = peek(env, size * 2 + drop, size) + drop
    stack: u32 = u32(peek(env, size * 3 + drop, size)) & 0xFFFF
    set_stack(env, stack, return_stack(env, stack, level, wide), pointer, wide)


@native
def far_return(env: Env, size: u32, drop: u32) -> None:
    """RETF with an operand size of ``size`` bytes, dropping ``drop`` bytes of parameters."""
    pc: u64 = peek(env, 0, size)
    selector: u32 = u32(peek(env, size, size)) & 0xFFFF
    if not is_protected(env):
        real_jump(env, selector, pc)
        set_pointer(env, env.gpr[4] + size * 2 + drop, present_mask(env))
    else:
        code: u64 = return_code(env, selector)
        check_target(env, code, pc)
        outer: bool = (selector & 3) != env.cpl
        if outer:
            return_outer(env, selector, code, size, drop)
        else:
            set_pointer(env, env.gpr[4] + size * 2 + drop, present_mask(env))
        set_code(env, selector, code, selector & 3, pc)
        if outer:
            drop_inaccessible(env)
    update_mode(env)


# Lowerings -------------------------------------------------------------------------------------


def far_pointer(t: Translator, op: Operand) -> tuple[Value, Value]:
    """Selector (i32) and offset (i64) of an Ap or Mp operand."""
    if not op.is_memory:
        return (t.imm >> 32).trunc(Type.I32) & 0xFFFF, t.imm & 0xFFFF_FFFF
    bits = t.cx.operand_size
    start = t.address(bits + 16)
    offset = t.load(bits, start).resize(Type.I64)
    return t.load(16, start + bits // 8).zext(Type.I32), offset


def leave_for_task(t: Translator) -> None:
    """Go on at rIP, perhaps in another task, whose own are the faults of the switch's rest."""
    if t.cx.code_size == 64:
        t.lookup(t.ld_env("rip"))
        return
    with t.completed():
        t.call(finish_task, t.env, t.rec)
        t.lookup(t.ld_env("rip"))


@lower("JMPF", dst="raw")
def jmpf(t: Translator, target: Operand) -> None:
    """JMP far."""
    selector, offset = far_pointer(t, target)
    t.call(far_jump, t.env, selector, offset, t.next_pc())
    leave_for_task(t)


@lower("CALLF", dst="raw")
def callf(t: Translator, target: Operand) -> None:
    """CALL far."""
    selector, offset = far_pointer(t, target)
    size = t.const(t.cx.operand_size // 8, 32)
    t.call(far_call, t.env, selector, offset, size, t.next_pc())
    leave_for_task(t)


@lower("RETF", dst="raw")
def retf(t: Translator, *drop: Operand) -> None:
    """RET far."""
    count = t.read(drop[0]).resize(INT_OF_BITS[16]).zext(Type.I32) if drop else t.const(0, 32)
    t.call(far_return, t.env, t.const(t.cx.operand_size // 8, 32), count)
    t.lookup(t.ld_env("rip"))
