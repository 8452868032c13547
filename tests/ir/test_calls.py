"""Calls, threaded code and the memory of the Python back-end."""

from __future__ import annotations

import ctypes

import pytest

from pytcg.ir.blocks import Function
from pytcg.ir.builder import Builder
from pytcg.ir.ops import Type
from pytcg.ir.verify import verify
from pytcg_llvm.emit import emit_module
from pytcg_llvm.host import compile_module
from pytcg_llvm.link import Image, Linker
from pytcg_python.compiler import PythonHost, WildCall
from pytcg_python.memory import WildAccess

I64, PTR, VOID = Type.I64, Type.PTR, Type.VOID
THREADED = [("env", PTR), ("rec", PTR), ("ram", PTR)]


def double() -> Function:
    function = Function("double", [("x", I64)], I64)
    b = Builder(function)
    b.ret(function.params[0] * 2)
    return function


def caller() -> Function:
    """x -> f(double(x)) + TABLE[1], with f a host callback."""
    function = Function("caller", [("f", PTR), ("x", I64)], I64)
    b = Builder(function)
    doubled = b.call("double", I64, function.params[1])
    assert doubled is not None
    called = b.op("callptr", function.params[0], doubled, type=I64)
    b.ret(called + b.ld(I64, b.symbol("table"), 8))
    return function


def step() -> Function:
    """Threaded: env[0] += rec[8]; go on with the next record."""
    function = Function("step", THREADED, VOID, threaded=True)
    b = Builder(function)
    env, rec, ram = function.params
    b.st(b.ld(I64, env) + b.ld(I64, rec, 8), env)
    following = b.ptradd(rec, 16)
    b.effect("tail", b.ld(PTR, following), env, following, ram)
    return function


def leave() -> Function:
    function = Function("leave", THREADED, VOID, threaded=True)
    Builder(function).ret()
    return function


def start() -> Function:
    """Run threaded code from a record; returns what env[0] became."""
    function = Function("start", THREADED, I64)
    b = Builder(function)
    env, rec, ram = function.params
    b.effect("enter", b.ld(PTR, rec), env, rec, ram)
    b.ret(b.ld(I64, env))
    return function


def unwinding() -> Function:
    function = Function("unwinding", [("x", I64)], I64)
    b = Builder(function)
    bad, good = b.new_block(), b.new_block()
    b.brif(function.params[0].eq(0), bad, good, likely=False)
    b.place(bad)
    b.unwind()
    b.place(good)
    b.ret(function.params[0])
    return function


FUNCTIONS = [double(), caller(), step(), leave(), start(), unwinding()]
TABLE = (7).to_bytes(8, "little") + (1000).to_bytes(8, "little")


@pytest.fixture(scope="module")
def linker() -> Linker:
    for function in FUNCTIONS:
        verify(function)
    linker = Linker()
    image = compile_module(emit_module(FUNCTIONS, [("table", TABLE)]))
    linker.add(Image.of(image))
    return linker


@pytest.fixture
def host() -> PythonHost:
    host = PythonHost()
    for function in FUNCTIONS:
        host.define(function)
    host.define_data("table", TABLE)
    return host


def test_calls_and_callbacks(linker: Linker, host: PythonHost) -> None:
    host.bind_code(0x5000, lambda x: x + 1)
    assert host.call("caller", 0x5000, 20) == 1041
    callback = ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_uint64)(lambda x: x + 1)
    native = ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_void_p, ctypes.c_uint64)
    assert native(linker.symbols["caller"])(ctypes.cast(callback, ctypes.c_void_p), 20) == 1041


def records(step_code: int, leave_code: int) -> bytearray:
    words = [step_code, 5, step_code, 6, leave_code, 0]
    return bytearray(b"".join(w.to_bytes(8, "little") for w in words))


def test_threaded_code_runs_from_record_to_record(linker: Linker, host: PythonHost) -> None:
    arena = records(host.address("step"), host.address("leave"))
    env = bytearray(8)
    host.memory.map(0x1000, memoryview(env))
    host.memory.map(0x2000, memoryview(arena))
    assert host.call("start", 0x1000, 0x2000, 0) == 11

    arena = records(linker.symbols["step"], linker.symbols["leave"])
    where = [ctypes.addressof(ctypes.c_char.from_buffer(b)) for b in (env, arena)]
    env[:] = bytes(8)
    native = ctypes.CFUNCTYPE(ctypes.c_uint64, *[ctypes.c_void_p] * 3)
    assert native(linker.symbols["start"])(*where, 0) == 11


def test_unwind_returns_zero(linker: Linker, host: PythonHost) -> None:
    native = ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_uint64)(linker.symbols["unwinding"])
    for x in (0, 3):
        assert host.call("unwinding", x) == native(x) == x


def test_wild_calls_and_accesses_are_errors(host: PythonHost) -> None:
    with pytest.raises(WildCall, match="no function nothing"):
        host.call("nothing")
    with pytest.raises(WildCall, match="no code at 0x1234"):
        host.call("caller", 0x1234, 1)
    with pytest.raises(WildAccess, match="8 bytes at 0x9000"):
        host.call("start", 0x9000, 0x9000, 0)


def test_an_access_must_lie_in_one_mapping(host: PythonHost) -> None:
    host.memory.map(0x1000, memoryview(bytearray(16)))
    host.memory.store(0x1008, 8, 1 << 63)
    assert host.memory.load(0x1000, 16) == 1 << 127
    with pytest.raises(WildAccess):
        host.memory.load(0x1009, 8)
    host.memory.unmap(0x1000)
    with pytest.raises(WildAccess):
        host.memory.load(0x1000, 1)
