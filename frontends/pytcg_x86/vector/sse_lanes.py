"""SSE4.1's blends, and single lanes in and out: BLEND INSERTPS EXTRACTPS PINSR PEXTR."""

from __future__ import annotations

from pytcg.ir.blocks import Value
from pytcg.ir.ops import INT_OF_BITS, Type
from pytcg_x86.core.translate import Operand, Translator
from pytcg_x86.decode.table import lower, rows
from pytcg_x86.vector.operands import immediate, packed, read_vector, splat

UNDEFINED: dict[str, str] = {}

rows("""
66:0f.38.10 PBLENDVB  Vx,Wx      sse ?sse4.1
66:0f.38.14 BLENDVPS  Vx,Wx      sse ?sse4.1
66:0f.38.15 BLENDVPD  Vx,Wx      sse ?sse4.1
66:0f.3a.0c BLENDPS   Vx,Wx,Ib   sse ?sse4.1
66:0f.3a.0d BLENDPD   Vx,Wx,Ib   sse ?sse4.1
66:0f.3a.0e PBLENDW   Vx,Wx,Ib   sse ?sse4.1
66:0f.3a.14/m PEXTRB  Mb,Vx,Ib   sse ?sse4.1
66:0f.3a.14/r PEXTRB  Rd,Vx,Ib   sse ?sse4.1
66:0f.3a.15/m PEXTRW  Mw,Vx,Ib   sse ?sse4.1
66:0f.3a.15/r PEXTRW  Rd,Vx,Ib   sse ?sse4.1
66:0f.3a.16 PEXTRD    Ey,Vx,Ib   sse ?sse4.1
66:0f.3a.17 EXTRACTPS Ed,Vx,Ib   sse ?sse4.1
66:0f.3a.20/m PINSRB  Vx,Mb,Ib   sse ?sse4.1
66:0f.3a.20/r PINSRB  Vx,Rd,Ib   sse ?sse4.1
66:0f.3a.22 PINSRD    Vx,Ey,Ib   sse ?sse4.1
66:0f.3a.21/m INSERTPS Vx,Md,Ib  sse ?sse4.1
66:0f.3a.21/r INSERTPS Vx,Ux,Ib  sse ?sse4.1
""")


# Blends ----------------------------------------------------------------------------------------


def blend(t: Translator, a: Value, b: Value, mask: Value) -> Value:
    """``b`` where the mask's bits are set, else ``a``."""
    return a ^ ((a ^ b) & mask)


def sign_mask(t: Translator, vector: Value, bits: int) -> Value:
    """Lanes of ones where the lane's sign is set, else of zeros."""
    return t.b.op("vgt", t.const(0, 128), vector, lane=bits)


def bit_mask(t: Translator, chosen: Value, bits: int) -> Value:
    """Lane i all ones where bit i of ``chosen`` (i64) is set."""
    numbers = t.const(sum(1 << i << i * bits for i in range(128 // bits)), 128)
    return t.b.op("veq", splat(t, chosen, bits) & numbers, numbers, lane=bits)


def _variable_blend(mnemonic: str, bits: int) -> None:
    """By the signs of XMM0's lanes (SDM vol. 2A, BLENDVPS)."""

    @packed(mnemonic)
    def meaning(t: Translator, a: Value, b: Value) -> Value:
        return blend(t, a, b, sign_mask(t, t.ld_env("xmm", 0), bits))


def _blend(mnemonic: str, bits: int) -> None:
    @packed(mnemonic)
    def meaning(t: Translator, a: Value, b: Value, chosen: Value) -> Value:
        return blend(t, a, b, bit_mask(t, chosen, bits))


for _mnemonic, _bits in (("PBLENDVB", 8), ("BLENDVPS", 32), ("BLENDVPD", 64)):
    _variable_blend(_mnemonic, _bits)
for _mnemonic, _bits in (("BLENDPS", 32), ("BLENDPD", 64), ("PBLENDW", 16)):
    _blend(_mnemonic, _bits)


# Single lanes ----------------------------------------------------------------------------------


def extract(t: Translator, vector: Value, index: Value, bits: int) -> Value:
    """The lane that ``index`` names, modulo their number."""
    index = index & (128 // bits - 1)
    return t.b.op("vlane", vector, index, lane=bits, type=INT_OF_BITS[bits])


def insert(t: Translator, vector: Value, value: Value, index: Value) -> Value:
    """The vector with the lane that ``index`` names replaced."""
    bits = value.bits
    return t.b.op("vinsert", vector, value, index & (128 // bits - 1), lane=bits)


def _extraction(mnemonic: str, bits: int | None) -> None:
    """One lane to memory or, zero-extended, to a register (SDM vol. 2B, PEXTRB)."""

    @lower(mnemonic, dst="raw")
    def lowering(t: Translator, dst: Operand, src: Operand, where: Operand) -> None:
        value = extract(t, t.read(src), immediate(t.read(where)), bits or dst.bits)
        t.write(dst, value.resize(dst.type))


def _insertion(mnemonic: str, bits: int | None) -> None:
    @lower(mnemonic, dst="raw")
    def lowering(t: Translator, dst: Operand, src: Operand, where: Operand) -> None:
        value = t.read(src).resize(INT_OF_BITS[bits or src.bits])
        t.write(dst, insert(t, t.read(dst), value, immediate(t.read(where))))


_extraction("PEXTRB", 8)
_extraction("PEXTRD", None)  # or PEXTRQ, by REX.W
_extraction("EXTRACTPS", 32)
_insertion("PINSRB", 8)
_insertion("PINSRD", None)


def inserted_single(t: Translator, a: Value, value: Value, control: Value) -> Value:
    """``a`` with a single put in at bits 5:4 of the immediate, lanes of bits 3:0 zeroed."""
    placed = insert(t, a, value, control >> 4)
    return placed & ~bit_mask(t, control & 15, 32)


@lower("INSERTPS", dst="raw")
def insertps(t: Translator, dst: Operand, src: Operand, control: Operand) -> None:
    """A single from memory, or lane bits 7:6 of a register, into DEST (SDM vol. 2A)."""
    number = immediate(t.read(control))
    if src.is_memory:
        value = t.read(src)
    else:
        value = extract(t, read_vector(t, src), number >> 6, 32)
    t.write(dst, inserted_single(t, t.read(dst), value.resize(Type.I32), number))
