"""SSE and SSE2 floating point: arithmetic, MIN/MAX, comparisons, shuffles, approximations.

Operations run on the host's FPU in the guest's own rounding mode (`mxcsr`). Deviations:

* RCPPS and RSQRTPS give the correctly rounded value, well inside the 12 bits the manual promises,
  but not the bits of any particular CPU.
* With the underflow exception unmasked, an exact tiny result does not fault (the host finds
  underflow by the rules of a masked exception: tiny and inexact).
"""

from __future__ import annotations

from collections.abc import Callable

from pytcg.ir.blocks import Value
from pytcg.ir.ops import Type
from pytcg_x86.core.translate import Translator
from pytcg_x86.decode.table import lower, rows
from pytcg_x86.vector.mxcsr import MASKS, Mxcsr
from pytcg_x86.vector.operands import (
    bits_of,
    by_case,
    floats,
    immediate,
    join,
    packed,
    shuffled,
    xm_check,
)

UNDEFINED: dict[str, str] = {}

for _opcode, _stem in (("51", "SQRT"), ("58", "ADD"), ("59", "MUL"), ("5c", "SUB"), ("5d", "MIN"),
                       ("5e", "DIV"), ("5f", "MAX")):  # fmt: skip
    rows(f"""
    np:0f.{_opcode} {_stem}PS Vx,Wx sse ?sse
    66:0f.{_opcode} {_stem}PD Vx,Wx sse ?sse2
    f3:0f.{_opcode} {_stem}SS Vd,Wd sse ?sse
    f2:0f.{_opcode} {_stem}SD Vq,Wq sse ?sse2
    """)
for _opcode, _stem in (("54", "AND"), ("55", "ANDN"), ("56", "OR"), ("57", "XOR"),
                       ("14", "UNPCKL"), ("15", "UNPCKH")):  # fmt: skip
    rows(f"np:0f.{_opcode} {_stem}PS Vx,Wx sse ?sse\n66:0f.{_opcode} {_stem}PD Vx,Wx sse ?sse2")

rows("""
np:0f.52    RSQRTPS   Vx,Wx      sse ?sse
f3:0f.52    RSQRTSS   Vd,Wd      sse ?sse
np:0f.53    RCPPS     Vx,Wx      sse ?sse
f3:0f.53    RCPSS     Vd,Wd      sse ?sse
np:0f.c2    CMPPS     Vx,Wx,Ib   sse ?sse
66:0f.c2    CMPPD     Vx,Wx,Ib   sse ?sse2
f3:0f.c2    CMPSS     Vd,Wd,Ib   sse ?sse
f2:0f.c2    CMPSD     Vq,Wq,Ib   sse ?sse2
np:0f.c6    SHUFPS    Vx,Wx,Ib   sse ?sse
66:0f.c6    SHUFPD    Vx,Wx,Ib   sse ?sse2
np:0f.2e    UCOMISS   Vd,Wd      sse ?sse
66:0f.2e    UCOMISD   Vq,Wq      sse ?sse2
np:0f.2f    COMISS    Vd,Wd      sse ?sse
66:0f.2f    COMISD    Vq,Wq      sse ?sse2
""")

Scalar = Callable[[Translator, Value, Value], Value]


def _float(bits: int) -> Type:
    return Type.F32 if bits == 32 else Type.F64


# Arithmetic ------------------------------------------------------------------------------------


def _scalar(mnemonic: str, bits: int, meaning: Scalar) -> None:
    """DEST[low] := meaning(DEST[low], SRC), the rest of DEST unchanged."""

    @lower(mnemonic)
    def lowering(t: Translator, dst: Value, src: Value) -> Value:
        type_ = _float(bits)
        result = bits_of(meaning(t, dst.bitcast(type_), src.bitcast(type_)))
        xm_check(t)
        return result


def _vector(mnemonic: str, bits: int, op: str) -> None:
    @packed(mnemonic)
    def meaning(t: Translator, a: Value, b: Value) -> Value:
        result = t.b.op(op, b, lane=bits) if op == "vfsqrt" else t.b.op(op, a, b, lane=bits)
        xm_check(t)
        return result


def _lanewise(mnemonic: str, bits: int, meaning: Scalar) -> None:
    @packed(mnemonic)
    def lowering(t: Translator, a: Value, b: Value) -> Value:
        pairs = zip(floats(t, a, bits), floats(t, b, bits), strict=True)
        result = join(t, [bits_of(meaning(t, x, y)) for x, y in pairs])
        xm_check(t)
        return result


def _operation(op: str) -> Scalar:
    if op == "fsqrt":
        return lambda t, a, b: t.b.op("fsqrt", b)
    return lambda t, a, b: t.b.op(op, a, b)


def _minimum(t: Translator, a: Value, b: Value) -> Value:
    """MIN: the second operand unless the first is less, NaNs and zeros included (SDM vol. 2B)."""
    return _without_denormal(t, t.b.select(t.b.op("flt", a, b), a, b))


def _maximum(t: Translator, a: Value, b: Value) -> Value:
    """MAX: the second operand unless the first is greater (SDM vol. 2B)."""
    return _without_denormal(t, t.b.select(t.b.op("flt", b, a), a, b))


def _without_denormal(t: Translator, value: Value) -> Value:
    """The chosen operand; DAZ has made a denormal one zero."""
    pattern = bits_of(value)
    fraction = 23 if value.bits == 32 else 52
    exponent = ((1 << (value.bits - 1)) - 1) >> fraction << fraction
    flush = (t.ld_env("mxcsr") & Mxcsr.DAZ).ne(0) & (pattern & exponent).eq(0)
    sign = pattern & (1 << (value.bits - 1))
    return t.b.select(flush, sign, pattern).bitcast(value.type)


for _stem in ("ADD", "SUB", "MUL", "DIV", "SQRT"):
    for _suffix, _bits in (("S", 32), ("D", 64)):
        _scalar(f"{_stem}S{_suffix}", _bits, _operation("f" + _stem.lower()))
        _vector(f"{_stem}P{_suffix}", _bits, "vf" + _stem.lower())
for _stem, _meaning in (("MIN", _minimum), ("MAX", _maximum)):
    for _suffix, _bits in (("S", 32), ("D", 64)):
        _scalar(f"{_stem}S{_suffix}", _bits, _meaning)
        _lanewise(f"{_stem}P{_suffix}", _bits, _meaning)


# Approximations --------------------------------------------------------------------------------

_QUIET = MASKS | Mxcsr.DAZ | Mxcsr.FTZ
"""MXCSR for RCP and RSQRT: nearest, DAZ and FTZ, whatever the guest has set (SDM vol. 2B)."""


def _reciprocal(t: Translator, a: Value, b: Value) -> Value:
    return t.b.op("fdiv", t.const(0x3F80_0000, 32).bitcast(Type.F32), b)


def _reciprocal_root(t: Translator, a: Value, b: Value) -> Value:
    return _reciprocal(t, a, t.b.op("fsqrt", b))


def _approximation(stem: str, meaning: Scalar) -> None:
    """These raise no flags and no exceptions."""

    @packed(f"{stem}PS")
    def vector(t: Translator, a: Value, b: Value) -> Value:
        saved = t.b.op("getmxcsr")
        t.b.effect("setmxcsr", t.const(_QUIET, 32))
        result = join(t, [bits_of(meaning(t, x, x)) for x in floats(t, b, 32)])
        t.b.effect("setmxcsr", saved)
        return result

    @lower(f"{stem}SS")
    def scalar(t: Translator, dst: Value, src: Value) -> Value:
        saved = t.b.op("getmxcsr")
        t.b.effect("setmxcsr", t.const(_QUIET, 32))
        result = bits_of(meaning(t, dst.bitcast(Type.F32), src.bitcast(Type.F32)))
        t.b.effect("setmxcsr", saved)
        return result


_approximation("RCP", _reciprocal)
_approximation("RSQRT", _reciprocal_root)


# Comparisons -----------------------------------------------------------------------------------

def compared_vector(t: Translator, pairs: list[tuple[Value, Value]], predicate: Value, bits: int,
                    count: int) -> list[Value]:  # fmt: skip
    """Masks of the pairs' lanes by a predicate below ``count`` (SDM vol. 2A, table 3-1).

    Only the one that is asked for may run: some are invalid on quiet NaNs, others not.
    """
    return by_case(t, predicate, count, lambda mode: [
        t.b.op("vfcmp", a, b, lane=bits, mode=mode) for a, b in pairs])  # fmt: skip


def compared_scalar(t: Translator, a: Value, b: Value, predicate: Value, count: int) -> Value:
    """The same of two floats, as their bits."""
    x, y = (value.bitcast(_float(value.bits)) for value in (a, b))
    return by_case(t, predicate, count, lambda mode: [
        t.b.op("fcmp", x, y, mode=mode).sext(a.type)])[0]  # fmt: skip


def _comparison(suffix: str, bits: int) -> None:
    @packed(f"CMPP{suffix}")
    def vector(t: Translator, a: Value, b: Value, predicate: Value) -> Value:
        result = compared_vector(t, [(a, b)], predicate & 7, bits, 8)[0]
        xm_check(t)
        return result

    @lower(f"CMPS{suffix}")
    def scalar(t: Translator, dst: Value, src: Value, predicate: Value) -> Value:
        result = compared_scalar(t, dst, src, immediate(predicate) & 7, 8)
        xm_check(t)
        return result

    for mnemonic, quiet in ((f"COMIS{suffix}", False), (f"UCOMIS{suffix}", True)):
        _ordered(mnemonic, bits, quiet=quiet)


def _ordered(mnemonic: str, bits: int, *, quiet: bool) -> None:
    """ZF PF CF: 000 greater, 001 less, 100 equal, 111 unordered (SDM vol. 2A, COMISS)."""

    @lower(mnemonic, dst="r")
    def lowering(t: Translator, dst: Value, src: Value) -> None:
        a, b = dst.bitcast(_float(bits)), src.bitcast(_float(bits))
        less = t.b.local(Type.I1, "less")
        t.b.set(less, t.const(0, 1))
        if not quiet:
            t.b.set(less, t.b.op("flt", a, b))  # invalid on every NaN
        unordered, equal = t.b.op("funord", a, b), t.b.op("feq", a, b)
        if quiet:
            with t.when(unordered ^ 1):
                t.b.set(less, t.b.op("flt", a, b))
        xm_check(t)
        zf, cf = equal | unordered, t.b.get(less) | unordered
        image = cf.zext(Type.I32) | unordered.zext(Type.I32) << 2 | zf.zext(Type.I32) << 6
        t.flags.load(image)


_comparison("S", 32)
_comparison("D", 64)


# Shuffles --------------------------------------------------------------------------------------


@packed("SHUFPS")
def shufps(t: Translator, a: Value, b: Value, order: Value) -> Value:
    """Two singles of DEST, then two of SRC, chosen by the immediate (SDM vol. 2B)."""
    return shuffled(t, a, b, [(order >> 2 * i) & 3 | (i & 2) << 1 for i in range(4)], 32)


@packed("SHUFPD")
def shufpd(t: Translator, a: Value, b: Value, order: Value) -> Value:
    """A double of DEST, then one of SRC (SDM vol. 2B)."""
    return shuffled(t, a, b, [(order >> i) & 1 | i << 1 for i in range(2)], 64)


def _interleave(mnemonic: str, op: str, bits: int) -> None:
    @packed(mnemonic)
    def meaning(t: Translator, a: Value, b: Value) -> Value:
        return t.b.op(op, a, b, lane=bits)


for _mnemonic, _name, _bits in (
    ("UNPCKLPS", "vunpackl", 32), ("UNPCKHPS", "vunpackh", 32),
    ("UNPCKLPD", "vunpackl", 64), ("UNPCKHPD", "vunpackh", 64),
):  # fmt: skip
    _interleave(_mnemonic, _name, _bits)
