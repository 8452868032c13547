"""XSAVE, XSAVEOPT, XSAVEC, XSAVES and their restoring: x87, SSE and AVX state (SDM vol. 1, 13).

An area is FXSAVE's image, a header (XSTATE_BV, XCOMP_BV) at 512, at 576 the upper halves of the YMM
registers, and PKRU at 2688, or where the component before it ends in the compacted format. There is
no supervisor state: XSAVES is XSAVEC for the kernel, IA32_XSS is 0.
"""

from __future__ import annotations

from pytcg.exec.layout import ExecEnv
from pytcg.softmmu.access import (
    load_u64,
    load_u128,
    probe_read,
    probe_write,
    store_u64,
    store_u128,
)
from pytcg_native import native, u32, u64
from pytcg_x86.core.exceptions import raise_error, raise_exception
from pytcg_x86.core.state import Cr0, Cr4, Env, Vector, Xcr0
from pytcg_x86.core.translate import Operand, Translator
from pytcg_x86.decode.table import lower, rows
from pytcg_x86.system.features import Word
from pytcg_x86.system.fxsave import (
    checked_mxcsr,
    image_operands,
    reset_x87,
    reset_xmm,
    restore_x87,
    restore_xmm,
    save_mxcsr,
    save_x87,
    save_xmm,
)
from pytcg_x86.system.paging import write_pkru
from pytcg_x86.vector.mxcsr import mxcsr_load, mxcsr_value

UNDEFINED: dict[str, str] = {}

rows("""
np:0f.ae/4/m XSAVE    M ?xsave
np:0f.ae/5/m XRSTOR   M ?xsave
np:0f.ae/6/m XSAVEOPT M ?xsaveopt
np:0f.c7/4/m XSAVEC   M ?xsavec
np:0f.c7/5/m XSAVES   M cpl0 ?xsaves
np:0f.c7/3/m XRSTORS  M cpl0 ?xsaves
""")

X87, SSE, AVX, PKRU = (int(bit) for bit in (Xcr0.X87, Xcr0.SSE, Xcr0.AVX, Xcr0.PKRU))
COMPACT = 1 << 63  # in XCOMP_BV
_XSAVEC, _XSAVES = 1 << 1, 1 << 3  # feature bits of leaf DH, subleaf 1
_HEADER, _YMM, _YMM_END, _PKRU = 512, 576, 832, 2688
_INITIAL_MXCSR = 0x1F80
_WHOLE, _OPTIMAL, _COMPACTED = range(3)
"""How to save: all components asked for, those in use, or those with the compacted format."""


@native
def xsave_allowed(env: Env, address: u64) -> None:
    """#UD without CR4.OSXSAVE, #NM by CR0.TS, #GP(0) unless 64-byte aligned."""
    if (env.cr4 & Cr4.OSXSAVE) == 0:
        raise_exception(env, Vector.UD)
    if (env.cr0 & Cr0.TS) != 0:
        raise_exception(env, Vector.NM)
    if (address & 63) != 0:
        raise_error(env, Vector.GP, 0)


@native
def requested(env: Env) -> u64:
    """RFBM: the components in EDX:EAX that XCR0 enables."""
    return ((env.gpr[2] << 32) | (env.gpr[0] & 0xFFFF_FFFF)) & env.xcr0


@native
def pkru_place(components: u64, compacted: bool) -> u64:
    """Where PKRU is in an area with these components."""
    if not compacted:
        return _PKRU
    return _YMM_END if (components & AVX) != 0 else _YMM


@native
def area_end(components: u64, compacted: bool) -> u64:
    """Where an area with these components ends."""
    if (components & PKRU) != 0:
        return pkru_place(components, compacted) + 8
    return _YMM_END if (components & AVX) != 0 else _YMM


@native
def in_use(env: Env) -> u64:
    """XINUSE: components not in their initial state (x87 is always said to be in use)."""
    found: u64 = X87
    for i in range(16):
        if env.xmm[i] != 0:
            found |= SSE
        if env.ymm_high[i] != 0:
            found |= AVX
    if env.pkru != 0:
        found |= PKRU
    return found


# Saving ----------------------------------------------------------------------------------------


@native
def save_ymm(env: Env, address: u64, count: u32) -> None:
    for i in range(u64(0), u64(count)):
        store_u128(ExecEnv(env), address + _YMM + 16 * i, env.ymm_high[i])


@native
def xsave(env: Env, address: u64, wide: u32, count: u32, how: u32) -> None:
    """Save the components in EDX:EAX; nothing is stored unless all can be."""
    xsave_allowed(env, address)
    e: ExecEnv = ExecEnv(env)
    wanted: u64 = requested(env)
    used: u64 = in_use(env)
    if how == _COMPACTED and mxcsr_value(env) != _INITIAL_MXCSR:
        used |= SSE
    saved: u64 = wanted if how == _WHOLE else wanted & used
    probe_write(e, address, area_end(wanted, how == _COMPACTED))
    if (saved & X87) != 0:
        save_x87(env, address, wide)
    if (saved & SSE) != 0:
        save_xmm(env, address, count)
    if (saved & SSE) != 0 or (how != _COMPACTED and (wanted & (SSE | AVX)) != 0):
        save_mxcsr(env, address)
    if (saved & AVX) != 0:
        save_ymm(env, address, count)
    if (saved & PKRU) != 0:
        store_u64(e, address + pkru_place(wanted, how == _COMPACTED), u64(env.pkru))
    if how == _COMPACTED:
        store_u64(e, address + _HEADER, wanted & used)
        store_u64(e, address + _HEADER + 8, wanted | COMPACT)
    else:
        others: u64 = load_u64(e, address + _HEADER) & ~wanted
        store_u64(e, address + _HEADER, others | (wanted & used))


# Restoring -------------------------------------------------------------------------------------


@native
def reset_ymm(env: Env, count: u32) -> None:
    for i in range(count):
        env.ymm_high[i] = 0


@native
def restore_ymm(env: Env, address: u64, count: u32) -> None:
    for i in range(u64(0), u64(count)):
        env.ymm_high[i] = load_u128(ExecEnv(env), address + _YMM + 16 * i)


@native
def checked_header(env: Env, address: u64, compacted: bool) -> u64:
    """XSTATE_BV; #GP(0) for a header that is none."""
    e: ExecEnv = ExecEnv(env)
    present: u64 = load_u64(e, address + _HEADER)
    format_: u64 = load_u64(e, address + _HEADER + 8)
    allowed: u64 = env.xcr0
    bad: bool = (format_ >> 63 != 0) != compacted
    if compacted:
        allowed = format_ & ~u64(COMPACT)
        bad = bad or (allowed & ~env.xcr0) != 0
    for i in range(u64(2), u64(8)):
        bad = bad or load_u64(e, address + _HEADER + 8 * i) != 0
    bad = bad or (not compacted and format_ != 0)
    if bad or (present & ~allowed) != 0:
        raise_error(env, Vector.GP, 0)
    return present


@native
def xrstor(env: Env, address: u64, wide: u32, count: u32, only_compacted: u32) -> None:
    """Restore the components in EDX:EAX; those not in XSTATE_BV take their initial state."""
    xsave_allowed(env, address)
    e: ExecEnv = ExecEnv(env)
    wanted: u64 = requested(env)
    compacted: bool = only_compacted != 0
    if (env.cpuid_features[Word.XSAVE] & (_XSAVEC | _XSAVES)) != 0:
        compacted = compacted or load_u64(e, address + _HEADER + 8) >> 63 != 0
    present: u64 = checked_header(env, address, compacted)
    layout: u64 = wanted
    if compacted:
        layout = load_u64(e, address + _HEADER + 8)
    probe_read(e, address, area_end(layout & (wanted | AVX), compacted))
    mxcsr: u32 = _INITIAL_MXCSR
    if (present & SSE) != 0 or not compacted:
        mxcsr = checked_mxcsr(env, address)
    if (wanted & SSE) != 0:
        if (present & SSE) != 0:
            restore_xmm(env, address, count)
        else:
            reset_xmm(env, count)
    if (wanted & SSE) != 0 or (not compacted and (wanted & AVX) != 0):
        mxcsr_load(env, mxcsr)
    if (wanted & AVX) != 0:
        if (present & AVX) != 0:
            restore_ymm(env, address, count)
        else:
            reset_ymm(env, count)
    if (wanted & PKRU) != 0:
        key_rights: u64 = 0
        if (present & PKRU) != 0:
            key_rights = load_u64(e, address + pkru_place(layout, compacted))
        write_pkru(env, u32(key_rights))
    if (wanted & X87) != 0:
        if (present & X87) != 0:
            restore_x87(env, address, wide)
        else:
            reset_x87(env)


# The instructions ------------------------------------------------------------------------------


def _saving(mnemonic: str, how: int) -> None:
    @lower(mnemonic, dst="raw")
    def lowering(t: Translator, area: Operand) -> None:
        """XSAVE and its kind (SDM vol. 2C)."""
        operands = image_operands(t, _YMM_END * 8, write=True)
        t.call(xsave, t.env, *operands, t.const(how, 32))


for _mnemonic, _how in (("XSAVE", _WHOLE), ("XSAVEOPT", _OPTIMAL), ("XSAVEC", _COMPACTED),
                        ("XSAVES", _COMPACTED)):  # fmt: skip
    _saving(_mnemonic, _how)


def _restoring(mnemonic: str, *, compacted: bool) -> None:
    @lower(mnemonic, dst="raw")
    def lowering(t: Translator, area: Operand) -> None:
        """XRSTOR and XRSTORS (SDM vol. 2C)."""
        operands = image_operands(t, _YMM_END * 8, write=False)
        t.call(xrstor, t.env, *operands, t.const(int(compacted), 32))


_restoring("XRSTOR", compacted=False)
_restoring("XRSTORS", compacted=True)
