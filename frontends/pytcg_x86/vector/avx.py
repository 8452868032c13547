"""AVX's and AVX2's forms of SSE's instructions, and those that differ a little.

`vex` makes the rows: which forms there are, and by what feature, is said here.
"""

from __future__ import annotations

from importlib import import_module

from pytcg.ir.blocks import Value
from pytcg_x86.core.translate import Operand, Translator
from pytcg_x86.decode.table import lower, rows
from pytcg_x86.vector.operands import immediate, xm_check
from pytcg_x86.vector.sse41 import set_test_flags
from pytcg_x86.vector.sse_float import compared_scalar, compared_vector
from pytcg_x86.vector.sse_lanes import blend, sign_mask
from pytcg_x86.vector.vex import read_halves, vex_rows, write_halves

UNDEFINED: dict[str, str] = {}

for _family in ("sse_move", "sse_int", "sse_float", "sse_convert", "ssse3", "sse_horizontal",
                "sse41", "sse_lanes", "sse_round", "sse42", "crypto"):  # fmt: skip
    import_module(f"pytcg_x86.vector.{_family}")  # their rows come first

# Floats ----------------------------------------------------------------------------------------

for _stem in ("ADD", "SUB", "MUL", "DIV", "MIN", "MAX"):
    vex_rows("three", f"{_stem}PS {_stem}PD", wide="avx")
    vex_rows("scalar", f"{_stem}SS {_stem}SD")
vex_rows("three", "ANDPS ANDPD ANDNPS ANDNPD ORPS ORPD XORPS XORPD UNPCKLPS UNPCKLPD UNPCKHPS"
         " UNPCKHPD SHUFPS HADDPS HADDPD HSUBPS HSUBPD ADDSUBPS ADDSUBPD DPPS", wide="avx")
vex_rows("three", "DPPD MOVHLPS MOVLHPS INSERTPS")
vex_rows("split2", "SHUFPD BLENDPD", wide="avx")
vex_rows("split4", "BLENDPS", wide="avx")
vex_rows("two", "SQRTPS SQRTPD RCPPS RSQRTPS ROUNDPS ROUNDPD CVTDQ2PS CVTPS2DQ CVTTPS2DQ"
         " MOVSLDUP MOVSHDUP", wide="avx")
vex_rows("scalar", "SQRTSS SQRTSD RCPSS RSQRTSS ROUNDSS ROUNDSD CVTSI2SS CVTSI2SD CVTSS2SD"
         " CVTSD2SS")
vex_rows("widen", "CVTPS2PD CVTDQ2PD", wide="avx")
vex_rows("narrow", "CVTPD2PS CVTPD2DQ CVTTPD2DQ", wide="avx")
vex_rows("plain", "COMISS COMISD UCOMISS UCOMISD CVTSS2SI CVTSD2SI CVTTSS2SI CVTTSD2SI LDMXCSR"
         " STMXCSR EXTRACTPS")

# Integers --------------------------------------------------------------------------------------

for _type in "BWDQ":
    vex_rows("three", f"PADD{_type} PSUB{_type} PCMPEQ{_type} PCMPGT{_type}", wide="avx2")
vex_rows("three", "PADDSB PADDSW PADDUSB PADDUSW PSUBSB PSUBSW PSUBUSB PSUBUSW PMULLW PMULHW"
         " PMULHUW PMULLD PMULUDQ PMULDQ PMADDWD PMADDUBSW PMULHRSW PSADBW PAVGB PAVGW"
         " PMINUB PMINUW PMINUD PMINSB PMINSW PMINSD PMAXUB PMAXUW PMAXUD PMAXSB PMAXSW PMAXSD"
         " PAND PANDN POR PXOR PACKSSWB PACKSSDW PACKUSWB PACKUSDW PUNPCKLBW PUNPCKLWD"
         " PUNPCKLDQ PUNPCKLQDQ PUNPCKHBW PUNPCKHWD PUNPCKHDQ PUNPCKHQDQ PSHUFB PALIGNR PBLENDW"
         " PHADDW PHADDD PHADDSW PHSUBW PHSUBD PHSUBSW PSIGNB PSIGNW PSIGND", wide="avx2")
vex_rows("split3", "MPSADBW", wide="avx2")
vex_rows("count", "PSLLW PSLLD PSLLQ PSRLW PSRLD PSRLQ PSRAW PSRAD", wide="avx2")
vex_rows("by", "PSLLW PSLLD PSLLQ PSRLW PSRLD PSRLQ PSRAW PSRAD PSLLDQ PSRLDQ", wide="avx2")
vex_rows("two", "PSHUFD PSHUFLW PSHUFHW PABSB PABSW PABSD", wide="avx2")
vex_rows("two", "PHMINPOSUW MOVD MOVQ")
vex_rows("three", "PINSRB PINSRW PINSRD")
vex_rows("plain", "PEXTRB PEXTRW PEXTRD MASKMOVDQU PCMPESTRI PCMPISTRI")
vex_rows("xmm0", "PCMPESTRM PCMPISTRM")
for _sizes in ("BW", "BD", "BQ", "WD", "WQ", "DQ"):
    vex_rows("widen", f"PMOVSX{_sizes} PMOVZX{_sizes}", wide="avx2")
vex_rows("three", "AESENC AESENCLAST AESDEC AESDECLAST", feature="aes", wide="vaes")
vex_rows("two", "AESIMC AESKEYGENASSIST", feature="aes")
vex_rows("three", "PCLMULQDQ", feature="pclmulqdq", wide="vpclmulqdq")
vex_rows("three", "GF2P8MULB", feature="gfni", wide="gfni", vex_w=0)
vex_rows("three", "GF2P8AFFINEQB GF2P8AFFINEINVQB", feature="gfni", wide="gfni", vex_w=1)

rows("""
vnp:0f.c2       VCMPPS     Vx,Hx,Wx,Ib avx ?avx
v66:0f.c2       VCMPPD     Vx,Hx,Wx,Ib avx ?avx
vf3:0f.c2       VCMPSS     Vo,Ho,Wd,Ib avx lig ?avx
vf2:0f.c2       VCMPSD     Vo,Ho,Wq,Ib avx lig ?avx
v66:0f.3a.4a    VBLENDVPS  Vx,Hx,Wx,Lx avx w0 ?avx
v66:0f.3a.4b    VBLENDVPD  Vx,Hx,Wx,Lx avx w0 ?avx
v66:0f.3a.4c    VPBLENDVB  Vx,Hx,Wx,Lx avx w0 l0 ?avx
v66:0f.3a.4c    VPBLENDVB  Vx,Hx,Wx,Lx avx w0 l1 ?avx2
v66:0f.38.17    VPTEST     Vx,Wx       avx ?avx
v66:0f.38.0e    VTESTPS    Vx,Wx       avx w0 ?avx
v66:0f.38.0f    VTESTPD    Vx,Wx       avx w0 ?avx
vnp:0f.50/r     VMOVMSKPS  Gd,Ux       avx ?avx
v66:0f.50/r     VMOVMSKPD  Gd,Ux       avx ?avx
v66:0f.d7/r     VPMOVMSKB  Gd,Ux       avx l0 ?avx
v66:0f.d7/r     VPMOVMSKB  Gd,Ux       avx l1 ?avx2
""")


# Comparisons -----------------------------------------------------------------------------------


def _comparison(suffix: str, bits: int) -> None:
    """By one of 32 predicates (SDM vol. 2A, table 3-1)."""

    @lower(f"VCMPP{suffix}", dst="raw")
    def vector(t: Translator, dst: Operand, first: Operand, second: Operand,
               control: Operand) -> None:  # fmt: skip
        a, b = read_halves(t, first), read_halves(t, second)
        predicate = immediate(t.read(control)) & 31
        result = compared_vector(t, list(zip(a, b, strict=True)), predicate, bits, 32)
        xm_check(t)
        write_halves(t, dst, result)

    @lower(f"VCMPS{suffix}", dst="raw")
    def scalar(t: Translator, dst: Operand, first: Operand, second: Operand,
               control: Operand) -> None:  # fmt: skip
        whole, lane = t.read(first), t.const(0, 64)
        source = t.read(second)
        low = t.b.op("vlane", whole, lane, lane=bits, type=source.type)
        result = compared_scalar(t, low, source, immediate(t.read(control)) & 31, 32)
        xm_check(t)
        t.write(dst, t.b.op("vinsert", whole, result, lane, lane=bits))


_comparison("S", 32)
_comparison("D", 64)


# Masks -----------------------------------------------------------------------------------------


def _variable_blend(mnemonic: str, bits: int) -> None:
    """By the signs of the fourth operand's lanes (SDM vol. 2A, BLENDVPS)."""

    @lower(mnemonic, dst="raw")
    def lowering(t: Translator, dst: Operand, *sources: Operand) -> None:
        values = zip(*(read_halves(t, op) for op in sources), strict=True)
        write_halves(t, dst, [blend(t, a, b, sign_mask(t, mask, bits)) for a, b, mask in values])


for _mnemonic, _bits in (("VPBLENDVB", 8), ("VBLENDVPS", 32), ("VBLENDVPD", 64)):
    _variable_blend(_mnemonic, _bits)


def _mask_of_signs(mnemonic: str, bits: int) -> None:
    """The lanes' sign bits in a general register (SDM vol. 2B)."""

    @lower(mnemonic, dst="raw")
    def lowering(t: Translator, dst: Operand, src: Operand) -> None:
        low, *high = (t.b.op("vmsb", half, lane=bits) for half in read_halves(t, src))
        t.write(dst, low | high[0] << 128 // bits if high else low)


for _mnemonic, _bits in (("VMOVMSKPS", 32), ("VMOVMSKPD", 64), ("VPMOVMSKB", 8)):
    _mask_of_signs(_mnemonic, _bits)


def _test(mnemonic: str, mask: int) -> None:
    """ZF := SRC AND DEST is 0, CF := SRC AND NOT DEST is 0, of some bits (SDM vol. 2B, 2C)."""

    @lower(mnemonic, dst="raw")
    def lowering(t: Translator, first: Operand, second: Operand) -> None:
        pairs = list(zip(read_halves(t, first), read_halves(t, second), strict=True))
        both = _any(t, [a & b for a, b in pairs])
        without = _any(t, [~a & b for a, b in pairs])
        set_test_flags(t, (both & mask).eq(0), (without & mask).eq(0))


def _any(t: Translator, halves: list[Value]) -> Value:
    return halves[0] if len(halves) == 1 else halves[0] | halves[1]


_test("VPTEST", (1 << 128) - 1)
_test("VTESTPS", sum(1 << 31 << n for n in range(0, 128, 32)))
_test("VTESTPD", sum(1 << 63 << n for n in range(0, 128, 64)))
