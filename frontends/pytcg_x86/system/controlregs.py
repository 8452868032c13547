"""Control registers: MOV CR, LMSW SMSW CLTS, XGETBV XSETBV (SDM vol. 3A, 2.5)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytcg.ir.ops import Type
from pytcg_native import call_host, native, ptr, u32, u64
from pytcg_x86.core.exceptions import raise_error, raise_exception
from pytcg_x86.core.modes import update_mode
from pytcg_x86.core.state import Cr0, Cr4, Efer, Env, Host, Mode, Vector, Xcr0
from pytcg_x86.decode.table import lower, rows
from pytcg_x86.system.debugregs import update_debug
from pytcg_x86.system.features import PHYSICAL_BITS, Word
from pytcg_x86.system.paging import check_pdptes, tlb_flush, tlb_flush_local
from pytcg_x86.system.xsave import in_use

if TYPE_CHECKING:
    from pytcg.ir.blocks import Value
    from pytcg_x86.core.translate import Operand, Translator

rows("""
0f.20       MOV_FROM_CR  Ry,C   cpl0 f64
0f.22       MOV_TO_CR    C,Ry   cpl0 f64 end
0f.01/4     SMSW         Ev
0f.01/6     LMSW         Ew     cpl0 end nosize
0f.06       CLTS                cpl0 end nosize
0f.01/2/r0  XGETBV              nosize ?xsave
0f.01/2/r1  XSETBV              cpl0 end nosize ?xsave
""")

_CR0_WRITABLE = (Cr0.PE | Cr0.MP | Cr0.EM | Cr0.TS | Cr0.NE | Cr0.WP | Cr0.AM | Cr0.NW | Cr0.CD
                 | Cr0.PG)  # fmt: skip
_CR0_FLUSHING = Cr0.PG | Cr0.PE | Cr0.WP
_CR4_ALWAYS = Cr4.MCE | Cr4.PCE
_CR4_FLUSHING = (Cr4.PSE | Cr4.PAE | Cr4.PGE | Cr4.PCIDE | Cr4.SMEP | Cr4.SMAP | Cr4.PKE
                 | Cr4.LA57)  # fmt: skip
_CR3_NO_FLUSH = 1 << 63
_CR3_RESERVED = ((1 << 64) - 1) & ~((1 << PHYSICAL_BITS) - 1)
_X87, _SSE_STATE, _AVX_STATE = (int(bit) for bit in (Xcr0.X87, Xcr0.SSE, Xcr0.AVX))

# Feature bits within env.cpuid_features that CR4 bits depend on.
_PCID, _XSAVE, _AVX = 1 << (32 + 17), 1 << (32 + 26), 1 << (32 + 28)
_XGETBV1 = 1 << 2
_VME, _DE, _PSE, _TSC, _PAE, _PGE, _FXSR, _SSE = (1 << n for n in (1, 2, 3, 4, 6, 13, 24, 25))
_FSGSBASE, _SMEP, _SMAP, _UMIP, _PKU, _LA57 = (1 << n for n in (0, 7, 20, 34, 35, 48))


# CR0 -------------------------------------------------------------------------------------------


@native
def check_cr0(env: Env, value: u64) -> None:
    """#GP(0) for combinations that can't be."""
    paging: bool = (value & Cr0.PG) != 0
    was_paging: bool = (env.cr0 & Cr0.PG) != 0
    bad: bool = (value >> 32) != 0 or (paging and (value & Cr0.PE) == 0)
    bad = bad or ((value & Cr0.NW) != 0 and (value & Cr0.CD) == 0)
    if paging and not was_paging and (env.efer & Efer.LME) != 0:
        bad = bad or (env.cr4 & Cr4.PAE) == 0 or (env.mode & Mode.CODE64) != 0
    if was_paging and not paging:
        bad = bad or (env.mode & Mode.CODE64) != 0 or (env.cr4 & Cr4.PCIDE) != 0
    if bad:
        raise_error(env, Vector.GP, 0)


@native
def write_cr0(env: Env, value: u64) -> None:
    """MOV CR0: paging enters and leaves IA-32e mode (SDM vol. 3A, 9.8.5)."""
    check_cr0(env, value)
    changed: u64 = env.cr0 ^ value
    pae: bool = (env.cr4 & Cr4.PAE) != 0 and (env.efer & Efer.LME) == 0
    if (changed & value & Cr0.PG) != 0 and pae:
        check_pdptes(env, env.cr3)
    env.cr0 = (value & _CR0_WRITABLE) | Cr0.ET
    if (changed & Cr0.PG) != 0:
        env.efer = env.efer & ~u64(Efer.LMA)
        if (value & Cr0.PG) != 0 and (env.efer & Efer.LME) != 0:
            env.efer |= Efer.LMA
    if (changed & _CR0_FLUSHING) != 0:
        tlb_flush(env)
    update_mode(env)


@native
def load_machine_status(env: Env, value: u32) -> None:
    """LMSW: PE MP EM TS; PE can't be cleared."""
    write_cr0(env, (env.cr0 & ~u64(0xE)) | (value & 0xF))


@native
def clear_task_switched(env: Env) -> None:
    """CLTS."""
    env.cr0 = env.cr0 & ~u64(Cr0.TS)
    update_mode(env)


# CR3, CR4 --------------------------------------------------------------------------------------


@native
def write_cr3(env: Env, value: u64) -> None:
    """MOV CR3: all translations but global ones are dropped, also those PCID would let stay."""
    base: u64 = value
    if (env.efer & Efer.LMA) != 0:
        if (env.cr4 & Cr4.PCIDE) != 0:
            base = base & ~u64(_CR3_NO_FLUSH)
        if (base & _CR3_RESERVED) != 0:
            raise_error(env, Vector.GP, 0)
    elif (env.cr0 & Cr0.PG) != 0 and (env.cr4 & Cr4.PAE) != 0:
        check_pdptes(env, base)
    env.cr3 = base
    tlb_flush_local(env)


@native
def cr4_supported(env: Env) -> u64:
    """The bits of CR4 that this CPU model has."""
    allowed: u64 = _CR4_ALWAYS
    basic: u64 = env.cpuid_features[Word.BASIC]
    extended: u64 = env.cpuid_features[Word.EXTENDED]
    if (basic & _VME) != 0:
        allowed |= Cr4.VME | Cr4.PVI
    if (basic & _DE) != 0:
        allowed |= Cr4.DE
    if (basic & _PSE) != 0:
        allowed |= Cr4.PSE
    if (basic & _TSC) != 0:
        allowed |= Cr4.TSD
    if (basic & _PAE) != 0:
        allowed |= Cr4.PAE
    if (basic & _PGE) != 0:
        allowed |= Cr4.PGE
    if (basic & _FXSR) != 0:
        allowed |= Cr4.OSFXSR
    if (basic & _SSE) != 0:
        allowed |= Cr4.OSXMMEXCPT
    if (basic & _PCID) != 0:
        allowed |= Cr4.PCIDE
    if (basic & _XSAVE) != 0:
        allowed |= Cr4.OSXSAVE
    if (extended & _FSGSBASE) != 0:
        allowed |= Cr4.FSGSBASE
    if (extended & _SMEP) != 0:
        allowed |= Cr4.SMEP
    if (extended & _SMAP) != 0:
        allowed |= Cr4.SMAP
    if (extended & _UMIP) != 0:
        allowed |= Cr4.UMIP
    if (extended & _PKU) != 0:
        allowed |= Cr4.PKE
    if (extended & _LA57) != 0:
        allowed |= Cr4.LA57
    return allowed


@native
def write_cr4(env: Env, value: u64) -> None:
    """MOV CR4."""
    changed: u64 = env.cr4 ^ value
    long: bool = (env.efer & Efer.LMA) != 0
    bad: bool = (value & ~cr4_supported(env)) != 0 or (long and (value & Cr4.PAE) == 0)
    bad = bad or (long and (changed & Cr4.LA57) != 0)
    if (changed & value & Cr4.PCIDE) != 0:
        bad = bad or not long or (env.cr3 & 0xFFF) != 0
    if bad:
        raise_error(env, Vector.GP, 0)
    if (changed & value & Cr4.PAE) != 0 and (env.cr0 & Cr0.PG) != 0:
        check_pdptes(env, env.cr3)
    env.cr4 = value
    if (changed & Cr4.DE) != 0:
        update_debug(env)
    if (changed & _CR4_FLUSHING) != 0:
        tlb_flush(env)
    update_mode(env)


# All of them -----------------------------------------------------------------------------------


@native
def read_cr(env: Env, number: u64) -> u64:
    """MOV from a control register; #UD for those that don't exist."""
    if number == 0:
        return env.cr0
    if number == 2:
        return env.cr2
    if number == 3:
        return env.cr3
    if number == 4:
        return env.cr4
    if number != 8:
        raise_exception(env, Vector.UD)
    return call_host(ptr(env.host[Host.READ_CR8]), "u64")


@native
def write_cr(env: Env, number: u64, value: u64) -> None:
    """MOV to a control register."""
    if number == 0:
        write_cr0(env, value)
    elif number == 2:
        env.cr2 = value
    elif number == 3:
        write_cr3(env, value)
    elif number == 4:
        write_cr4(env, value)
    elif number == 8:
        if value > 15:
            raise_error(env, Vector.GP, 0)
        call_host(ptr(env.host[Host.WRITE_CR8]), "void", value)
    else:
        raise_exception(env, Vector.UD)


@native
def get_xcr(env: Env) -> u64:
    """XGETBV: XCR0, or with ECX = 1 what of it is in use."""
    if (env.cr4 & Cr4.OSXSAVE) == 0:
        raise_exception(env, Vector.UD)
    number: u32 = u32(env.gpr[1])
    if number == 1 and (env.cpuid_features[Word.XSAVE] & _XGETBV1) != 0:
        return env.xcr0 & in_use(env)
    if number != 0:
        raise_error(env, Vector.GP, 0)
    return env.xcr0


@native
def set_xcr(env: Env) -> None:
    """XSETBV: x87 state can't be turned off, and AVX's needs SSE's."""
    value: u64 = (env.gpr[0] & 0xFFFF_FFFF) | (env.gpr[2] << 32)
    if (env.cr4 & Cr4.OSXSAVE) == 0:
        raise_exception(env, Vector.UD)
    supported: u64 = _X87 | _SSE_STATE
    if (env.cpuid_features[Word.BASIC] & _AVX) != 0:
        supported |= _AVX_STATE
    if (env.cpuid_features[Word.EXTENDED] & _PKU) != 0:
        supported |= Xcr0.PKRU
    bad: bool = (value & (_SSE_STATE | _AVX_STATE)) == _AVX_STATE
    if bad or u32(env.gpr[1]) != 0 or (value & _X87) == 0 or (value & ~supported) != 0:
        raise_error(env, Vector.GP, 0)
    env.xcr0 = value
    update_mode(env)


# Lowerings -------------------------------------------------------------------------------------


def _read(t: Translator, dst: Operand, value: Value | None) -> None:
    assert value is not None
    t.write(dst, value.resize(dst.type))


@lower("MOV_FROM_CR", dst="raw")
def mov_from_cr(t: Translator, dst: Operand, src: Operand) -> None:
    """MOV r, CR: always the whole register."""
    assert src.where is not None
    _read(t, dst, t.call(read_cr, t.env, src.where))


@lower("MOV_TO_CR", dst="raw")
def mov_to_cr(t: Translator, dst: Operand, src: Operand) -> None:
    """MOV CR, r."""
    assert dst.where is not None
    t.call(write_cr, t.env, dst.where, t.read(src).zext(Type.I64))


@native
def check_umip(env: Env) -> None:
    """#GP(0) above level 0 if CR4.UMIP: SGDT, SIDT, SLDT, SMSW, STR (SDM vol. 3A, 2.5)."""
    if (env.cr4 & Cr4.UMIP) != 0 and env.cpl != 0:
        raise_error(env, Vector.GP, 0)


@lower("SMSW", dst="raw")
def smsw(t: Translator, dst: Operand) -> None:
    """SMSW: CR0; 16 bits of it to memory."""
    t.call(check_umip, t.env)
    value = t.ld_env("cr0")
    if dst.is_memory:
        t.store(16, t.address(16, write=True), value.trunc(Type.I16))
    else:
        t.write(dst, value.resize(dst.type))


@lower("LMSW", dst="r")
def lmsw(t: Translator, src: Value) -> None:
    """LMSW."""
    t.call(load_machine_status, t.env, src.zext(Type.I32))


@lower("CLTS", dst="raw")
def clts(t: Translator) -> None:
    """CLTS: CR0.TS := 0."""
    t.call(clear_task_switched, t.env)


@lower("XGETBV", dst="raw")
def xgetbv(t: Translator) -> None:
    """XGETBV: EDX:EAX := XCR[ECX]."""
    value = t.call(get_xcr, t.env)
    assert value is not None
    t.write(t.reg(0, 32), value.trunc(Type.I32))
    t.write(t.reg(2, 32), (value >> 32).trunc(Type.I32))


@lower("XSETBV", dst="raw")
def xsetbv(t: Translator) -> None:
    """XSETBV: XCR[ECX] := EDX:EAX."""
    t.call(set_xcr, t.env)
