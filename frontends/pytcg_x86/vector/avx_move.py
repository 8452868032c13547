"""AVX's moves: whole vectors, scalars, broadcasts, and the clearing of upper halves."""

from __future__ import annotations

from pytcg.ir.blocks import Value
from pytcg.ir.ops import INT_OF_BITS, Type
from pytcg_x86.core.state import Vector
from pytcg_x86.core.translate import Operand, Translator
from pytcg_x86.decode.table import lower, rows
from pytcg_x86.vector.operands import lane
from pytcg_x86.vector.vex import read_halves, write_halves

UNDEFINED: dict[str, str] = {}

for _opcode, _name in (("np:0f.2", "APS"), ("66:0f.2", "APD")):
    rows(f"v{_opcode}8 VMOV{_name} Vx,Wx avx ?avx\nv{_opcode}9 VMOV{_name} Wx,Vx avx ?avx")
for _prefix, _name in (("np", "UPS"), ("66", "UPD")):
    rows(f"v{_prefix}:0f.10 VMOV{_name} Vx,Wx avx ?avx\n"
         f"v{_prefix}:0f.11 VMOV{_name} Wx,Vx avx ?avx")  # fmt: skip
for _prefix, _name in (("66", "VMOVDQA"), ("f3", "VMOVDQU")):
    rows(f"v{_prefix}:0f.6f {_name} Vx,Wx avx ?avx\nv{_prefix}:0f.7f {_name} Wx,Vx avx ?avx")

rows("""
vnp:0f.2b/m     VMOVNTPS   Mx,Vx       avx ?avx
v66:0f.2b/m     VMOVNTPD   Mx,Vx       avx ?avx
v66:0f.e7/m     VMOVNTDQ   Mx,Vx       avx ?avx
v66:0f.38.2a/m  VMOVNTDQA  Vx,Mx       avx l0 ?avx
v66:0f.38.2a/m  VMOVNTDQA  Vx,Mx       avx l1 ?avx2
vf2:0f.f0/m     VLDDQU     Vx,Mx       avx ?avx
vf3:0f.10/m     VMOVSS     Vo,Md       avx lig ?avx
vf3:0f.10/r     VMOVSS     Vo,Ho,Uo    avx lig ?avx
vf3:0f.11/m     VMOVSS     Md,Vd       avx lig ?avx
vf3:0f.11/r     VMOVSS     Uo,Ho,Vo    avx lig ?avx
vf2:0f.10/m     VMOVSD     Vo,Mq       avx lig ?avx
vf2:0f.10/r     VMOVSD     Vo,Ho,Uo    avx lig ?avx
vf2:0f.11/m     VMOVSD     Mq,Vq       avx lig ?avx
vf2:0f.11/r     VMOVSD     Uo,Ho,Vo    avx lig ?avx
vnp:0f.12/m     VMOVLPS    Vo,Ho,Mq    avx l0 ?avx
vnp:0f.13/m     VMOVLPS    Mq,Vq       avx l0 ?avx
v66:0f.12/m     VMOVLPD    Vo,Ho,Mq    avx l0 ?avx
v66:0f.13/m     VMOVLPD    Mq,Vq       avx l0 ?avx
vnp:0f.16/m     VMOVHPS    Vo,Ho,Mq    avx l0 ?avx
vnp:0f.17/m     VMOVHPS    Mq,Vo       avx l0 ?avx
v66:0f.16/m     VMOVHPD    Vo,Ho,Mq    avx l0 ?avx
v66:0f.17/m     VMOVHPD    Mq,Vo       avx l0 ?avx
vf2:0f.12       VMOVDDUP   Vx,Wq       avx l0 ?avx
vf2:0f.12       VMOVDDUP   Vx,Wx       avx l1 ?avx
v66:0f.38.18/m  VBROADCASTSS   Vx,Md   avx w0 ?avx
v66:0f.38.18/r  VBROADCASTSS   Vx,Ud   avx w0 ?avx2
v66:0f.38.19/m  VBROADCASTSD   Vx,Mq   avx w0 l1 ?avx
v66:0f.38.19/r  VBROADCASTSD   Vx,Uq   avx w0 l1 ?avx2
v66:0f.38.1a/m  VBROADCASTF128 Vx,Mo   avx w0 l1 ?avx
v66:0f.38.5a/m  VBROADCASTI128 Vx,Mo   avx w0 l1 ?avx2
v66:0f.38.78    VPBROADCASTB   Vx,Wb   avx w0 ?avx2
v66:0f.38.79    VPBROADCASTW   Vx,Ww   avx w0 ?avx2
v66:0f.38.58    VPBROADCASTD   Vx,Wd   avx w0 ?avx2
v66:0f.38.59    VPBROADCASTQ   Vx,Wq   avx w0 ?avx2
vnp:0f.77       VZEROUPPER             avx l0 ?avx
vnp:0f.77       VZEROALL               avx l1 ?avx
""")


# Whole vectors ---------------------------------------------------------------------------------


@lower("VMOVUPS", "VMOVUPD", "VMOVDQU", "VLDDQU", dst="raw")
def vmovups(t: Translator, dst: Operand, src: Operand) -> None:
    """Whole vectors (SDM vol. 2B, MOVUPS)."""
    write_halves(t, dst, read_halves(t, src))


@lower("VMOVAPS", "VMOVAPD", "VMOVDQA", "VMOVNTPS", "VMOVNTPD", "VMOVNTDQ", "VMOVNTDQA",
       dst="raw")  # fmt: skip
def vmovaps(t: Translator, dst: Operand, src: Operand) -> None:
    """Whole vectors; memory must be aligned to their size (SDM vol. 2B, MOVAPS)."""
    if dst.is_memory or src.is_memory:
        address = t.address(dst.bits, write=dst.is_memory)
        t.raise_if((address & (dst.bits // 8 - 1)).ne(0), Vector.GP, 0)
    vmovups(t, dst, src)


# Scalars and halves ----------------------------------------------------------------------------


def _merged(t: Translator, operands: tuple[Operand, ...], bits: int, at: int) -> None:
    """Load with zeros above, store, or DEST := SRC1 with one lane of SRC2's low bits."""
    dst, *sources = operands
    if len(sources) == 1:
        t.write(dst, t.read(sources[0]).resize(dst.type))
        return
    whole, part = (t.read(op) for op in sources)
    value = part.resize(INT_OF_BITS[bits])
    t.write(dst, t.b.op("vinsert", whole, value, t.const(at, 64), lane=bits))


@lower("VMOVSS", dst="raw")
def vmovss(t: Translator, *operands: Operand) -> None:
    """A single: loaded, stored, or put into SRC1 (SDM vol. 2B)."""
    _merged(t, operands, 32, 0)


@lower("VMOVSD", "VMOVLPS", "VMOVLPD", dst="raw")
def vmovsd(t: Translator, *operands: Operand) -> None:
    """A double: loaded, stored, or put into SRC1 (SDM vol. 2B)."""
    _merged(t, operands, 64, 0)


@lower("VMOVHPS", "VMOVHPD", dst="raw")
def vmovhps(t: Translator, *operands: Operand) -> None:
    """The upper half stored, or SRC1 with it loaded (SDM vol. 2B)."""
    if len(operands) == 2:
        t.write(operands[0], lane(t, t.read(operands[1]), 1, 64))
    else:
        _merged(t, operands, 64, 1)


@lower("VMOVDDUP", dst="raw")
def vmovddup(t: Translator, dst: Operand, src: Operand) -> None:
    """Even doubles, twice (SDM vol. 2B)."""
    write_halves(t, dst, [t.b.op("vshuffle", half, half, lane=64, order=(0, 0))
                          for half in read_halves(t, src)])  # fmt: skip


# Broadcasts ------------------------------------------------------------------------------------


def everywhere(t: Translator, value: Value) -> Value:
    """A vector of copies of ``value``."""
    count = 128 // value.bits
    single = t.b.op("vinsert", t.const(0, 128), value, t.const(0, 64), lane=value.bits)
    return t.b.op("vshuffle", single, single, lane=value.bits, order=(0,) * count)


@lower("VBROADCASTSS", "VBROADCASTSD", "VBROADCASTF128", "VBROADCASTI128", "VPBROADCASTB",
       "VPBROADCASTW", "VPBROADCASTD", "VPBROADCASTQ", dst="raw")  # fmt: skip
def vbroadcast(t: Translator, dst: Operand, src: Operand) -> None:
    """SRC in every lane of DEST (SDM vol. 2C)."""
    value = t.read(src)
    half = value if value.type is Type.I128 else everywhere(t, value)
    write_halves(t, dst, [half] * (dst.bits // 128))


# Upper halves ----------------------------------------------------------------------------------


def _clear(t: Translator, *, whole: bool) -> None:
    zero = t.const(0, 128)
    for number in range(16 if t.cx.code_size == 64 else 8):
        t.st_env("ymm_high", zero, number)
        if whole:
            t.st_env("xmm", zero, number)


@lower("VZEROUPPER", dst="raw")
def vzeroupper(t: Translator) -> None:
    """Bits 255:128 of all YMM registers are cleared (SDM vol. 2C)."""
    _clear(t, whole=False)


@lower("VZEROALL", dst="raw")
def vzeroall(t: Translator) -> None:
    """All YMM registers are cleared (SDM vol. 2C)."""
    _clear(t, whole=True)
