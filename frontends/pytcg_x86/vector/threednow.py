"""3DNow! and its extensions (AMD 21928, 22466): pairs of singles in MMX registers.

All are 0F 0F with the operation in a byte at the end, so they are one row. Numbers are rounded to
nearest, raise nothing, and are never denormal nor infinite: too big ones become the biggest.

Deviation: PFRCP and PFRSQRT are right to the last bit at once, so the two steps that refine them
(PFRCPIT1, PFRSQIT1, PFRCPIT2) hand on what they get, as QEMU's do.
"""

from __future__ import annotations

from collections.abc import Callable

from pytcg.ir.blocks import Value
from pytcg.ir.ops import Type
from pytcg_x86.core.state import Vector
from pytcg_x86.core.translate import Operand, Translator
from pytcg_x86.decode.table import lower, rows
from pytcg_x86.vector.mmx import mmx_empty
from pytcg_x86.vector.mxcsr import MASKS, Mxcsr
from pytcg_x86.vector.operands import (
    bits_of,
    immediate,
    join,
    lane,
    mmx_state,
    read_vector,
    write_vector,
)
from pytcg_x86.vector.sse_lanes import blend

UNDEFINED: dict[str, str] = {}

rows("""
0f.0e  FEMMS           mmx ?3dnow
0f.0f  3DNOW Pq,Qq,Ib  mmx ?3dnow
""")

Meaning = Callable[[Translator, Value, Value], Value]
_QUIET = MASKS | Mxcsr.DAZ | Mxcsr.FTZ
_TRUNCATING = _QUIET | 3 << 13
_SIGNS, _BIGGEST = 0x8000_0000_8000_0000, 0x7F7F_FFFF_7F7F_FFFF
_INFINITY = 0x7F80_0000_7F80_0000


@lower("FEMMS", dst="raw")
def femms(t: Translator) -> None:
    """FEMMS: EMMS, in less time."""
    t.call(mmx_empty, t.env)


# Pairs of singles ------------------------------------------------------------------------------


def _with_mxcsr(t: Translator, value: int, body: Callable[[], Value]) -> Value:
    """The body's value, computed in a rounding mode of its own, without a trace in the flags."""
    saved = t.b.op("getmxcsr")
    t.b.effect("setmxcsr", t.const(value, 32))
    result = body()
    t.b.effect("setmxcsr", saved)
    return result


def _bounded(t: Translator, value: Value) -> Value:
    """Infinities replaced by the biggest number."""
    sign = value & _SIGNS
    infinite = t.b.op("veq", value ^ sign, t.const(_INFINITY, 128), lane=32)
    return blend(t, value, sign | _BIGGEST, infinite)


def _arithmetic(op: str, *, reverse: bool = False) -> Meaning:
    def meaning(t: Translator, a: Value, b: Value) -> Value:
        pair = (b, a) if reverse else (a, b)
        return _bounded(t, _with_mxcsr(t, _QUIET, lambda: t.b.op(op, *pair, lane=32)))

    return meaning


def _accumulate(first: str, second: str) -> Meaning:
    """The low result from DEST's two numbers, the high one from SRC's."""

    def meaning(t: Translator, a: Value, b: Value) -> Value:
        def sums() -> Value:
            singles = [[lane(t, v, i, 32).bitcast(Type.F32) for i in (0, 1)] for v in (a, b)]
            both = zip((first, second), singles, strict=True)
            return join(t, [bits_of(t.b.op(op, *pair)) for op, pair in both])

        return _bounded(t, _with_mxcsr(t, _QUIET, sums))

    return meaning


def _compared(op: str, *, swap: bool) -> Callable[[Translator, Value, Value], list[Value]]:
    def masks(t: Translator, a: Value, b: Value) -> list[Value]:
        found = []
        for i in (0, 1):
            x, y = (lane(t, v, i, 32).bitcast(Type.F32) for v in ((b, a) if swap else (a, b)))
            found.append(t.b.op(op, x, y).sext(Type.I32))
        return found

    return masks


def _comparison(op: str, *, swap: bool = False) -> Meaning:
    masks = _compared(op, swap=swap)
    return lambda t, a, b: _with_mxcsr(t, _QUIET, lambda: join(t, masks(t, a, b)))


def _choice(*, least: bool) -> Meaning:
    """PFMIN, PFMAX."""
    masks = _compared("flt", swap=not least)

    def meaning(t: Translator, a: Value, b: Value) -> Value:
        return _with_mxcsr(t, _QUIET, lambda: blend(t, b, a, join(t, masks(t, a, b))))

    return meaning


def _reciprocal(*, root: bool) -> Meaning:
    """Both numbers from SRC's low one; the root of its size, with its sign."""

    def meaning(t: Translator, a: Value, b: Value) -> Value:
        number = lane(t, b, 0, 32)
        one = t.const(0x3F80_0000, 32).bitcast(Type.F32)

        def divided() -> Value:
            if not root:
                return bits_of(t.b.op("fdiv", one, number.bitcast(Type.F32)))
            size = t.b.op("fsqrt", (number & 0x7FFF_FFFF).bitcast(Type.F32))
            return bits_of(t.b.op("fdiv", one, size)) | (number & 0x8000_0000)

        result = _with_mxcsr(t, _QUIET, divided)
        return _bounded(t, join(t, [result, result]))

    return meaning


# Conversions -----------------------------------------------------------------------------------


def _to_integer(t: Translator, a: Value, b: Value) -> Value:
    """PF2ID: truncated; the biggest integer where there is no room."""
    limit = t.const(0x4F00_0000, 32)  # 2**31

    def converted() -> Value:
        found = []
        for i in (0, 1):
            number = lane(t, b, i, 32)
            whole = t.b.op("ftosi", number.bitcast(Type.F32), type=Type.I32)
            found.append(t.b.select(number.slt(limit), whole, t.const(0x7FFF_FFFF, 32)))
        return join(t, found)

    return _with_mxcsr(t, _QUIET, converted)


def _to_word(t: Translator, a: Value, b: Value) -> Value:
    """PF2IW: the same, saturated to 16 bits."""
    low, high = (t.const(n << 32 | n, 128) for n in (0xFFFF_8000, 0x7FFF))
    wide = t.b.op("vmins", _to_integer(t, a, b), high, lane=32)
    return t.b.op("vmaxs", wide, low, lane=32)


def _from_integer(t: Translator, a: Value, b: Value) -> Value:
    """PI2FD: rounded toward zero."""

    def converted() -> Value:
        return join(t, [bits_of(t.b.op("sitof", lane(t, b, i, 32), type=Type.F32))
                        for i in (0, 1)])  # fmt: skip

    return _with_mxcsr(t, _TRUNCATING, converted)


def _from_word(t: Translator, a: Value, b: Value) -> Value:
    """PI2FW: the low words."""
    sixteen = t.const(16, 64)
    words = t.b.op("vashr", t.b.op("vshl", b, sixteen, lane=32), sixteen, lane=32)
    return _from_integer(t, a, words)


# Integers --------------------------------------------------------------------------------------


def _rounded_product(t: Translator, a: Value, b: Value) -> Value:
    """PMULHRW: the upper words of the products, rounded."""
    op = t.b.op
    carry = op("vlshr", op("vmul", a, b, lane=16), t.const(15, 64), lane=16)
    return op("vadd", op("vmulhs", a, b, lane=16), carry, lane=16)


def _swapped(t: Translator, a: Value, b: Value) -> Value:
    """PSWAPD."""
    return t.b.op("vshuffle", b, b, lane=32, order=(1, 0, 2, 3))


OPERATIONS: dict[int, Meaning] = {
    0x0D: _from_integer,                       # PI2FD
    0x1D: _to_integer,                         # PF2ID
    0x90: _comparison("fle", swap=True),       # PFCMPGE
    0x94: _choice(least=True),                 # PFMIN
    0x96: _reciprocal(root=False),             # PFRCP
    0x97: _reciprocal(root=True),              # PFRSQRT
    0x9A: _arithmetic("vfsub"),                # PFSUB
    0x9E: _arithmetic("vfadd"),                # PFADD
    0xA0: _comparison("flt", swap=True),       # PFCMPGT
    0xA4: _choice(least=False),                # PFMAX
    0xA6: lambda t, a, b: b,                   # PFRCPIT1
    0xA7: lambda t, a, b: b,                   # PFRSQIT1
    0xAA: _arithmetic("vfsub", reverse=True),  # PFSUBR
    0xAE: _accumulate("fadd", "fadd"),         # PFACC
    0xB0: _comparison("feq"),                  # PFCMPEQ
    0xB4: _arithmetic("vfmul"),                # PFMUL
    0xB6: lambda t, a, b: b,                   # PFRCPIT2
    0xB7: _rounded_product,                    # PMULHRW
    0xBF: lambda t, a, b: t.b.op("vavg", a, b, lane=8),  # PAVGUSB
}
EXTENSIONS: dict[int, Meaning] = {
    0x0C: _from_word,                          # PI2FW
    0x1C: _to_word,                            # PF2IW
    0x8A: _accumulate("fsub", "fsub"),         # PFNACC
    0x8E: _accumulate("fsub", "fadd"),         # PFPNACC
    0xBB: _swapped,                            # PSWAPD
}


@lower("3DNOW", dst="raw")
def threednow(t: Translator, dst: Operand, src: Operand, operation: Operand) -> None:
    """DEST := the operation that the last byte names; #UD if it names none."""
    b, number = t.b, immediate(t.read(operation))
    with mmx_state(t, dst, src):
        first, second = t.read(dst).zext(Type.I128), read_vector(t, src)
        result, after, none = b.local(Type.I128, "result"), b.new_block("done"), b.new_block("none")
        every = {**OPERATIONS, **EXTENSIONS}
        blocks = {code: b.new_block(f"op{code:02x}_") for code in every}
        b.switch(number, list(blocks.items()), none)
        for code, block in blocks.items():
            b.place(block)
            if code in EXTENSIONS:
                t.require("3dnowext")
            b.set(result, every[code](t, first, second))
            b.br(after)
        b.place(none)
        b.set(result, first)
        t.raise_if(t.const(1, 1), Vector.UD)
        b.br(after)
        b.place(after)
        write_vector(t, dst, b.get(result))
