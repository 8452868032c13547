"""Builds functions op by op, folding constants where that is free."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from pytcg.ir.blocks import Block, Function, Local, Op, Value
from pytcg.ir.ops import BITS, OPS, Type

_FOLD: dict[str, Callable[[int, int], int]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "and": lambda a, b: a & b,
    "or": lambda a, b: a | b,
    "xor": lambda a, b: a ^ b,
}
_SHIFTS: dict[str, Callable[[int, int], int]] = {
    "shl": lambda a, n: a << n,
    "lshr": lambda a, n: a >> n,
}
_ZERO_IS_IDENTITY = {"add", "sub", "or", "xor", "shl", "lshr", "ashr", "ptradd"}


class Builder:
    """Appends ops to the current block of one function."""

    def __init__(self, function: Function):
        self.function = function
        for param in function.params:
            param.builder = self
        self._labels = 0
        self.line = 0
        """What new ops have as their `line`."""
        self.block = self.new_block("entry")
        self.place(self.block)

    # Blocks ------------------------------------------------------------------------------------

    def new_block(self, hint: str = "b") -> Block:
        """A block that is not part of the function until it is placed."""
        self._labels += 1
        return Block(f"{hint}{self._labels}")

    def place(self, block: Block) -> None:
        """Make ``block`` the next and current one."""
        self.function.blocks.append(block)
        self.block = block

    # Values ------------------------------------------------------------------------------------

    def const(self, value: int, type_: Type) -> Value:
        return Value(self, type_, -1, value & ((1 << BITS[type_]) - 1))

    def coerce(self, value: Value | int, type_: Type) -> Value:
        return value if isinstance(value, Value) else self.const(value, type_)

    def local(self, type_: Type, name: str = "v") -> Local:
        local = Local(len(self.function.locals), type_, name)
        self.function.locals.append(local)
        return local

    def op(self, name: str, /, *args: Value, **attrs: object) -> Value:
        """Emit an op that has a result."""
        folded = self._fold(name, args, attrs)
        if folded is not None:
            return folded
        rule = OPS[name].result
        if rule == "*":
            type_ = attrs["type"]
            assert isinstance(type_, Type)
        elif rule == "B":
            type_ = Type.I1
        elif rule == "P":
            type_ = Type.PTR
        elif rule in ("T", "F"):
            type_ = args[0].type
        elif rule == "A":
            type_ = args[-1].type
        elif rule == "V":
            type_ = Type.I128
        else:
            type_ = Type(rule)
        out = Value(self, type_, self.function.next_id)
        self.function.next_id += 1
        self.block.ops.append(Op(name, args, attrs, out, self.line))
        return out

    def effect(self, name: str, /, *args: Value, **attrs: object) -> None:
        """Emit an op without a result."""
        self.block.ops.append(Op(name, args, attrs, None, self.line))

    def _fold(self, name: str, args: tuple[Value, ...], attrs: dict[str, object]) -> Value | None:
        if len(args) == 2:
            left, right = args
            if right.const is not None:
                if right.const == 0 and name in _ZERO_IS_IDENTITY:
                    return left
                if left.const is not None and name in _FOLD:
                    return self.const(_FOLD[name](left.const, right.const), left.type)
                if left.const is not None and name in _SHIFTS:
                    value = _SHIFTS[name](left.const, right.const % left.bits)
                    return self.const(value, left.type)
        elif len(args) == 1 and args[0].const is not None:
            type_ = attrs.get("type")
            if name in ("zext", "trunc") and isinstance(type_, Type):
                return self.const(args[0].const, type_)
            if name == "sext" and isinstance(type_, Type):
                sign = 1 << (args[0].bits - 1)
                return self.const((args[0].const ^ sign) - sign, type_)
        return None

    # Shorthands --------------------------------------------------------------------------------

    def get(self, local: Local) -> Value:
        return self.op("get", local=local, type=local.type)

    def set(self, local: Local, value: Value) -> None:
        self.effect("set", value, local=local)

    def ptradd(self, base: Value, offset: Value | int) -> Value:
        return self.op("ptradd", base, self.coerce(offset, Type.I64))

    def ld(self, type_: Type, pointer: Value, offset: Value | int = 0) -> Value:
        return self.op("ld", self.ptradd(pointer, offset), type=type_)

    def st(self, value: Value, pointer: Value, offset: Value | int = 0) -> None:
        self.effect("st", value, self.ptradd(pointer, offset))

    def select(self, cond: Value, then: Value, otherwise: Value) -> Value:
        return self.op("select", cond, then, otherwise)

    def symbol(self, name: str) -> Value:
        return self.op("symbol", name=name)

    def call(self, callee: str, type_: Type, *args: Value, cold: bool = False) -> Value | None:
        """``cold`` as the callee's `Function` says."""
        attrs: dict[str, object] = {"callee": callee, "type": type_}
        if cold:
            attrs["cold"] = True
        if type_ is Type.VOID:
            self.effect("call", *args, **attrs)
            return None
        return self.op("call", *args, **attrs)

    def br(self, target: Block) -> None:
        self.effect("br", target=target)

    def brif(self, cond: Value, then: Block, otherwise: Block, *,
             likely: bool | None = None) -> None:  # fmt: skip
        """Branch; ``likely`` says which way is hot (True: then), None that neither is."""
        self.effect("brif", cond, then=then, otherwise=otherwise, likely=likely)

    def switch(self, value: Value, cases: Iterable[tuple[int, Block]], default: Block) -> None:
        self.effect("switch", value, cases=tuple(cases), default=default)

    def ret(self, value: Value | None = None) -> None:
        self.effect("ret", *(() if value is None else (value,)))

    def unwind(self) -> None:
        self.effect("unwind")

    def inline(self, callee: Function, args: list[Value], unwind: Block | None) -> Value | None:
        """Copy ``callee``'s blocks here; its ``unwind`` jumps to the block ``unwind``.

        Leaves the builder in a fresh block after the call and returns the call's value.
        """
        result = None if callee.result is Type.VOID else self.local(callee.result, callee.name)
        after = self.new_block("after")
        values: dict[int, Value] = dict(zip((p.id for p in callee.params), args, strict=True))
        locals_ = {old.id: self.local(old.type, old.name) for old in callee.locals}
        blocks = {block.label: self.new_block(f"{callee.name}.") for block in callee.blocks}
        self.br(blocks[callee.blocks[0].label])
        for block in callee.blocks:
            self.place(blocks[block.label])
            for op in block.ops:
                self._copy(op, values, locals_, blocks, result, after, unwind)
        self.place(after)
        return None if result is None else self.get(result)

    def _copy(self, op: Op, values: dict[int, Value], locals_: dict[int, Local],
              blocks: dict[str, Block], result: Local | None, after: Block,
              unwind: Block | None) -> None:  # fmt: skip
        args = tuple(a if a.const is not None else values[a.id] for a in op.args)
        if op.name == "ret":
            if result is not None:
                self.set(result, args[0])
            self.br(after)
        elif op.name == "unwind":
            assert unwind is not None, f"{self.function.name}: inlined code may raise"
            self.br(unwind)
        else:
            attrs = {k: _renamed(v, locals_, blocks) for k, v in op.attrs.items()}
            if op.out is None:
                self.effect(op.name, *args, **attrs)
            else:
                values[op.out.id] = self.op(op.name, *args, **attrs)


def _renamed(attr: object, locals_: dict[int, Local], blocks: dict[str, Block]) -> object:
    if isinstance(attr, Local):
        return locals_[attr.id]
    if isinstance(attr, Block):
        return blocks[attr.label]
    if isinstance(attr, tuple) and attr and not isinstance(attr[0], int):
        return tuple((case, blocks[block.label]) for case, block in attr)
    return attr
