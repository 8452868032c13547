"""Decimal adjustment, 16- and 32-bit code only: DAA DAS AAA AAS AAM AAD."""

from __future__ import annotations

from pytcg.ir.blocks import Value
from pytcg.ir.ops import Type
from pytcg_x86.core.state import Vector
from pytcg_x86.core.translate import Operand, Translator
from pytcg_x86.decode.table import lower, rows

UNDEFINED = {"DAA": "O", "DAS": "O", "AAA": "OSZP", "AAS": "OSZP", "AAM": "OAC", "AAD": "OAC"}

rows("""
27          DAA           i64 nosize
2f          DAS           i64 nosize
37          AAA           i64 nosize
3f          AAS           i64 nosize
d4          AAM     Ib    i64 nosize
d5          AAD     Ib    i64 nosize
""")


def _decimal_adjust(t: Translator, op: str) -> None:
    """DAA and DAS: correct each digit by 6 where it exceeds 9 or carried."""
    accumulator = t.reg(0, 8)
    old = t.read(accumulator)
    low = (old & 0xF).ugt(9) | t.flags.af()
    high = old.ugt(0x99) | t.flags.cf()
    zero, six, sixty = t.const(0, 8), t.const(6, 8), t.const(0x60, 8)
    first = t.b.select(low, six, zero)
    # DAS: a borrow out of the low digit's correction sets CF as well (SDM vol. 2A).
    carry = high | (low & old.ult(6)) if op == "sub" else high
    result = t.b.op(op, t.b.op(op, old, first), t.b.select(high, sixty, zero))
    t.write(accumulator, result)
    t.flags.result(result)
    t.flags.put(cf=carry, af=low, of=t.b.const(0, Type.I1))


@lower("DAA", dst="raw")
def daa(t: Translator) -> None:
    """DAA: decimal adjust AL after addition (SDM vol. 2A)."""
    _decimal_adjust(t, "add")


@lower("DAS", dst="raw")
def das(t: Translator) -> None:
    """DAS: decimal adjust AL after subtraction (SDM vol. 2A)."""
    _decimal_adjust(t, "sub")


def _ascii_adjust(t: Translator, op: str) -> None:
    """AAA and AAS: correct AX by 106H where AL's digit exceeds 9 or carried."""
    accumulator = t.reg(0, 16)
    old = t.read(accumulator)
    adjust = (old & 0xF).ugt(9) | t.flags.af()
    correction = t.b.select(adjust, t.const(0x106, 16), t.const(0, 16))
    result = t.b.op(op, old, correction) & 0xFF0F
    t.write(accumulator, result)
    t.flags.result(result.trunc(Type.I8))
    t.flags.put(cf=adjust, af=adjust, of=t.b.const(0, Type.I1))


@lower("AAA", dst="raw")
def aaa(t: Translator) -> None:
    """AAA: ASCII adjust AL after addition (SDM vol. 2A)."""
    _ascii_adjust(t, "add")


@lower("AAS", dst="raw")
def aas(t: Translator) -> None:
    """AAS: ASCII adjust AL after subtraction (SDM vol. 2A)."""
    _ascii_adjust(t, "sub")


def _digit_flags(t: Translator, result: Value) -> None:
    clear = t.b.const(0, Type.I1)
    t.flags.result(result)
    t.flags.put(cf=clear, of=clear, af=clear)


@lower("AAM", dst="raw")
def aam(t: Translator, base: Operand) -> None:
    """AAM: AH := AL / imm8, AL := AL MOD imm8; #DE when imm8 is 0 (SDM vol. 2A)."""
    divisor = t.read(base).resize(Type.I8)
    t.raise_if(divisor.eq(0), Vector.DE)
    old = t.read(t.reg(0, 8))
    quotient, rest = t.b.op("udiv", old, divisor), t.b.op("urem", old, divisor)
    t.write(t.reg(0, 16), (quotient.zext(Type.I16) << 8) | rest.zext(Type.I16))
    _digit_flags(t, rest)


@lower("AAD", dst="raw")
def aad(t: Translator, base: Operand) -> None:
    """AAD: AL := AL + AH * imm8, AH := 0 (SDM vol. 2A)."""
    factor = t.read(base).resize(Type.I8)
    old = t.read(t.reg(0, 16))
    result = old.trunc(Type.I8) + (old >> 8).trunc(Type.I8) * factor
    t.write(t.reg(0, 16), result.zext(Type.I16))
    _digit_flags(t, result)
