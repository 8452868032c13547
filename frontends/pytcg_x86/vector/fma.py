"""FMA3, F16C and AVX-VNNI: products that are added, and half-precision floats."""

from __future__ import annotations

import functools

from pytcg.ir.blocks import Value
from pytcg.ir.ops import FMA, Type
from pytcg_x86.core.translate import Operand, Translator
from pytcg_x86.decode.table import lower, rows
from pytcg_x86.vector.operands import by_case, immediate, xm_check
from pytcg_x86.vector.vex import Halves, read_halves, write_halves

UNDEFINED: dict[str, str] = {}

_ORDERS = {"132": (0, 2, 1), "213": (1, 0, 2), "231": (1, 2, 0)}
"""Which operands are the factors and the addend; of NaNs the first in this order counts."""
_OPCODES = {"maddsub": 6, "msubadd": 7, "madd": 8, "msub": 0xA, "nmadd": 0xC, "nmsub": 0xE}
"""Opcodes' last digit by mode; scalars' are one more, and the first digit is by order."""

for _order, _digit in zip(_ORDERS, "9ab", strict=True):
    for _mode, _last in _OPCODES.items():
        _name = f"VF{_mode.upper()}{_order}"
        for _wide, _letter in enumerate("SD"):
            rows(f"v66:0f.38.{_digit}{_last:x} {_name}P{_letter} Vx,Hx,Wx avx w{_wide} ?fma")
            if _mode not in ("maddsub", "msubadd"):
                rows(f"v66:0f.38.{_digit}{_last + 1:x} {_name}S{_letter} Vo,Ho,W{'dq'[_wide]}"
                     f" avx lig w{_wide} ?fma")  # fmt: skip

rows("""
v66:0f.38.13 VCVTPH2PS  Vx,Wh       avx w0 ?f16c
v66:0f.3a.1d VCVTPS2PH  Wh,Vx,Ib    avx w0 ?f16c
v66:0f.38.50 VPDPBUSD   Vx,Hx,Wx    avx w0 ?avx-vnni
v66:0f.38.51 VPDPBUSDS  Vx,Hx,Wx    avx w0 ?avx-vnni
v66:0f.38.52 VPDPWSSD   Vx,Hx,Wx    avx w0 ?avx-vnni
v66:0f.38.53 VPDPWSSDS  Vx,Hx,Wx    avx w0 ?avx-vnni
""")


# Multiply and add ------------------------------------------------------------------------------


def _packed(mnemonic: str, order: tuple[int, ...], mode: int, bits: int) -> None:
    """DEST := factors' product and addend, rounded once (SDM vol. 2C, VFMADD132PS)."""

    @lower(mnemonic, dst="raw")
    def lowering(t: Translator, dst: Operand, first: Operand, second: Operand) -> None:
        operands = list(zip(*(read_halves(t, op) for op in (dst, first, second)), strict=True))
        result = [t.b.op("vffma", *(values[n] for n in order), lane=bits, mode=mode)
                  for values in operands]  # fmt: skip
        xm_check(t)
        write_halves(t, dst, result)


def _scalar(mnemonic: str, order: tuple[int, ...], mode: int, bits: int) -> None:
    """The same of the low floats; the rest of DEST's low half stays."""
    type_ = Type.F32 if bits == 32 else Type.F64

    @lower(mnemonic, dst="raw")
    def lowering(t: Translator, dst: Operand, first: Operand, second: Operand) -> None:
        zero, source = t.const(0, 64), t.read(second)
        whole = t.read(dst)
        lows = [t.b.op("vlane", value, zero, lane=bits, type=source.type)
                for value in (whole, t.read(first))]  # fmt: skip
        floats = [value.bitcast(type_) for value in (*lows, source)]
        result = t.b.op("ffma", *(floats[n] for n in order), mode=mode)
        xm_check(t)
        t.write(dst, t.b.op("vinsert", whole, result.bitcast(source.type), zero, lane=bits))


for _order, _numbers in _ORDERS.items():
    for _number, _mode in enumerate(FMA):
        for _letter, _bits in (("S", 32), ("D", 64)):
            _name = f"VF{_mode.upper()}{_order}"
            _packed(f"{_name}P{_letter}", _numbers, _number, _bits)
            if _mode in ("madd", "msub", "nmadd", "nmsub"):
                _scalar(f"{_name}S{_letter}", _numbers, _number, _bits)


# Half precision --------------------------------------------------------------------------------


@lower("VCVTPH2PS", dst="raw")
def vcvtph2ps(t: Translator, dst: Operand, src: Operand) -> None:
    """Halves to singles; MXCSR's DAZ does not count (SDM vol. 2C)."""
    source = t.read(src).zext(Type.I128)
    result = [t.b.op("fexthalf", source >> 64 * half) for half in range(dst.bits // 128)]
    xm_check(t)
    write_halves(t, dst, result)


@lower("VCVTPS2PH", dst="raw")
def vcvtps2ph(t: Translator, dst: Operand, src: Operand, control: Operand) -> None:
    """Singles to halves, rounded by the immediate or MXCSR (SDM vol. 2C)."""
    source = read_halves(t, src)

    def rounded(mode: int) -> Halves:
        parts = [t.b.op("ftrunchalf", half, mode=mode) for half in source]
        return [parts[0] if len(parts) == 1 else parts[0] | parts[1] << 64]

    result = by_case(t, immediate(t.read(control)) & 7, 8, rounded)[0]
    xm_check(t)
    t.write(dst, result.resize(dst.type))


# Neural networks -------------------------------------------------------------------------------


def _dot_product(mnemonic: str, *, words: bool, saturated: bool) -> None:
    """Sums of products of bytes (unsigned by signed) or words, added to DEST (SDM vol. 2C)."""

    @lower(mnemonic, dst="raw")
    def lowering(t: Translator, dst: Operand, first: Operand, second: Operand) -> None:
        operands = zip(*(read_halves(t, op) for op in (dst, first, second)), strict=True)
        result = []
        for total, a, b in operands:
            products = _products(t, a, b, words=words)
            added = functools.reduce(lambda x, y: t.b.op("vadd", x, y, lane=32), products)
            if saturated:
                result.append(_saturated(t, total, added))
            else:
                result.append(t.b.op("vadd", total, added, lane=32))
        write_halves(t, dst, result)


def _saturated(t: Translator, total: Value, added: Value) -> Value:
    """The saturated sum. 8000_0000h is 2**31, of four factors that all are -32768: in two steps."""
    lowest = t.const(sum(1 << 31 << at for at in range(0, 128, 32)), 128)
    over = t.b.op("veq", added, lowest, lane=32)
    most = t.b.op("vadds", total, t.b.op("vadd", added, over, lane=32), lane=32)
    return t.b.op("vsubs", most, over, lane=32)


def _products(t: Translator, a: Value, b: Value, *, words: bool) -> list[Value]:
    """Doublewords to add, one for each place in a doubleword."""
    bits, op = 16 if words else 8, t.b.op

    def part(value: Value, at: int, *, signed: bool) -> Value:
        top = op("vshl", value, t.const(32 - bits - at, 64), lane=32)
        return op("vashr" if signed else "vlshr", top, t.const(32 - bits, 64), lane=32)

    return [op("vmul", part(a, at, signed=words), part(b, at, signed=True), lane=32)
            for at in range(0, 32, bits)]  # fmt: skip


for _letters, _are_words in (("BUSD", False), ("WSSD", True)):
    for _suffix, _saturates in (("", False), ("S", True)):
        _dot_product(f"VPDP{_letters}{_suffix}", words=_are_words, saturated=_saturates)
