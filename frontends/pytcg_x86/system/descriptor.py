"""Segment descriptors: reading, taking apart, checking and loading them (SDM vol. 3A, 3.4-3.5)."""

from __future__ import annotations

from typing import NoReturn

from pytcg.softmmu.access import load_sized, store_sized
from pytcg_native import attempt, native, ptr, u16, u32, u64
from pytcg_x86.core.exceptions import raise_selector
from pytcg_x86.core.segment import is_canonical
from pytcg_x86.core.state import Attr, Env, Seg, Vector
from pytcg_x86.system.features import Word

_TABLE = 4  # selector: the LDT's
ATTR_MASK = 0xF0FF
_LA57 = 48  # in CPUID leaf 7's word


# Memory as the processor's own structures see it -----------------------------------------------


@native
def rethrow(env: Env) -> NoReturn:  # type: ignore[empty-body]
    """Go on leaving: the exception is pending already."""


@native
def kernel_load(env: Env, address: u64, size: u32) -> u64:
    """Load from GDT, LDT, IDT or TSS: with supervisor rights at any CPL (SDM vol. 3A, 4.6.1)."""
    saved: ptr = env.tlb
    env.tlb = env.tlbs  # MmuIndex.KERNEL
    value: u64 = attempt(load_sized(env, address, size))
    env.tlb = saved
    if env.exception_pending != 0:
        rethrow(env)
    return value


@native
def kernel_store(env: Env, address: u64, size: u32, value: u64) -> None:
    """Store to such a structure."""
    saved: ptr = env.tlb
    env.tlb = env.tlbs
    attempt(store_sized(env, address, size, value))
    env.tlb = saved
    if env.exception_pending != 0:
        rethrow(env)


# Fields ----------------------------------------------------------------------------------------


@native(inline=True)
def descriptor_base(descriptor: u64) -> u64:
    return ((descriptor >> 16) & 0xFF_FFFF) | ((descriptor >> 56) << 24)


@native(inline=True)
def descriptor_attr(descriptor: u64) -> u32:
    """Bits 40-47 and 52-55, placed as in env.seg_attr."""
    return u32(descriptor >> 40) & ATTR_MASK


@native
def descriptor_limit(descriptor: u64) -> u32:
    """The limit in bytes."""
    limit: u32 = u32(descriptor & 0xFFFF) | u32((descriptor >> 32) & 0xF_0000)
    if (descriptor_attr(descriptor) & Attr.G) != 0:
        return (limit << 12) | 0xFFF
    return limit


@native(inline=True)
def dpl_of(attr: u32) -> u32:
    return (attr >> 5) & 3


@native(inline=True)
def is_null(selector: u32) -> bool:
    return (selector & 0xFFFC) == 0


# Tables ----------------------------------------------------------------------------------------


@native
def descriptor_room(env: Env, selector: u32) -> bool:
    """Whether the selector's table exists and holds its eight bytes."""
    last: u32 = (selector & 0xFFF8) + 7
    if (selector & _TABLE) != 0:
        return (env.seg_attr[Seg.LDTR] & Attr.P) != 0 and last <= env.seg_limit[Seg.LDTR]
    return last <= env.gdtr_limit


@native
def descriptor_address(env: Env, selector: u32) -> u64:
    """Linear address of a selector's descriptor."""
    base: u64 = env.gdtr_base
    if (selector & _TABLE) != 0:
        base = env.seg_base[Seg.LDTR]
    return base + (selector & 0xFFF8)


@native
def read_descriptor(env: Env, selector: u32, vector: u32) -> u64:
    """A selector's descriptor; ``vector``(selector) if it is outside its table."""
    if not descriptor_room(env, selector):
        raise_selector(env, vector, selector)
    return kernel_load(env, descriptor_address(env, selector), 8)


@native
def is_canonical_base(env: Env, base: u64) -> bool:
    """Whether it may become a base: as wide as addresses could be, whatever CR4.LA57 says."""
    if is_canonical(env, base):
        return True
    wide: bool = ((env.cpuid_features[Word.EXTENDED] >> _LA57) & 1) != 0
    return wide and ((base + (1 << 56)) >> 57) == 0


@native
def read_upper_base(env: Env, selector: u32, vector: u32) -> u64:
    """Bits 63-32 of the base of a 16-byte system descriptor (IA-32e mode)."""
    if not descriptor_room(env, selector + 8):
        raise_selector(env, vector, selector)
    upper: u64 = kernel_load(env, descriptor_address(env, selector) + 8, 8)
    if ((upper >> 40) & 0x1F) != 0:
        raise_selector(env, vector, selector)
    return upper << 32


@native
def mark_accessed(env: Env, selector: u32, descriptor: u64) -> u64:
    """Set the accessed bit in memory if it is clear; returns the descriptor with it set."""
    marked: u64 = descriptor | (1 << 40)
    if marked != descriptor:
        kernel_store(env, descriptor_address(env, selector) + 5, 1, (marked >> 40) & 0xFF)
    return marked


# Segment registers -----------------------------------------------------------------------------


@native
def set_segment(env: Env, segment: u64, selector: u32, descriptor: u64) -> None:
    """Load a segment register and its hidden part; the caller calls `update_mode`."""
    env.seg_sel[segment] = u16(selector)
    env.seg_base[segment] = descriptor_base(descriptor)
    env.seg_limit[segment] = descriptor_limit(descriptor)
    env.seg_attr[segment] = descriptor_attr(descriptor)


@native
def set_null(env: Env, segment: u64, selector: u32) -> None:
    """A null selector: any access through it faults, outside 64-bit code."""
    env.seg_sel[segment] = u16(selector)
    env.seg_base[segment] = 0
    env.seg_limit[segment] = 0
    env.seg_attr[segment] = 0


@native
def set_real(env: Env, segment: u64, selector: u32) -> None:
    """Real mode: the base is the selector times 16; limit and type stay as they are."""
    env.seg_sel[segment] = u16(selector)
    env.seg_base[segment] = u64(selector & 0xFFFF) << 4


@native
def check_data(env: Env, selector: u32, descriptor: u64, vector: u32) -> None:
    """Type, privilege and presence of a descriptor for DS, ES, FS or GS: ``vector``, or #NP."""
    attr: u32 = descriptor_attr(descriptor)
    readable: bool = (attr & Attr.CODE) == 0 or (attr & Attr.WRITABLE) != 0
    if (attr & Attr.S) == 0 or not readable:
        raise_selector(env, vector, selector)
    conforming: bool = (attr & (Attr.CODE | Attr.EXPAND_DOWN)) == Attr.CODE | Attr.EXPAND_DOWN
    rpl: u32 = selector & 3
    if not conforming and (dpl_of(attr) < rpl or dpl_of(attr) < env.cpl):
        raise_selector(env, vector, selector)
    if (attr & Attr.P) == 0:
        raise_selector(env, Vector.NP, selector)


@native
def check_stack(env: Env, selector: u32, descriptor: u64, cpl: u32, vector: u32) -> None:
    """A descriptor for SS at privilege level ``cpl``: ``vector``, or #SS if not present."""
    attr: u32 = descriptor_attr(descriptor)
    kind: u32 = attr & (Attr.S | Attr.CODE | Attr.WRITABLE)
    writable: bool = kind == Attr.S | Attr.WRITABLE
    if (selector & 3) != cpl or dpl_of(attr) != cpl or not writable:
        raise_selector(env, vector, selector)
    if (attr & Attr.P) == 0:
        raise_selector(env, Vector.SS, selector)
