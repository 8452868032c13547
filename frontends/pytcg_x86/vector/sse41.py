"""SSE4.1's packed integers, PTEST, and SSE4.2's PCMPGTQ."""

from __future__ import annotations

from pytcg.ir.blocks import Value
from pytcg.ir.ops import Type
from pytcg_x86.core.translate import Operand, Translator
from pytcg_x86.decode.table import lower, rows
from pytcg_x86.vector.operands import converted, lane, packed, read_vector, splat

UNDEFINED: dict[str, str] = {}

_ONE_OP = {
    "28": ("PMULDQ", "", 0), "29": ("PCMPEQQ", "veq", 64), "2b": ("PACKUSDW", "vpackus", 32),
    "38": ("PMINSB", "vmins", 8), "39": ("PMINSD", "vmins", 32), "3a": ("PMINUW", "vminu", 16),
    "3b": ("PMINUD", "vminu", 32), "3c": ("PMAXSB", "vmaxs", 8), "3d": ("PMAXSD", "vmaxs", 32),
    "3e": ("PMAXUW", "vmaxu", 16), "3f": ("PMAXUD", "vmaxu", 32), "40": ("PMULLD", "vmul", 32),
    "41": ("PHMINPOSUW", "", 0),
}  # fmt: skip
_EXTENSIONS = {"0": ("BW", 8, 16, "q"), "1": ("BD", 8, 32, "d"), "2": ("BQ", 8, 64, "w"),
               "3": ("WD", 16, 32, "q"), "4": ("WQ", 16, 64, "d"),
               "5": ("DQ", 32, 64, "q")}  # fmt: skip

for _opcode, (_mnemonic, *_rest) in _ONE_OP.items():
    rows(f"66:0f.38.{_opcode} {_mnemonic} Vx,Wx sse ?sse4.1")
for _digit, (_suffix, _from, _to, _letter) in _EXTENSIONS.items():
    rows(f"66:0f.38.2{_digit} PMOVSX{_suffix} Vx,W{_letter} sse ?sse4.1\n"
         f"66:0f.38.3{_digit} PMOVZX{_suffix} Vx,W{_letter} sse ?sse4.1")  # fmt: skip

rows("""
66:0f.38.17 PTEST     Vx,Wx      sse ?sse4.1
66:0f.38.37 PCMPGTQ   Vx,Wx      sse ?sse4.2
66:0f.38.2a/m MOVNTDQA Vx,Mx     sse ?sse4.1
66:0f.3a.42 MPSADBW   Vx,Wx,Ib   sse ?sse4.1
""")


def _one_op(mnemonic: str, op: str, bits: int) -> None:
    @packed(mnemonic)
    def meaning(t: Translator, a: Value, b: Value) -> Value:
        return t.b.op(op, a, b, lane=bits)


for _mnemonic, _op, _from in _ONE_OP.values():
    if _op:
        _one_op(_mnemonic, _op, _from)
_one_op("PCMPGTQ", "vgt", 64)


@packed("PMULDQ")
def pmuldq(t: Translator, a: Value, b: Value) -> Value:
    """The even doublewords' signed 64-bit products (SDM vol. 2B)."""
    op, half = t.b.op, t.const(32, 64)
    wide = [op("vashr", op("vshl", v, half, lane=64), half, lane=64) for v in (a, b)]
    return op("vmul", *wide, lane=64)


@converted("PHMINPOSUW")
def phminposuw(t: Translator, source: Value) -> Value:
    """The least word and, in bits 16-18, its place (SDM vol. 2B)."""
    keys = [lane(t, source, i, 16).zext(Type.I32) << 16 | i for i in range(8)]
    while len(keys) > 1:
        keys = [t.b.select(x.ule(y), x, y) for x, y in zip(keys[::2], keys[1::2], strict=True)]
    return (keys[0] >> 16 | (keys[0] & 7) << 16).zext(Type.I128)


# Wider lanes -----------------------------------------------------------------------------------


def extended(t: Translator, source: Value, bits: int, to: int, *, signed: bool) -> Value:
    """The low lanes of ``bits`` bits as lanes of ``to`` bits, a doubling at a time."""
    op, zero = t.b.op, t.const(0, 128)
    while bits < to:
        if signed:
            high = op("vunpackl", zero, source, lane=bits)
            source = op("vashr", high, t.const(bits, 64), lane=2 * bits)
        else:
            source = op("vunpackl", source, zero, lane=bits)
        bits *= 2
    return source


def _extension(suffix: str, bits: int, to: int) -> None:
    for mnemonic, signed in ((f"PMOVSX{suffix}", True), (f"PMOVZX{suffix}", False)):
        _extending(mnemonic, bits, to, signed=signed)


def _extending(mnemonic: str, bits: int, to: int, *, signed: bool) -> None:
    @converted(mnemonic)
    def meaning(t: Translator, source: Value) -> Value:
        return extended(t, source, bits, to, signed=signed)


for _suffix, _from, _to, _ in _EXTENSIONS.values():
    _extension(_suffix, _from, _to)


# Sums and tests --------------------------------------------------------------------------------


@packed("MPSADBW")
def mpsadbw(t: Translator, a: Value, b: Value, where: Value) -> Value:
    """Eight sums of four absolute differences: bytes of DEST from each place on, and four of SRC.

    Bit 2 of the immediate is where DEST's begin, bits 1:0 which four of SRC's (SDM vol. 2B).
    """
    op, zero = t.b.op, t.const(0, 128)
    a = a >> ((where & 4) << 3).zext(Type.I128)
    b = b >> ((where & 3) << 5).zext(Type.I128)
    total = zero
    for i in range(4):
        x = op("vunpackl", a >> 8 * i, zero, lane=8)
        y = splat(t, (b >> 8 * i).trunc(Type.I64) & 0xFF, 16)
        difference = op("vsub", op("vmaxs", x, y, lane=16), op("vmins", x, y, lane=16), lane=16)
        total = op("vadd", total, difference, lane=16)
    return total


@lower("PTEST", dst="raw")
def ptest(t: Translator, dst: Operand, src: Operand) -> None:
    """ZF := SRC AND DEST is 0, CF := SRC AND NOT DEST is 0 (SDM vol. 2B)."""
    a, b = t.read(dst), read_vector(t, src)
    set_test_flags(t, (a & b).eq(0), (~a & b).eq(0))


def set_test_flags(t: Translator, zf: Value, cf: Value) -> None:
    """ZF and CF; the other arithmetic flags are cleared."""
    clear = t.const(0, 1)
    t.flags.result(t.const(1, 64))  # SF and PF clear
    t.flags.put(cf=cf, of=clear, af=clear, zf=zf)
