"""SYSCALL SYSRET SYSENTER SYSEXIT (SDM vol. 2B; AMD's manual for SYSCALL outside 64-bit code).

Intel's processors have SYSCALL and SYSRET in 64-bit code only, AMD's SYSENTER and SYSEXIT outside
of IA-32e mode only, and a SYSRET that leaves SS's hidden part and a wrong rCX alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytcg_native import native, u8, u16, u32, u64
from pytcg_x86.core.eflags import get_eflags, set_eflags
from pytcg_x86.core.exceptions import raise_error, raise_exception
from pytcg_x86.core.modes import update_mode
from pytcg_x86.core.segment import is_canonical
from pytcg_x86.core.state import Attr, Cr0, Efer, Env, Flag, Mode, Seg, Vector, Vendor
from pytcg_x86.decode.table import lower, rows
from pytcg_x86.system.debugregs import BRANCH_STEP, DR6_BS
from pytcg_x86.system.frame import is_long, is_protected

if TYPE_CHECKING:
    from pytcg_x86.core.translate import Translator

rows("""
0f.05  SYSCALL    branch nosize ?syscall
0f.07  SYSRET     branch cpl0 ?syscall
0f.34  SYSENTER   branch nosize ?sep
0f.35  SYSEXIT    branch cpl0 ?sep
""")

_DATA = Attr.P | Attr.S | Attr.WRITABLE | Attr.ACCESSED | Attr.G | Attr.DB
_CODE = Attr.P | Attr.S | Attr.CODE | Attr.WRITABLE | Attr.ACCESSED | Attr.G
_SYSRET_FLAGS = 0x003C_7FD7 & ~Flag.VM & ~Flag.RF
_ALL_FLAGS = 0x003F_7FD5
_LOW = 0xFFFF_FFFF


@native
def set_flat(env: Env, code: u32, stack: u32, cpl: u32, wide: bool) -> None:
    """Flat CS and SS at level ``cpl``, without looking at the GDT."""
    env.seg_base[Seg.SS] = 0
    env.seg_limit[Seg.SS] = _LOW
    env.seg_attr[Seg.SS] = _DATA | (cpl << 5)
    env.seg_sel[Seg.CS] = u16((code & 0xFFFC) | cpl)
    env.seg_sel[Seg.SS] = u16((stack & 0xFFFC) | cpl)
    env.seg_base[Seg.CS] = 0
    env.seg_limit[Seg.CS] = _LOW
    env.seg_attr[Seg.CS] = _CODE | (cpl << 5)
    if wide:
        env.seg_attr[Seg.CS] |= Attr.L
    else:
        env.seg_attr[Seg.CS] |= Attr.DB
    env.cpl = u8(cpl)


@native
def check_syscall(env: Env) -> None:
    """#UD unless EFER.SCE, in protected mode; for Intel's processors in 64-bit code."""
    if (env.efer & Efer.SCE) == 0 or (env.cr0 & Cr0.PE) == 0:
        raise_exception(env, Vector.UD)
    if env.vendor == Vendor.INTEL and (env.mode & Mode.CODE64) == 0:
        raise_exception(env, Vector.UD)


@native
def check_sysenter(env: Env) -> None:
    """#UD for AMD's processors in IA-32e mode."""
    if env.vendor == Vendor.AMD and is_long(env):
        raise_exception(env, Vector.UD)


@native
def settle_trap(env: Env) -> None:
    """SYSCALL and SYSRET trap if TF is set behind them, whatever it was (SDM vol. 2B, SYSRET)."""
    env.step_pending = env.step_pending & ~u32(DR6_BS | BRANCH_STEP)
    if (env.eflags & Flag.TF) != 0:
        env.step_pending |= DR6_BS
        env.exit_request = 1


@native
def syscall(env: Env, next_pc: u64) -> None:
    """SYSCALL."""
    check_syscall(env)
    target: u32 = u32(env.star >> 32)
    env.gpr[1] = next_pc
    if is_long(env):
        flags: u32 = get_eflags(env)
        env.gpr[11] = flags & ~Flag.RF
        env.rip = env.cstar
        if (env.mode & Mode.CODE64) != 0:
            env.rip = env.lstar
        set_flat(env, target, target + 8, 0, True)
        set_eflags(env, flags & ~(u32(env.fmask) | Flag.RF | Flag.VM), _ALL_FLAGS)
    else:
        env.rip = env.star & _LOW
        set_flat(env, target, target + 8, 0, False)
        env.eflags = env.eflags & ~(Flag.IF | Flag.VM | Flag.RF)
    settle_trap(env)
    update_mode(env)

@native
def sysret(env: Env, size: u32) -> None:
    """SYSRET; ``size`` 8 returns to 64-bit code."""
    check_syscall(env)
    base: u32 = u32(env.star >> 48)
    amd: bool = env.vendor == Vendor.AMD
    stack: u64 = env.seg_base[Seg.SS]
    limit: u32 = env.seg_limit[Seg.SS]
    attr: u32 = env.seg_attr[Seg.SS]
    if not is_long(env):
        set_flat(env, base, base + 8, 3, False)
        env.rip = env.gpr[1] & _LOW
        env.eflags |= Flag.IF
    else:
        if size == 8 and not amd and not is_canonical(env, env.gpr[1]):
            raise_error(env, Vector.GP, 0)
        if size == 8:
            env.rip = env.gpr[1]
            set_flat(env, base + 16, base + 8, 3, True)
        else:
            env.rip = env.gpr[1] & _LOW
            set_flat(env, base, base + 8, 3, False)
        set_eflags(env, env.gpr[11], _SYSRET_FLAGS)
    if amd:
        env.seg_base[Seg.SS] = stack
        env.seg_limit[Seg.SS] = limit
        env.seg_attr[Seg.SS] = attr
    settle_trap(env)
    update_mode(env)


@native
def sysenter(env: Env) -> None:
    """SYSENTER: flat segments after SYSENTER_CS, level 0."""
    check_sysenter(env)
    selector: u32 = u32(env.sysenter_cs) & 0xFFFC
    if (env.cr0 & Cr0.PE) == 0 or selector == 0:
        raise_error(env, Vector.GP, 0)
    env.eflags = env.eflags & ~(Flag.IF | Flag.VM | Flag.RF)
    env.gpr[4] = env.sysenter_esp
    env.rip = env.sysenter_eip
    if not is_long(env):
        env.gpr[4] = env.sysenter_esp & _LOW
        env.rip = env.sysenter_eip & _LOW
    set_flat(env, selector, selector + 8, 0, is_long(env))
    update_mode(env)


@native
def sysexit(env: Env, size: u32) -> None:
    """SYSEXIT: to level 3, rIP from rDX and rSP from rCX."""
    check_sysenter(env)
    selector: u32 = u32(env.sysenter_cs) & 0xFFFC
    if not is_protected(env) or selector == 0:
        raise_error(env, Vector.GP, 0)
    pc: u64 = env.gpr[2]
    pointer: u64 = env.gpr[1]
    if size == 8:
        if not is_canonical(env, pc) or not is_canonical(env, pointer):
            raise_error(env, Vector.GP, 0)
        set_flat(env, selector + 32, selector + 40, 3, True)
        env.rip = pc
        env.gpr[4] = pointer
    else:
        set_flat(env, selector + 16, selector + 24, 3, False)
        env.rip = pc & _LOW
        env.gpr[4] = pointer & _LOW
    update_mode(env)


@lower("SYSCALL", dst="raw")
def syscall_(t: Translator) -> None:
    """SYSCALL."""
    t.call(syscall, t.env, t.next_pc())
    t.lookup(t.ld_env("rip"))


@lower("SYSRET", dst="raw")
def sysret_(t: Translator) -> None:
    """SYSRET."""
    t.call(sysret, t.env, t.const(t.cx.operand_size // 8, 32))
    t.lookup(t.ld_env("rip"))


@lower("SYSENTER", dst="raw")
def sysenter_(t: Translator) -> None:
    """SYSENTER."""
    t.call(sysenter, t.env)
    t.lookup(t.ld_env("rip"))


@lower("SYSEXIT", dst="raw")
def sysexit_(t: Translator) -> None:
    """SYSEXIT."""
    t.call(sysexit, t.env, t.const(t.cx.operand_size // 8, 32))
    t.lookup(t.ld_env("rip"))
