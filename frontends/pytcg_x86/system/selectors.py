"""Asking about selectors: LAR LSL VERR VERW ARPL (SDM vol. 2). ZF tells whether it worked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytcg.ir.ops import Type
from pytcg_native import native, u32, u64
from pytcg_x86.core.state import Attr, Env
from pytcg_x86.decode.table import lower, rows
from pytcg_x86.system.descriptor import (
    descriptor_address,
    descriptor_attr,
    descriptor_limit,
    descriptor_room,
    dpl_of,
    is_null,
    kernel_load,
)
from pytcg_x86.system.frame import is_long
from pytcg_x86.system.transfer import is_conforming

if TYPE_CHECKING:
    from pytcg.ir.blocks import Value
    from pytcg_x86.core.translate import Operand, Translator

rows("""
0f.02    LAR    Gv,Ew   prot
0f.03    LSL    Gv,Ew   prot
0f.00/4  VERR   Ew      prot nosize
0f.00/5  VERW   Ew      prot nosize
63       ARPL   Ew,Gw   prot i64 nosize
""")

# System descriptor types that LAR and LSL accept (SDM vol. 2A, tables 3-52 and 3-56).
_LAR_TYPES = 1 << 1 | 1 << 2 | 1 << 3 | 1 << 4 | 1 << 5 | 1 << 9 | 1 << 11 | 1 << 12
_LAR_LONG_TYPES = 1 << 2 | 1 << 9 | 1 << 11 | 1 << 12
_LSL_TYPES = 1 << 1 | 1 << 2 | 1 << 3 | 1 << 9 | 1 << 11
_LSL_LONG_TYPES = 1 << 2 | 1 << 9 | 1 << 11

NOTHING = 0
"""No descriptor: one that is all zero is a system descriptor of the reserved type 0 anyway."""


@native
def visible(env: Env, selector: u32, attr: u32) -> bool:
    """Whether CPL and RPL may see the segment; conforming code always."""
    level: u32 = dpl_of(attr)
    return is_conforming(attr) or (env.cpl <= level and (selector & 3) <= level)


@native
def find_descriptor(env: Env, selector: u32, types: u32, long_types: u32) -> u64:
    """A descriptor that LAR or LSL may tell of, or NOTHING."""
    if is_null(selector) or not descriptor_room(env, selector):
        return NOTHING
    descriptor: u64 = kernel_load(env, descriptor_address(env, selector), 8)
    attr: u32 = descriptor_attr(descriptor)
    allowed: u32 = types
    if is_long(env):
        allowed = long_types
    if (attr & Attr.S) == 0 and ((allowed >> (attr & 15)) & 1) == 0:
        return NOTHING
    if not visible(env, selector, attr):
        return NOTHING
    return descriptor


@native
def access_rights(env: Env, selector: u32) -> u64:
    """LAR: the descriptor, or NOTHING."""
    return find_descriptor(env, selector, _LAR_TYPES, _LAR_LONG_TYPES)


@native
def segment_limit(env: Env, selector: u32) -> u64:
    """LSL: the limit with bit 32 set, or NOTHING."""
    descriptor: u64 = find_descriptor(env, selector, _LSL_TYPES, _LSL_LONG_TYPES)
    if descriptor == NOTHING:
        return NOTHING
    return u64(descriptor_limit(descriptor)) | 1 << 32


@native
def verify(env: Env, selector: u32, write: u32) -> u32:
    """VERR, VERW: 1 if the segment may be read, or written."""
    if is_null(selector) or not descriptor_room(env, selector):
        return 0
    attr: u32 = descriptor_attr(kernel_load(env, descriptor_address(env, selector), 8))
    code: bool = (attr & Attr.CODE) != 0
    permitted: bool = (attr & Attr.WRITABLE) != 0  # READABLE in code
    usable: bool = not code or permitted
    if write != 0:
        usable = not code and permitted
    if (attr & Attr.S) == 0 or not usable or not visible(env, selector, attr):
        return 0
    return 1


def _ask(t: Translator, dst: Operand, found: Value | None, result: Value) -> None:
    """ZF := found; the destination changes only then."""
    assert found is not None
    worked = found.ne(NOTHING)
    with t.when(worked):
        t.write(dst, result.resize(dst.type))
    t.flags.put(zf=worked)


@lower("LAR", dst="raw")
def lar(t: Translator, dst: Operand, src: Operand) -> None:
    """LAR: the second doubleword of the descriptor, AND 00FxFF00H."""
    found = t.call(access_rights, t.env, t.read(src).zext(Type.I32))
    assert found is not None
    _ask(t, dst, found, (found >> 32) & 0x00F0_FF00)


@lower("LSL", dst="raw")
def lsl(t: Translator, dst: Operand, src: Operand) -> None:
    """LSL: the limit in bytes."""
    found = t.call(segment_limit, t.env, t.read(src).zext(Type.I32))
    assert found is not None
    _ask(t, dst, found, found & 0xFFFF_FFFF)


@lower("VERR", dst="r")
def verr(t: Translator, selector: Value) -> None:
    """VERR: ZF := readable."""
    result = t.call(verify, t.env, selector.zext(Type.I32), t.const(0, 32))
    assert result is not None
    t.flags.put(zf=result.ne(0))


@lower("VERW", dst="r")
def verw(t: Translator, selector: Value) -> None:
    """VERW: ZF := writable."""
    result = t.call(verify, t.env, selector.zext(Type.I32), t.const(1, 32))
    assert result is not None
    t.flags.put(zf=result.ne(0))


@lower("ARPL")
def arpl(t: Translator, dst: Value, src: Value) -> Value:
    """ARPL: raise DEST's RPL to SRC's; ZF := it was lower."""
    lower_rpl = (dst & 3).ult(src & 3)
    t.flags.put(zf=lower_rpl)
    return t.b.select(lower_rpl, (dst & 0xFFFC) | (src & 3), dst)
