"""IR functions to Python functions: straight-line statements inside a loop over blocks.

`PythonHost` plays the host machine: memory, the floating-point unit, functions by name and by
address, and the trampoline that stands for tail calls.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from pytcg.ir.blocks import Block, Function, Local, Op, Value
from pytcg.ir.meaning import NAMES, expression
from pytcg.ir.ops import Type
from pytcg_python import x87
from pytcg_python.floating import FloatUnit
from pytcg_python.memory import HostFault, Memory
from pytcg_python.semantics import SEMANTICS

Compiled = Callable[..., "int | tuple[int, int, int, int] | None"]
_CODE_BASE = 0x7C0D_E000_0000_0000  # no user-space address of x86-64 Linux


class WildCall(HostFault):
    """A call of an address or name that is no function."""


class PythonHost:
    """Runs IR functions; values are non-negative ints, pointers too."""

    def __init__(self) -> None:
        self.memory = Memory()
        self.fp = FloatUnit()
        self.functions: dict[str, Compiled] = {}
        self.symbols: dict[str, int] = {}
        self.code: dict[int, Compiled] = {}
        self._next = _CODE_BASE

    # Linking -----------------------------------------------------------------------------------

    def define(self, function: Function) -> int:
        """Compile a function; returns the address by which `symbol` and `tail` know it."""
        compiled = self._compile(function)
        self.functions[function.name] = compiled
        address = self.symbols.get(function.name) or self._allocate(16)
        self.bind_symbol(function.name, address)
        self.code[address] = compiled
        return address

    def bind_symbol(self, name: str, address: int) -> None:
        """Say where a symbol lies."""
        self.symbols[name] = address

    def bind_code(self, address: int, function: Callable[..., int | None]) -> None:
        """Make a Python callable the code at ``address`` (a host callback, say)."""
        self.code[address] = function

    def define_data(self, name: str, blob: bytes) -> int:
        """Map a constant table."""
        address = self._allocate(len(blob))
        self.memory.map(address, memoryview(bytearray(blob)))
        self.bind_symbol(name, address)
        return address

    def _allocate(self, size: int) -> int:
        address = self._next
        self._next += -(-size // 64) * 64 + 64
        return address

    # Running -----------------------------------------------------------------------------------

    def call(self, name: str, *args: int) -> int:
        """Call a function by name; 0 for one without a result."""
        found = self.functions.get(name)
        if found is None:
            raise WildCall(f"no function {name}")
        result = found(*args)
        return result if isinstance(result, int) else 0

    def call_address(self, address: int, *args: int) -> int:
        result = self._code_at(address)(*args)
        return result if isinstance(result, int) else 0

    def address(self, name: str) -> int:
        if name not in self.symbols:
            raise WildCall(f"no symbol {name}")
        return self.symbols[name]

    def run(self, code: int, env: int, rec: int, ram: int) -> None:
        """Threaded code from ``rec`` on, until it returns: the trampoline of tail calls."""
        state: tuple[int, int, int, int] | None = (code, env, rec, ram)
        while state is not None:
            code, *args = state
            result = self._code_at(code)(*args)
            state = result if isinstance(result, tuple) else None

    def _code_at(self, address: int) -> Compiled:
        found = self.code.get(address)
        if found is None:
            raise WildCall(f"no code at {address:#x}")
        return found

    @staticmethod
    def cycles() -> int:
        return time.perf_counter_ns()

    # Compiling ---------------------------------------------------------------------------------

    def _compile(self, function: Function) -> Compiled:
        scope: dict[str, object] = {**NAMES, "fp": self.fp, "x87": x87, "mem": self.memory,
                                    "host": self}  # fmt: skip
        source = python_source(function)
        # Our own text, made from verified IR: exec is how Python compiles.
        exec(compile(source, f"<ir {function.name}>", "exec"), scope)
        compiled: Compiled = scope["compiled"]  # type: ignore[assignment]
        return compiled


def python_source(function: Function) -> str:
    """The text of one function (for ``-d op`` and for tests as well)."""
    return _Writer(function).write()


class _Writer:
    """Writes one function; a block's number is its place in the function."""

    def __init__(self, function: Function):
        self.function = function
        self.numbers = {block.label: i for i, block in enumerate(function.blocks)}
        self.lines: list[str] = []

    def write(self) -> str:
        function = self.function
        params = ", ".join(_value(p) for p in function.params)
        self.lines.append(f"def compiled({params}):")
        for local in function.locals:
            self.lines.append(f"    l{local.id} = 0")
        self.lines += ["    block = 0", "    while True:"]
        self._search(0, len(function.blocks), "        ")
        return "\n".join(self.lines) + "\n"

    def _search(self, first: int, end: int, indent: str) -> None:
        """Find the block by bisection: functions may have hundreds."""
        if end - first == 1:
            for op in self.function.blocks[first].ops:
                self.lines += [indent + line for line in self._statements(op)]
            return
        middle = (first + end) // 2
        self.lines.append(f"{indent}if block < {middle}:")
        self._search(first, middle, indent + "    ")
        self.lines.append(f"{indent}else:")
        self._search(middle, end, indent + "    ")

    def _statements(self, op: Op) -> list[str]:
        special = getattr(self, "_op_" + op.name, None)
        if special is not None:
            lines: list[str] = special(op)
            return lines
        text = expression(SEMANTICS[op.name], op, [_value(a) for a in op.args])
        return [text if op.out is None else f"{_value(op.out)} = {text}"]

    # Locals and calls --------------------------------------------------------------------------

    def _op_get(self, op: Op) -> list[str]:
        return [f"{_out(op)} = {_local(op)}"]

    def _op_set(self, op: Op) -> list[str]:
        return [f"{_local(op)} = {_value(op.args[0])}"]

    def _op_symbol(self, op: Op) -> list[str]:
        return [f"{_out(op)} = host.address({op.attrs['name']!r})"]

    def _op_call(self, op: Op) -> list[str]:
        args = ", ".join([repr(op.attrs["callee"]), *map(_value, op.args)])
        return [("" if op.out is None else f"{_out(op)} = ") + f"host.call({args})"]

    def _op_callptr(self, op: Op) -> list[str]:
        args = ", ".join(map(_value, op.args))
        return [("" if op.out is None else f"{_out(op)} = ") + f"host.call_address({args})"]

    # Terminals ---------------------------------------------------------------------------------

    def _number(self, block: object) -> int:
        assert isinstance(block, Block)
        return self.numbers[block.label]

    def _op_br(self, op: Op) -> list[str]:
        return [f"block = {self._number(op.attrs['target'])}"]

    def _op_brif(self, op: Op) -> list[str]:
        then, otherwise = (self._number(op.attrs[key]) for key in ("then", "otherwise"))
        return [f"block = {then} if {_value(op.args[0])} else {otherwise}"]

    def _op_switch(self, op: Op) -> list[str]:
        cases = op.attrs["cases"]
        assert isinstance(cases, tuple)
        table = {case: self._number(block) for case, block in cases}
        return [f"block = {table}.get({_value(op.args[0])}, {self._number(op.attrs['default'])})"]

    def _op_ret(self, op: Op) -> list[str]:
        return [f"return {_value(op.args[0])}" if op.args else "return None"]

    def _op_unwind(self, op: Op) -> list[str]:
        return ["return None" if self.function.result is Type.VOID else "return 0"]

    def _op_unreachable(self, op: Op) -> list[str]:
        return [f"raise AssertionError({self.function.name + ': unreachable'!r})"]

    def _op_tail(self, op: Op) -> list[str]:
        return [f"return {', '.join(map(_value, op.args))}"]


def _value(value: Value) -> str:
    return f"v{value.id}" if value.const is None else hex(value.const)


def _out(op: Op) -> str:
    assert op.out is not None
    return _value(op.out)


def _local(op: Op) -> str:
    local = op.attrs["local"]
    assert isinstance(local, Local)
    return f"l{local.id}"
