"""Loading segment registers: MOV Sreg, PUSH and POP Sreg, LDS LES LSS LFS LGS (SDM vol. 2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytcg.ir.blocks import Value
from pytcg.ir.ops import INT_OF_BITS, Type
from pytcg_native import native, u32, u64
from pytcg_x86.core.exceptions import raise_error
from pytcg_x86.core.modes import update_mode
from pytcg_x86.core.state import ENV, Env, Mode, Seg, Vector
from pytcg_x86.decode.table import lower, rows
from pytcg_x86.system.descriptor import (
    check_data,
    check_stack,
    is_null,
    mark_accessed,
    read_descriptor,
    set_null,
    set_real,
    set_segment,
)
from pytcg_x86.system.frame import is_protected

if TYPE_CHECKING:
    from pytcg_x86.core.translate import Operand, Translator

rows("""
8e      MOV_TO_SREG    Sw,Ew   end
8c      MOV_FROM_SREG  Ev,Sw
06      PUSH_ES        i64 stack
0e      PUSH_CS        i64 stack
16      PUSH_SS        i64 stack
1e      PUSH_DS        i64 stack
0f.a0   PUSH_FS        d64 stack
0f.a8   PUSH_GS        d64 stack
07      POP_ES         end i64 stack
17      POP_SS         end i64 stack
1f      POP_DS         end i64 stack
0f.a1   POP_FS         end d64 stack
0f.a9   POP_GS         end d64 stack
c4/m    LES   Gv,Mp    end i64
c5/m    LDS   Gv,Mp    end i64
0f.b2/m LSS   Gv,Mp    end
0f.b4/m LFS   Gv,Mp    end
0f.b5/m LGS   Gv,Mp    end
""")


@native
def load_stack_segment(env: Env, selector: u32) -> None:
    """SS in protected mode: a null selector only in 64-bit code of levels 0 to 2."""
    if is_null(selector):
        wide: bool = (env.mode & Mode.CODE64) != 0
        if not wide or env.cpl == 3 or (selector & 3) != env.cpl:
            raise_error(env, Vector.GP, 0)
        set_null(env, Seg.SS, selector)
        env.seg_attr[Seg.SS] = (selector & 3) << 5
        return
    descriptor: u64 = read_descriptor(env, selector, Vector.GP)
    check_stack(env, selector, descriptor, env.cpl, Vector.GP)
    set_segment(env, Seg.SS, selector, mark_accessed(env, selector, descriptor))


@native
def load_data_segment(env: Env, segment: u64, selector: u32) -> None:
    """DS, ES, FS or GS in protected mode."""
    if is_null(selector):
        set_null(env, segment, selector)
        return
    descriptor: u64 = read_descriptor(env, selector, Vector.GP)
    check_data(env, selector, descriptor, Vector.GP)
    set_segment(env, segment, selector, mark_accessed(env, selector, descriptor))


@native
def load_segment(env: Env, segment: u64, selector: u32) -> None:
    """Load a segment register other than CS, in any mode."""
    if not is_protected(env):
        set_real(env, segment, selector)
    elif segment == Seg.SS:
        load_stack_segment(env, selector)
    else:
        load_data_segment(env, segment, selector)
    update_mode(env)


@native
def inhibit_interrupts(env: Env) -> None:
    """No interrupt and no trap before the end of the next instruction (SDM vol. 3A, 6.8.3)."""
    env.inhibit = 2
    update_mode(env)


@lower("MOV_TO_SREG", dst="raw")
def mov_to_sreg(t: Translator, dst: Operand, src: Operand) -> None:
    """MOV Sreg, r/m16: not CS; an interrupt can't part MOV SS from the next instruction."""
    number = dst.where
    assert number is not None
    t.raise_if(number.eq(Seg.CS) | number.ugt(Seg.GS), Vector.UD)
    t.call(load_segment, t.env, number, t.read(src).zext(Type.I32))
    with t.when(number.eq(Seg.SS)):
        t.call(inhibit_interrupts, t.env)


@lower("MOV_FROM_SREG", dst="raw")
def mov_from_sreg(t: Translator, dst: Operand, src: Operand) -> None:
    """MOV r/m, Sreg: 16 bits to memory, zero-extended to a register."""
    assert src.where is not None
    t.raise_if(src.where.ugt(Seg.GS), Vector.UD)
    where = t.b.ptradd(t.env, src.where * 2)
    selector = t.b.ld(Type.I16, where, ENV.offset("seg_sel"))
    if dst.is_memory:
        t.store(16, t.address(16, write=True), selector)
    else:
        t.write(dst, selector.resize(dst.type))


def _push(segment: Seg) -> None:
    @lower(f"PUSH_{segment.name}", dst="raw")
    def push(t: Translator) -> None:
        """PUSH Sreg: the selector, zero-extended."""
        bits = t.cx.operand_size
        t.push(bits, t.ld_env("seg_sel", segment).resize(INT_OF_BITS[bits]))


def _pop(segment: Seg) -> None:
    @lower(f"POP_{segment.name}", dst="raw")
    def pop(t: Translator) -> None:
        """POP Sreg: the low 16 bits of what is on the stack."""
        selector = t.top(t.cx.operand_size).trunc(Type.I16).zext(Type.I32)
        before = t.stack_pointer()
        t.call(load_segment, t.env, t.const(segment, 64), selector)
        t.set_stack_pointer(t.wrap_stack(before + t.cx.operand_size // 8))
        if segment is Seg.SS:
            t.call(inhibit_interrupts, t.env)


def _far_load(segment: Seg) -> None:
    @lower(f"L{segment.name}", dst="raw")
    def far_load(t: Translator, dst: Operand, src: Operand) -> None:
        """LDS, LES, LSS, LFS, LGS: offset to the register, selector to the segment register."""
        bits = t.cx.operand_size
        start = t.address(bits + 16)
        offset: Value = t.load(bits, start)
        selector = t.load(16, start + bits // 8).zext(Type.I32)
        t.call(load_segment, t.env, t.const(segment, 64), selector)
        t.write(dst, offset)


for _segment in (Seg.ES, Seg.CS, Seg.SS, Seg.DS, Seg.FS, Seg.GS):
    _push(_segment)
    if _segment is not Seg.CS:
        _pop(_segment)
        _far_load(_segment)
