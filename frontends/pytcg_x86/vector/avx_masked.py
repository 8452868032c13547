"""AVX's and AVX2's masked moves and gathers: what the mask does not choose touches no memory."""

from __future__ import annotations

from pytcg.exec.layout import ExecEnv
from pytcg.ir.blocks import Value
from pytcg.ir.ops import INT_OF_BITS, Type
from pytcg.softmmu.access import probe_write, store_sized
from pytcg_native import native, u32, u64
from pytcg_x86.core.state import Env, Vector
from pytcg_x86.core.translate import YMM_HIGH, Operand, Translator
from pytcg_x86.decode.table import lower, rows
from pytcg_x86.vector.operands import lane
from pytcg_x86.vector.vex import read_halves, write_halves

UNDEFINED: dict[str, str] = {}

rows("""
v66:0f.38.2c/m  VMASKMOVPS  Vx,Hx,Mx avx w0 ?avx
v66:0f.38.2d/m  VMASKMOVPD  Vx,Hx,Mx avx w0 ?avx
v66:0f.38.2e/m  VMASKMOVPS  Mx,Hx,Vx avx w0 ?avx
v66:0f.38.2f/m  VMASKMOVPD  Mx,Hx,Vx avx w0 ?avx
v66:0f.38.8c/m  VPMASKMOVD  Vx,Hx,Mx avx w0 ?avx2
v66:0f.38.8c/m  VPMASKMOVQ  Vx,Hx,Mx avx w1 ?avx2
v66:0f.38.8e/m  VPMASKMOVD  Mx,Hx,Vx avx w0 ?avx2
v66:0f.38.8e/m  VPMASKMOVQ  Mx,Hx,Vx avx w1 ?avx2
v66:0f.38.90/m  VPGATHERDD  Vx,M,Hx  avx vsib w0 ?avx2
v66:0f.38.90/m  VPGATHERDQ  Vx,M,Hx  avx vsib w1 ?avx2
v66:0f.38.91/m  VPGATHERQD  Vx,M,Hx  avx vsib w0 ?avx2
v66:0f.38.91/m  VPGATHERQQ  Vx,M,Hx  avx vsib w1 ?avx2
v66:0f.38.92/m  VGATHERDPS  Vx,M,Hx  avx vsib w0 ?avx2
v66:0f.38.92/m  VGATHERDPD  Vx,M,Hx  avx vsib w1 ?avx2
v66:0f.38.93/m  VGATHERQPS  Vx,M,Hx  avx vsib w0 ?avx2
v66:0f.38.93/m  VGATHERQPD  Vx,M,Hx  avx vsib w1 ?avx2
""")


# Masked moves ----------------------------------------------------------------------------------


@native
def masked_elements(env: Env, address: u64, size: u32, chosen: u32, a: u64, b: u64, c: u64,
                    d: u64) -> None:  # fmt: skip
    """Store those elements of 4 or 8 bytes of dcba that have a bit in ``chosen``, if all can be."""
    for i in range(u32(0), u32(8)):
        if (chosen >> i & 1) != 0:
            probe_write(ExecEnv(env), address + u64(i * size), u64(size))
    for i in range(u32(0), u32(8)):
        if (chosen >> i & 1) != 0:
            quad: u32 = i * size >> 3
            value: u64 = a if quad == 0 else b if quad == 1 else c if quad == 2 else d
            if size == 4 and (i & 1) != 0:
                value = value >> 32
            store_sized(ExecEnv(env), address + u64(i * size), size, value)


def _signs(t: Translator, mask: list[Value], bits: int) -> Value:
    """The mask's signs as bits (i32), lane by lane."""
    low, *high = (t.b.op("vmsb", half, lane=bits) for half in mask)
    return low | high[0] << 128 // bits if high else low


def _masked_load(t: Translator, dst: Operand, mask: list[Value], bits: int) -> None:
    count, type_ = 128 // bits, INT_OF_BITS[bits]
    signs, offset = _signs(t, mask, bits), t.offset()
    found = []
    for number in range(len(mask) * count):
        element = t.b.local(type_, "element")
        t.b.set(element, t.const(0, bits))
        with t.when((signs & 1 << number).ne(0)):
            place = t.wrap_offset(offset + number * bits // 8)
            t.b.set(element, t.load(bits, t.address_at(place, bits)))
        found.append(element)
    halves = []
    for first in range(0, len(found), count):
        half = t.const(0, 128)
        for at in range(count):
            half = t.b.op("vinsert", half, t.b.get(found[first + at]), t.const(at, 64), lane=bits)
        halves.append(half)
    write_halves(t, dst, halves)


def _masked_store(t: Translator, mask: list[Value], data: list[Value], bits: int) -> None:
    address = t.address(len(data) * 128, write=True)
    parts = [lane(t, half, at, 64) for half in data for at in (0, 1)]
    parts += [t.const(0, 64)] * (4 - len(parts))
    t.call(masked_elements, t.env, address, t.const(bits // 8, 32), _signs(t, mask, bits), *parts)


def _masked_move(mnemonic: str, bits: int) -> None:
    """Elements loaded, zeros for the others; or elements stored (SDM vol. 2C, VMASKMOV)."""

    @lower(mnemonic, dst="raw")
    def lowering(t: Translator, dst: Operand, mask: Operand, src: Operand) -> None:
        if dst.is_memory:
            _masked_store(t, read_halves(t, mask), read_halves(t, src), bits)
        else:
            _masked_load(t, dst, read_halves(t, mask), bits)


for _mnemonic, _bits in (("VMASKMOVPS", 32), ("VMASKMOVPD", 64), ("VPMASKMOVD", 32),
                         ("VPMASKMOVQ", 64)):  # fmt: skip
    _masked_move(_mnemonic, _bits)


# Gathers ---------------------------------------------------------------------------------------


def _gather(mnemonic: str, index_bits: int, bits: int) -> None:
    """Elements from base + index * scale, where the mask's sign is set (SDM vol. 2C).

    Each that is loaded is written, and the mask cleared that far, at once: a fault leaves the rest
    to be gathered when the instruction is run again.
    """

    @lower(mnemonic, dst="raw")
    def lowering(t: Translator, dst: Operand, memory: Operand, mask: Operand) -> None:
        assert dst.where is not None and mask.where is not None
        index = t.b.ptradd(t.env, t.field("index", Type.I64))
        _check_registers(t, dst.where, index, mask.where)
        numbers = read_halves(t, Operand("ymm", dst.bits, index))
        chosen, offset, scale = read_halves(t, mask), t.offset(), t.field("shift", Type.I64)
        for element in range(dst.bits // max(bits, index_bits)):
            half, at = divmod(element * bits, 128)
            place = half * YMM_HIGH + at // 8
            sign = lane(t, chosen[half], at // bits, bits).slt(0)
            which, where = divmod(element * index_bits, 128)
            number = lane(t, numbers[which], where // index_bits, index_bits).sext(Type.I64)
            with t.when(sign):
                linear = t.address_at(t.wrap_offset(offset + (number << scale)), bits)
                t.b.st(t.load(bits, linear), dst.where, place)
            t.b.st(t.const(0, bits), mask.where, place)
        _finish(t, dst, mask, dst.bits // max(bits, index_bits) * bits)


def _check_registers(t: Translator, dst: Value, index: Value, mask: Value) -> None:
    """#UD if two of the three are the same."""
    for a, b in ((dst, index), (dst, mask), (index, mask)):
        t.raise_if(t.b.op("ptrdiff", a, b).eq(0), Vector.UD)


def _finish(t: Translator, dst: Operand, mask: Operand, bits: int) -> None:
    """The mask is zero, and so is what of the destination is beyond ``bits``."""
    assert dst.where is not None and mask.where is not None
    zero = t.const(0, 128)
    for offset in (0, YMM_HIGH):
        t.b.st(zero, mask.where, offset)
    if bits < 128:
        t.b.st(t.const(0, 64), dst.where, 8)
    if bits < 256:
        t.b.st(zero, dst.where, YMM_HIGH)


for _index, _letter in ((32, "D"), (64, "Q")):
    for _bits, _integer, _float in ((32, "D", "PS"), (64, "Q", "PD")):
        _gather(f"VPGATHER{_letter}{_integer}", _index, _bits)
        _gather(f"VGATHER{_letter}{_float}", _index, _bits)
