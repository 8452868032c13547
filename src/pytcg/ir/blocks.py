"""Values, ops, blocks and functions: the data structure every pass and back-end works on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytcg.ir.ops import BITS, TERMINALS, Type

if TYPE_CHECKING:
    from pytcg.ir.builder import Builder


class Value:
    """An SSA value: a constant, a parameter, or the result of one op.

    Arithmetic operators emit ops through the builder that made the value; a Python int beside a
    value is a constant of its type. Comparisons are methods, since signedness must be said.
    """

    __slots__ = ("builder", "const", "id", "type")

    def __init__(self, builder: Builder | None, type_: Type, id_: int, const: int | None = None):
        self.builder = builder
        self.type = type_
        self.id = id_
        self.const = const

    def __repr__(self) -> str:
        return f"{self.const:#x}:{self.type!r}" if self.const is not None else f"%{self.id}"

    @property
    def bits(self) -> int:
        return BITS[self.type]

    def _binary(self, op: str, other: Value | int, *, swap: bool = False) -> Value:
        builder = self.builder if self.builder is not None else getattr(other, "builder", None)
        if builder is None:
            raise TypeError(f"{op} of two constants without a builder")
        other = builder.coerce(other, self.type)
        return builder.op(op, other, self) if swap else builder.op(op, self, other)

    def __add__(self, other: Value | int) -> Value:
        return self._binary("add", other)

    def __radd__(self, other: int) -> Value:
        return self._binary("add", other)

    def __sub__(self, other: Value | int) -> Value:
        return self._binary("sub", other)

    def __rsub__(self, other: int) -> Value:
        return self._binary("sub", other, swap=True)

    def __mul__(self, other: Value | int) -> Value:
        return self._binary("mul", other)

    def __and__(self, other: Value | int) -> Value:
        return self._binary("and", other)

    def __or__(self, other: Value | int) -> Value:
        return self._binary("or", other)

    def __xor__(self, other: Value | int) -> Value:
        return self._binary("xor", other)

    def __lshift__(self, other: Value | int) -> Value:
        return self._binary("shl", other)

    def __rshift__(self, other: Value | int) -> Value:
        return self._binary("lshr", other)

    def ashr(self, other: Value | int) -> Value:
        return self._binary("ashr", other)

    def __invert__(self) -> Value:
        assert self.builder is not None
        return self.builder.op("not", self)

    def __neg__(self) -> Value:
        assert self.builder is not None
        return self.builder.op("neg", self)

    def eq(self, other: Value | int) -> Value:
        return self._binary("eq", other)

    def ne(self, other: Value | int) -> Value:
        return self._binary("ne", other)

    def ult(self, other: Value | int) -> Value:
        return self._binary("ult", other)

    def ule(self, other: Value | int) -> Value:
        return self._binary("ule", other)

    def ugt(self, other: Value | int) -> Value:
        return self._binary("ugt", other)

    def uge(self, other: Value | int) -> Value:
        return self._binary("uge", other)

    def slt(self, other: Value | int) -> Value:
        return self._binary("slt", other)

    def sge(self, other: Value | int) -> Value:
        return self._binary("sge", other)

    def zext(self, type_: Type) -> Value:
        return self._convert("zext", type_)

    def sext(self, type_: Type) -> Value:
        return self._convert("sext", type_)

    def trunc(self, type_: Type) -> Value:
        return self._convert("trunc", type_)

    def bitcast(self, type_: Type) -> Value:
        return self._convert("bitcast", type_)

    def resize(self, type_: Type) -> Value:
        """Zero-extend or truncate to ``type_``."""
        return self.trunc(type_) if BITS[type_] < self.bits else self.zext(type_)

    def _convert(self, op: str, type_: Type) -> Value:
        if type_ is self.type:
            return self
        assert self.builder is not None
        return self.builder.op(op, self, type=type_)


class Local:
    """A mutable variable of a function: `get` and `set` it (LLVM's mem2reg makes it SSA).

    A 128-bit one that is a ``vector`` stays in a vector register.
    """

    __slots__ = ("id", "name", "type", "vector")

    def __init__(self, id_: int, type_: Type, name: str, *, vector: bool = False):
        self.id = id_
        self.type = type_
        self.name = name
        self.vector = vector

    def __repr__(self) -> str:
        return f"${self.name}.{self.id}"


class Op:
    """One op: name, operands, attributes and (or None) its result.

    ``line``: which instruction of the guest's it is of, from 1; 0 if that isn't known.
    """

    __slots__ = ("args", "attrs", "line", "name", "out")

    def __init__(self, name: str, args: tuple[Value, ...], attrs: dict[str, object],
                 out: Value | None, line: int = 0):  # fmt: skip
        self.line = line
        self.name = name
        self.args = args
        self.attrs = attrs
        self.out = out

    def type_attr(self) -> Type:
        type_ = self.attrs["type"]
        assert isinstance(type_, Type)
        return type_


class Block:
    """A label and its ops; the last is a terminal."""

    __slots__ = ("label", "ops")

    def __init__(self, label: str):
        self.label = label
        self.ops: list[Op] = []

    def __repr__(self) -> str:
        return f"@{self.label}"

    @property
    def closed(self) -> bool:
        return bool(self.ops) and self.ops[-1].name in TERMINALS

    def successors(self) -> list[Block]:
        if not self.ops:
            return []
        attrs = self.ops[-1].attrs
        blocks: list[object] = [attrs[k] for k in ("target", "then", "otherwise", "default")
                                if k in attrs]  # fmt: skip
        cases = attrs.get("cases")
        if isinstance(cases, tuple):
            blocks += [block for _, block in cases]
        return [block for block in blocks if isinstance(block, Block)]


class Function:
    """Parameters, locals and blocks; ``threaded`` ones have the signature (env, rec, ram).

    A ``region`` is threaded code that reaches guest memory by way of ram and the CPU state by way
    of env, never one by the other. A ``cold`` one keeps its callers' general registers.
    """

    def __init__(self, name: str, params: list[tuple[str, Type]], result: Type, *,
                 threaded: bool = False, region: bool = False, cold: bool = False):  # fmt: skip
        self.name = name
        self.result = result
        self.threaded = threaded
        self.region = region
        self.cold = cold
        self.param_names = [n for n, _ in params]
        self.params = [Value(None, t, i) for i, (_, t) in enumerate(params)]
        self.locals: list[Local] = []
        self.blocks: list[Block] = []
        self.next_id = len(params)
