"""The IR of every row's forms: well formed, the same after a trip through text, and optimisable."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator

import pytest

from pytcg.ir.text import parse_function, print_function
from pytcg.ir.verify import verify
from pytcg.opt.pipeline import optimise
from pytcg_native.compiler import Program
from pytcg_x86.core.form import build_form
from pytcg_x86.decode import formkey
from pytcg_x86.decode.opcodes import opcodes
from pytcg_x86.decode.table import Row

SIZE = {16: 1, 32: 2, 64: 3}
FLAT, CHECKED = 0, 2
NO_ADDRESS, BASE = 0, 2


def keys(number: int, row: Row) -> Iterator[int]:
    """A register and a memory form, in flat 64-bit and in segmented 16-bit code."""
    kinds = {code[0] for code in row.operands}
    shapes = [] if row.mod == "m" or "M" in kinds else [NO_ADDRESS]
    if row.mod != "r" and kinds & set("EMWQ"):
        shapes.append(BASE)
    for mode, barred, operand, segment in ((64, "i64", 32, FLAT), (16, "o64", 16, CHECKED)):
        if barred not in row.attrs:
            for shape, length in itertools.product(shapes, lengths(row)):
                yield (number | length << formkey.KEY_LENGTH | SIZE[operand] << formkey.KEY_OPERAND
                       | SIZE[mode] << formkey.KEY_ADDRESS | SIZE[mode] << formkey.KEY_STACK
                       | SIZE[mode] << formkey.KEY_CODE | shape << formkey.KEY_EA
                       | segment << formkey.KEY_SEGMENT)  # fmt: skip


def lengths(row: Row) -> tuple[int, ...]:
    """VEX.L as forms know it."""
    if "avx" not in row.attrs or "lig" in row.attrs:
        return (0,)
    return (0, 1) if row.length is None else (row.length,)


@functools.cache
def program() -> Program:
    """One for all forms: inlined natives are compiled once."""
    return Program()


@pytest.mark.parametrize("mnemonic", sorted({row.mnemonic for row in opcodes().rows}))
def test_forms_are_well_formed(mnemonic: str) -> None:
    for number, row in enumerate(opcodes().rows):
        if row.mnemonic != mnemonic:
            continue
        for key in keys(number, row):
            function, _ = build_form(program(), key)
            verify(function)
            text = print_function(function)
            assert print_function(parse_function(text)) == text
            optimise(function)
            verify(function)


def test_natives_are_well_formed() -> None:
    from pytcg_x86.core.guest import native_roots

    natives = Program()
    natives.add(native_roots())
    for function in natives.compile_all():
        verify(function)
        optimise(function)
        verify(function)
