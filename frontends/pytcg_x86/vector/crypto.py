"""AES-NI, PCLMULQDQ, SHA, GFNI: an op of the IR each (`pytcg.ir.crypto`)."""

from __future__ import annotations

from pytcg.ir.blocks import Value
from pytcg.ir.ops import Type
from pytcg_x86.core.translate import Translator
from pytcg_x86.decode.table import rows
from pytcg_x86.vector.operands import converted, packed, splat
from pytcg_x86.vector.sse_lanes import extract

UNDEFINED: dict[str, str] = {}

rows("""
66:0f.38.db AESIMC    Vx,Wx      sse ?aes
66:0f.38.dc AESENC    Vx,Wx      sse ?aes
66:0f.38.dd AESENCLAST Vx,Wx     sse ?aes
66:0f.38.de AESDEC    Vx,Wx      sse ?aes
66:0f.38.df AESDECLAST Vx,Wx     sse ?aes
66:0f.3a.df AESKEYGENASSIST Vx,Wx,Ib sse ?aes
66:0f.3a.44 PCLMULQDQ Vx,Wx,Ib   sse ?pclmulqdq
np:0f.38.c8 SHA1NEXTE Vx,Wx      sse ?sha-ni
np:0f.38.c9 SHA1MSG1  Vx,Wx      sse ?sha-ni
np:0f.38.ca SHA1MSG2  Vx,Wx      sse ?sha-ni
np:0f.38.cb SHA256RNDS2 Vx,Wx    sse ?sha-ni
np:0f.38.cc SHA256MSG1 Vx,Wx     sse ?sha-ni
np:0f.38.cd SHA256MSG2 Vx,Wx     sse ?sha-ni
np:0f.3a.cc SHA1RNDS4 Vx,Wx,Ib   sse ?sha-ni
66:0f.38.cf GF2P8MULB Vx,Wx      sse ?gfni
66:0f.3a.ce GF2P8AFFINEQB Vx,Wx,Ib sse ?gfni
66:0f.3a.cf GF2P8AFFINEINVQB Vx,Wx,Ib sse ?gfni
""")


def _one_op(mnemonic: str, op: str) -> None:
    @packed(mnemonic)
    def meaning(t: Translator, a: Value, b: Value) -> Value:
        return t.b.op(op, a, b)


for _mnemonic in ("AESENC", "AESENCLAST", "AESDEC", "AESDECLAST", "SHA1NEXTE", "SHA1MSG1",
                  "SHA1MSG2", "SHA256MSG1", "SHA256MSG2"):  # fmt: skip
    _one_op(_mnemonic, _mnemonic.lower())
_one_op("GF2P8MULB", "gf2p8mul")


@converted("AESIMC")
def aesimc(t: Translator, source: Value) -> Value:
    """InvMixColumns of a round key (SDM vol. 2A)."""
    return t.b.op("aesimc", source)


@converted("AESKEYGENASSIST")
def aeskeygenassist(t: Translator, source: Value, rcon: Value) -> Value:
    """Two words substituted, and the same turned with RCON added (SDM vol. 2A)."""
    wide = rcon.zext(Type.I128)
    return t.b.op("aeskeygen", source) ^ (wide << 32 | wide << 96)


@packed("PCLMULQDQ")
def pclmulqdq(t: Translator, a: Value, b: Value, chosen: Value) -> Value:
    """The carry-less product of one quadword of each, by bits 0 and 4 (SDM vol. 2B)."""
    return t.b.op("clmul", extract(t, a, chosen, 64), extract(t, b, chosen >> 4, 64))


@packed("SHA256RNDS2")
def sha256rnds2(t: Translator, a: Value, b: Value) -> Value:
    """Two rounds, with the words and constants in XMM0 (SDM vol. 2B)."""
    return t.b.op("sha256rnds2", a, b, t.ld_env("xmm", 0))


@packed("SHA1RNDS4")
def sha1rnds4(t: Translator, a: Value, b: Value, function: Value) -> Value:
    """Four rounds with one of four functions (SDM vol. 2B)."""
    builder = t.b
    result, after = builder.local(Type.I128, "rounds"), builder.new_block("rounds")
    blocks = [builder.new_block(f"f{mode}_") for mode in range(4)]
    builder.switch(function & 3, list(enumerate(blocks[:3])), blocks[3])
    for mode, block in enumerate(blocks):
        builder.place(block)
        builder.set(result, builder.op("sha1rnds4", a, b, mode=mode))
        builder.br(after)
    builder.place(after)
    return builder.get(result)


def _affine(mnemonic: str, op: str) -> None:
    """Bytes through bit matrices, then a constant added (SDM vol. 2A, GF2P8AFFINEQB)."""

    @packed(mnemonic)
    def meaning(t: Translator, a: Value, b: Value, constant: Value) -> Value:
        return t.b.op(op, a, b) ^ splat(t, constant, 8)


_affine("GF2P8AFFINEQB", "gf2p8affine")
_affine("GF2P8AFFINEINVQB", "gf2p8affineinv")
