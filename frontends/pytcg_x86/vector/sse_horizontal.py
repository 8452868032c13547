"""SSE3's and SSE4.1's floating point across lanes: HADD HSUB ADDSUB, DPPS DPPD."""

from __future__ import annotations

from pytcg.ir.blocks import Value
from pytcg_x86.core.translate import Translator
from pytcg_x86.decode.table import rows
from pytcg_x86.vector.operands import packed, xm_check
from pytcg_x86.vector.sse_lanes import bit_mask
from pytcg_x86.vector.ssse3 import even_and_odd

UNDEFINED: dict[str, str] = {}

rows("""
66:0f.7c    HADDPD    Vx,Wx      sse ?sse3
f2:0f.7c    HADDPS    Vx,Wx      sse ?sse3
66:0f.7d    HSUBPD    Vx,Wx      sse ?sse3
f2:0f.7d    HSUBPS    Vx,Wx      sse ?sse3
66:0f.d0    ADDSUBPD  Vx,Wx      sse ?sse3
f2:0f.d0    ADDSUBPS  Vx,Wx      sse ?sse3
66:0f.3a.40 DPPS      Vx,Wx,Ib   sse ?sse4.1
66:0f.3a.41 DPPD      Vx,Wx,Ib   sse ?sse4.1
""")


def _horizontal(mnemonic: str, op: str, bits: int) -> None:
    """DEST's neighbours added or subtracted, then SRC's (SDM vol. 2A, HADDPS)."""

    @packed(mnemonic)
    def meaning(t: Translator, a: Value, b: Value) -> Value:
        result = t.b.op(op, *even_and_odd(t, a, b, bits), lane=bits)
        xm_check(t)
        return result


def _alternating(mnemonic: str, bits: int) -> None:
    """Even lanes subtracted, odd ones added (SDM vol. 2A, ADDSUBPS).

    Adding is subtracting with the sign turned, but for NaNs, which go through as they are. (As an
    addition LLVM might swap the operands, and then of two NaNs the wrong one would count.)
    """
    top = 1 << (bits - 1)
    infinity = {32: 0x7F80_0000, 64: 0x7FF << 52}[bits]

    def every(value: int, step: int) -> int:
        return sum(value << at for at in range(0, 128, step))

    @packed(mnemonic)
    def meaning(t: Translator, a: Value, b: Value) -> Value:
        nan = t.b.op("vgt", b & every(top - 1, bits), t.const(every(infinity, bits), 128),
                     lane=bits)  # fmt: skip
        turned = b ^ (~nan & every(top << bits, 2 * bits))
        result = t.b.op("vfsub", a, turned, lane=bits)
        xm_check(t)
        return result


def _dot_product(mnemonic: str, bits: int) -> None:
    """The sum of chosen products in chosen lanes, 0 in the others (SDM vol. 2A, DPPS).

    Every lane adds its own sums first, as on hardware, which shows where two are NaNs.
    """
    count = 128 // bits

    @packed(mnemonic)
    def meaning(t: Translator, a: Value, b: Value, control: Value) -> Value:
        chosen = bit_mask(t, control >> 4, bits)
        total = t.b.op("vfmul", a & chosen, b & chosen, lane=bits)
        step = 1
        while step < count:
            xm_check(t)
            order = tuple(i ^ step for i in range(count))
            other = t.b.op("vshuffle", total, total, lane=bits, order=order)
            # A pair's other member comes first, of two pairs the lane's own.
            both = (total, other) if step == 2 or count == 2 else (other, total)
            total = t.b.op("vfadd", *both, lane=bits)
            step *= 2
        xm_check(t)
        return total & bit_mask(t, control, bits)


_dot_product("DPPS", 32)
_dot_product("DPPD", 64)

for _suffix, _bits in (("S", 32), ("D", 64)):
    _horizontal(f"HADDP{_suffix}", "vfadd", _bits)
    _horizontal(f"HSUBP{_suffix}", "vfsub", _bits)
    _alternating(f"ADDSUBP{_suffix}", _bits)
