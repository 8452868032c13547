"""Floating point on constants: LLVM must leave it to the host, whose MXCSR decides."""

from __future__ import annotations

from itertools import product

import pytest

from ir.engines import Case, Engines, make_case
from pytcg.ir.blocks import Value
from pytcg.ir.builder import Builder
from pytcg.ir.ops import BITS, INT_OF_BITS, Type

VALUES = {
    Type.F32: [0, 1 << 31, 1, 0x3F800000],  # zeros, a denormal, one
    Type.F64: [0, 1 << 63, 1, 0x3FF0000000000000],
}  # fmt: skip
BINARY = ["fadd", "fsub", "fmul", "fdiv", "feq", "flt", "fle", "funord"]
MXCSRS = [rounding << 13 | daz | 0x1F80 for rounding in range(4) for daz in (0, 0x40)]


def _constant(b: Builder, type_: Type, bits: int, *, packed: bool) -> Value:
    if packed:
        return b.const(bits, Type.I128)
    return b.op("bitcast", b.const(bits, INT_OF_BITS[BITS[type_]]), type=type_)


def _case(name: str, type_: Type, operands: tuple[int, ...], result: Type | None = None) -> Case:
    packed = name[0] == "v"
    attrs = {"lane": BITS[type_]} if packed else {"type": result} if result else {}

    def body(b: Builder, args: list[Value]) -> Value:
        made = b.op(name, *(_constant(b, type_, x, packed=packed) for x in operands), **attrs)
        bits = BITS[made.type]
        return b.op("bitcast", made, type=INT_OF_BITS[bits]) if made.type in VALUES else made

    label = "_".join([name, type_.name, *(f"{x:x}" for x in operands)])
    return make_case(label, [], body, floating=True)


def _cases() -> list[Case]:
    cases = []
    for type_, values in VALUES.items():
        for pair in product(values, repeat=2):
            cases += [_case(name, type_, pair) for name in BINARY]
            cases += [_case(f"v{name}", type_, pair) for name in BINARY[:4]]
        for value in values:
            cases += [_case("fsqrt", type_, (value,)), _case("vfsqrt", type_, (value,))]
    cases += [_case("fext", Type.F32, (value,)) for value in VALUES[Type.F32]]
    return cases + [_case("ftrunc", Type.F64, (value,)) for value in VALUES[Type.F64]]


@pytest.fixture(scope="module")
def engines() -> tuple[list[Case], Engines]:
    cases = _cases()
    return cases, Engines(cases)


@pytest.mark.parametrize("mxcsr", MXCSRS, ids=hex)
def test_constants_are_not_folded(engines: tuple[list[Case], Engines], mxcsr: int) -> None:
    cases, both = engines
    for case in cases:
        native, python = both.run(case, [], mxcsr)
        assert native == python, case.name
