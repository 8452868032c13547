"""What far transfers, interrupts and returns share: code segment checks and the final loads."""

from __future__ import annotations

from pytcg_native import native, u8, u16, u32, u64
from pytcg_x86.core.exceptions import external_event, raise_error, raise_selector
from pytcg_x86.core.segment import is_canonical
from pytcg_x86.core.state import Attr, Env, Seg, Vector
from pytcg_x86.system.descriptor import (
    check_stack,
    descriptor_attr,
    descriptor_limit,
    dpl_of,
    is_null,
    mark_accessed,
    read_descriptor,
    set_null,
    set_segment,
)
from pytcg_x86.system.frame import is_long, set_pointer, stack_mask

_CODE_TYPE = Attr.S | Attr.CODE
_CONFORMING = Attr.S | Attr.CODE | Attr.EXPAND_DOWN
_WIDE = Attr.L | Attr.DB


@native
def is_code(attr: u32) -> bool:
    """A code segment."""
    return (attr & _CODE_TYPE) == _CODE_TYPE


@native
def is_conforming(attr: u32) -> bool:
    """A conforming code segment: runs at its caller's privilege level."""
    return (attr & _CONFORMING) == _CONFORMING


@native
def is_wide(env: Env, attr: u32) -> bool:
    """A 64-bit code segment."""
    return is_long(env) and (attr & Attr.L) != 0


@native
def read_code(env: Env, selector: u32) -> u64:
    """Descriptor of a far transfer's target: #GP unless it is a code segment that can be."""
    if is_null(selector):
        raise_selector(env, Vector.GP, 0)
    descriptor: u64 = read_descriptor(env, selector, Vector.GP)
    attr: u32 = descriptor_attr(descriptor)
    if not is_code(attr) or (is_long(env) and (attr & _WIDE) == _WIDE):
        raise_selector(env, Vector.GP, selector)
    return descriptor


@native
def check_target(env: Env, descriptor: u64, pc: u64) -> None:
    """#GP unless ``pc`` lies within the code segment, or is canonical in a 64-bit one."""
    fits: bool = pc <= descriptor_limit(descriptor)
    if is_wide(env, descriptor_attr(descriptor)):
        fits = is_canonical(env, pc)
    if not fits:
        raise_error(env, Vector.GP, external_event(env))


@native
def check_present(env: Env, selector: u32, descriptor: u64) -> None:
    """#NP(selector) unless the segment is present."""
    if (descriptor_attr(descriptor) & Attr.P) == 0:
        raise_selector(env, Vector.NP, selector)


@native
def set_code(env: Env, selector: u32, descriptor: u64, cpl: u32, pc: u64) -> None:
    """Go on at ``pc`` in a code segment at level ``cpl``; the caller calls `update_mode`."""
    set_segment(env, Seg.CS, (selector & 0xFFFC) | cpl, descriptor)
    env.cpl = u8(cpl)
    env.rip = pc


# Returns (RETF, IRET) --------------------------------------------------------------------------


@native
def return_code(env: Env, selector: u32) -> u64:
    """Descriptor of a return's code segment (SDM vol. 2B, RET: never to an inner level)."""
    descriptor: u64 = read_code(env, selector)
    attr: u32 = descriptor_attr(descriptor)
    rpl: u32 = selector & 3
    level: bool = dpl_of(attr) == rpl
    if is_conforming(attr):
        level = dpl_of(attr) <= rpl
    if rpl < env.cpl or not level:
        raise_selector(env, Vector.GP, selector)
    check_present(env, selector, descriptor)
    return mark_accessed(env, selector, descriptor)


@native
def return_stack(env: Env, selector: u32, cpl: u32, wide: bool) -> u64:
    """Descriptor of the stack segment returned to; 0 for a null one, fine in 64-bit code."""
    if is_null(selector):
        if not wide or cpl == 3 or (selector & 3) != cpl:
            raise_error(env, Vector.GP, 0)
        return 0
    descriptor: u64 = read_descriptor(env, selector, Vector.GP)
    check_stack(env, selector, descriptor, cpl, Vector.GP)
    return mark_accessed(env, selector, descriptor)


@native
def set_stack(env: Env, selector: u32, descriptor: u64, pointer: u64, wide: bool) -> None:
    """Load SS and rSP; for 64-bit code (``wide``) all of rSP."""
    mask: u64 = 0xFFFF_FFFF_FFFF_FFFF
    if descriptor == 0:
        set_null(env, Seg.SS, selector)
        env.seg_attr[Seg.SS] = (selector & 3) << 5
    else:
        set_segment(env, Seg.SS, selector, descriptor)
        if not wide:
            mask = stack_mask(descriptor_attr(descriptor))
    set_pointer(env, pointer, mask)


@native
def drop_inaccessible(env: Env) -> None:
    """After a return to an outer level: null the data segments it may not use.

    Null selectors with an RPL lose it (SDM vol. 2A, IRET); bases stay, which 64-bit code uses.
    """
    for segment in range(u64(Seg.ES), u64(Seg.GS) + 1):
        attr: u32 = env.seg_attr[segment]
        data: bool = segment != Seg.CS and segment != Seg.SS and not is_conforming(attr)
        if data and (is_null(env.seg_sel[segment]) or dpl_of(attr) < env.cpl):
            env.seg_sel[segment] = u16(0)
            env.seg_attr[segment] = 0
