"""System instructions: descriptor table registers, HLT, IF, caches, TLB, MONITOR (SDM vol. 2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytcg.exec.dispatch import HEAD
from pytcg.exec.exits import Exit
from pytcg.exec.hooks import refund
from pytcg.exec.layout import RECORD_SIZE, Record, Tb
from pytcg.ir.ops import INT_OF_BITS, Type
from pytcg.softmmu.access import probe_write
from pytcg_native import NULL, i64, native, ptr, u32, u64
from pytcg_x86.core.exceptions import raise_error, raise_exception, raise_selector
from pytcg_x86.core.modes import select_tlb, update_mode
from pytcg_x86.core.state import ENV, Attr, Cr4, Env, Flag, Mode, Seg, Vector
from pytcg_x86.decode.table import lower, rows
from pytcg_x86.system.controlregs import check_umip
from pytcg_x86.system.descriptor import (
    descriptor_address,
    descriptor_attr,
    descriptor_base,
    is_canonical_base,
    is_null,
    kernel_store,
    read_descriptor,
    read_upper_base,
    set_null,
    set_segment,
)
from pytcg_x86.system.frame import is_long
from pytcg_x86.system.paging import tlb_flush, tlb_flush_local, tlb_flush_page, write_pkru
from pytcg_x86.system.vm86 import has_virtual_if

if TYPE_CHECKING:
    from pytcg.ir.blocks import Value
    from pytcg_x86.core.translate import Operand, Translator

rows("""
0f.00/0        SLDT        Ev    prot
0f.00/1        STR         Ev    prot
0f.00/2        LLDT        Ew    prot cpl0 nosize
0f.00/3        LTR         Ew    prot cpl0 nosize
0f.01/0/m      SGDT        M     f64
0f.01/1/m      SIDT        M     f64
0f.01/2/m      LGDT        M     f64 cpl0
0f.01/3/m      LIDT        M     f64 cpl0
0f.01/7/m      INVLPG      M     cpl0 end nosize
66:0f.38.82/m  INVPCID     Gy,M  cpl0 end f64 ?invpcid
0f.08          INVD              cpl0 nosize
0f.09          WBINVD            cpl0 nosize
np:0f.ae/7/m   CLFLUSH     Mb    nosize ?clflush
66:0f.ae/7/m   CLFLUSHOPT  Mb    nosize ?clflushopt
np:0f.ae/5/r   LFENCE            nosize ?sse2
np:0f.ae/6/r   MFENCE            nosize ?sse2
np:0f.ae/7/r   SFENCE            nosize ?sse|mmxext
0f.18          PREFETCH    Eb    nosize ?sse|mmxext
0f.0d          PREFETCHW   Eb    nosize ?3dnowprefetch|lm
0f.01/1/r0     MONITOR           cpl0 nosize ?monitor
0f.01/1/r1     MWAIT             cpl0 branch nosize ?monitor
f4             HLT               cpl0 branch nosize
fa             CLI               nosize
fb             STI               shadow nosize
0f.01/1/r2     CLAC              nosize ?smap
0f.01/1/r3     STAC              nosize ?smap
np:0f.01/5/r6  RDPKRU            nosize ?pku
np:0f.01/5/r7  WRPKRU            end nosize ?pku
""")

_LDT = 2
_TSS_16, _TSS = 1, 9
_BUSY = 2
_LAST_INVPCID = 3  # the highest INVPCID type


# LDTR and TR -----------------------------------------------------------------------------------


@native
def load_ldt(env: Env, selector: u32) -> None:
    """LLDT: a null selector means that there is no LDT."""
    if is_null(selector):
        set_null(env, Seg.LDTR, selector)
        return
    if (selector & 4) != 0:
        raise_selector(env, Vector.GP, selector)
    descriptor: u64 = read_descriptor(env, selector, Vector.GP)
    attr: u32 = descriptor_attr(descriptor)
    if (attr & 0x1F) != _LDT:
        raise_selector(env, Vector.GP, selector)
    load_system(env, Seg.LDTR, selector, descriptor)


@native
def load_system(env: Env, segment: u64, selector: u32, descriptor: u64) -> None:
    """LDTR or TR from a descriptor of the right type; in IA-32e mode it has 16 bytes."""
    if (descriptor_attr(descriptor) & Attr.P) == 0:
        raise_selector(env, Vector.NP, selector)
    upper: u64 = 0
    if is_long(env):
        upper = read_upper_base(env, selector, Vector.GP)
        if not is_canonical_base(env, upper | descriptor_base(descriptor)):
            raise_selector(env, Vector.GP, selector)
    if segment == Seg.TR:
        kernel_store(env, descriptor_address(env, selector) + 5, 1, (descriptor >> 40) & 0xFF)
    set_segment(env, segment, selector, descriptor)
    env.seg_base[segment] = env.seg_base[segment] | upper


@native
def load_task(env: Env, selector: u32) -> None:
    """LTR: the TSS becomes busy."""
    if is_null(selector):
        raise_error(env, Vector.GP, 0)
    if (selector & 4) != 0:
        raise_selector(env, Vector.GP, selector)
    descriptor: u64 = read_descriptor(env, selector, Vector.GP)
    kind: u32 = descriptor_attr(descriptor) & 0x1F
    if kind != _TSS and (kind != _TSS_16 or is_long(env)):
        raise_selector(env, Vector.GP, selector)
    load_system(env, Seg.TR, selector, descriptor | (_BUSY << 40))


def _store_selector(t: Translator, dst: Operand, segment: Seg) -> None:
    """16 bits to memory, zero-extended to a register."""
    t.call(check_umip, t.env)
    selector = t.ld_env("seg_sel", segment)
    if dst.is_memory:
        t.store(16, t.address(16, write=True), selector)
    else:
        t.write(dst, selector.resize(dst.type))


@lower("SLDT", dst="raw")
def sldt(t: Translator, dst: Operand) -> None:
    """SLDT."""
    _store_selector(t, dst, Seg.LDTR)


@lower("STR", dst="raw")
def store_task(t: Translator, dst: Operand) -> None:
    """STR."""
    _store_selector(t, dst, Seg.TR)


@lower("LLDT", dst="r")
def lldt(t: Translator, src: Value) -> None:
    """LLDT."""
    t.call(load_ldt, t.env, src.zext(Type.I32))


@lower("LTR", dst="r")
def ltr(t: Translator, src: Value) -> None:
    """LTR."""
    t.call(load_task, t.env, src.zext(Type.I32))


# GDTR and IDTR ---------------------------------------------------------------------------------


def _base_bits(t: Translator) -> int:
    return 64 if t.cx.code_size == 64 else 32


def _store_table(t: Translator, name: str) -> None:
    """Limit and base; all 32 bits of it even with a 16-bit operand size, as hardware does."""
    t.call(check_umip, t.env)
    bits = _base_bits(t)
    start = t.address(bits + 16, write=True)
    # Both parts must be writable before one is written.
    t.call(probe_write, t.env, start, t.const(bits // 8 + 2, 64))
    base = t.ld_env(f"{name}_base").resize(INT_OF_BITS[bits])
    t.store(bits, start + 2, base)
    t.store(16, start, t.ld_env(f"{name}_limit").trunc(Type.I16))


def _load_table(t: Translator, name: str) -> None:
    bits = _base_bits(t)
    start = t.address(bits + 16)
    limit = t.load(16, start).zext(Type.I32)
    base = t.load(bits, start + 2).resize(Type.I64)
    if bits == 64:  # whatever the operand size
        canonical = t.call(is_canonical_base, t.env, base)
        assert canonical is not None
        t.raise_if(canonical ^ 1, Vector.GP, 0)
    elif t.cx.operand_size == 16:
        base = base & 0xFF_FFFF
    t.st_env(f"{name}_base", base)
    t.st_env(f"{name}_limit", limit)


@lower("SGDT", dst="raw")
def sgdt(t: Translator, dst: Operand) -> None:
    """SGDT."""
    _store_table(t, "gdtr")


@lower("SIDT", dst="raw")
def sidt(t: Translator, dst: Operand) -> None:
    """SIDT."""
    _store_table(t, "idtr")


@lower("LGDT", dst="raw")
def lgdt(t: Translator, src: Operand) -> None:
    """LGDT."""
    _load_table(t, "gdtr")


@lower("LIDT", dst="raw")
def lidt(t: Translator, src: Operand) -> None:
    """LIDT."""
    _load_table(t, "idtr")


# TLB and caches --------------------------------------------------------------------------------


@native
def invalidate_pcid(env: Env, kind: u64, pcid: u64, address: u64) -> None:
    """INVPCID: one address, one PCID, all with global pages, all without (SDM vol. 2A).

    Only the present PCID's translations are ever there.
    """
    if kind > _LAST_INVPCID or (pcid >> 12) != 0:
        raise_error(env, Vector.GP, 0)
    if kind < 2 and pcid != 0 and (env.cr4 & Cr4.PCIDE) == 0:
        raise_error(env, Vector.GP, 0)
    if kind == 0:
        if not is_canonical_base(env, address):
            raise_error(env, Vector.GP, 0)
        tlb_flush_page(env, address)
    elif kind == 2:
        tlb_flush(env)
    else:
        tlb_flush_local(env)


@lower("INVLPG", dst="raw")
def invlpg(t: Translator, src: Operand) -> None:
    """INVLPG: the address is not accessed, so no check but the segment's base."""
    linear = t.offset()
    if t.cx.segment != "flat":
        where = t.b.ptradd(t.env, t.field("segment", Type.I64) << 3)
        linear = t.b.ld(Type.I64, where, ENV.offset("seg_base")) + linear
    t.call(tlb_flush_page, t.env, linear if t.cx.code_size == 64 else linear & 0xFFFF_FFFF)


@lower("INVPCID", dst="raw")
def invpcid(t: Translator, kind: Operand, src: Operand) -> None:
    """INVPCID: reads its descriptor, then flushes."""
    start = t.address(128)
    descriptor = t.load(128, start)
    pcid, address = descriptor.trunc(Type.I64), (descriptor >> 64).trunc(Type.I64)
    t.call(invalidate_pcid, t.env, t.read(kind).resize(Type.I64), pcid, address)


@lower("CLFLUSH", "CLFLUSHOPT", dst="raw")
def clflush(t: Translator, src: Operand) -> None:
    """CLFLUSH: faults as a load would; there is no cache to flush."""
    t.load(8, t.address(8))


@lower("INVD", "WBINVD", "LFENCE", "MFENCE", "SFENCE", "PREFETCH", "PREFETCHW", dst="raw")
def nothing(t: Translator, *operands: Operand) -> None:
    """No caches; one vCPU in order needs no fence; a prefetch does not even fault."""


# Interrupt flag, halting -----------------------------------------------------------------------


@native
def clear_if(env: Env) -> None:
    """CLI: #GP(0) above IOPL, unless there is a VIF to clear."""
    if env.cpl <= (env.eflags >> 12) & 3:
        env.eflags = env.eflags & ~Flag.IF
        return
    if not has_virtual_if(env):
        raise_error(env, Vector.GP, 0)
    env.eflags = env.eflags & ~Flag.VIF


@native
def set_virtual_if(env: Env) -> None:
    """STI above IOPL: VIF, if there is one and no interrupt waits for it."""
    if not has_virtual_if(env) or (env.eflags & Flag.VIP) != 0:
        raise_error(env, Vector.GP, 0)
    env.eflags |= Flag.VIF


@native
def set_if(env: Env, rec: ptr) -> u32:
    """STI: interrupts wait for the end of the next instruction if they were off.

    Returns whether that instruction must be looked up. If it is the block's, nothing comes between.
    """
    if env.cpl > (env.eflags >> 12) & 3:
        set_virtual_if(env)
        return 0
    if (env.eflags & Flag.IF) != 0:
        return 0
    env.eflags |= Flag.IF
    if env.intr_line != 0:
        env.exit_request = 1
    position: u64 = Record(rec).position
    tb: Tb = Tb(rec + -i64(HEAD + position * RECORD_SIZE))
    if tb.insns > position + 1 and tb.head != NULL:
        return 0
    refund(env, rec + RECORD_SIZE)
    env.inhibit = 1
    update_mode(env)
    return 1


@lower("CLI", dst="raw")
def cli(t: Translator) -> None:
    """CLI: IF := 0."""
    t.call(clear_if, t.env)


@lower("STI", dst="raw")
def sti(t: Translator) -> None:
    """STI: IF := 1."""
    looks_up = t.call(set_if, t.env, t.record())
    assert looks_up is not None
    with t.when(looks_up.ne(0), likely=False):
        t.lookup(t.next_pc())


def _halt(t: Translator) -> None:
    """Leave threaded code until an interrupt; it returns to the next instruction."""
    t.st_env("rip", t.next_pc())
    t.st_env("halted", 1)
    t.st_env("exit_reason", Exit.HALT)
    t.b.ret()


@lower("HLT", dst="raw")
def hlt(t: Translator) -> None:
    """HLT."""
    _halt(t)


@lower("MONITOR", dst="raw")
def monitor(t: Translator) -> None:
    """MONITOR: notes the address (RAX in the segment); ECX must be 0."""
    t.raise_if(t.read(t.reg(1, 32)).ne(0), Vector.GP, 0)
    t.st_env("monitor_address", t.ld_env("gpr", 0))


@lower("MWAIT", dst="raw")
def mwait(t: Translator) -> None:
    """MWAIT: waits for interrupts as HLT does; with IF clear, when only a store could end the
    wait, it ends at once (SDM vol. 2B lets it end for any reason)."""
    t.raise_if(t.read(t.reg(1, 32)).ugt(1), Vector.GP, 0)
    with t.when((t.ld_env("eflags") & Flag.IF).ne(0)):
        _halt(t)
    t.lookup(t.next_pc())


# SMAP's AC -------------------------------------------------------------------------------------


@native
def set_ac(env: Env, value: u32) -> None:
    """CLAC, STAC: #UD outside level 0; other rights from the next access on."""
    if env.cpl != 0 or (env.mode & Mode.VM86) != 0:
        raise_exception(env, Vector.UD)
    env.eflags = (env.eflags & ~Flag.AC) | (value & Flag.AC)
    select_tlb(env, 0)


@lower("CLAC", dst="raw")
def clac(t: Translator) -> None:
    """CLAC: EFLAGS.AC := 0."""
    t.call(set_ac, t.env, t.const(0, 32))


@lower("STAC", dst="raw")
def stac(t: Translator) -> None:
    """STAC: EFLAGS.AC := 1."""
    t.call(set_ac, t.env, t.const(Flag.AC, 32))


# Protection keys -------------------------------------------------------------------------------


@native
def check_pkru(env: Env, ecx: u32, edx: u32) -> None:
    """#UD unless CR4.PKE; #GP(0) unless the registers that must be are 0."""
    if (env.cr4 & Cr4.PKE) == 0:
        raise_exception(env, Vector.UD)
    if (ecx | edx) != 0:
        raise_error(env, Vector.GP, 0)


@lower("RDPKRU", dst="raw")
def rdpkru(t: Translator) -> None:
    """RDPKRU: EAX := PKRU, EDX := 0."""
    t.call(check_pkru, t.env, t.read(t.reg(1, 32)), t.const(0, 32))
    t.write(t.reg(0, 32), t.ld_env("pkru"))
    t.write(t.reg(2, 32), t.const(0, 32))


@lower("WRPKRU", dst="raw")
def wrpkru(t: Translator) -> None:
    """WRPKRU: PKRU := EAX."""
    t.call(check_pkru, t.env, t.read(t.reg(1, 32)), t.read(t.reg(2, 32)))
    t.call(write_pkru, t.env, t.read(t.reg(0, 32)))
