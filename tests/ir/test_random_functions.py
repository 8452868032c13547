"""Random functions: both back-ends agree, passes keep the meaning, the text form is exact."""

from __future__ import annotations

import ctypes
import random
from collections.abc import Callable

import pytest

from ir.random_function import SLOTS, Maker
from pytcg.ir.blocks import Function
from pytcg.ir.text import parse_function, print_function
from pytcg.ir.verify import verify
from pytcg.opt.constants import fold_constants
from pytcg.opt.copies import propagate_copies
from pytcg.opt.dead_code import remove_dead_code
from pytcg.opt.dead_stores import remove_dead_stores
from pytcg.opt.pipeline import optimise
from pytcg_llvm.emit import emit_module
from pytcg_llvm.host import compile_module
from pytcg_llvm.link import Image, Linker
from pytcg_python.compiler import PythonHost

BATCHES, BATCH = 5, 24
Outcome = tuple[int, bytes]


def start(seed: int) -> tuple[bytes, int]:
    r = random.Random(seed + 1)
    return r.randbytes(SLOTS * 8), r.getrandbits(64)


def in_python(function: Function, seed: int) -> Outcome:
    host = PythonHost()
    host.define(function)
    image, x = start(seed)
    memory = bytearray(image)
    host.memory.map(0x1000, memoryview(memory))
    return host.call(function.name, 0x1000, x), bytes(memory)


def natively(functions: list[Function], seeds: list[int]) -> list[Outcome]:
    linker = Linker()
    symbols = linker.add(Image.of(compile_module(emit_module(functions))))
    outcomes = []
    for function, seed in zip(functions, seeds, strict=True):
        image, x = start(seed)
        memory = ctypes.create_string_buffer(image, len(image))
        prototype = ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_void_p, ctypes.c_uint64)
        result = prototype(symbols[function.name])(ctypes.addressof(memory), x)
        outcomes.append((result, memory.raw))
    return outcomes


@pytest.mark.parametrize("batch", range(BATCHES))
def test_back_ends_agree_before_and_after_the_passes(batch: int) -> None:
    seeds = [batch * BATCH + i for i in range(BATCH)]
    plain = [Maker(f"f{seed}", seed).make() for seed in seeds]
    better = [Maker(f"f{seed}", seed).make() for seed in seeds]
    for function in plain:
        verify(function)
    for function in better:
        optimise(function)
        verify(function)
    expected = [in_python(f, seed) for f, seed in zip(plain, seeds, strict=True)]
    assert natively(plain, seeds) == expected
    assert [in_python(f, seed) for f, seed in zip(better, seeds, strict=True)] == expected
    assert natively(better, seeds) == expected


PASSES = [fold_constants, propagate_copies, remove_dead_code, remove_dead_stores]


@pytest.mark.parametrize("one_pass", PASSES)
def test_each_pass_alone_keeps_the_meaning(one_pass: Callable[[Function], None]) -> None:
    for seed in range(1000, 1080):
        function = Maker("f", seed).make()
        expected = in_python(function, seed)
        one_pass(function)
        verify(function)
        assert in_python(function, seed) == expected, f"seed {seed}"


def test_text_round_trip() -> None:
    for seed in range(2000, 2040):
        text = print_function(Maker("f", seed).make())
        again = parse_function(text)
        verify(again)
        assert print_function(again) == text
        assert in_python(again, seed) == in_python(Maker("f", seed).make(), seed)


def test_passes_shrink() -> None:
    functions = [Maker("f", seed).make() for seed in range(3000, 3020)]
    before = sum(len(block.ops) for f in functions for block in f.blocks)
    for function in functions:
        optimise(function)
    after = sum(len(block.ops) for f in functions for block in f.blocks)
    assert after < 0.9 * before
