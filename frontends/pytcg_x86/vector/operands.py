"""What the SSE and MMX lowerings share: aligned operands, MMX's grip on the x87, lanes.

Vectors are 128-bit values; MMX ones are computed in the low half. 128-bit memory operands must be
aligned (#GP(0), SDM vol. 2A, 2.4) unless the instruction says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pytcg.ir.blocks import Local, Value
from pytcg.ir.ops import INT_OF_BITS, Type
from pytcg_native import native
from pytcg_x86.core.state import Env, Vector
from pytcg_x86.core.translate import Operand, Translator
from pytcg_x86.decode.table import lower
from pytcg_x86.x87.stack import fp_wait

Meaning = Callable[..., Value]


@native
def mmx_use(env: Env) -> None:
    """Every MMX instruction but EMMS makes all tags valid and TOP 0 (SDM vol. 1, 9.5)."""
    env.fp_top = 0
    for i in range(8):
        env.fp_tag[i] = 0


# Operands --------------------------------------------------------------------------------------


def aligned_address(t: Translator, bits: int, *, write: bool = False) -> Value:
    """The memory operand's linear address; #GP(0) unless it is a multiple of its size."""
    address = t.address(bits, write=write)
    t.raise_if((address & (bits // 8 - 1)).ne(0), Vector.GP, 0)
    return address


def read_vector(t: Translator, op: Operand) -> Value:
    """An operand as 128 bits, narrower ones zero-extended; 128-bit memory must be aligned."""
    if op.is_memory and op.bits == 128 and op.value is None:
        return t.load(128, aligned_address(t, 128))
    return t.read(op).zext(Type.I128)


def write_vector(t: Translator, op: Operand, value: Value) -> None:
    """Write the operand's width of ``value``; an MMX register's exponent becomes all ones."""
    value = value.resize(op.type)
    if op.is_memory and op.bits == 128:
        t.store(128, aligned_address(t, 128, write=True), value)
        return
    t.write(op, value)
    if op.kind == "mmx":
        assert op.where is not None
        t.b.st(t.const(0xFFFF, 16), op.where, 8)


@contextmanager
def mmx_state(t: Translator, *operands: Operand) -> Iterator[None]:
    """Around an instruction with an MMX operand: #MF first, x87 state last."""
    uses = any(op.kind == "mmx" for op in operands)
    if uses:
        t.call(fp_wait, t.env)
    yield
    if uses:
        t.call(mmx_use, t.env)


# Registering -----------------------------------------------------------------------------------


def packed(*mnemonics: str) -> Callable[[Meaning], Meaning]:
    """DEST := meaning(t, DEST, SRC, immediates…) on whole vectors, MMX or SSE."""

    def register(meaning: Meaning) -> Meaning:
        def lowering(t: Translator, dst: Operand, src: Operand, *rest: Operand) -> None:
            with mmx_state(t, dst, src):
                a, b = t.read(dst).zext(Type.I128), read_vector(t, src)
                result = meaning(t, a, b, *(immediate(t.read(op)) for op in rest))
                write_vector(t, dst, result)

        lower(*mnemonics, dst="raw")(lowering)
        return meaning

    return register


def converted(*mnemonics: str) -> Callable[[Meaning], Meaning]:
    """DEST := meaning(t, SRC, immediates…): DEST is not read."""

    def register(meaning: Meaning) -> Meaning:
        def lowering(t: Translator, dst: Operand, src: Operand, *rest: Operand) -> None:
            with mmx_state(t, dst, src):
                result = meaning(t, read_vector(t, src), *(immediate(t.read(op)) for op in rest))
                write_vector(t, dst, result)

        lower(*mnemonics, dst="raw")(lowering)
        return meaning

    return register


# Values ----------------------------------------------------------------------------------------


def immediate(value: Value) -> Value:
    """An 8-bit immediate, zero-extended to i64."""
    return value.resize(Type.I64) & 0xFF


def lane(t: Translator, vector: Value, index: int, bits: int) -> Value:
    """Lane ``index`` of a vector of ``bits``-bit lanes."""
    return (vector >> index * bits).trunc(INT_OF_BITS[bits])


def chosen_lane(t: Translator, vector: Value, index: Value, bits: int) -> Value:
    """The lane whose number is only known when the code runs (i64)."""
    return (vector >> (index * bits).zext(Type.I128)).trunc(INT_OF_BITS[bits])


def shuffled(t: Translator, a: Value, b: Value, order: list[Value], bits: int) -> Value:
    """Lanes of a and b joined, by numbers (i64): each known here or only when the code runs."""
    known = tuple(index.const for index in order)
    if None not in known:
        return t.b.op("vshuffle", a, b, lane=bits, order=known)
    count = 128 // bits
    lanes = []
    for index in order:
        of_a = chosen_lane(t, a, index & (count - 1), bits)
        of_b = of_a if a is b else chosen_lane(t, b, index & (count - 1), bits)
        lanes.append(of_a if a is b else t.b.select((index & count).eq(0), of_a, of_b))
    return join(t, lanes)


def by_case(t: Translator, number: Value, count: int,
            make: Callable[[int], list[Value]]) -> list[Value]:  # fmt: skip
    """What ``make`` makes for a number below ``count`` that may only be known at run time."""
    if number.const is not None:
        return make(number.const)
    b = t.b
    results: list[Local] = []
    blocks = [b.new_block(f"case{n}_") for n in range(count)]
    after = b.new_block("chosen")
    b.switch(number, list(enumerate(blocks[:-1])), blocks[-1])
    for n, block in enumerate(blocks):
        b.place(block)
        values = make(n)
        results = results or [b.local(value.type, "case") for value in values]
        for local, value in zip(results, values, strict=True):
            b.set(local, value)
        b.br(after)
    b.place(after)
    return [b.get(local) for local in results]


def splat(t: Translator, value: Value, bits: int) -> Value:
    """A vector whose lanes of ``bits`` bits all are the low bits of ``value`` (i64)."""
    low = value & ((1 << bits) - 1) if bits < 64 else value
    wide = (low * int(f"{1:0{bits // 4}x}" * (64 // bits), 16)).zext(Type.I128)
    return wide | wide << 64


def join(t: Translator, lanes: list[Value]) -> Value:
    """A vector of ``lanes``, lowest first; what they don't fill is zero."""
    total = lanes[0].zext(Type.I128)
    at = lanes[0].bits
    for value in lanes[1:]:
        total = total | (value.zext(Type.I128) << at)
        at += value.bits
    return total


def floats(t: Translator, vector: Value, bits: int) -> list[Value]:
    """The lanes of a vector as floats."""
    type_ = Type.F32 if bits == 32 else Type.F64
    return [lane(t, vector, i, bits).bitcast(type_) for i in range(128 // bits)]


def bits_of(value: Value) -> Value:
    """A float's bit pattern."""
    return value.bitcast(INT_OF_BITS[value.bits])


def xm_check(t: Translator) -> None:
    """After a float operation, before its result is written: unmasked exceptions fault."""
    if t.held is None:
        t.check_masked()
    else:
        t.held.append(True)
