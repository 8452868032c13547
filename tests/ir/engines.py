"""Runs one IR function on both back-ends: operands and results go through a buffer."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pytcg.ir.blocks import Function, Value
from pytcg.ir.builder import Builder
from pytcg.ir.ops import BITS, Type
from pytcg.ir.verify import verify
from pytcg_llvm.emit import emit_module
from pytcg_llvm.host import compile_module
from pytcg_llvm.link import Image
from pytcg_python.compiler import PythonHost
from pytcg_threaded.engine import ThreadedEngine

SLOT = 16
DEFAULT_MXCSR = 0x1F80

Body = Callable[[Builder, list[Value]], Value]


@dataclass
class Case:
    """A function ``void name(ptr buffer)``: operands in slots 0…, result behind them."""

    name: str
    types: list[Type]
    function: Function
    result: Type


def make_case(name: str, types: Sequence[Type], body: Body, *, floating: bool = False) -> Case:
    """Build the function around ``body``; slot 15 holds MXCSR, in and out, for floats."""
    function = Function(name, [("buffer", Type.PTR)], Type.VOID)
    b = Builder(function)
    buffer = function.params[0]
    if floating:
        b.effect("setmxcsr", b.ld(Type.I32, buffer, 15 * SLOT))
    args = [load(b, type_, buffer, i * SLOT) for i, type_ in enumerate(types)]
    result = body(b, args)
    if floating:
        b.st(b.op("getmxcsr"), buffer, 15 * SLOT)
        b.effect("setmxcsr", b.const(DEFAULT_MXCSR, Type.I32))
    stored = result.zext(Type.I8) if result.type is Type.I1 else result
    b.st(stored, buffer, len(types) * SLOT)
    b.ret()
    verify(function)
    return Case(name, list(types), function, result.type)


def load(b: Builder, type_: Type, pointer: Value, offset: int) -> Value:
    if type_ is Type.I1:
        return b.ld(Type.I8, pointer, offset).trunc(Type.I1)
    return b.ld(type_, pointer, offset)


class Engines:
    """The cases compiled by both back-ends."""

    def __init__(self, cases: Sequence[Case]):
        image = compile_module(emit_module([case.function for case in cases]))
        # A host without some instructions calls natives for them.
        symbols = ThreadedEngine.shared().linker.add(Image.of(image))
        prototype = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
        self.native = {name: prototype(address) for name, address in symbols.items()}
        self.host = PythonHost()
        for case in cases:
            self.host.define(case.function)
        self.buffer = bytearray(16 * SLOT)
        self.pointer = ctypes.addressof(ctypes.c_char.from_buffer(self.buffer))
        self.host.memory.map(self.pointer, memoryview(self.buffer))

    def run(self, case: Case, args: Sequence[int], mxcsr: int = DEFAULT_MXCSR
            ) -> tuple[tuple[int, int], tuple[int, int]]:  # fmt: skip
        """(result, MXCSR) from the native and from the Python engine."""
        self._fill(args, mxcsr)
        self.native[case.name](self.pointer)
        native = self._result(case)
        self._fill(args, mxcsr)
        self.host.call(case.name, self.pointer)
        return native, self._result(case)

    def _fill(self, args: Sequence[int], mxcsr: int) -> None:
        self.buffer[:] = bytes(len(self.buffer))
        for i, arg in enumerate([*args, *[0] * (15 - len(args)), mxcsr]):
            self.buffer[i * SLOT:(i + 1) * SLOT] = arg.to_bytes(SLOT, "little")

    def _result(self, case: Case) -> tuple[int, int]:
        at = len(case.types) * SLOT
        size = max(1, BITS[case.result] // 8)
        value = int.from_bytes(self.buffer[at:at + size], "little")
        return value, int.from_bytes(self.buffer[15 * SLOT:15 * SLOT + 4], "little")
