"""Bits: BT BTS BTR BTC BSF BSR POPCNT LZCNT TZCNT CRC32."""

from __future__ import annotations

from collections.abc import Callable

from pytcg.ir.blocks import Value
from pytcg.ir.ops import Type
from pytcg_native import native, u32, u64
from pytcg_native.types import Table
from pytcg_x86.core.translate import Operand, Translator
from pytcg_x86.decode.table import lower, rows
from pytcg_x86.integer.move import merged

# Where the manual leaves flags undefined these define all: code that needs not keep the others is
# faster in regions. Which values: LZCNT's and TZCNT's are POPCNT's, BSF's and BSR's are OR's.
UNDEFINED = {"BT": "OSAP", "BTS": "OSAP", "BTR": "OSAP", "BTC": "OSAP", "BSF": "OSAPC",
             "BSR": "OSAPC", "LZCNT": "OSAP", "TZCNT": "OSAP"}  # fmt: skip

rows("""
0f.a3          BT      Ev,Gv
0f.ab          BTS     Ev,Gv   lock
0f.b3          BTR     Ev,Gv   lock
0f.bb          BTC     Ev,Gv   lock
0f.ba/4        BT      Ev,Ib
0f.ba/5        BTS     Ev,Ib   lock
0f.ba/6        BTR     Ev,Ib   lock
0f.ba/7        BTC     Ev,Ib   lock
0f.bc          BSF     Gv,Ev
0f.bd          BSR     Gv,Ev
f3:0f.b8       POPCNT  Gv,Ev ?popcnt
f3:0f.bc       TZCNT   Gv,Ev ?bmi1
f3:0f.bd       LZCNT   Gv,Ev ?abm
f2:0f.38.f0    CRC32   Gy,Eb ?sse4.2
f2:0f.38.f1    CRC32   Gy,Ev ?sse4.2
""")


class _BitString:
    """The word that holds the addressed bit: in memory a register index reaches beyond DEST."""

    def __init__(self, t: Translator, dst: Operand, index: Operand):
        self.t, self.dst = t, dst
        self.offset: Value | None = None
        number = t.read(index).resize(dst.type)
        if dst.is_memory:
            self.offset = t.offset()
            if index.kind == "reg":
                self.offset = t.wrap_offset(self.offset + self._displacement(number))
        self.bit = number & (dst.bits - 1)

    def _displacement(self, number: Value) -> Value:
        words = number.sext(Type.I64).ashr(self.dst.bits.bit_length() - 1)
        return words * (self.dst.bits // 8)

    def read(self) -> Value:
        if self.offset is None:
            return self.t.read(self.dst)
        bits = self.dst.bits
        return self.t.load(bits, self.t.address_at(self.offset, bits))

    def modify(self) -> tuple[Value, Callable[[Value], None]]:
        if self.offset is None:
            return self.t.modify(self.dst)
        bits = self.dst.bits
        return self.t.modify_at(bits, self.t.address_at(self.offset, bits, write=True))


@lower("BT", dst="raw")
def bt(t: Translator, dst: Operand, index: Operand) -> None:
    """BT: CF := Bit(BitBase, BitOffset) (SDM vol. 2A)."""
    place = _BitString(t, dst, index)
    t.flags.put(cf=(place.read() >> place.bit).trunc(Type.I1))


def _modify(t: Translator, dst: Operand, index: Operand, op: str) -> None:
    place = _BitString(t, dst, index)
    word, write_back = place.modify()
    mask = t.const(1, dst.bits) << place.bit
    write_back(t.b.op(op, word, ~mask if op == "and" else mask))
    t.flags.put(cf=(word >> place.bit).trunc(Type.I1))


@lower("BTS", dst="raw")
def bts(t: Translator, dst: Operand, index: Operand) -> None:
    """BTS: CF := the bit; the bit := 1 (SDM vol. 2A)."""
    _modify(t, dst, index, "or")


@lower("BTR", dst="raw")
def btr(t: Translator, dst: Operand, index: Operand) -> None:
    """BTR: CF := the bit; the bit := 0 (SDM vol. 2A)."""
    _modify(t, dst, index, "and")


@lower("BTC", dst="raw")
def btc(t: Translator, dst: Operand, index: Operand) -> None:
    """BTC: CF := the bit; the bit := NOT the bit (SDM vol. 2A)."""
    _modify(t, dst, index, "xor")


@lower("BSF", dst="raw")
def bsf(t: Translator, dst: Operand, src: Operand) -> None:
    """BSF: DEST := index of the lowest set bit; of 0, DEST stays as it is, and ZF := 1."""
    value = t.read(src)
    merged(t, dst, value.ne(0), t.b.op("ctz", value))
    t.flags.logic(value)


@lower("BSR", dst="raw")
def bsr(t: Translator, dst: Operand, src: Operand) -> None:
    """BSR: DEST := index of the highest set bit; of 0, DEST stays as it is, and ZF := 1."""
    value = t.read(src)
    merged(t, dst, value.ne(0), (dst.bits - 1) - t.b.op("clz", value))
    t.flags.logic(value)


@lower("POPCNT", dst="w")
def popcnt(t: Translator, src: Value) -> Value:
    """POPCNT: number of set bits; ZF := SRC is 0, the other flags are cleared (SDM vol. 2B)."""
    result = t.b.op("popcnt", src)
    _counted(t, result, t.b.const(0, Type.I1))
    return result


def _counted(t: Translator, result: Value, cf: Value) -> None:
    """ZF from the result, CF; the other flags are cleared."""
    clear = t.b.const(0, Type.I1)
    t.flags.result(t.const(1, 64))  # SF and PF clear
    t.flags.put(cf=cf, of=clear, af=clear, zf=result.eq(0))


def _count_zeros(t: Translator, src: Value, op: str) -> Value:
    result = t.b.op(op, src)
    _counted(t, result, src.eq(0))
    return result


@lower("TZCNT", dst="w")
def tzcnt(t: Translator, src: Value) -> Value:
    """TZCNT: trailing zeros; CF := SRC is 0, ZF := the result is 0 (SDM vol. 2B)."""
    return _count_zeros(t, src, "ctz")


@lower("LZCNT", dst="w")
def lzcnt(t: Translator, src: Value) -> Value:
    """LZCNT: leading zeros; CF := SRC is 0, ZF := the result is 0 (SDM vol. 2A)."""
    return _count_zeros(t, src, "clz")


_CASTAGNOLI = 0x82F6_3B78  # the polynomial 0x11EDC6F41, bits reversed


def _crc_of_byte(value: int) -> int:
    for _ in range(8):
        value = (value >> 1) ^ (_CASTAGNOLI if value & 1 else 0)
    return value


CRC32C = Table("crc32c_table", "u32", [_crc_of_byte(byte) for byte in range(256)])


@native
def crc32c(crc: u32, data: u64, size: u32) -> u32:
    """The CRC-32C of ``size`` bytes of ``data``, lowest first."""
    for _i in range(size):
        crc = (crc >> 8) ^ CRC32C[(crc ^ u32(data)) & 0xFF]
        data = data >> 8
    return crc


@lower("CRC32")
def crc32(t: Translator, dst: Value, src: Value) -> Value:
    """CRC32: accumulate SRC in the low half of DEST (SDM vol. 2A)."""
    return t.b.op("crc32c", dst.resize(Type.I32), src).resize(dst.type)
