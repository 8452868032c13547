"""`PythonEngine`: the same natives and forms as the threaded engine, evaluated in Python.

Hundreds of times slower, and the oracle of the others: nothing of LLVM is in it.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Mapping

from pytcg.ir.blocks import Function
from pytcg.ir.ops import BITS, Type
from pytcg.opt.pipeline import optimise
from pytcg.softmmu.ram import HostBuffer
from pytcg_native.compiler import Program
from pytcg_python.compiler import PythonHost
from pytcg_x86.core.form import build_form
from pytcg_x86.core.guest import native_roots

_SHARED: list[PythonEngine] = []


class PythonEngine:
    """Natives are turned into Python when first called, forms when first met."""

    name = "python"
    x87_control = 0xFFFF_FFFF  # none: there is no x87 unit

    @classmethod
    def shared(cls) -> PythonEngine:
        """The process's engine, made on first use."""
        if not _SHARED:
            _SHARED.append(cls())
        return _SHARED[0]

    def __init__(self) -> None:
        self.program = Program()
        self.program.add(native_roots())
        self.host = _LazyHost(self.program)
        self.forms: dict[int, tuple[int, int]] = {}
        self.stencils: dict[int, int] = {}  # there is no machine code
        self._next_callback = 0x7C0C_0000_0000_0000
        for table in self.program.tables.values():
            self.host.define_data(table.name, table.data())

    def attach(self, buffers: Iterable[HostBuffer]) -> None:
        """Let evaluated code reach these buffers, for as long as they live."""
        for buffer in buffers:
            self.host.memory.map(buffer.address, buffer.view)
            weakref.finalize(buffer, self.host.memory.unmap, buffer.address)

    def symbol(self, name: str) -> int:
        return self.host.address(name)

    def call(self, name: str, *args: int) -> int:
        """Call a native; arguments are cut to the parameters' widths."""
        function = self.program.functions.get(name) or self.host.load(name)
        cut = (a & ((1 << BITS[p.type]) - 1) for a, p in zip(args, function.params, strict=True))
        return self.host.call(name, *cut)

    def compile_forms(self, keys: Iterable[int]) -> Mapping[int, tuple[int, int]]:
        """(code, effects) of forms."""
        wanted = list(keys)
        for key in wanted:
            if key not in self.forms:
                self.forms[key] = self._build(key)
        return {key: self.forms[key] for key in wanted}

    def _build(self, key: int) -> tuple[int, int]:
        function, effects = build_form(self.program, key)
        optimise(function)
        return self.host.define(function), effects.word()

    def define_native(self, function: Function, program: Program) -> int:
        """Define a function and those of ``program`` that are not the core's; its address."""
        natives = [n for n in program.natives.values() if n.name not in self.program.natives]
        self.program.add(natives)
        optimise(function)
        return self.host.define(function)

    def callback(self, result: str, parameters: list[str],
                 function: Callable[..., int | None]) -> tuple[int, object]:  # fmt: skip
        """An address that calls ``function``; a signed result becomes its bit pattern."""
        self._next_callback += 16
        address = self._next_callback
        mask = (1 << BITS[Type.I64]) - 1

        def unsigned(*args: int) -> int:
            return (function(*args) or 0) & mask

        self.host.bind_code(address, unsigned)
        return address, None


class _LazyHost(PythonHost):
    """Defines a native when it is first called or its address is asked for."""

    def __init__(self, program: Program):
        super().__init__()
        self._program = program

    def load(self, name: str) -> Function:
        function = self._program.compile(self._program.natives[name])
        self.define(function)
        return function

    def call(self, name: str, *args: int) -> int:
        if name not in self.functions:
            self.load(name)
        return super().call(name, *args)

    def address(self, name: str) -> int:
        if name not in self.symbols:
            self.load(name)
        return super().address(name)
