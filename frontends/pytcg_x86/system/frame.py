"""Stack frames of far transfers and interrupts: written to a stack that is not loaded yet.

The new stack is kept in env.scratch until nothing can fault any more; then `frame_commit`
makes it the present one. Reading a frame to return by is `peek`.
"""

from __future__ import annotations

from enum import IntEnum

from pytcg.softmmu.access import load_sized, store_sized
from pytcg_native import native, u32, u64
from pytcg_x86.core.exceptions import raise_selector
from pytcg_x86.core.modes import select_tlb
from pytcg_x86.core.segment import check_read, is_canonical, within
from pytcg_x86.core.state import Attr, Efer, Env, Mode, Seg, Vector
from pytcg_x86.system.descriptor import (
    check_stack,
    descriptor_attr,
    descriptor_base,
    descriptor_limit,
    is_null,
    kernel_load,
    mark_accessed,
    read_descriptor,
    set_null,
    set_segment,
)

_WIDE = 0xFFFF_FFFF_FFFF_FFFF


class Frame(IntEnum):
    """Index in env.scratch of what is known about the stack a frame is built on."""

    BASE = 0
    LIMIT = 1
    ATTR = 2
    SELECTOR = 3    # for error codes: 0 on the present stack
    POINTER = 4
    MASK = 5        # width of the stack pointer; all ones: a 64-bit stack, without limits
    DESCRIPTOR = 6  # to load SS with; 0: a null selector
    SWITCHED = 7    # 1: SS is loaded on commit


@native
def is_protected(env: Env) -> bool:
    """Protected mode, and not virtual-8086."""
    return (env.mode & Mode.PROTECTED) != 0


@native
def is_long(env: Env) -> bool:
    """IA-32e mode: 64-bit code or compatibility mode."""
    return (env.efer & Efer.LMA) != 0


@native
def stack_mask(attr: u32) -> u64:
    """Mask of a stack pointer, from SS's B bit."""
    if (attr & Attr.DB) != 0:
        return 0xFFFF_FFFF
    return 0xFFFF


@native
def present_mask(env: Env) -> u64:
    """Mask of the present stack pointer."""
    if (env.mode & Mode.CODE64) != 0:
        return _WIDE
    return stack_mask(env.seg_attr[Seg.SS])


@native
def peek(env: Env, skip: u64, size: u32) -> u64:
    """The stack element ``skip`` bytes above rSP."""
    offset: u64 = (env.gpr[4] + skip) & present_mask(env)
    return load_sized(env, check_read(env, Seg.SS, offset, size), size)


@native
def set_pointer(env: Env, value: u64, mask: u64) -> None:
    """Write rSP as wide as the stack is."""
    if mask == 0xFFFF:
        env.gpr[4] = (env.gpr[4] & ~u64(0xFFFF)) | (value & 0xFFFF)
    else:
        env.gpr[4] = value & mask


# Building --------------------------------------------------------------------------------------


@native
def frame_here(env: Env) -> None:
    """A frame on the present stack."""
    env.scratch[Frame.BASE] = env.seg_base[Seg.SS]
    env.scratch[Frame.LIMIT] = env.seg_limit[Seg.SS]
    env.scratch[Frame.ATTR] = env.seg_attr[Seg.SS]
    env.scratch[Frame.SELECTOR] = 0
    env.scratch[Frame.MASK] = present_mask(env)
    env.scratch[Frame.POINTER] = env.gpr[4] & present_mask(env)
    env.scratch[Frame.SWITCHED] = 0


@native
def frame_wide(env: Env, pointer: u64, cpl: u32, switch: bool) -> None:
    """A frame on a 64-bit stack; if ``switch``, SS becomes a null selector with RPL ``cpl``."""
    env.scratch[Frame.BASE] = 0
    env.scratch[Frame.SELECTOR] = cpl if switch else u32(0)
    env.scratch[Frame.MASK] = _WIDE
    env.scratch[Frame.POINTER] = pointer
    env.scratch[Frame.DESCRIPTOR] = 0
    env.scratch[Frame.SWITCHED] = u64(switch)
    select_tlb(env, cpl)


@native
def frame_inner(env: Env, selector: u32, pointer: u64, cpl: u32) -> None:
    """A frame on an inner stack named by a TSS: its descriptor is checked (#TS, #SS)."""
    if is_null(selector):
        raise_selector(env, Vector.TS, 0)
    descriptor: u64 = read_descriptor(env, selector, Vector.TS)
    check_stack(env, selector, descriptor, cpl, Vector.TS)
    descriptor = mark_accessed(env, selector, descriptor)
    attr: u32 = descriptor_attr(descriptor)
    env.scratch[Frame.BASE] = descriptor_base(descriptor)
    env.scratch[Frame.LIMIT] = descriptor_limit(descriptor)
    env.scratch[Frame.ATTR] = attr
    env.scratch[Frame.SELECTOR] = selector
    env.scratch[Frame.MASK] = stack_mask(attr)
    env.scratch[Frame.POINTER] = pointer
    env.scratch[Frame.DESCRIPTOR] = descriptor
    env.scratch[Frame.SWITCHED] = 1
    select_tlb(env, cpl)


@native
def tss_room(env: Env, last: u32) -> None:
    """#TS(TR) unless the TSS reaches to offset ``last``."""
    if last > env.seg_limit[Seg.TR]:
        raise_selector(env, Vector.TS, env.seg_sel[Seg.TR])


@native
def frame_from_tss(env: Env, cpl: u32) -> None:
    """A frame on the stack that the TSS has for level ``cpl`` (SDM vol. 3A, 8.2)."""
    tss: u64 = env.seg_base[Seg.TR]
    if is_long(env):
        tss_room(env, cpl * 8 + 11)
        frame_wide(env, kernel_load(env, tss + 4 + cpl * 8, 8), cpl, True)
    elif (env.seg_attr[Seg.TR] & 8) != 0:
        tss_room(env, cpl * 8 + 9)
        pointer: u64 = kernel_load(env, tss + 4 + cpl * 8, 4)
        frame_inner(env, u32(kernel_load(env, tss + 8 + cpl * 8, 2)), pointer, cpl)
    else:
        tss_room(env, cpl * 4 + 5)
        narrow: u64 = kernel_load(env, tss + 2 + cpl * 4, 2)
        frame_inner(env, u32(kernel_load(env, tss + 4 + cpl * 4, 2)), narrow, cpl)


@native
def frame_push(env: Env, size: u32, value: u64) -> None:
    """Push on the frame's stack; #SS if it does not reach that far."""
    mask: u64 = env.scratch[Frame.MASK]
    pointer: u64 = (env.scratch[Frame.POINTER] - size) & mask
    linear: u64 = pointer
    selector: u32 = u32(env.scratch[Frame.SELECTOR])
    if mask == _WIDE:
        if not is_canonical(env, pointer):
            raise_selector(env, Vector.SS, 0)
    else:
        limit: u64 = env.scratch[Frame.LIMIT]
        if not within(limit, u32(env.scratch[Frame.ATTR]), pointer, size):
            raise_selector(env, Vector.SS, selector)
        linear = (env.scratch[Frame.BASE] + pointer) & 0xFFFF_FFFF
    store_sized(env, linear, size, value)
    env.scratch[Frame.POINTER] = pointer


@native
def frame_commit(env: Env) -> None:
    """Make the frame's stack the present one."""
    selector: u32 = u32(env.scratch[Frame.SELECTOR])
    descriptor: u64 = env.scratch[Frame.DESCRIPTOR]
    pointer: u64 = env.scratch[Frame.POINTER]
    if env.scratch[Frame.SWITCHED] == 0:
        set_pointer(env, pointer, env.scratch[Frame.MASK])
        return
    env.gpr[4] = pointer
    if descriptor != 0:
        set_segment(env, Seg.SS, selector, descriptor)
    else:
        set_null(env, Seg.SS, selector)
        env.seg_attr[Seg.SS] = selector << 5  # DPL = RPL = CPL
