"""BMI1 and BMI2: ANDN BEXTR BLSI BLSMSK BLSR BZHI MULX PDEP PEXT RORX SARX SHLX SHRX."""

from __future__ import annotations

from pytcg.ir.blocks import Value
from pytcg.ir.ops import Type
from pytcg_native import native, u64
from pytcg_x86.core.translate import Operand, Translator
from pytcg_x86.decode.table import lower, rows

UNDEFINED = {"ANDN": "AP", "BEXTR": "APS", "BLSI": "AP", "BLSMSK": "AP", "BLSR": "AP",
             "BZHI": "AP"}  # fmt: skip

rows("""
vnp:0f.38.f2    ANDN    Gy,By,Ey  l0 ?bmi1
vnp:0f.38.f3/1  BLSR    By,Ey     l0 ?bmi1
vnp:0f.38.f3/2  BLSMSK  By,Ey     l0 ?bmi1
vnp:0f.38.f3/3  BLSI    By,Ey     l0 ?bmi1
vnp:0f.38.f5    BZHI    Gy,Ey,By  l0 ?bmi2
vf2:0f.38.f5    PDEP    Gy,By,Ey  l0 ?bmi2
vf3:0f.38.f5    PEXT    Gy,By,Ey  l0 ?bmi2
vf2:0f.38.f6    MULX    Gy,By,Ey  l0 ?bmi2
vnp:0f.38.f7    BEXTR   Gy,Ey,By  l0 ?bmi1
v66:0f.38.f7    SHLX    Gy,Ey,By  l0 ?bmi2
vf3:0f.38.f7    SARX    Gy,Ey,By  l0 ?bmi2
vf2:0f.38.f7    SHRX    Gy,Ey,By  l0 ?bmi2
vf2:0f.3a.f0    RORX    Gy,Ey,Ib  l0 ?bmi2
""")


def _set_flags(t: Translator, result: Value, cf: Value | None = None) -> None:
    """SF and ZF by the result, OF clear, CF as given or clear."""
    t.flags.logic(result)
    if cf is not None:
        t.flags.put(cf=cf)


# Lowest bits and fields ------------------------------------------------------------------------


@lower("ANDN", dst="w")
def andn(t: Translator, inverted: Value, src: Value) -> Value:
    """ANDN: DEST := NOT SRC1 AND SRC2 (SDM vol. 2A)."""
    result = ~inverted & src
    _set_flags(t, result)
    return result


@lower("BLSR", dst="w")
def blsr(t: Translator, src: Value) -> Value:
    """BLSR: the lowest set bit is cleared; CF := SRC is 0 (SDM vol. 2A)."""
    result = (src - 1) & src
    _set_flags(t, result, src.eq(0))
    return result


@lower("BLSMSK", dst="w")
def blsmsk(t: Translator, src: Value) -> Value:
    """BLSMSK: ones up to the lowest set bit; CF := SRC is 0 (SDM vol. 2A)."""
    result = (src - 1) ^ src
    _set_flags(t, result, src.eq(0))
    return result


@lower("BLSI", dst="w")
def blsi(t: Translator, src: Value) -> Value:
    """BLSI: the lowest set bit alone; CF := SRC is not 0 (SDM vol. 2A)."""
    result = t.b.op("neg", src) & src
    _set_flags(t, result, src.ne(0))
    return result


def _low_bits(t: Translator, src: Value, count: Value) -> Value:
    """``src`` without the bits from ``count`` on, which may be more than there are."""
    mask = ~(t.const((1 << src.bits) - 1, src.bits) << count)
    return t.b.select(count.ult(src.bits), src & mask, src)


@lower("BZHI", dst="w")
def bzhi(t: Translator, src: Value, index: Value) -> Value:
    """BZHI: bits from an index on are cleared; CF := there are none (SDM vol. 2A)."""
    count = index & 0xFF
    result = _low_bits(t, src, count)
    _set_flags(t, result, count.ugt(src.bits - 1))
    return result


@lower("BEXTR", dst="w")
def bextr(t: Translator, src: Value, control: Value) -> Value:
    """BEXTR: a bit field, its start and length in the control's bytes (SDM vol. 2A)."""
    start, length = control & 0xFF, (control >> 8) & 0xFF
    field = t.b.select(start.ult(src.bits), src >> start, t.const(0, src.bits))
    result = _low_bits(t, field, length)
    _set_flags(t, result)
    return result


# Scattered bits --------------------------------------------------------------------------------


@native
def deposit_bits(src: u64, mask: u64) -> u64:
    """The low bits of ``src`` at the places of the mask's ones."""
    result: u64 = 0
    while mask != 0:
        lowest: u64 = mask & (0 - mask)
        if (src & 1) != 0:
            result |= lowest
        src = src >> 1
        mask ^= lowest
    return result


@native
def extract_bits(src: u64, mask: u64) -> u64:
    """The bits of ``src`` at the places of the mask's ones, side by side."""
    result: u64 = 0
    place: u64 = 1
    while mask != 0:
        lowest: u64 = mask & (0 - mask)
        if (src & lowest) != 0:
            result |= place
        place = place << 1
        mask ^= lowest
    return result


@lower("PDEP", dst="w")
def pdep(t: Translator, src: Value, mask: Value) -> Value:
    """PDEP: parallel bits deposit (SDM vol. 2B)."""
    result = t.call(deposit_bits, src.zext(Type.I64), mask.zext(Type.I64))
    assert result is not None
    return result.resize(src.type)


@lower("PEXT", dst="w")
def pext(t: Translator, src: Value, mask: Value) -> Value:
    """PEXT: parallel bits extract (SDM vol. 2B)."""
    result = t.call(extract_bits, src.zext(Type.I64), mask.zext(Type.I64))
    assert result is not None
    return result.resize(src.type)


# Without flags ---------------------------------------------------------------------------------


@lower("MULX", dst="raw")
def mulx(t: Translator, high: Operand, low: Operand, src: Operand) -> None:
    """MULX: DEST1:DEST2 := rDX * SRC; if they are one, the upper half stays (SDM vol. 2B)."""
    a, b = t.read(t.reg(2, src.bits)), t.read(src)
    t.write(low, a * b)
    t.write(high, t.b.op("mulhu", a, b))


@lower("RORX", dst="w")
def rorx(t: Translator, src: Value, count: Value) -> Value:
    """RORX: rotate right (SDM vol. 2B)."""
    return t.b.op("rotr", src, count & (src.bits - 1))


@lower("SHLX", dst="w")
def shlx(t: Translator, src: Value, count: Value) -> Value:
    """SHLX: shift left by a register (SDM vol. 2B)."""
    return src << (count & (src.bits - 1))


@lower("SHRX", dst="w")
def shrx(t: Translator, src: Value, count: Value) -> Value:
    """SHRX: shift right by a register (SDM vol. 2B)."""
    return src >> (count & (src.bits - 1))


@lower("SARX", dst="w")
def sarx(t: Translator, src: Value, count: Value) -> Value:
    """SARX: shift right with the sign by a register (SDM vol. 2B)."""
    return src.ashr(count & (src.bits - 1))
