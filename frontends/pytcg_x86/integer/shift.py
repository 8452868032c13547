"""Shifts and rotates: SHL SHR SAR ROL ROR RCL RCR SHLD SHRD.

Counts are masked to 5 bits (6 with 64-bit operands). A masked count of 0 changes no flag, so the
flags of all these are computed behind a branch, after write-back; a count known to be 1 needs none.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pytcg.ir.blocks import Value
from pytcg.ir.ops import Type
from pytcg_x86.core.translate import Operand, Translator
from pytcg_x86.decode.table import lower, rows

# OF is defined for counts of 1 only; CF of SHL, SHR, SHLD and SHRD for counts up to the width.
UNDEFINED = {"ROL": "O", "ROR": "O", "RCL": "O", "RCR": "O", "SHL": "OCA", "SHR": "OCA",
             "SAR": "OA", "SHLD": "OCA", "SHRD": "OCA"}  # fmt: skip

for _number, _mnemonic in enumerate(("ROL", "ROR", "RCL", "RCR", "SHL", "SHR", "SHL", "SAR")):
    rows(f"""
    c0/{_number}  {_mnemonic} Eb,Ib
    c1/{_number}  {_mnemonic} Ev,Ib
    d0/{_number}  {_mnemonic} Eb,1
    d1/{_number}  {_mnemonic} Ev,1
    d2/{_number}  {_mnemonic} Eb,CL
    d3/{_number}  {_mnemonic} Ev,CL
    """)

rows("""
0f.a4       SHLD  Ev,Gv,Ib
0f.a5       SHLD  Ev,Gv,CL
0f.ac       SHRD  Ev,Gv,Ib
0f.ad       SHRD  Ev,Gv,CL
""")


def _wide(bits: int) -> Type:
    """A type with room for ``bits`` and a carry."""
    return Type.I128 if bits == 64 else Type.I64


def _count(t: Translator, operand: Operand, bits: int) -> Value:
    """The masked count, of the type the wide value has."""
    return (t.read(operand).trunc(Type.I8) & (63 if bits == 64 else 31)).zext(_wide(bits))


@contextmanager
def _flags_if(t: Translator, count: Value) -> Iterator[None]:
    """Commit the flags set in the body, unless the count is 0."""
    if count.const:
        yield
        return
    with t.when(count.ne(0)):
        yield
        t.flags.commit()


def _top(value: Value) -> Value:
    """The most significant bit, as i1."""
    return value.slt(0)


def _second(value: Value) -> Value:
    """The bit below the most significant one, as i1."""
    return (value << 1).slt(0)


def _bit0(value: Value) -> Value:
    return value.trunc(Type.I1)


def _shift_flags(t: Translator, result: Value, carry: Value, overflow: Value) -> None:
    t.flags.result(result)
    t.flags.put(cf=carry, of=overflow, af=t.b.const(0, Type.I1))


@lower("SHL", dst="raw")
def shl(t: Translator, dst: Operand, amount: Operand) -> None:
    """SAL/SHL: CF is the last bit shifted out, OF the change of sign (SDM vol. 2B)."""
    count = _count(t, amount, dst.bits)
    old, write_back = t.modify(dst)
    value = old.zext(count.type)
    result = (value << count).trunc(dst.type)
    write_back(result)
    with _flags_if(t, count):
        carry = _bit0((value << (count - 1)) >> (dst.bits - 1))
        _shift_flags(t, result, carry, _top(result) ^ carry)


@lower("SHR", dst="raw")
def shr(t: Translator, dst: Operand, amount: Operand) -> None:
    """SHR: CF is the last bit shifted out, OF the old sign (SDM vol. 2B)."""
    count = _count(t, amount, dst.bits)
    old, write_back = t.modify(dst)
    value = old.zext(count.type)
    result = (value >> count).trunc(dst.type)
    write_back(result)
    with _flags_if(t, count):
        _shift_flags(t, result, _bit0(value >> (count - 1)), _top(old))


@lower("SAR", dst="raw")
def sar(t: Translator, dst: Operand, amount: Operand) -> None:
    """SAR: CF is the last bit shifted out, OF 0 (SDM vol. 2B)."""
    count = _count(t, amount, dst.bits)
    old, write_back = t.modify(dst)
    value = old.sext(count.type)
    result = value.ashr(count).trunc(dst.type)
    write_back(result)
    with _flags_if(t, count):
        _shift_flags(t, result, _bit0(value.ashr(count - 1)), t.b.const(0, Type.I1))


@lower("ROL", dst="raw")
def rol(t: Translator, dst: Operand, amount: Operand) -> None:
    """ROL: CF is the result's lowest bit (SDM vol. 2B)."""
    count = _count(t, amount, dst.bits)
    old, write_back = t.modify(dst)
    result = t.b.op("rotl", old, count.trunc(dst.type))
    write_back(result)
    with _flags_if(t, count):
        carry = _bit0(result)
        t.flags.put(cf=carry, of=_top(result) ^ carry)


@lower("ROR", dst="raw")
def ror(t: Translator, dst: Operand, amount: Operand) -> None:
    """ROR: CF is the result's highest bit (SDM vol. 2B)."""
    count = _count(t, amount, dst.bits)
    old, write_back = t.modify(dst)
    result = t.b.op("rotr", old, count.trunc(dst.type))
    write_back(result)
    with _flags_if(t, count):
        carry = _top(result)
        t.flags.put(cf=carry, of=carry ^ _second(result))


def _rotate_carry(t: Translator, old: Value, count: Value, *, left: bool) -> Value:
    """The operand with CF above it, rotated by ``count`` (modulo 9 and 17 for bytes and words)."""
    size = old.bits + 1
    if old.bits < 32:
        count = t.b.op("urem", count, t.b.const(size, count.type))
    rest = size - count
    value = old.zext(count.type) | (t.flags.cf().zext(count.type) << old.bits)
    up, down = (count, rest) if left else (rest, count)
    return (value << up) | (value >> down)


@lower("RCL", dst="raw")
def rcl(t: Translator, dst: Operand, amount: Operand) -> None:
    """RCL: rotate CF:DEST to the left (SDM vol. 2B)."""
    count = _count(t, amount, dst.bits)
    old, write_back = t.modify(dst)
    rotated = _rotate_carry(t, old, count, left=True)
    result = rotated.trunc(dst.type)
    write_back(result)
    with _flags_if(t, count):
        carry = _bit0(rotated >> dst.bits)
        t.flags.put(cf=carry, of=_top(result) ^ carry)


@lower("RCR", dst="raw")
def rcr(t: Translator, dst: Operand, amount: Operand) -> None:
    """RCR: rotate CF:DEST to the right (SDM vol. 2B)."""
    count = _count(t, amount, dst.bits)
    old, write_back = t.modify(dst)
    rotated = _rotate_carry(t, old, count, left=False)
    result = rotated.trunc(dst.type)
    write_back(result)
    with _flags_if(t, count):
        carry = _bit0(rotated >> dst.bits)
        t.flags.put(cf=carry, of=_top(result) ^ _second(result))


@lower("SHLD", dst="raw")
def shld(t: Translator, dst: Operand, src: Operand, amount: Operand) -> None:
    """SHLD: shift DEST left, filling from SRC's high end (SDM vol. 2B).

    Words shifted by more than 16, undefined, shift DEST:SRC:DEST as processors do.
    """
    bits = dst.bits
    count = _count(t, amount, bits)
    old, write_back = t.modify(dst)
    filler = t.read(src).zext(count.type)
    pair = (old.zext(count.type) << bits) | filler
    total = 2 * bits
    if bits == 16:
        pair = (pair << bits) | old.zext(count.type)
        total = 48
    result = ((pair << count) >> (total - bits)).trunc(dst.type)
    write_back(result)
    with _flags_if(t, count):
        carry = _bit0((pair << (count - 1)) >> (total - 1))
        _shift_flags(t, result, carry, _top(old) ^ _top(result))


@lower("SHRD", dst="raw")
def shrd(t: Translator, dst: Operand, src: Operand, amount: Operand) -> None:
    """SHRD: shift DEST right, filling from SRC's low end (SDM vol. 2B)."""
    bits = dst.bits
    count = _count(t, amount, bits)
    old, write_back = t.modify(dst)
    filler = t.read(src).zext(count.type)
    chain = (filler << bits) | old.zext(count.type)
    if bits == 16:
        chain = (old.zext(count.type) << 32) | chain
    result = (chain >> count).trunc(dst.type)
    write_back(result)
    with _flags_if(t, count):
        carry = _bit0(chain >> (count - 1))
        _shift_flags(t, result, carry, _top(old) ^ _top(result))
