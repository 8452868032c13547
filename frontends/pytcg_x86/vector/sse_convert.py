"""SSE and SSE2 conversions between integers, singles and doubles."""

from __future__ import annotations

from collections.abc import Callable

from pytcg.ir.blocks import Value
from pytcg.ir.ops import INT_OF_BITS, Type
from pytcg_x86.core.translate import Operand, Translator
from pytcg_x86.decode.table import lower, rows
from pytcg_x86.vector.operands import (
    bits_of,
    join,
    lane,
    mmx_state,
    read_vector,
    write_vector,
    xm_check,
)

UNDEFINED: dict[str, str] = {}

rows("""
np:0f.2a    CVTPI2PS  Vq,Qq      sse mmx ?sse
66:0f.2a/m  CVTPI2PD  Vx,Mq      sse ?sse2
66:0f.2a/r  CVTPI2PD  Vx,Nq      sse mmx ?sse2
f3:0f.2a    CVTSI2SS  Vd,Ey      sse ?sse
f2:0f.2a    CVTSI2SD  Vq,Ey      sse ?sse2
np:0f.2c    CVTTPS2PI Pq,Wq      sse mmx ?sse
66:0f.2c    CVTTPD2PI Pq,Wx      sse mmx ?sse2
f3:0f.2c    CVTTSS2SI Gy,Wd      sse ?sse
f2:0f.2c    CVTTSD2SI Gy,Wq      sse ?sse2
np:0f.2d    CVTPS2PI  Pq,Wq      sse mmx ?sse
66:0f.2d    CVTPD2PI  Pq,Wx      sse mmx ?sse2
f3:0f.2d    CVTSS2SI  Gy,Wd      sse ?sse
f2:0f.2d    CVTSD2SI  Gy,Wq      sse ?sse2
np:0f.5a    CVTPS2PD  Vx,Wq      sse ?sse2
66:0f.5a    CVTPD2PS  Vx,Wx      sse ?sse2
f3:0f.5a    CVTSS2SD  Vq,Wd      sse ?sse2
f2:0f.5a    CVTSD2SS  Vd,Wq      sse ?sse2
np:0f.5b    CVTDQ2PS  Vx,Wx      sse ?sse2
66:0f.5b    CVTPS2DQ  Vx,Wx      sse ?sse2
f3:0f.5b    CVTTPS2DQ Vx,Wx      sse ?sse2
f3:0f.e6    CVTDQ2PD  Vx,Wq      sse ?sse2
66:0f.e6    CVTTPD2DQ Vx,Wx      sse ?sse2
f2:0f.e6    CVTPD2DQ  Vx,Wx      sse ?sse2
""")

_FLOAT = {32: Type.F32, 64: Type.F64}


def _from_int(bits: int, to: int) -> Callable[[Translator, Value], Value]:
    return lambda t, x: bits_of(t.b.op("sitof", x, type=_FLOAT[to]))


def _to_int(bits: int, op: str) -> Callable[[Translator, Value], Value]:
    return lambda t, x: t.b.op(op, x.bitcast(_FLOAT[bits]), type=Type.I32)


def _resized(bits: int) -> Callable[[Translator, Value], Value]:
    op = "fext" if bits == 32 else "ftrunc"
    return lambda t, x: bits_of(t.b.op(op, x.bitcast(_FLOAT[bits])))


def _packed(mnemonic: str, bits: int, count: int,
            meaning: Callable[[Translator, Value], Value]) -> None:  # fmt: skip
    """``count`` lanes of ``bits`` bits of SRC, each converted; the rest of DEST is zero."""

    @lower(mnemonic, dst="raw")
    def lowering(t: Translator, dst: Operand, src: Operand) -> None:
        with mmx_state(t, dst, src):
            source = read_vector(t, src)
            lanes = [meaning(t, lane(t, source, i, bits)) for i in range(count)]
            xm_check(t)
            write_vector(t, dst, join(t, lanes))


for _mnemonic, _bits, _count, _meaning in (
    ("CVTPI2PS", 32, 2, _from_int(32, 32)), ("CVTPI2PD", 32, 2, _from_int(32, 64)),
    ("CVTDQ2PS", 32, 4, _from_int(32, 32)), ("CVTDQ2PD", 32, 2, _from_int(32, 64)),
    ("CVTTPS2PI", 32, 2, _to_int(32, "ftosi")), ("CVTPS2PI", 32, 2, _to_int(32, "ftosi_round")),
    ("CVTTPD2PI", 64, 2, _to_int(64, "ftosi")), ("CVTPD2PI", 64, 2, _to_int(64, "ftosi_round")),
    ("CVTTPS2DQ", 32, 4, _to_int(32, "ftosi")), ("CVTPS2DQ", 32, 4, _to_int(32, "ftosi_round")),
    ("CVTTPD2DQ", 64, 2, _to_int(64, "ftosi")), ("CVTPD2DQ", 64, 2, _to_int(64, "ftosi_round")),
    ("CVTPS2PD", 32, 2, _resized(32)), ("CVTPD2PS", 64, 2, _resized(64)),
):  # fmt: skip
    _packed(_mnemonic, _bits, _count, _meaning)


# Scalars ---------------------------------------------------------------------------------------


@lower("CVTSI2SS", "CVTSI2SD", dst="raw")
def cvtsi2s(t: Translator, dst: Operand, src: Operand) -> None:
    """A signed integer to the low float, rounded by MXCSR (SDM vol. 2A)."""
    result = bits_of(t.b.op("sitof", t.read(src), type=_FLOAT[dst.bits]))
    xm_check(t)
    t.write(dst, result)


def _scalar_to_int(mnemonic: str, op: str) -> None:
    """The low float to a signed integer, or the integer indefinite (SDM vol. 2A)."""

    @lower(mnemonic, dst="raw")
    def lowering(t: Translator, dst: Operand, src: Operand) -> None:
        value = t.read(src).bitcast(_FLOAT[src.bits])
        result = t.b.op(op, value, type=INT_OF_BITS[dst.bits])
        xm_check(t)
        t.write(dst, result)


for _source in ("SS", "SD"):
    _scalar_to_int(f"CVTT{_source}2SI", "ftosi")
    _scalar_to_int(f"CVT{_source}2SI", "ftosi_round")


@lower("CVTSS2SD", "CVTSD2SS", dst="raw")
def cvtss2sd(t: Translator, dst: Operand, src: Operand) -> None:
    """The low float to the other format (SDM vol. 2A)."""
    result = _resized(src.bits)(t, t.read(src))
    xm_check(t)
    t.write(dst, result)
