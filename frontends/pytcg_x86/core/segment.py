"""Segment checks of a memory access: presence, type and limit (SDM vol. 3A, 5.3-5.5).

Only code that is not flat comes here; `Mode.SEGMENTED` and the form's segment see to that.
"""

from __future__ import annotations

from typing import NoReturn

from pytcg_native import likely, native, u32, u64
from pytcg_x86.core.exceptions import raise_error
from pytcg_x86.core.state import Attr, Cr4, Env, Mode, Seg, Vector

_READ_TYPE = Attr.P | Attr.CODE | Attr.EXPAND_DOWN
_WRITE_TYPE = _READ_TYPE | Attr.WRITABLE


@native
def is_canonical(env: Env, address: u64) -> bool:
    """Whether all bits from 47 up are alike; from 56 up with 5-level paging."""
    if likely(((address + (1 << 47)) >> 48) == 0):
        return True
    return (env.cr4 & Cr4.LA57) != 0 and ((address + (1 << 56)) >> 57) == 0


@native
def check_wild(env: Env, pc: u64) -> None:
    """#GP(0) unless a transfer's target is canonical."""
    if not is_canonical(env, pc):
        raise_error(env, Vector.GP, 0)


@native
def segment_fault(env: Env, segment: u64) -> NoReturn:
    """#SS(0) for the stack segment, #GP(0) for the others."""
    if segment == Seg.SS:
        raise_error(env, Vector.SS, 0)
    raise_error(env, Vector.GP, 0)


@native
def check_long(env: Env, segment: u64, offset: u64) -> u64:
    """64-bit code: FS and GS have a base; SS tells #SS from #GP on non-canonical addresses."""
    linear: u64 = offset
    if segment >= Seg.FS:
        linear = offset + env.seg_base[segment]
    if not is_canonical(env, linear):
        segment_fault(env, segment)
    return linear


@native
def within(limit: u64, attr: u32, offset: u64, size: u32) -> bool:
    """Whether the bytes lie within a segment; expand-down ones begin above the limit."""
    last: u64 = offset + size - 1
    if (attr & (Attr.CODE | Attr.EXPAND_DOWN)) != Attr.EXPAND_DOWN:
        return last <= limit
    upper: u64 = 0xFFFF_FFFF if (attr & Attr.DB) != 0 else 0xFFFF
    return offset > limit and last <= upper


@native
def check_slow(env: Env, segment: u64, offset: u64, size: u32, write: u32) -> u64:
    """Whatever the short way did not accept: the linear address, or a fault."""
    if (env.mode & Mode.CODE64) != 0:
        return check_long(env, segment, offset)
    attr: u32 = env.seg_attr[segment]
    # Real mode checks limits only: even CS can be written there.
    if (env.mode & Mode.PROTECTED) != 0:
        if (attr & Attr.P) == 0:
            segment_fault(env, segment)
        permitted: u32 = attr & Attr.WRITABLE  # READABLE in code
        if (attr & Attr.CODE) != 0:
            if write != 0 or permitted == 0:
                segment_fault(env, segment)
        elif write != 0 and permitted == 0:
            segment_fault(env, segment)
    if not within(env.seg_limit[segment], attr, offset, size):
        segment_fault(env, segment)
    return (env.seg_base[segment] + offset) & 0xFFFF_FFFF


@native(inline=True)
def check_read(env: Env, segment: u64, offset: u64, size: u32) -> u64:
    """Linear address of ``size`` bytes that may be read at segment:offset; else #GP or #SS."""
    attr: u32 = env.seg_attr[segment] & _READ_TYPE
    wide: u32 = env.mode & Mode.CODE64
    if likely(attr == Attr.P and wide == 0 and offset + size - 1 <= env.seg_limit[segment]):
        return (env.seg_base[segment] + offset) & 0xFFFF_FFFF
    return check_slow(env, segment, offset, size, 0)


@native(inline=True)
def check_write(env: Env, segment: u64, offset: u64, size: u32) -> u64:
    """Linear address of ``size`` bytes that may be written at segment:offset; else #GP or #SS."""
    attr: u32 = env.seg_attr[segment] & _WRITE_TYPE
    wide: u32 = env.mode & Mode.CODE64
    accepted: u32 = Attr.P | Attr.WRITABLE
    if likely(attr == accepted and wide == 0 and offset + size - 1 <= env.seg_limit[segment]):
        return (env.seg_base[segment] + offset) & 0xFFFF_FFFF
    return check_slow(env, segment, offset, size, 1)


@native
def accepted(env: Env, segment: u64, offset: u64, length: u64, write: u32) -> bool:
    """Whether `check_read` or `check_write` would take ``length`` bytes the short way."""
    wanted: u32 = Attr.P
    types: u32 = _READ_TYPE
    if write != 0:
        wanted = Attr.P | Attr.WRITABLE
        types = _WRITE_TYPE
    if (env.mode & Mode.CODE64) != 0 or (env.seg_attr[segment] & types) != wanted:
        return False
    return offset + length - 1 <= env.seg_limit[segment]
