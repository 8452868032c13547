"""INT n, INT3, INTO, INT1, and IRET in every mode (SDM vol. 2A)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytcg.ir.ops import Type
from pytcg_native import native, u32, u64
from pytcg_x86.core.eflags import set_eflags
from pytcg_x86.core.exceptions import raise_error
from pytcg_x86.core.modes import update_mode
from pytcg_x86.core.state import Env, Flag, Mode, Seg, Vector
from pytcg_x86.decode.table import lower, rows
from pytcg_x86.system.descriptor import descriptor_attr, set_real
from pytcg_x86.system.farcontrol import leave_for_task
from pytcg_x86.system.frame import is_long, is_protected, peek, present_mask, set_pointer
from pytcg_x86.system.interrupt import Cause, deliver_interrupt
from pytcg_x86.system.task import task_return
from pytcg_x86.system.transfer import (
    check_target,
    drop_inaccessible,
    is_wide,
    return_code,
    return_stack,
    set_code,
    set_stack,
)
from pytcg_x86.system.vm86 import (
    check_sensitive,
    check_virtual_flags,
    iret_to_vm86,
    is_redirected,
    is_sensitive,
    redirect_interrupt,
    take_virtual_if,
)

if TYPE_CHECKING:
    from pytcg.ir.blocks import Value
    from pytcg_x86.core.translate import Operand, Translator

rows("""
cc  INT3        branch nosize
cd  INT    Ib   branch nosize
ce  INTO        branch nosize i64
f1  INT1        branch nosize
cf  IRET        branch
""")

_NARROW = Flag.ARITHMETIC | Flag.TF | Flag.DF | Flag.NT
_FULL = _NARROW | Flag.RF | Flag.AC | Flag.ID


@native
def iret_flags(env: Env, size: u32) -> u32:
    """The flags an IRET may change, before CPL does."""
    mask: u32 = _NARROW
    if size >= 4:
        mask = _FULL
    if env.cpl == 0:
        mask |= Flag.IOPL
    if env.cpl <= (env.eflags >> 12) & 3:
        mask |= Flag.IF
    return mask


@native
def iret_real(env: Env, size: u32) -> None:
    """IRET in real and virtual-8086 mode."""
    check_sensitive(env, size)
    pc: u64 = peek(env, 0, size)
    selector: u32 = u32(peek(env, size, size)) & 0xFFFF
    image: u64 = peek(env, size * 2, size)
    if pc > env.seg_limit[Seg.CS]:
        raise_error(env, Vector.GP, 0)
    check_virtual_flags(env, image)
    set_pointer(env, env.gpr[4] + size * 3, present_mask(env))
    set_real(env, Seg.CS, selector)
    env.rip = pc
    set_eflags(env, image, iret_flags(env, size))
    if is_sensitive(env):
        take_virtual_if(env, image)


@native
def iret_protected(env: Env, size: u32) -> None:
    """IRET in protected and IA-32e mode: to the same or an outer level."""
    wide_now: bool = (env.mode & Mode.CODE64) != 0
    pc: u64 = peek(env, 0, size)
    selector: u32 = u32(peek(env, size, size)) & 0xFFFF
    image: u64 = peek(env, size * 2, size)
    if (image & Flag.VM) != 0 and size == 4 and env.cpl == 0 and not is_long(env):
        iret_to_vm86(env, pc, selector, image)
        return
    level: u32 = selector & 3
    code: u64 = return_code(env, selector)
    check_target(env, code, pc)
    mask: u32 = iret_flags(env, size)
    if wide_now or level != env.cpl:
        iret_stack(env, size, level, is_wide(env, descriptor_attr(code)))
    else:
        set_pointer(env, env.gpr[4] + size * 3, present_mask(env))
    outer: bool = level != env.cpl
    set_code(env, selector, code, level, pc)
    if outer:
        drop_inaccessible(env)
    set_eflags(env, image, mask)


@native
def iret_stack(env: Env, size: u32, level: u32, wide: bool) -> None:
    """Load SS:rSP from an IRET's frame."""
    pointer: u64 = peek(env, size * 3, size)
    selector: u32 = u32(peek(env, size * 4, size)) & 0xFFFF
    descriptor: u64 = return_stack(env, selector, level, wide)
    set_stack(env, selector, descriptor, pointer, wide)


@native
def unblock_nmi(env: Env) -> None:
    """NMIs are let in again, even if the IRET faults (SDM vol. 3A, 6.7.1)."""
    env.nmi_blocked = 0
    if env.nmi_pending != 0:
        env.exit_request = 1


@native
def drop_resume(env: Env) -> None:
    """RF lasts for one instruction; it goes at once where nothing can see it before that."""
    if env.exit_request == 0 and env.budget > 0 and env.break_mask == 0:
        env.eflags = env.eflags & ~Flag.RF


@native
def iret(env: Env, size: u32, next_pc: u64) -> None:
    """IRET with an operand size of ``size`` bytes."""
    if env.nmi_blocked != 0:
        unblock_nmi(env)
    if not is_protected(env):
        iret_real(env, size)
    else:
        if (env.eflags & Flag.NT) != 0:
            if is_long(env):
                raise_error(env, Vector.GP, 0)
            task_return(env, next_pc)
            return
        iret_protected(env, size)
    drop_resume(env)
    update_mode(env)


@lower("IRET", dst="raw")
def iret_(t: Translator) -> None:
    """IRET, IRETD, IRETQ."""
    t.call(iret, t.env, t.const(t.cx.operand_size // 8, 32), t.next_pc())
    leave_for_task(t)


@native
def interrupt_vm86(env: Env, vector: u32, cause: u32) -> None:
    """INT n of 16-bit code, which may be virtual-8086 code (SDM vol. 3A, table 21-2)."""
    if (env.mode & Mode.VM86) != 0:
        if is_redirected(env, vector):
            redirect_interrupt(env, vector)
            return
        if is_sensitive(env):
            raise_error(env, Vector.GP, 0)
    deliver_interrupt(env, vector, cause)


def _interrupt(t: Translator, vector: Value, cause: Cause) -> None:
    """The handler returns to the next instruction; a fault on the way is this one's."""
    t.st_env("rip", t.next_pc())
    t.call(deliver_interrupt, t.env, vector, t.const(cause, 32))
    leave_for_task(t)


@lower("INT", dst="raw")
def int_n(t: Translator, vector: Operand) -> None:
    """INT n."""
    number = t.read(vector).resize(Type.I8).zext(Type.I32)
    if t.cx.code_size != 16:
        _interrupt(t, number, Cause.SOFTWARE)
        return
    t.st_env("rip", t.next_pc())
    t.call(interrupt_vm86, t.env, number, t.const(Cause.SOFTWARE, 32))
    leave_for_task(t)


@lower("INT3", dst="raw")
def int3(t: Translator) -> None:
    """INT3: #BP, a trap."""
    _interrupt(t, t.const(Vector.BP, 32), Cause.SOFTWARE)


@lower("INTO", dst="raw")
def into(t: Translator) -> None:
    """INTO: #OF if OF is set."""
    with t.when(t.flags.of()):
        _interrupt(t, t.const(Vector.OF, 32), Cause.SOFTWARE)
    t.lookup(t.next_pc())


@lower("INT1", dst="raw")
def int1(t: Translator) -> None:
    """INT1: #DB, whatever the gate's DPL."""
    _interrupt(t, t.const(Vector.DB, 32), Cause.ICEBP)
