"""The one op that writes a range: `fill`, on both back-ends."""

from __future__ import annotations

import ctypes

from hypothesis import given
from hypothesis import strategies as st

from pytcg.ir.blocks import Function
from pytcg.ir.builder import Builder
from pytcg.ir.ops import Type
from pytcg_llvm.emit import emit_module
from pytcg_llvm.host import compile_module
from pytcg_llvm.link import Image, Linker
from pytcg_python.compiler import PythonHost

SIZE = 64
BASE = 0x10000


def fill_function() -> Function:
    params = [("at", Type.PTR), ("byte", Type.I8), ("size", Type.I64)]
    function = Function("fill_it", params, Type.VOID)
    builder = Builder(function)
    builder.effect("fill", *function.params)
    builder.ret()
    return function


FUNCTION = fill_function()
LINKER = Linker()
ADDRESS = LINKER.add(Image.of(compile_module(emit_module([FUNCTION]))))["fill_it"]
NATIVE = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_uint8, ctypes.c_uint64)(ADDRESS)


@given(st.integers(0, SIZE), st.integers(0, 255), st.data())
def test_fill_writes_so_many_bytes_and_no_more(start: int, byte: int, data: st.DataObject) -> None:
    size = data.draw(st.integers(0, SIZE - start))
    expected = bytearray(range(SIZE))
    expected[start : start + size] = bytes([byte]) * size
    buffer = (ctypes.c_uint8 * SIZE)(*range(SIZE))
    NATIVE(ctypes.addressof(buffer) + start, byte, size)
    assert bytes(buffer) == expected
    host, memory = PythonHost(), bytearray(range(SIZE))
    host.memory.map(BASE, memoryview(memory))
    host.define(FUNCTION)
    host.call("fill_it", BASE + start, byte, size)
    assert memory == expected
