"""Virtual-8086 mode: its segments (SDM vol. 3A, chapter 21)."""

from __future__ import annotations

from pytcg_native import native, u32, u64
from pytcg_x86.core.state import Attr, Env, Seg
from pytcg_x86.system.descriptor import set_real

_ATTR = Attr.P | Attr.DPL | Attr.S | Attr.WRITABLE | Attr.ACCESSED


@native
def set_vm86(env: Env, segment: u64, selector: u32) -> None:
    """A segment as virtual-8086 mode has it: 64 KiB at the selector times 16."""
    set_real(env, segment, selector)
    env.seg_limit[segment] = 0xFFFF
    env.seg_attr[segment] = _ATTR


@native
def set_vm86_segments(env: Env) -> None:
    """All segment registers, whose selectors are there already."""
    for segment in range(u64(Seg.ES), u64(Seg.GS) + 1):
        set_vm86(env, segment, u32(env.seg_sel[segment]))
