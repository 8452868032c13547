"""The x87 ops that need no unit, on both back-ends; the others are what test_x87_host.py runs."""

from __future__ import annotations

import functools

from hypothesis import given
from hypothesis import strategies as st

from ir.engines import Case, Engines, make_case
from pytcg.ir.blocks import Value
from pytcg.ir.builder import Builder
from pytcg.ir.ops import BITS, Type


def _op(b: Builder, args: list[Value], name: str) -> Value:
    return b.op(name, *args)


@functools.cache
def engines() -> tuple[Engines, dict[str, Case]]:
    shapes = {"xfromi": [Type.I64], "xneg": [Type.F80], "xabs": [Type.F80]}
    cases = {name: make_case(name, types, functools.partial(_op, name=name))
             for name, types in shapes.items()}  # fmt: skip
    for type_ in (Type.F32, Type.F64):
        name = f"xext{BITS[type_]}"
        cases[name] = make_case(name, [type_], functools.partial(_op, name="xext"))
    return Engines(list(cases.values())), cases


def agree(name: str, value: int) -> None:
    both, cases = engines()
    native, python = both.run(cases[name], [value])
    assert native == python, hex(value)


@given(st.one_of(st.integers(0, (1 << 64) - 1), st.sampled_from([0, 1, 1 << 63, (1 << 64) - 1])))
def test_integers(value: int) -> None:
    agree("xfromi", value)


@given(st.integers(0, (1 << 80) - 1))
def test_signs_of_any_pattern(value: int) -> None:
    agree("xneg", value)
    agree("xabs", value)


@given(st.booleans(), st.integers(1, 254), st.integers(0, (1 << 23) - 1))
def test_normal_binary32(sign: bool, exponent: int, fraction: int) -> None:
    agree("xext32", sign << 31 | exponent << 23 | fraction)


@given(st.booleans(), st.integers(1, 2046), st.integers(0, (1 << 52) - 1))
def test_normal_binary64(sign: bool, exponent: int, fraction: int) -> None:
    agree("xext64", sign << 63 | exponent << 52 | fraction)


def test_zeros() -> None:
    for value in (0, 1):
        agree("xext32", value << 31)
        agree("xext64", value << 63)
