"""AVX's and AVX2's permutations, insertions and extractions, and shifts lane by lane."""

from __future__ import annotations

from pytcg.ir.blocks import Value
from pytcg_x86.core.translate import Operand, Translator
from pytcg_x86.decode.table import lower, rows
from pytcg_x86.vector.operands import immediate, shuffled
from pytcg_x86.vector.sse_lanes import bit_mask, blend
from pytcg_x86.vector.vex import Halves, read_halves, write_halves

UNDEFINED: dict[str, str] = {}

rows("""
v66:0f.38.0c    VPERMILPS    Vx,Hx,Wx    avx w0 ?avx
v66:0f.38.0d    VPERMILPD    Vx,Hx,Wx    avx w0 ?avx
v66:0f.3a.04    VPERMILPS    Vx,Wx,Ib    avx w0 ?avx
v66:0f.3a.05    VPERMILPD    Vx,Wx,Ib    avx w0 ?avx
v66:0f.3a.06    VPERM2F128   Vx,Hx,Wx,Ib avx w0 l1 ?avx
v66:0f.3a.46    VPERM2I128   Vx,Hx,Wx,Ib avx w0 l1 ?avx2
v66:0f.3a.18    VINSERTF128  Vx,Hx,Wo,Ib avx w0 l1 ?avx
v66:0f.3a.38    VINSERTI128  Vx,Hx,Wo,Ib avx w0 l1 ?avx2
v66:0f.3a.19    VEXTRACTF128 Wo,Vx,Ib    avx w0 l1 ?avx
v66:0f.3a.39    VEXTRACTI128 Wo,Vx,Ib    avx w0 l1 ?avx2
v66:0f.38.36    VPERMD       Vx,Hx,Wx    avx w0 l1 ?avx2
v66:0f.38.16    VPERMPS      Vx,Hx,Wx    avx w0 l1 ?avx2
v66:0f.3a.00    VPERMQ       Vx,Wx,Ib    avx w1 l1 ?avx2
v66:0f.3a.01    VPERMPD      Vx,Wx,Ib    avx w1 l1 ?avx2
v66:0f.3a.02    VPBLENDD     Vx,Hx,Wx,Ib avx w0 ?avx2
v66:0f.38.45    VPSRLVD      Vx,Hx,Wx    avx w0 ?avx2
v66:0f.38.45    VPSRLVQ      Vx,Hx,Wx    avx w1 ?avx2
v66:0f.38.46    VPSRAVD      Vx,Hx,Wx    avx w0 ?avx2
v66:0f.38.47    VPSLLVD      Vx,Hx,Wx    avx w0 ?avx2
v66:0f.38.47    VPSLLVQ      Vx,Hx,Wx    avx w1 ?avx2
""")


# Within halves ---------------------------------------------------------------------------------


def _byte_numbers(t: Translator, lanes: Value, bits: int) -> Value:
    """What VPSHUFB takes to choose the lanes whose numbers are in ``lanes``, in its low bits."""
    size = bits // 8
    shift = t.const(size.bit_length() - 1, 64)
    first = t.b.op("vshl", lanes, shift, lane=bits)
    spread = bytes(at // size * size for at in range(16))
    places = bytes(at % size for at in range(16))
    order = t.const(int.from_bytes(spread, "little"), 128)
    return t.b.op("vpshufb", first, order, lane=8) | int.from_bytes(places, "little")


def _every(value: int, bits: int) -> int:
    return sum(value << at for at in range(0, 128, bits))


def _in_half(mnemonic: str, bits: int) -> None:
    """Floats of each half by its own lanes' numbers, or by an immediate (SDM vol. 2C)."""
    count = 128 // bits

    def by_register(t: Translator, source: Value, control: Value) -> Value:
        if bits == 64:  # the number is in bit 1
            control = t.b.op("vlshr", control, t.const(1, 64), lane=64)
        numbers = _byte_numbers(t, control & _every(count - 1, bits), bits)
        return t.b.op("vpshufb", source, numbers, lane=8)

    @lower(mnemonic, dst="raw")
    def lowering(t: Translator, dst: Operand, src: Operand, control: Operand) -> None:
        source = read_halves(t, src)
        if control.kind != "imm":
            pairs = zip(source, read_halves(t, control), strict=True)
            write_halves(t, dst, [by_register(t, a, b) for a, b in pairs])
            return
        order, width = immediate(t.read(control)), count.bit_length() - 1
        result = []
        for half, value in enumerate(source):
            start = half * count if bits == 64 else 0
            numbers = [(order >> (start + i) * width) & (count - 1) for i in range(count)]
            result.append(shuffled(t, value, value, numbers, bits))
        write_halves(t, dst, result)


_in_half("VPERMILPS", 32)
_in_half("VPERMILPD", 64)


@lower("VPBLENDD", dst="raw")
def vpblendd(t: Translator, dst: Operand, first: Operand, second: Operand,
             control: Operand) -> None:  # fmt: skip
    """Doublewords of SRC2 where the immediate says so, else of SRC1 (SDM vol. 2C)."""
    chosen = immediate(t.read(control))
    pairs = zip(read_halves(t, first), read_halves(t, second), strict=True)
    write_halves(t, dst, [blend(t, a, b, bit_mask(t, chosen >> 4 * half & 15, 32))
                          for half, (a, b) in enumerate(pairs)])  # fmt: skip


def _shift(mnemonic: str, op: str, bits: int) -> None:
    """Every lane by the count in the other source's (SDM vol. 2C)."""

    @lower(mnemonic, dst="raw")
    def lowering(t: Translator, dst: Operand, first: Operand, second: Operand) -> None:
        pairs = zip(read_halves(t, first), read_halves(t, second), strict=True)
        write_halves(t, dst, [t.b.op(op, a, b, lane=bits) for a, b in pairs])


for _mnemonic, _op in (("VPSLLV", "vshlv"), ("VPSRLV", "vlshrv"), ("VPSRAV", "vashrv")):
    for _letter, _bits in (("D", 32), ("Q", 64)):
        _shift(_mnemonic + _letter, _op, _bits)


# Across halves ---------------------------------------------------------------------------------


def chosen_half(t: Translator, halves: Halves, number: Value) -> Value:
    """One of two or four halves by a number (i64) below their count."""
    if number.const is not None:
        return halves[number.const]
    if len(halves) == 2:
        return t.b.select((number & 1).eq(0), halves[0], halves[1])
    return chosen_half(t, [chosen_half(t, halves[at:at + 2], number) for at in (0, 2)],
                       number >> 1)  # fmt: skip


@lower("VPERM2F128", "VPERM2I128", dst="raw")
def vperm2f128(t: Translator, dst: Operand, first: Operand, second: Operand,
               control: Operand) -> None:  # fmt: skip
    """Each half one of the sources' four, or zero (SDM vol. 2C)."""
    sources = read_halves(t, first) + read_halves(t, second)
    order = immediate(t.read(control))
    zero, result = t.const(0, 128), []
    for at in (0, 4):
        value, clear = chosen_half(t, sources, order >> at & 3), order >> at & 8
        if clear.const is not None:
            result.append(zero if clear.const else value)
        else:
            result.append(t.b.select(clear.eq(0), value, zero))
    write_halves(t, dst, result)


@lower("VINSERTF128", "VINSERTI128", dst="raw")
def vinsertf128(t: Translator, dst: Operand, first: Operand, second: Operand,
                control: Operand) -> None:  # fmt: skip
    """SRC1 with one half replaced (SDM vol. 2C)."""
    low, high = read_halves(t, first)
    value, upper = t.read(second), immediate(t.read(control)) & 1
    write_halves(t, dst, [chosen_half(t, [value, low], upper),
                          chosen_half(t, [high, value], upper)])  # fmt: skip


@lower("VEXTRACTF128", "VEXTRACTI128", dst="raw")
def vextractf128(t: Translator, dst: Operand, src: Operand, control: Operand) -> None:
    """One half (SDM vol. 2C)."""
    t.write(dst, chosen_half(t, read_halves(t, src), immediate(t.read(control)) & 1))


@lower("VPERMD", "VPERMPS", dst="raw")
def vpermd(t: Translator, dst: Operand, numbers: Operand, src: Operand) -> None:
    """Doublewords of all SRC2 by the numbers in SRC1 (SDM vol. 2C)."""
    order, (low, high) = read_halves(t, numbers), read_halves(t, src)
    result = []
    for lanes in order:
        places = _byte_numbers(t, lanes & _every(3, 32), 32)
        upper = t.b.op("vashr", t.b.op("vshl", lanes, t.const(29, 64), lane=32), t.const(31, 64),
                       lane=32)  # fmt: skip
        of_low, of_high = (t.b.op("vpshufb", half, places, lane=8) for half in (low, high))
        result.append(blend(t, of_low, of_high, upper))
    write_halves(t, dst, result)


@lower("VPERMQ", "VPERMPD", dst="raw")
def vpermq(t: Translator, dst: Operand, src: Operand, control: Operand) -> None:
    """Quadwords by an immediate (SDM vol. 2C)."""
    low, high = read_halves(t, src)
    order = immediate(t.read(control))
    numbers = [order >> 2 * i & 3 for i in range(4)]
    write_halves(t, dst, [shuffled(t, low, high, numbers[at:at + 2], 64) for at in (0, 2)])
