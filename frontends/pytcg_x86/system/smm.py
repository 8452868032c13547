"""System management mode: SMI, the state save area, RSM (SDM vol. 3C, ch. 32; APM vol. 2, ch. 10).

The area is laid out as AMD64 processors do it where there is long mode, else as Intel's 32-bit ones
do: what firmware knows from QEMU. SMRAM is the board's: `Host.SMM` tells it when to show it. There
is no I/O restart, as the revision says; a pending single-step trap is taken before the SMI.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytcg.softmmu.access import physical_load, physical_store
from pytcg_native import call_host, native, ptr, u8, u16, u32, u64
from pytcg_x86.core.eflags import get_eflags, set_eflags
from pytcg_x86.core.exceptions import raise_exception
from pytcg_x86.core.modes import update_mode
from pytcg_x86.core.state import Attr, Cr0, Env, Flag, Host, Seg, Vector
from pytcg_x86.decode.table import lower, rows
from pytcg_x86.system.controlregs import cr4_supported
from pytcg_x86.system.debugregs import update_debug
from pytcg_x86.system.features import Word
from pytcg_x86.system.interrupt import shut_down
from pytcg_x86.system.paging import tlb_flush

if TYPE_CHECKING:
    from pytcg_x86.core.translate import Translator

rows("""
0f.aa  RSM  branch nosize
""")

ACTIVE, INSIDE_NMI = 1, 2
"""env.smm: in the mode; NMIs were blocked before it."""
SMBASE = 0x30000
_ENTRY, _AREA = 0x8000, 0x8000
_HALT_64, _HALT_32 = 0x7EC9, 0x7F02
"""Auto-halt restart, bit 0: a HLT was interrupted, and is gone on with by RSM."""
_REVISION, _REVISION_64, _REVISION_32 = 0x7EFC, 0x0002_0064, 0x0002_0000
_LM = 1 << 29  # leaf 80000001H, EDX
_DATA = Attr.P | Attr.S | Attr.WRITABLE | Attr.ACCESSED | Attr.G
_ALL_FLAGS = 0x003F_7FD5
_LOW = 0xFFFF_FFFF


@native
def has_long_mode(env: Env) -> bool:
    """Which of the two layouts it is."""
    return (env.cpuid_features[Word.AMD] & _LM) != 0


@native
def save(env: Env, offset: u32, size: u32, value: u64) -> None:
    """Store into the state save area."""
    physical_store(env, (u64(env.smbase) + _AREA + offset) & _LOW, size, value)


@native
def saved(env: Env, offset: u32, size: u32) -> u64:
    """Load from the state save area."""
    return physical_load(env, (u64(env.smbase) + _AREA + offset) & _LOW, size)


# Segments --------------------------------------------------------------------------------------


@native
def save_segment(env: Env, segment: u64, offset: u32) -> None:
    """Selector, attributes, limit and base, 64 bits wide."""
    save(env, offset, 2, env.seg_sel[segment])
    save(env, offset + 2, 2, env.seg_attr[segment])
    save(env, offset + 4, 4, env.seg_limit[segment])
    save(env, offset + 8, 8, env.seg_base[segment])


@native
def restore_segment(env: Env, segment: u64, offset: u32) -> None:
    """The same back."""
    env.seg_sel[segment] = u16(saved(env, offset, 2))
    env.seg_attr[segment] = u32(saved(env, offset + 2, 2))
    env.seg_limit[segment] = u32(saved(env, offset + 4, 4))
    env.seg_base[segment] = saved(env, offset + 8, 8)


@native
def save_narrow_segment(env: Env, segment: u64, selector: u32, rest: u32) -> None:
    """Selector at one place; attributes, limit and base at the other."""
    save(env, selector, 4, env.seg_sel[segment])
    save(env, rest, 4, env.seg_attr[segment])
    save(env, rest + 4, 4, env.seg_limit[segment])
    save(env, rest + 8, 4, env.seg_base[segment])


@native
def restore_narrow_segment(env: Env, segment: u64, selector: u32, rest: u32) -> None:
    """The same back."""
    env.seg_sel[segment] = u16(saved(env, selector, 4))
    env.seg_attr[segment] = u32(saved(env, rest, 4))
    env.seg_limit[segment] = u32(saved(env, rest + 4, 4))
    env.seg_base[segment] = saved(env, rest + 8, 4)


@native
def narrow_place(segment: u64) -> u32:
    """Where the 32-bit layout has the rest of a segment register."""
    if segment < 3:
        return 0x7F84 + u32(segment) * 12
    return 0x7F2C + (u32(segment) - 3) * 12


# The two layouts -------------------------------------------------------------------------------


@native
def save_wide(env: Env) -> None:
    """APM vol. 2, table 10-1."""
    for k in range(u64(0), u64(6)):
        save_segment(env, k, 0x7E00 + u32(k) * 16)
    save(env, 0x7E64, 4, env.gdtr_limit)
    save(env, 0x7E68, 8, env.gdtr_base)
    save_segment(env, Seg.LDTR, 0x7E70)
    save(env, 0x7E84, 4, env.idtr_limit)
    save(env, 0x7E88, 8, env.idtr_base)
    save_segment(env, Seg.TR, 0x7E90)
    save(env, 0x7ED0, 8, env.efer)
    save(env, _REVISION, 4, _REVISION_64)
    save(env, 0x7F00, 4, env.smbase)
    save(env, 0x7F48, 8, env.cr4)
    save(env, 0x7F50, 8, env.cr3)
    save(env, 0x7F58, 8, env.cr0)
    save(env, 0x7F60, 8, env.dr[7])
    save(env, 0x7F68, 8, env.dr[6])
    save(env, 0x7F70, 8, get_eflags(env))
    save(env, 0x7F78, 8, env.rip)
    for i in range(u64(0), u64(16)):
        save(env, 0x7FF8 - u32(i) * 8, 8, env.gpr[i])


@native
def restore_wide(env: Env) -> None:
    """The same back."""
    for k in range(u64(0), u64(6)):
        restore_segment(env, k, 0x7E00 + u32(k) * 16)
    env.gdtr_limit = u32(saved(env, 0x7E64, 4))
    env.gdtr_base = saved(env, 0x7E68, 8)
    restore_segment(env, Seg.LDTR, 0x7E70)
    env.idtr_limit = u32(saved(env, 0x7E84, 4))
    env.idtr_base = saved(env, 0x7E88, 8)
    restore_segment(env, Seg.TR, 0x7E90)
    env.efer = saved(env, 0x7ED0, 8)
    env.cr4 = saved(env, 0x7F48, 8)
    env.cr3 = saved(env, 0x7F50, 8)
    env.cr0 = saved(env, 0x7F58, 8)
    env.dr[7] = saved(env, 0x7F60, 8)
    env.dr[6] = saved(env, 0x7F68, 8)
    env.rip = saved(env, 0x7F78, 8)
    for i in range(u64(0), u64(16)):
        env.gpr[i] = saved(env, 0x7FF8 - u32(i) * 8, 8)
    resume(env, saved(env, 0x7F70, 8), u32(saved(env, 0x7F00, 4)))


@native
def save_narrow(env: Env) -> None:
    """SDM vol. 3C, table 32-1."""
    save(env, 0x7FFC, 4, env.cr0)
    save(env, 0x7FF8, 4, env.cr3)
    save(env, 0x7FF4, 4, get_eflags(env))
    save(env, 0x7FF0, 4, env.rip)
    for i in range(u64(0), u64(8)):
        save(env, 0x7FD0 + u32(i) * 4, 4, env.gpr[i])
    save(env, 0x7FCC, 4, env.dr[6])
    save(env, 0x7FC8, 4, env.dr[7])
    save_narrow_segment(env, Seg.TR, 0x7FC4, 0x7F5C)
    save_narrow_segment(env, Seg.LDTR, 0x7FC0, 0x7F78)
    save(env, 0x7F74, 4, env.gdtr_base)
    save(env, 0x7F70, 4, env.gdtr_limit)
    save(env, 0x7F58, 4, env.idtr_base)
    save(env, 0x7F54, 4, env.idtr_limit)
    for k in range(u64(0), u64(6)):
        save_narrow_segment(env, k, 0x7FA8 + u32(k) * 4, narrow_place(k))
    save(env, 0x7F14, 4, env.cr4)
    save(env, _REVISION, 4, _REVISION_32)
    save(env, 0x7EF8, 4, env.smbase)


@native
def restore_narrow(env: Env) -> None:
    """The same back."""
    env.cr0 = saved(env, 0x7FFC, 4)
    env.cr3 = saved(env, 0x7FF8, 4)
    env.rip = saved(env, 0x7FF0, 4)
    for i in range(u64(0), u64(8)):
        env.gpr[i] = saved(env, 0x7FD0 + u32(i) * 4, 4)
    env.dr[6] = saved(env, 0x7FCC, 4)
    env.dr[7] = saved(env, 0x7FC8, 4)
    restore_narrow_segment(env, Seg.TR, 0x7FC4, 0x7F5C)
    restore_narrow_segment(env, Seg.LDTR, 0x7FC0, 0x7F78)
    env.gdtr_base = saved(env, 0x7F74, 4)
    env.gdtr_limit = u32(saved(env, 0x7F70, 4))
    env.idtr_base = saved(env, 0x7F58, 4)
    env.idtr_limit = u32(saved(env, 0x7F54, 4))
    for k in range(u64(0), u64(6)):
        restore_narrow_segment(env, k, 0x7FA8 + u32(k) * 4, narrow_place(k))
    env.cr4 = saved(env, 0x7F14, 4)
    resume(env, saved(env, 0x7FF4, 4), u32(saved(env, 0x7EF8, 4)))


# In and out ------------------------------------------------------------------------------------


@native
def enter_smm(env: Env, halted: u32) -> None:
    """An SMI: save, and be as after a reset but for the segments' size (SDM table 32-4).

    ``halted``: it came during HLT (SDM 32.10).
    """
    call_host(ptr(env.host[Host.SMM]), "void", u32(1))
    if has_long_mode(env):
        save_wide(env)
        save(env, _HALT_64, 1, halted)
    else:
        save_narrow(env)
        save(env, _HALT_32, 2, halted)
    env.smm = ACTIVE
    if env.nmi_blocked != 0:
        env.smm = ACTIVE | INSIDE_NMI
    env.nmi_blocked = 1
    env.halted = 0
    env.efer = 0
    set_eflags(env, 0, _ALL_FLAGS)
    env.rip = _ENTRY
    env.cr0 = env.cr0 & ~u64(Cr0.PE | Cr0.EM | Cr0.TS | Cr0.PG)
    env.cr4 = 0
    env.dr[7] = 0x400
    env.cpl = 0
    for k in range(u64(0), u64(6)):
        env.seg_sel[k] = 0
        env.seg_base[k] = 0
        env.seg_limit[k] = _LOW
        env.seg_attr[k] = _DATA
    env.seg_sel[Seg.CS] = u16(env.smbase >> 4)
    env.seg_base[Seg.CS] = env.smbase
    settle_state(env)


@native
def settle_state(env: Env) -> None:
    """After all registers changed at once."""
    tlb_flush(env)
    update_debug(env)
    update_mode(env)


@native
def resume(env: Env, flags: u64, smbase: u32) -> None:
    """The end of RSM: flags, level, SMBASE, NMIs, SMRAM."""
    env.smbase = smbase
    env.cpl = u8((env.seg_attr[Seg.SS] >> 5) & 3)
    if (flags & Flag.VM) != 0:
        env.cpl = 3
    elif (env.cr0 & Cr0.PE) == 0:
        env.cpl = 0
    set_eflags(env, flags, _ALL_FLAGS)
    env.nmi_blocked = u32(env.smm >> 1)
    env.smm = 0
    call_host(ptr(env.host[Host.SMM]), "void", u32(0))
    if env.nmi_pending != 0 or env.smi_pending != 0:
        env.exit_request = 1
    settle_state(env)


@native
def is_resumable(env: Env, cr0: u64, cr4: u64) -> bool:
    """Whether RSM may load these (SDM 32.4.1); else the processor shuts down."""
    paging: bool = (cr0 & Cr0.PG) != 0 and (cr0 & Cr0.PE) == 0
    caching: bool = (cr0 & Cr0.NW) != 0 and (cr0 & Cr0.CD) == 0
    return not paging and not caching and (cr4 & ~cr4_supported(env)) == 0


@native
def rsm(env: Env) -> None:
    """RSM."""
    if env.smm == 0:
        raise_exception(env, Vector.UD)
    halted: u64 = 0
    if has_long_mode(env):
        if not is_resumable(env, saved(env, 0x7F58, 8), saved(env, 0x7F48, 8)):
            shut_down(env)
            return
        halted = saved(env, _HALT_64, 1)
        restore_wide(env)
    else:
        if not is_resumable(env, saved(env, 0x7FFC, 4), saved(env, 0x7F14, 4)):
            shut_down(env)
            return
        halted = saved(env, _HALT_32, 2)
        restore_narrow(env)
    if (halted & 1) != 0:
        env.halted = 1
        env.exit_request = 1


@lower("RSM", dst="raw")
def rsm_(t: Translator) -> None:
    """RSM: #UD outside SMM."""
    t.call(rsm, t.env)
    t.lookup(t.ld_env("rip"))
