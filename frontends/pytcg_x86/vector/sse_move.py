"""SSE, SSE2 and MMX moves: aligned, unaligned, scalar, halves, masks, non-temporal."""

from __future__ import annotations

from pytcg.exec.layout import ExecEnv
from pytcg.ir.blocks import Value
from pytcg.ir.ops import Type
from pytcg.softmmu.access import probe_write, store_u8
from pytcg_native import native, u8, u32, u64
from pytcg_x86.core.state import Env
from pytcg_x86.core.translate import Operand, Translator
from pytcg_x86.decode.table import lower, rows
from pytcg_x86.vector.operands import join, lane, mmx_state, read_vector, write_vector

UNDEFINED: dict[str, str] = {}

rows("""
np:0f.28    MOVAPS    Vx,Wx      sse ?sse
np:0f.29    MOVAPS    Wx,Vx      sse ?sse
66:0f.28    MOVAPD    Vx,Wx      sse ?sse2
66:0f.29    MOVAPD    Wx,Vx      sse ?sse2
np:0f.10    MOVUPS    Vx,Wx      sse ?sse
np:0f.11    MOVUPS    Wx,Vx      sse ?sse
66:0f.10    MOVUPD    Vx,Wx      sse ?sse2
66:0f.11    MOVUPD    Wx,Vx      sse ?sse2
66:0f.6f    MOVDQA    Vx,Wx      sse ?sse2
66:0f.7f    MOVDQA    Wx,Vx      sse ?sse2
f3:0f.6f    MOVDQU    Vx,Wx      sse ?sse2
f3:0f.7f    MOVDQU    Wx,Vx      sse ?sse2
np:0f.2b/m  MOVNTPS   Mx,Vx      sse ?sse
66:0f.2b/m  MOVNTPD   Mx,Vx      sse ?sse2
66:0f.e7/m  MOVNTDQ   Mx,Vx      sse ?sse2
np:0f.c3/m  MOVNTI    My,Gy ?sse2
np:0f.e7/m  MOVNTQ    Mq,Pq      mmx ?sse|mmxext
f3:0f.10/m  MOVSS     Vx,Md      sse ?sse
f3:0f.10/r  MOVSS     Vd,Ud      sse ?sse
f3:0f.11    MOVSS     Wd,Vd      sse ?sse
f2:0f.10/m  MOVSD     Vx,Mq      sse ?sse2
f2:0f.10/r  MOVSD     Vq,Uq      sse ?sse2
f2:0f.11    MOVSD     Wq,Vq      sse ?sse2
np:0f.12/m  MOVLPS    Vq,Mq      sse ?sse
np:0f.13/m  MOVLPS    Mq,Vq      sse ?sse
66:0f.12/m  MOVLPD    Vq,Mq      sse ?sse2
66:0f.13/m  MOVLPD    Mq,Vq      sse ?sse2
np:0f.16/m  MOVHPS    Vx,Mq      sse ?sse
np:0f.17/m  MOVHPS    Mq,Vx      sse ?sse
66:0f.16/m  MOVHPD    Vx,Mq      sse ?sse2
66:0f.17/m  MOVHPD    Mq,Vx      sse ?sse2
np:0f.12/r  MOVHLPS   Vx,Ux      sse ?sse
np:0f.16/r  MOVLHPS   Vx,Ux      sse ?sse
np:0f.6e    MOVD      Pq,Ey      mmx ?mmx
np:0f.7e    MOVD      Ey,Pq      mmx ?mmx
66:0f.6e    MOVD      Vx,Ey      sse ?sse2
66:0f.7e    MOVD      Ey,Vx      sse ?sse2
np:0f.6f    MOVQ      Pq,Qq      mmx ?mmx
np:0f.7f    MOVQ      Qq,Pq      mmx ?mmx
f3:0f.7e    MOVQ      Vx,Wq      sse ?sse2
66:0f.d6/m  MOVQ      Mq,Vq      sse ?sse2
66:0f.d6/r  MOVQ      Ux,Vq      sse ?sse2
f2:0f.d6/r  MOVDQ2Q   Pq,Uq      sse mmx ?sse2
f3:0f.d6/r  MOVQ2DQ   Vx,Nq      sse mmx ?sse2
np:0f.50/r  MOVMSKPS  Gd,Ux      sse ?sse
66:0f.50/r  MOVMSKPD  Gd,Ux      sse ?sse2
66:0f.d7/r  PMOVMSKB  Gd,Ux      sse ?sse2
np:0f.d7/r  PMOVMSKB  Gd,Nq      mmx ?sse|mmxext
66:0f.f7/r  MASKMOVDQU Vx,Ux     sse ?sse2
np:0f.f7/r  MASKMOVQ  Pq,Nq      mmx ?sse|mmxext
""")


@lower("MOVAPS", "MOVAPD", "MOVDQA", "MOVNTPS", "MOVNTPD", "MOVNTDQ",
       "MOVNTDQA", dst="raw")
def movaps(t: Translator, dst: Operand, src: Operand) -> None:
    """Whole vectors; memory must be aligned (SDM vol. 2B, MOVAPS)."""
    write_vector(t, dst, read_vector(t, src))


@lower("MOVUPS", "MOVUPD", "MOVDQU", "MOVSS", "MOVSD", "MOVLPS", "MOVLPD", "MOVNTI",
       "LDDQU", dst="raw")
def movups(t: Translator, dst: Operand, src: Operand) -> None:
    """The rows' widths say it all: wider destinations are zero-extended, narrower ones merged."""
    t.write(dst, t.read(src).zext(dst.type))


@lower("MOVD", "MOVQ", "MOVNTQ", "MOVDQ2Q", "MOVQ2DQ", dst="raw")
def movd(t: Translator, dst: Operand, src: Operand) -> None:
    """MOVD, MOVQ: zero-extended into a vector register, or its low part out (SDM vol. 2B)."""
    with mmx_state(t, dst, src):
        write_vector(t, dst, t.read(src).zext(Type.I128))


@lower("MOVHPS", "MOVHPD", dst="raw")
def movhps(t: Translator, dst: Operand, src: Operand) -> None:
    """The upper half from or to memory (SDM vol. 2B)."""
    if dst.is_memory:
        t.write(dst, lane(t, t.read(src), 1, 64))
    else:
        high = t.read(src)
        t.write(dst, join(t, [t.read(dst).trunc(Type.I64), high]))


@lower("MOVHLPS")
def movhlps(t: Translator, dst: Value, src: Value) -> Value:
    """DEST[63:0] := SRC[127:64] (SDM vol. 2B)."""
    return join(t, [lane(t, src, 1, 64), lane(t, dst, 1, 64)])


@lower("MOVLHPS")
def movlhps(t: Translator, dst: Value, src: Value) -> Value:
    """DEST[127:64] := SRC[63:0] (SDM vol. 2B)."""
    return join(t, [lane(t, dst, 0, 64), lane(t, src, 0, 64)])


def _mask_of_signs(mnemonic: str, bits: int) -> None:
    """The lanes' sign bits in a general register (SDM vol. 2B)."""

    @lower(mnemonic, dst="raw")
    def movmsk(t: Translator, dst: Operand, src: Operand) -> None:
        with mmx_state(t, src):
            t.write(dst, t.b.op("vmsb", t.read(src).zext(Type.I128), lane=bits))


for _mnemonic, _bits in (("MOVMSKPS", 32), ("MOVMSKPD", 64), ("PMOVMSKB", 8)):
    _mask_of_signs(_mnemonic, _bits)


# Masked stores ---------------------------------------------------------------------------------


@native
def masked_store(env: Env, address: u64, size: u32, low: u64, high: u64, mask: u64,
                 high_mask: u64) -> None:  # fmt: skip
    """Store the bytes whose mask byte has its sign set. All must be writable: with a mask of zeros
    faults are the implementation's affair (SDM vol. 2B), and AMD's processors have them."""
    probe_write(ExecEnv(env), address, u64(size))
    for i in range(u64(0), u64(size)):
        shift: u64 = (i & 7) * 8
        data: u64 = low if i < 8 else high
        select_byte: u64 = mask if i < 8 else high_mask
        if ((select_byte >> shift) & 0x80) != 0:
            store_u8(ExecEnv(env), address + i, u8(data >> shift))


@lower("MASKMOVDQU", "MASKMOVQ", dst="raw")
def maskmov(t: Translator, src: Operand, mask: Operand) -> None:
    """Bytes of the first operand chosen by the second, to DS:rDI (SDM vol. 2B)."""
    with mmx_state(t, src, mask):
        data, chosen = (t.read(op).zext(Type.I128) for op in (src, mask))
        address = t.address_at(t.wrap_offset(t.ld_env("gpr", 7)), src.bits, write=True)
        halves = [lane(t, v, i, 64) for v in (data, chosen) for i in (0, 1)]
        t.call(masked_store, t.env, address, t.const(src.bits // 8, 32), *halves)
