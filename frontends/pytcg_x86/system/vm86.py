"""Virtual-8086 mode: segments, IOPL, VIF, redirected interrupts (SDM vol. 3A, chapter 21).

Code of that mode looks like real mode's to the translator (`Mode.VM86`, not `Mode.PROTECTED`), at
level 3. With CR4.VME the flag VIF stands in for IF where IOPL is below 3, and INT n may go straight
to the 8086 program's handler; CR4.PVI gives CLI and STI of level 3 in protected mode the same VIF.
"""

from __future__ import annotations

from pytcg_native import native, u8, u32, u64
from pytcg_x86.core.eflags import get_eflags, set_eflags
from pytcg_x86.core.exceptions import raise_error
from pytcg_x86.core.modes import update_mode
from pytcg_x86.core.state import Attr, Cr4, Env, Flag, Mode, Seg, Vector
from pytcg_x86.system.debugregs import DR6_HITS
from pytcg_x86.system.descriptor import kernel_load, set_null, set_real
from pytcg_x86.system.frame import frame_commit, frame_here, frame_push, peek

_ATTR = Attr.P | Attr.DPL | Attr.S | Attr.WRITABLE | Attr.ACCESSED
_LIMIT = 0xFFFF
_IRET_FLAGS = (Flag.ARITHMETIC | Flag.TF | Flag.IF | Flag.DF | Flag.IOPL | Flag.NT | Flag.RF
               | Flag.VM | Flag.AC | Flag.VIF | Flag.VIP | Flag.ID)  # fmt: skip
_FRAME = 36  # bytes: EIP CS EFLAGS ESP SS ES DS FS GS
_TSS_TYPE, _TSS_32, _MAP_BASE, _REDIRECTION = 0x1D, 0x09, 0x66, 32


# Segments --------------------------------------------------------------------------------------


@native
def set_vm86(env: Env, segment: u64, selector: u32) -> None:
    """A segment as virtual-8086 mode has it: 64 KiB at the selector times 16."""
    set_real(env, segment, selector)
    env.seg_limit[segment] = _LIMIT
    env.seg_attr[segment] = _ATTR


@native
def set_vm86_segments(env: Env) -> None:
    """All segment registers, whose selectors are there already."""
    for segment in range(u64(Seg.ES), u64(Seg.GS) + 1):
        set_vm86(env, segment, u32(env.seg_sel[segment]))


@native
def iret_to_vm86(env: Env, pc: u64, selector: u32, image: u64) -> None:
    """IRET of level 0 whose image has VM set: everything is on the stack (SDM vol. 2A)."""
    peek(env, _FRAME - 4, 4)
    if pc > _LIMIT:
        raise_error(env, Vector.GP, 0)
    pointer: u64 = peek(env, 12, 4)
    stack: u32 = u32(peek(env, 16, 4))
    for i in range(u64(0), u64(4)):
        env.scratch[i] = peek(env, 20 + i * 4, 4)
    env.cpl = 3
    env.rip = pc
    env.gpr[4] = pointer
    set_vm86(env, Seg.CS, selector)
    set_vm86(env, Seg.SS, stack)
    set_vm86(env, Seg.ES, u32(env.scratch[0]))
    set_vm86(env, Seg.DS, u32(env.scratch[1]))
    set_vm86(env, Seg.FS, u32(env.scratch[2]))
    set_vm86(env, Seg.GS, u32(env.scratch[3]))
    set_eflags(env, image, _IRET_FLAGS)
    update_mode(env)


@native
def push_vm86_segments(env: Env, size: u32) -> None:
    """What an interrupt of virtual-8086 code puts on level 0's stack first."""
    frame_push(env, size, env.seg_sel[Seg.GS])
    frame_push(env, size, env.seg_sel[Seg.FS])
    frame_push(env, size, env.seg_sel[Seg.DS])
    frame_push(env, size, env.seg_sel[Seg.ES])


@native
def leave_vm86(env: Env) -> None:
    """Its data segments mean nothing to the handler."""
    set_null(env, Seg.ES, 0)
    set_null(env, Seg.DS, 0)
    set_null(env, Seg.FS, 0)
    set_null(env, Seg.GS, 0)


# IOPL and VIF ----------------------------------------------------------------------------------


@native
def is_sensitive(env: Env) -> bool:
    """Virtual-8086 mode with IOPL below 3: INT n, IRET, PUSHF and POPF are not free."""
    return (env.mode & Mode.VM86) != 0 and (env.eflags & Flag.IOPL) != Flag.IOPL


@native
def has_virtual_if(env: Env) -> bool:
    """Whether VIF stands in for IF, above IOPL (SDM vol. 3A, 21.3 and 21.4)."""
    if (env.mode & Mode.VM86) != 0:
        return (env.cr4 & Cr4.VME) != 0
    return env.cpl == 3 and (env.cr4 & Cr4.PVI) != 0


@native
def check_sensitive(env: Env, size: u32) -> None:
    """#GP(0) where IOPL forbids PUSHF, POPF or IRET; VME lets those of 16 bits."""
    if is_sensitive(env) and ((env.cr4 & Cr4.VME) == 0 or size != 2):
        raise_error(env, Vector.GP, 0)


@native
def virtual_image(env: Env) -> u64:
    """FLAGS as 8086 code sees them with VME: VIF at IF's place, IOPL 3."""
    image: u64 = get_eflags(env) & ~Flag.IF | Flag.IOPL
    if (env.eflags & Flag.VIF) != 0:
        image |= Flag.IF
    return image


@native
def check_virtual_flags(env: Env, image: u64) -> None:
    """#GP(0) if POPF or IRET would single-step, or let a waiting interrupt in."""
    if not is_sensitive(env):
        return
    if (image & Flag.TF) != 0 or ((image & Flag.IF) != 0 and (env.eflags & Flag.VIP) != 0):
        raise_error(env, Vector.GP, 0)


@native
def take_virtual_if(env: Env, image: u64) -> None:
    """VIF := the image's IF, after POPF or IRET that left IF alone."""
    env.eflags = env.eflags & ~Flag.VIF
    if (image & Flag.IF) != 0:
        env.eflags |= Flag.VIF


# INT n -----------------------------------------------------------------------------------------


@native
def is_redirected(env: Env, vector: u32) -> bool:
    """Whether VME gives INT n to the 8086 program itself: its bit below the I/O map is 0."""
    if (env.cr4 & Cr4.VME) == 0:
        return False
    if (env.seg_attr[Seg.TR] & _TSS_TYPE) != _TSS_32 or env.seg_limit[Seg.TR] < _MAP_BASE + 1:
        raise_error(env, Vector.GP, 0)
    base: u64 = kernel_load(env, env.seg_base[Seg.TR] + _MAP_BASE, 2)
    where: u64 = base - _REDIRECTION + (vector >> 3)
    if base < _REDIRECTION or where > env.seg_limit[Seg.TR]:
        raise_error(env, Vector.GP, 0)
    bits: u64 = kernel_load(env, env.seg_base[Seg.TR] + where, 1)
    return (bits >> u8(vector & 7)) & 1 == 0


@native
def redirect_interrupt(env: Env, vector: u32) -> None:
    """INT n through the vector table at linear address 0, as the 8086 does it."""
    entry: u64 = kernel_load(env, u64(vector) * 4, 4)
    sensitive: bool = is_sensitive(env)
    image: u64 = get_eflags(env)
    if sensitive:
        image = virtual_image(env)
    frame_here(env)
    frame_push(env, 2, image)
    frame_push(env, 2, env.seg_sel[Seg.CS])
    frame_push(env, 2, env.rip)
    frame_commit(env)
    set_real(env, Seg.CS, u32(entry >> 16))
    env.rip = entry & _LIMIT
    env.eflags = env.eflags & ~(Flag.TF | Flag.RF)
    if sensitive:
        env.eflags = env.eflags & ~Flag.VIF
    else:
        env.eflags = env.eflags & ~Flag.IF
    env.step_pending &= DR6_HITS  # of the MOV SS before, as in `deliver_interrupt`
    env.exit_request |= env.step_pending
    update_mode(env)
