"""Packed integers of MMX, SSE and SSE2: one lowering serves both register files.

Most rows come in pairs, `np` for MMX and `66` for SSE2, so they are made from a list of opcodes.
"""

from __future__ import annotations

from pytcg.ir.blocks import Value
from pytcg.ir.ops import Type
from pytcg_x86.core.translate import Operand, Translator
from pytcg_x86.decode.table import lower, rows
from pytcg_x86.vector.operands import (
    chosen_lane,
    converted,
    immediate,
    mmx_state,
    packed,
    read_vector,
    shuffled,
    write_vector,
)

UNDEFINED: dict[str, str] = {}

_BOTH = {
    "63": "PACKSSWB", "64": "PCMPGTB", "65": "PCMPGTW", "66": "PCMPGTD",
    "67": "PACKUSWB", "68": "PUNPCKHBW", "69": "PUNPCKHWD", "6a": "PUNPCKHDQ",
    "6b": "PACKSSDW", "74": "PCMPEQB", "75": "PCMPEQW", "76": "PCMPEQD",
    "d1": "PSRLW", "d2": "PSRLD", "d3": "PSRLQ", "d4": "PADDQ",
    "d5": "PMULLW", "d8": "PSUBUSB", "d9": "PSUBUSW", "da": "PMINUB",
    "db": "PAND", "dc": "PADDUSB", "dd": "PADDUSW", "de": "PMAXUB",
    "df": "PANDN", "e0": "PAVGB", "e1": "PSRAW", "e2": "PSRAD",
    "e3": "PAVGW", "e4": "PMULHUW", "e5": "PMULHW", "e8": "PSUBSB",
    "e9": "PSUBSW", "ea": "PMINSW", "eb": "POR", "ec": "PADDSB",
    "ed": "PADDSW", "ee": "PMAXSW", "ef": "PXOR", "f1": "PSLLW",
    "f2": "PSLLD", "f3": "PSLLQ", "f4": "PMULUDQ", "f5": "PMADDWD",
    "f6": "PSADBW", "f8": "PSUBB", "f9": "PSUBW", "fa": "PSUBD",
    "fb": "PSUBQ", "fc": "PADDB", "fd": "PADDW", "fe": "PADDD",
}  # fmt: skip

_EXTENDED = {"PMINUB", "PMAXUB", "PAVGB", "PAVGW", "PMULHUW", "PMINSW", "PMAXSW", "PSADBW"}


def _mmx_feature(mnemonic: str) -> str:
    """Which processors have the MMX form."""
    if mnemonic in ("PADDQ", "PSUBQ", "PMULUDQ"):
        return "?sse2"
    return "?sse|mmxext" if mnemonic in _EXTENDED else "?mmx"


for _opcode, _mnemonic in _BOTH.items():
    rows(f"np:0f.{_opcode} {_mnemonic} Pq,Qq mmx {_mmx_feature(_mnemonic)}\n"
         f"66:0f.{_opcode} {_mnemonic} Vx,Wx sse ?sse2")  # fmt: skip

# MMX's low unpacks read only 32 bits of memory, SSE's all 128.
for _opcode, _mnemonic in (("60", "PUNPCKLBW"), ("61", "PUNPCKLWD"), ("62", "PUNPCKLDQ")):
    rows(f"np:0f.{_opcode} {_mnemonic} Pq,Qd mmx ?mmx\n66:0f.{_opcode} {_mnemonic} Vx,Wx sse ?sse2")

for _opcode, _mnemonic in (
    ("71/2", "PSRLW"), ("71/4", "PSRAW"), ("71/6", "PSLLW"), ("72/2", "PSRLD"),
    ("72/4", "PSRAD"), ("72/6", "PSLLD"), ("73/2", "PSRLQ"), ("73/6", "PSLLQ"),
):  # fmt: skip
    rows(f"np:0f.{_opcode}/r {_mnemonic} Nq,Ib mmx ?mmx\n"
         f"66:0f.{_opcode}/r {_mnemonic} Ux,Ib sse ?sse2")  # fmt: skip

rows("""
66:0f.6c    PUNPCKLQDQ Vx,Wx     sse ?sse2
66:0f.6d    PUNPCKHQDQ Vx,Wx     sse ?sse2
66:0f.73/3/r PSRLDQ   Ux,Ib      sse ?sse2
66:0f.73/7/r PSLLDQ   Ux,Ib      sse ?sse2
np:0f.70    PSHUFW    Pq,Qq,Ib   mmx ?sse|mmxext
66:0f.70    PSHUFD    Vx,Wx,Ib   sse ?sse2
f2:0f.70    PSHUFLW   Vx,Wx,Ib   sse ?sse2
f3:0f.70    PSHUFHW   Vx,Wx,Ib   sse ?sse
np:0f.c4/m  PINSRW    Pq,Mw,Ib   mmx ?sse|mmxext
np:0f.c4/r  PINSRW    Pq,Rd,Ib   mmx ?sse|mmxext
66:0f.c4/m  PINSRW    Vx,Mw,Ib   sse ?sse2
66:0f.c4/r  PINSRW    Vx,Rd,Ib   sse ?sse2
np:0f.c5/r  PEXTRW    Gd,Nq,Ib   mmx ?sse|mmxext
66:0f.c5/r  PEXTRW    Gd,Ux,Ib   sse ?sse2
""")

_ONE_OP = {
    "PADDB": ("vadd", 8), "PADDW": ("vadd", 16), "PADDD": ("vadd", 32), "PADDQ": ("vadd", 64),
    "PSUBB": ("vsub", 8), "PSUBW": ("vsub", 16), "PSUBD": ("vsub", 32), "PSUBQ": ("vsub", 64),
    "PADDSB": ("vadds", 8), "PADDSW": ("vadds", 16),
    "PADDUSB": ("vaddus", 8), "PADDUSW": ("vaddus", 16),
    "PSUBSB": ("vsubs", 8), "PSUBSW": ("vsubs", 16),
    "PSUBUSB": ("vsubus", 8), "PSUBUSW": ("vsubus", 16),
    "PMULLW": ("vmul", 16), "PMULHW": ("vmulhs", 16), "PMULHUW": ("vmulhu", 16),
    "PMINUB": ("vminu", 8), "PMAXUB": ("vmaxu", 8),
    "PMINSW": ("vmins", 16), "PMAXSW": ("vmaxs", 16),
    "PAVGB": ("vavg", 8), "PAVGW": ("vavg", 16),
    "PCMPEQB": ("veq", 8), "PCMPEQW": ("veq", 16), "PCMPEQD": ("veq", 32),
    "PCMPGTB": ("vgt", 8), "PCMPGTW": ("vgt", 16), "PCMPGTD": ("vgt", 32),
    "PUNPCKLBW": ("vunpackl", 8), "PUNPCKLWD": ("vunpackl", 16), "PUNPCKLDQ": ("vunpackl", 32),
    "PUNPCKLQDQ": ("vunpackl", 64), "PUNPCKHQDQ": ("vunpackh", 64),
}  # fmt: skip


def _one_op(mnemonic: str, op: str, bits: int) -> None:
    @packed(mnemonic)
    def meaning(t: Translator, a: Value, b: Value) -> Value:
        return t.b.op(op, a, b, lane=bits)


for _mnemonic, (_name, _lane) in _ONE_OP.items():
    _one_op(_mnemonic, _name, _lane)


# Packing: MMX joins 64-bit operands, where SSE joins 128-bit ones ---------------------------------


def _narrow(mnemonic: str, op: str, bits: int, *, high: bool) -> None:
    """PACK…: both operands' lanes; PUNPCKH…: interleave the high halves (SDM vol. 2B)."""

    @lower(mnemonic, dst="raw")
    def lowering(t: Translator, dst: Operand, src: Operand) -> None:
        with mmx_state(t, dst, src):
            a, b = t.read(dst).zext(Type.I128), read_vector(t, src)
            if dst.kind == "xmm":
                result = t.b.op(op, a, b, lane=bits)
            elif high:  # the upper half of what the low unpack of 128-bit lanes makes
                result = t.b.op("vunpackl", a, b, lane=bits) >> 64
            else:
                both = a | b << 64
                result = t.b.op(op, both, both, lane=bits)
            write_vector(t, dst, result)


for _mnemonic, _name, _lane, _high in (
    ("PACKSSWB", "vpackss", 16, False), ("PACKSSDW", "vpackss", 32, False),
    ("PACKUSWB", "vpackus", 16, False), ("PUNPCKHBW", "vunpackh", 8, True),
    ("PUNPCKHWD", "vunpackh", 16, True), ("PUNPCKHDQ", "vunpackh", 32, True),
):  # fmt: skip
    _narrow(_mnemonic, _name, _lane, high=_high)


# Logic -----------------------------------------------------------------------------------------


@packed("PAND", "ANDPS", "ANDPD")
def pand(t: Translator, a: Value, b: Value) -> Value:
    """DEST := DEST AND SRC."""
    return a & b


@packed("PANDN", "ANDNPS", "ANDNPD")
def pandn(t: Translator, a: Value, b: Value) -> Value:
    """DEST := (NOT DEST) AND SRC."""
    return ~a & b


@packed("POR", "ORPS", "ORPD")
def por(t: Translator, a: Value, b: Value) -> Value:
    """DEST := DEST OR SRC."""
    return a | b


@packed("PXOR", "XORPS", "XORPD")
def pxor(t: Translator, a: Value, b: Value) -> Value:
    """DEST := DEST XOR SRC."""
    return a ^ b


# Shifts ----------------------------------------------------------------------------------------


def _shift(mnemonic: str, op: str, bits: int) -> None:
    """Every lane by one count, the low 64 bits of SRC or an immediate (SDM vol. 2B, PSLLW)."""

    @lower(mnemonic, dst="raw")
    def lowering(t: Translator, dst: Operand, src: Operand) -> None:
        with mmx_state(t, dst, src):
            value = t.read(dst).zext(Type.I128)
            if src.kind == "imm":
                count = immediate(t.read(src))
            else:
                count = read_vector(t, src).trunc(Type.I64)
            write_vector(t, dst, t.b.op(op, value, count, lane=bits))


for _mnemonic, _name, _lane in (
    ("PSLLW", "vshl", 16), ("PSLLD", "vshl", 32), ("PSLLQ", "vshl", 64), ("PSRLW", "vlshr", 16),
    ("PSRLD", "vlshr", 32), ("PSRLQ", "vlshr", 64), ("PSRAW", "vashr", 16), ("PSRAD", "vashr", 32),
):  # fmt: skip
    _shift(_mnemonic, _name, _lane)


def _moved(t: Translator, value: Value, down: int) -> Value:
    """The vector's bytes moved, zeros where none come."""
    order = tuple(n if 0 <= n < 16 else 16 for n in range(down, down + 16))
    return t.b.op("vshuffle", value, t.const(0, 128), lane=8, order=order)


def _byte_shift(mnemonic: str, op: str) -> None:
    """The whole register by bytes; more than 15 empty it (SDM vol. 2B)."""

    @lower(mnemonic, dst="raw")
    def lowering(t: Translator, dst: Operand, src: Operand) -> None:
        count = immediate(t.read(src))
        if count.const is not None:
            t.write(dst, _moved(t, t.read(dst), min(count.const, 16) * (1 if op == "lshr" else -1)))
            return
        shifted = t.b.op(op, t.read(dst), (count * 8).zext(Type.I128))
        t.write(dst, t.b.select(count.ugt(15), t.const(0, 128), shifted))


_byte_shift("PSLLDQ", "shl")
_byte_shift("PSRLDQ", "lshr")


# Products and sums -----------------------------------------------------------------------------


@packed("PMULUDQ")
def pmuludq(t: Translator, a: Value, b: Value) -> Value:
    """The even doublewords' 64-bit products (SDM vol. 2B)."""
    even = 0xFFFF_FFFF_0000_0000_FFFF_FFFF
    return t.b.op("vmul", a & even, b & even, lane=64)


@packed("PMADDWD")
def pmaddwd(t: Translator, a: Value, b: Value) -> Value:
    """Words' signed products, added in pairs (SDM vol. 2B)."""
    op = t.b.op
    sixteen = t.const(16, 64)

    def odd(v: Value) -> Value:
        return op("vashr", v, sixteen, lane=32)

    def even(v: Value) -> Value:
        return odd(op("vshl", v, sixteen, lane=32))

    low = op("vmul", even(a), even(b), lane=32)
    high = op("vmul", odd(a), odd(b), lane=32)
    return op("vadd", low, high, lane=32)


@packed("PSADBW")
def psadbw(t: Translator, a: Value, b: Value) -> Value:
    """Sums of eight absolute differences (SDM vol. 2B)."""
    op = t.b.op
    difference = op("vsub", op("vmaxu", a, b, lane=8), op("vminu", a, b, lane=8), lane=8)
    bytes_ = t.const(int("00ff" * 8, 16), 128)
    ones = t.const(int("0001" * 8, 16), 128)
    pairs = (difference & bytes_) + (op("vlshr", difference, t.const(8, 64), lane=16) & bytes_)
    # The top word of words × 1 1 1 1 is the sum of all four.
    return op("vlshr", op("vmul", pairs, ones, lane=64), t.const(48, 64), lane=64)


# Shuffles --------------------------------------------------------------------------------------


def _four(order: Value, base: int = 0) -> list[Value]:
    """Numbers of lanes base…base + 3, each by two bits of ``order``."""
    return [(order >> 2 * i) & 3 | base for i in range(4)]


def _kept(t: Translator, first: int) -> list[Value]:
    return [t.const(n, 64) for n in range(first, first + 4)]


@converted("PSHUFW")
def pshufw(t: Translator, source: Value, order: Value) -> Value:
    """Words of a quadword in any order (SDM vol. 2B)."""
    return shuffled(t, source, source, _four(order) + _kept(t, 4), 16)


@converted("PSHUFD")
def pshufd(t: Translator, source: Value, order: Value) -> Value:
    """Doublewords in any order (SDM vol. 2B)."""
    return shuffled(t, source, source, _four(order), 32)


@converted("PSHUFLW")
def pshuflw(t: Translator, source: Value, order: Value) -> Value:
    """The low words in any order (SDM vol. 2B)."""
    return shuffled(t, source, source, _four(order) + _kept(t, 4), 16)


@converted("PSHUFHW")
def pshufhw(t: Translator, source: Value, order: Value) -> Value:
    """The high words in any order (SDM vol. 2B)."""
    return shuffled(t, source, source, _kept(t, 0) + _four(order, 4), 16)


@lower("PINSRW", dst="raw")
def pinsrw(t: Translator, dst: Operand, src: Operand, where: Operand) -> None:
    """Replace one word (SDM vol. 2B)."""
    with mmx_state(t, dst):
        word = t.read(src).resize(Type.I16).zext(Type.I128)
        at = ((immediate(t.read(where)) & (dst.bits // 16 - 1)) * 16).zext(Type.I128)
        hole = ~(t.const(0xFFFF, 128) << at)
        write_vector(t, dst, (t.read(dst).zext(Type.I128) & hole) | (word << at))


@lower("PEXTRW", dst="raw")
def pextrw(t: Translator, dst: Operand, src: Operand, where: Operand) -> None:
    """One word, zero-extended (SDM vol. 2B)."""
    with mmx_state(t, src):
        index = immediate(t.read(where)) & (src.bits // 16 - 1)
        t.write(dst, chosen_lane(t, t.read(src).zext(Type.I128), index, 16).zext(dst.type))
