"""String instructions: MOVS CMPS SCAS LODS STOS INS OUTS, alone and with REP, REPE, REPNE.

A single one is lowered in line; a repeated one calls a helper that runs many iterations
(`string_ops`). When the helper stops early for an interrupt, the instruction is looked
up again: rIP has not moved, and the registers say how far it came.
"""

from __future__ import annotations

from typing import Any

from pytcg.ir.blocks import Value
from pytcg.ir.ops import INT_OF_BITS, Type
from pytcg_native.types import NativeFunction
from pytcg_x86.core.state import Flag, Seg
from pytcg_x86.core.translate import Operand, Translator
from pytcg_x86.decode.table import lower, rows
from pytcg_x86.integer import string_compare, string_io, string_ops

UNDEFINED: dict[str, str] = {}

rows("""
a4          MOVS  Yb,Xb   rep
a5          MOVS  Yv,Xv   rep
a6          CMPS  Xb,Yb   rep
a7          CMPS  Xv,Yv   rep
aa          STOS  Yb,AL   rep
ab          STOS  Yv,rAX  rep
ac          LODS  AL,Xb   rep
ad          LODS  rAX,Xv  rep
ae          SCAS  AL,Yb   rep
af          SCAS  rAX,Yv  rep
6c          INS   Yb      rep
6d          INS   Yz      rep
6e          OUTS  Xb      rep end
6f          OUTS  Xz      rep end
""")

_RSI, _RDI = string_ops.RSI, string_ops.RDI


# One iteration in line -------------------------------------------------------------------------


def _index(t: Translator, number: int) -> Value:
    return t.wrap_offset(t.ld_env("gpr", number))


def _source(t: Translator, bits: int) -> Value:
    """The element at DS:rSI, or in the segment that overrides DS."""
    return t.load(bits, t.address_at(_index(t, _RSI), bits))


def _target(t: Translator, bits: int, *, write: bool = False) -> Value:
    """Linear address of the element at ES:rDI."""
    return t.segment_address(Seg.ES, _index(t, _RDI), bits, write=write)


def _advance(t: Translator, bits: int, *numbers: int) -> None:
    """Move index registers by one element, backwards if DF is set."""
    size = bits // 8
    down = (t.ld_env("eflags") & Flag.DF).ne(0)
    width = t.cx.address_size
    step = t.b.select(down, t.const(-size, width), t.const(size, width))
    for number in numbers:
        register = t.reg(number, width)
        t.write(register, t.read(register) + step)


# Repetition ------------------------------------------------------------------------------------


def _where(t: Translator, *, source: bool) -> Value:
    """The helpers' ``where``: the source's segment, and whether anything must be checked."""
    checked = t.cx.code_size != 64 and (t.cx.segmented or (source and t.cx.segment == "checked"))
    flag = t.const(string_ops.CHECKED if checked else 0, 64)
    return t.field("segment", Type.I64) | flag if source else flag


def _repeat(t: Translator, helper: NativeFunction[..., Any], bits: int, *more: Value,
            source: bool) -> Value:  # fmt: skip
    """Run the helper; its status."""
    mask = t.const((1 << t.cx.address_size) - 1, 64)
    status = t.call(helper, t.env, _where(t, source=source), t.const(bits // 8, 64), mask, *more)
    assert status is not None
    return status


def _again(t: Translator, status: Value) -> None:
    """Execute the instruction again if iterations are left."""
    with t.when(status.eq(string_ops.AGAIN), likely=False):
        t.call(string_ops.set_resume, t.env)
        t.again()


def _compare_flags(t: Translator, status: Value, left: Value, right: Value) -> None:
    """The flags of the last comparison, if there was one."""
    with t.when(status.ne(string_ops.NOTHING)):
        t.flags.sub(left - right, left, right)
        t.flags.commit()


# The instructions ------------------------------------------------------------------------------


@lower("MOVS", dst="raw")
def movs(t: Translator, dst: Operand, src: Operand) -> None:
    """MOVS: [ES:rDI] := [DS:rSI] (SDM vol. 2B)."""
    bits = dst.bits
    if t.cx.rep:
        _again(t, _repeat(t, string_ops.rep_movs, bits, source=True))
        return
    value = _source(t, bits)
    t.store(bits, _target(t, bits, write=True), value)
    _advance(t, bits, _RSI, _RDI)


@lower("STOS", dst="raw")
def stos(t: Translator, dst: Operand, src: Operand) -> None:
    """STOS: [ES:rDI] := the accumulator (SDM vol. 2B)."""
    bits = dst.bits
    if t.cx.rep:
        _again(t, _repeat(t, string_ops.rep_stos, bits, source=False))
        return
    t.store(bits, _target(t, bits, write=True), t.read(src))
    _advance(t, bits, _RDI)


@lower("LODS", dst="raw")
def lods(t: Translator, dst: Operand, src: Operand) -> None:
    """LODS: accumulator := [DS:rSI] (SDM vol. 2A)."""
    bits = src.bits
    if t.cx.rep:
        _again(t, _repeat(t, string_ops.rep_lods, bits, source=True))
        return
    t.write(dst, _source(t, bits))
    _advance(t, bits, _RSI)


def _while_equal(t: Translator) -> Value:
    """REPE goes on while elements are equal, REPNE while they differ."""
    return t.const(int(t.cx.rep == "rep"), 32)


@lower("CMPS", dst="raw")
def cmps(t: Translator, first: Operand, second: Operand) -> None:
    """CMPS: the flags of [DS:rSI] - [ES:rDI] (SDM vol. 2A)."""
    bits = first.bits
    if t.cx.rep:
        helper = string_compare.rep_cmps
        status = _repeat(t, helper, bits, _while_equal(t), source=True)
        left, right = (t.ld_env("scratch", i).resize(INT_OF_BITS[bits]) for i in (0, 1))
        _compare_flags(t, status, left, right)
        _again(t, status)
        return
    left = _source(t, bits)
    right = t.load(bits, _target(t, bits))
    _advance(t, bits, _RSI, _RDI)
    t.flags.sub(left - right, left, right)


@lower("SCAS", dst="raw")
def scas(t: Translator, accumulator: Operand, src: Operand) -> None:
    """SCAS: the flags of the accumulator - [ES:rDI] (SDM vol. 2B)."""
    bits = src.bits
    left = t.read(accumulator)
    if t.cx.rep:
        helper = string_compare.rep_scas
        status = _repeat(t, helper, bits, _while_equal(t), source=False)
        right = t.ld_env("scratch", 0).resize(INT_OF_BITS[bits])
        _compare_flags(t, status, left, right)
        _again(t, status)
        return
    right = t.load(bits, _target(t, bits))
    _advance(t, bits, _RDI)
    t.flags.sub(left - right, left, right)


def _port_transfer(t: Translator, bits: int, one: NativeFunction[..., Any],
                   many: NativeFunction[..., Any], *, source: bool) -> None:  # fmt: skip
    if t.cx.rep:
        _again(t, _repeat(t, many, bits, source=source))
        return
    mask = t.const((1 << t.cx.address_size) - 1, 64)
    t.call(one, t.env, _where(t, source=source), t.const(bits // 8, 64), mask)


@lower("INS", dst="raw")
def ins(t: Translator, dst: Operand) -> None:
    """INS: [ES:rDI] := port DX (SDM vol. 2A)."""
    helpers = string_io.ins_element, string_io.rep_ins
    _port_transfer(t, dst.bits, *helpers, source=False)


@lower("OUTS", dst="raw")
def outs(t: Translator, src: Operand) -> None:
    """OUTS: port DX := [DS:rSI] (SDM vol. 2B)."""
    helpers = string_io.outs_element, string_io.rep_outs
    _port_transfer(t, src.bits, *helpers, source=True)
