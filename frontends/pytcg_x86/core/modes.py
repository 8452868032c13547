"""`update_mode`: what translation depends on, derived from the system registers.

Everything that changes a segment, CPL, CR0, CR4, EFER, or EFLAGS' TF, RF, AC, VM ends by calling
it.
"""

from __future__ import annotations

from pytcg.exec.invalidate import jump_cache_flush
from pytcg.exec.layout import TLB_ENTRY, TLB_SIZE
from pytcg.softmmu.access import forget_pages, use_tlb
from pytcg_native import NULL, fill, native, ptr, u32, u64, unlikely
from pytcg_x86.core.state import Attr, Cr0, Cr4, Efer, Env, Flag, MmuIndex, Mode, Seg, Xcr0

TLB_BYTES = TLB_SIZE * TLB_ENTRY.size
_TYPE = Attr.P | Attr.CODE | Attr.EXPAND_DOWN | Attr.WRITABLE
_FLAT = Attr.P | Attr.WRITABLE
_NO_FPU = Cr0.EM | Cr0.TS
_AVX = Xcr0.SSE | Xcr0.AVX


@native
def require_alignment(env: Env, wanted: bool) -> None:
    """Have level 3's accesses checked for alignment, by a TLB without tags; or no longer."""
    user: ptr = env.tlbs + MmuIndex.USER * TLB_BYTES
    fill(user, 0xFF, TLB_BYTES)
    forget_pages(env)
    env.aligned_tlb = user if wanted else NULL


@native
def select_tlb(env: Env, cpl: u32) -> None:
    """Make the accesses that follow those of code at privilege level ``cpl``."""
    index: u64 = MmuIndex.KERNEL_AC
    if cpl == 3:
        index = MmuIndex.USER
        checks: bool = (env.eflags & Flag.AC) != 0 and (env.cr0 & Cr0.AM) != 0
        if unlikely(checks != (env.aligned_tlb != NULL)):
            require_alignment(env, checks)
    elif (env.cr4 & Cr4.SMAP) != 0 and (env.eflags & Flag.AC) == 0:
        index = MmuIndex.KERNEL
    tlb: ptr = env.tlbs + index * TLB_BYTES
    if unlikely(cpl != 3 and tlb != env.kept_tlb):
        forget_pages(env)  # supervisor code keeps its pages together, with SMAP or without
        env.kept_tlb = tlb
    use_tlb(env, tlb)


@native
def is_flat(env: Env, segment: u64) -> bool:
    """Base 0, limit 4 GiB - 1, writable data: an access needs no check."""
    if env.seg_base[segment] != 0 or env.seg_limit[segment] != 0xFFFF_FFFF:
        return False
    return env.seg_attr[segment] & _TYPE == _FLAT


@native
def segment_mode(env: Env) -> u32:
    """The mode bits that CS, SS, DS and ES decide."""
    code: u32 = env.seg_attr[Seg.CS]
    if (env.efer & Efer.LMA) != 0 and (code & Attr.L) != 0:
        return Mode.CODE64
    mode: u32 = 0
    if (code & Attr.DB) != 0:
        mode |= Mode.CODE32
    if (env.seg_attr[Seg.SS] & Attr.DB) != 0:
        mode |= Mode.STACK32
    if not (is_flat(env, Seg.DS) and is_flat(env, Seg.ES) and is_flat(env, Seg.SS)):
        mode |= Mode.SEGMENTED
    return mode


@native
def fpu_mode(env: Env) -> u32:
    """The mode bits that make x87, MMX and SSE instructions fault."""
    mode: u32 = 0
    if (env.cr0 & _NO_FPU) != 0:
        mode |= Mode.NO_FPU
    if (env.cr0 & Cr0.EM) != 0 or (env.cr4 & Cr4.OSFXSR) == 0:
        mode |= Mode.NO_SSE
    if (env.cr0 & Cr0.TS) != 0:
        mode |= Mode.TASK_SWITCHED
    if (env.cr4 & Cr4.OSXSAVE) == 0 or (env.xcr0 & _AVX) != _AVX:
        mode |= Mode.NO_AVX
    return mode


@native
def update_code_base(env: Env) -> None:
    """How pc becomes a linear address; 64-bit code ignores CS's base."""
    base: u64 = 0
    env.linear_mask = 0xFFFF_FFFF_FFFF_FFFF
    if (env.mode & Mode.CODE64) == 0:
        base = env.seg_base[Seg.CS]
        env.linear_mask = 0xFFFF_FFFF
    # The jump cache goes by pc: INVLPG could not find a block of another base in it.
    if base != env.code_base and (env.cr0 & Cr0.PG) != 0:
        jump_cache_flush(env)
    env.code_base = base


@native
def update_mode(env: Env) -> None:
    """Recompute what follows from the system registers: mode, code base, the present TLB."""
    mode: u32 = segment_mode(env) | fpu_mode(env)
    if env.cpl == 3:
        mode |= Mode.USER
    if (env.cr0 & Cr0.PE) != 0:
        if (env.eflags & Flag.VM) != 0:
            mode |= Mode.VM86
        else:
            mode |= Mode.PROTECTED
    if (env.eflags & Flag.TF) != 0:
        mode |= Mode.STEP
    if env.inhibit != 0 or (env.eflags & Flag.RF) != 0:
        mode |= Mode.INHIBIT
    env.mode = mode
    env.jump_salt = u64(mode) << 48
    update_code_base(env)
    select_tlb(env, env.cpl)
