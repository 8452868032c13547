"""RDMSR WRMSR RDTSC RDTSCP SWAPGS RDFSBASE…; which MSRs there are (SDM vol. 4).

The local APIC's MSRs belong to the board. AMD's own (C001xxxxH) and a few that say "there is
nothing" read as 0 and ignore writes, as Linux reads them unasked; any other is #GP(0).
TSC_ADJUST is the distance to the host's counter, which RESET leaves 0.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

from pytcg.ir.ops import Type
from pytcg_native import call_host, cycles, native, ptr, u32, u64
from pytcg_x86.core.exceptions import raise_error, raise_exception
from pytcg_x86.core.state import Cr0, Cr4, Efer, Env, Host, Seg, Vector, Vendor
from pytcg_x86.decode.table import lower, rows
from pytcg_x86.system.counters import is_counter_msr, read_counter_msr, write_counter_msr
from pytcg_x86.system.debugregs import DEBUGCTL_BTF, DEBUGCTL_LBR
from pytcg_x86.system.descriptor import is_canonical_base
from pytcg_x86.system.features import Word
from pytcg_x86.system.paging import tlb_flush

if TYPE_CHECKING:
    from pytcg.ir.blocks import Value
    from pytcg_x86.core.translate import Operand, Translator

rows("""
0f.32          RDMSR          cpl0 end nosize ?msr
0f.30          WRMSR          cpl0 end nosize ?msr
0f.31          RDTSC          nosize ?tsc
0f.01/7/r1     RDTSCP         nosize ?rdtscp
0f.01/7/r0     SWAPGS         cpl0 o64 nosize
f3:0f.ae/0/r   RDFSBASE  Ry   o64 ?fsgsbase
f3:0f.ae/1/r   RDGSBASE  Ry   o64 ?fsgsbase
f3:0f.ae/2/r   WRFSBASE  Ry   o64 ?fsgsbase
f3:0f.ae/3/r   WRGSBASE  Ry   o64 ?fsgsbase
""")


class Msr(IntEnum):
    """Indices, by their names in SDM vol. 4 and AMD's manual (vol. 2, appendix A)."""

    TSC = 0x10
    PLATFORM_ID = 0x17
    APIC_BASE = 0x1B
    TSC_ADJUST = 0x3B
    BIOS_SIGN_ID = 0x8B
    MTRRCAP = 0xFE
    SYSENTER_CS = 0x174
    SYSENTER_ESP = 0x175
    SYSENTER_EIP = 0x176
    MCG_CAP = 0x179
    MCG_CTL = 0x17B
    MISC_ENABLE = 0x1A0
    DEBUGCTL = 0x1D9
    MTRR_PHYSBASE0 = 0x200
    MTRR_PHYSMASK7 = 0x20F
    MTRR_FIX64K = 0x250
    MTRR_FIX16K_80000 = 0x258
    MTRR_FIX16K_A0000 = 0x259
    MTRR_FIX4K_C0000 = 0x268
    MTRR_FIX4K_F8000 = 0x26F
    PAT = 0x277
    MTRR_DEF_TYPE = 0x2FF
    TSC_DEADLINE = 0x6E0
    XSS = 0xDA0
    X2APIC_FIRST = 0x800
    X2APIC_LAST = 0x8FF
    EFER = 0xC000_0080
    STAR = 0xC000_0081
    LSTAR = 0xC000_0082
    CSTAR = 0xC000_0083
    FMASK = 0xC000_0084
    FS_BASE = 0xC000_0100
    GS_BASE = 0xC000_0101
    KERNEL_GS_BASE = 0xC000_0102
    TSC_AUX = 0xC000_0103


_EFER_WRITABLE = Efer.SCE | Efer.LME | Efer.NXE
_SYSCALL, _NX, _LM = (1 << n for n in (11, 20, 29))  # bits of leaf 80000001H, EDX
_MTRRCAP = 8 | 1 << 8 | 1 << 10  # eight variable ranges, fixed ranges, write-combining
_MTRR_FIXED, _MTRR_DEF_TYPE = 16, 27  # slots in env.mtrr after the variable ranges'
_NO_SLOT = 0xFFFF
_PAT_TYPES = 1 << 0 | 1 << 1 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 7
_MISC_ENABLE = 1  # fast strings
_XSAVES = 1 << 3  # leaf DH, subleaf 1


# Time ------------------------------------------------------------------------------------------


@native
def read_tsc(env: Env) -> u64:
    """The time stamp counter: the host's, shifted."""
    return cycles() + env.tsc_offset


@native
def guest_tsc(env: Env) -> u64:
    """RDTSC: #GP(0) above level 0 if CR4.TSD."""
    if (env.cr4 & Cr4.TSD) != 0 and env.cpl != 0 and (env.cr0 & Cr0.PE) != 0:
        raise_error(env, Vector.GP, 0)
    return read_tsc(env)


# Reading ---------------------------------------------------------------------------------------


@native
def is_nothing(index: u32) -> bool:
    """MSRs that read as 0 and take any value."""
    if Msr.MCG_CAP <= index <= Msr.MCG_CTL or index >> 16 == 0xC001:
        return True
    return index == Msr.PLATFORM_ID or index == Msr.BIOS_SIGN_ID


@native
def has_xsaves(env: Env) -> bool:
    return (env.cpuid_features[Word.XSAVE] & _XSAVES) != 0


@native
def is_board(index: u32) -> bool:
    """MSRs of the local APIC."""
    if Msr.X2APIC_FIRST <= index <= Msr.X2APIC_LAST:
        return True
    return index == Msr.APIC_BASE or index == Msr.TSC_DEADLINE


@native
def mtrr_slot(index: u32) -> u32:
    """Where an MTRR is kept in env.mtrr, or _NO_SLOT."""
    if Msr.MTRR_PHYSBASE0 <= index <= Msr.MTRR_PHYSMASK7:
        return index - Msr.MTRR_PHYSBASE0
    if index == Msr.MTRR_FIX64K:
        return _MTRR_FIXED
    if index == Msr.MTRR_FIX16K_80000 or index == Msr.MTRR_FIX16K_A0000:
        return index - Msr.MTRR_FIX16K_80000 + (_MTRR_FIXED + 1)
    if Msr.MTRR_FIX4K_C0000 <= index <= Msr.MTRR_FIX4K_F8000:
        return index - Msr.MTRR_FIX4K_C0000 + (_MTRR_FIXED + 3)
    if index == Msr.MTRR_DEF_TYPE:
        return _MTRR_DEF_TYPE
    return _NO_SLOT


@native
def read_board_msr(env: Env, index: u32) -> u64:
    """One that the board has; it leaves nonzero in scratch for #GP."""
    value: u64 = call_host(ptr(env.host[Host.READ_MSR]), "u64", index)
    if env.scratch[0] != 0:
        raise_error(env, Vector.GP, 0)
    return value


@native
def read_long_msr(env: Env, index: u32) -> u64:
    """The MSRs of IA-32e mode and SYSCALL; any other is #GP(0)."""
    if index == Msr.EFER:
        return env.efer
    if index == Msr.STAR:
        return env.star
    if index == Msr.LSTAR:
        return env.lstar
    if index == Msr.CSTAR:
        return env.cstar
    if index == Msr.FMASK:
        return env.fmask
    if index == Msr.FS_BASE:
        return env.seg_base[Seg.FS]
    if index == Msr.GS_BASE:
        return env.seg_base[Seg.GS]
    if index == Msr.KERNEL_GS_BASE:
        return env.kernel_gs_base
    if index != Msr.TSC_AUX:
        raise_error(env, Vector.GP, 0)
    return env.tsc_aux


@native
def read_msr(env: Env, index: u32) -> u64:
    """An MSR's value."""
    if is_board(index):
        return read_board_msr(env, index)
    if index == Msr.XSS and has_xsaves(env):
        return 0  # there is no supervisor state
    if is_nothing(index):
        return 0
    if is_counter_msr(env, index):
        return read_counter_msr(env, index)
    slot: u32 = mtrr_slot(index)
    if slot != _NO_SLOT:
        return env.mtrr[slot]
    if index == Msr.TSC:
        return read_tsc(env)
    if index == Msr.TSC_ADJUST:
        return env.tsc_offset
    if index == Msr.MTRRCAP:
        return _MTRRCAP
    if index == Msr.SYSENTER_CS:
        return env.sysenter_cs
    if index == Msr.SYSENTER_ESP:
        return env.sysenter_esp
    if index == Msr.SYSENTER_EIP:
        return env.sysenter_eip
    if index == Msr.MISC_ENABLE:
        return env.misc_enable | _MISC_ENABLE
    if index == Msr.PAT:
        return env.pat
    if index == Msr.DEBUGCTL:
        return env.debugctl
    return read_long_msr(env, index)


# Writing ---------------------------------------------------------------------------------------


@native
def write_board_msr(env: Env, index: u32, value: u64) -> None:
    """One that the board has."""
    call_host(ptr(env.host[Host.WRITE_MSR]), "u64", index, value)
    if env.scratch[0] != 0:
        raise_error(env, Vector.GP, 0)


@native
def efer_supported(env: Env) -> u64:
    """The bits of EFER that this CPU model has."""
    features: u64 = env.cpuid_features[Word.AMD]
    allowed: u64 = 0
    if (features & _SYSCALL) != 0:
        allowed |= Efer.SCE
    if (features & _NX) != 0:
        allowed |= Efer.NXE
    if (features & _LM) != 0:
        allowed |= Efer.LME | Efer.LMA
    return allowed


@native
def write_efer(env: Env, value: u64) -> None:
    """EFER: LME can't change while paging; LMA is read-only."""
    changed: u64 = env.efer ^ value
    bad: bool = (value & ~efer_supported(env)) != 0
    if (changed & Efer.LME) != 0 and (env.cr0 & Cr0.PG) != 0:
        bad = True
    if bad:
        raise_error(env, Vector.GP, 0)
    env.efer = (value & _EFER_WRITABLE) | (env.efer & Efer.LMA)
    if (changed & Efer.NXE) != 0:
        tlb_flush(env)


@native
def check_pat(env: Env, value: u64) -> None:
    """#GP(0) for memory types that don't exist."""
    for i in range(u64(0), u64(8)):
        kind: u64 = (value >> (i * 8)) & 0xFF
        if kind > 7 or ((u64(_PAT_TYPES) >> kind) & 1) == 0:
            raise_error(env, Vector.GP, 0)


@native
def write_address_msr(env: Env, index: u32, value: u64) -> None:
    """The MSRs that hold a linear address, which must be canonical; any other is #GP(0)."""
    if not is_canonical_base(env, value):
        raise_error(env, Vector.GP, 0)
    if index == Msr.LSTAR:
        env.lstar = value
    elif index == Msr.CSTAR:
        env.cstar = value
    elif index == Msr.FS_BASE:
        env.seg_base[Seg.FS] = value
    elif index == Msr.GS_BASE:
        env.seg_base[Seg.GS] = value
    elif index == Msr.KERNEL_GS_BASE:
        env.kernel_gs_base = value
    elif index == Msr.SYSENTER_ESP:
        env.sysenter_esp = value
    elif index == Msr.SYSENTER_EIP:
        env.sysenter_eip = value
    else:
        raise_error(env, Vector.GP, 0)


@native
def write_plain_msr(env: Env, index: u32, value: u64) -> None:
    """MSRs of the processor that are not memory types or the board's."""
    if index == Msr.TSC:
        env.tsc_offset = value - cycles()
    elif index == Msr.TSC_ADJUST:
        env.tsc_offset = value
    elif index == Msr.SYSENTER_CS:
        env.sysenter_cs = value
    elif index == Msr.MISC_ENABLE:
        env.misc_enable = value
    elif index == Msr.PAT:
        check_pat(env, value)
        env.pat = value
    elif index == Msr.DEBUGCTL:
        env.debugctl = value & (DEBUGCTL_LBR | DEBUGCTL_BTF)
    elif index == Msr.EFER:
        write_efer(env, value)
    elif index == Msr.STAR:
        env.star = value
    elif index == Msr.FMASK:
        env.fmask = value & 0xFFFF_FFFF
    elif index == Msr.TSC_AUX:
        if (value >> 32) != 0 and env.vendor != Vendor.AMD:
            raise_error(env, Vector.GP, 0)
        env.tsc_aux = value & 0xFFFF_FFFF
    elif index == Msr.XSS and value == 0 and has_xsaves(env):
        return
    else:
        write_address_msr(env, index, value)


@native
def write_msr(env: Env, index: u32, value: u64) -> None:
    """Write an MSR. MTRRs are only kept: all memory is as good as write-back."""
    slot: u32 = mtrr_slot(index)
    if is_board(index):
        write_board_msr(env, index, value)
    elif slot != _NO_SLOT:
        env.mtrr[slot] = value
    elif is_counter_msr(env, index):
        write_counter_msr(env, index, value)
    elif not is_nothing(index):
        write_plain_msr(env, index, value)


# Lowerings -------------------------------------------------------------------------------------


def _pair(t: Translator, value: Value | None) -> None:
    """EDX:EAX := a 64-bit value."""
    assert value is not None
    t.write(t.reg(0, 32), value.trunc(Type.I32))
    t.write(t.reg(2, 32), (value >> 32).trunc(Type.I32))


@lower("RDMSR", dst="raw")
def rdmsr(t: Translator) -> None:
    """RDMSR: EDX:EAX := MSR[ECX]. It ends its block, for what counts instructions (`counters`)."""
    _pair(t, t.call(read_msr, t.env, t.read(t.reg(1, 32))))


@lower("WRMSR", dst="raw")
def wrmsr(t: Translator) -> None:
    """WRMSR: MSR[ECX] := EDX:EAX."""
    low = t.read(t.reg(0, 32)).zext(Type.I64)
    high = t.read(t.reg(2, 32)).zext(Type.I64) << 32
    t.call(write_msr, t.env, t.read(t.reg(1, 32)), low | high)


@lower("RDTSC", dst="raw")
def rdtsc(t: Translator) -> None:
    """RDTSC."""
    _pair(t, t.call(guest_tsc, t.env))


@lower("RDTSCP", dst="raw")
def rdtscp(t: Translator) -> None:
    """RDTSCP: and ECX := TSC_AUX."""
    _pair(t, t.call(guest_tsc, t.env))
    t.write(t.reg(1, 32), t.ld_env("tsc_aux").trunc(Type.I32))


@lower("SWAPGS", dst="raw")
def swapgs(t: Translator) -> None:
    """SWAPGS: GS's base and KERNEL_GS_BASE."""
    base = t.ld_env("seg_base", Seg.GS)
    t.st_env("seg_base", t.ld_env("kernel_gs_base"), Seg.GS)
    t.st_env("kernel_gs_base", base)


@native
def check_fsgsbase(env: Env) -> None:
    """#UD unless CR4.FSGSBASE."""
    if (env.cr4 & Cr4.FSGSBASE) == 0:
        raise_exception(env, Vector.UD)


@native
def write_base(env: Env, segment: u64, value: u64) -> None:
    """WRFSBASE, WRGSBASE."""
    check_fsgsbase(env)
    if not is_canonical_base(env, value):
        raise_error(env, Vector.GP, 0)
    env.seg_base[segment] = value


def _bases(segment: Seg) -> None:
    @lower(f"RD{segment.name}BASE", dst="raw")
    def read(t: Translator, dst: Operand) -> None:
        """RDFSBASE, RDGSBASE."""
        t.call(check_fsgsbase, t.env)
        t.write(dst, t.ld_env("seg_base", segment).resize(dst.type))

    @lower(f"WR{segment.name}BASE", dst="raw")
    def write(t: Translator, src: Operand) -> None:
        """WRFSBASE, WRGSBASE."""
        t.call(write_base, t.env, t.const(segment, 64), t.read(src).zext(Type.I64))


for _segment in (Seg.FS, Seg.GS):
    _bases(_segment)
