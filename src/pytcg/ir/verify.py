"""The verifier: each op against its row, blocks closed, definitions before uses."""

from __future__ import annotations

from pytcg.ir.blocks import Block, Function, Local, Op
from pytcg.ir.flow import immediate_dominators
from pytcg.ir.ops import BITS, FLOATS, INTEGERS, OPS, TERMINALS, OpDef, Type
from pytcg.ir.text import print_op

_CLASSES = {"T": INTEGERS, "F": FLOATS, "A": set(Type) - {Type.VOID}}
_OPTIONAL = {"cold"}  # of calls: the callee's convention
_FIXED = {"P": Type.PTR, "B": Type.I1, "V": Type.I128}


class VerifyError(Exception):
    """A malformed function; the message names function, block and op."""


def verify(function: Function) -> None:
    """Raise `VerifyError` unless ``function`` is well formed."""
    _Verifier(function).verify()


class _Verifier:
    def __init__(self, function: Function):
        self.function = function
        self.block = Block("none")
        self.current: Op | None = None

    def fail(self, message: str) -> VerifyError:
        where = f"{self.function.name} {self.block!r}"
        op = "" if self.current is None else f": {print_op(self.current)}"
        return VerifyError(f"{where}{op}: {message}")

    def verify(self) -> None:
        function = self.function
        if not function.blocks:
            raise self.fail("no blocks")
        self.blocks = {block.label: block for block in function.blocks}
        if len(self.blocks) != len(function.blocks):
            raise self.fail("two blocks have one label")
        if len({local.id for local in function.locals}) != len(function.locals):
            raise self.fail("two locals have one id")
        for block in function.blocks:
            self.block = block
            self._check_block()
        self._check_order()

    def _check_block(self) -> None:
        self.current = None
        if not self.block.closed:
            raise self.fail("no terminal at the end")
        for index, op in enumerate(self.block.ops):
            self.current = op
            if op.name not in OPS:
                raise self.fail("no such op")
            if op.name in TERMINALS and index != len(self.block.ops) - 1:
                raise self.fail("a terminal in the middle of a block")
            row = OPS[op.name]
            bound = self._check_operands(op, row)
            self._check_attributes(op, row)
            self._check_result(op, row, bound)
            self._check_special(op)

    # One op ------------------------------------------------------------------------------------

    def _check_operands(self, op: Op, row: OpDef) -> dict[str, Type]:
        wanted = list(row.args)
        if "..." in wanted:
            wanted[-1:] = ["A"] * (len(op.args) - len(wanted) + 1)
        if len(wanted) != len(op.args):
            raise self.fail(f"takes {len(wanted)} operands")
        variadic = "..." in row.args
        bound: dict[str, Type] = {}
        for letter, value in zip(wanted, op.args, strict=True):
            if value.const is not None and not 0 <= value.const < 1 << BITS[value.type]:
                raise self.fail(f"{value!r} does not fit its type")
            if letter in _CLASSES:
                if value.type not in _CLASSES[letter]:
                    raise self.fail(f"{value!r} is a {value.type.value}")
                if not variadic and bound.setdefault(letter, value.type) is not value.type:
                    raise self.fail(f"operands of types {bound[letter].value} and "
                                    f"{value.type.value}")  # fmt: skip
            elif value.type is not (_FIXED.get(letter) or Type(letter)):
                raise self.fail(f"{value!r} is a {value.type.value}")
        return bound

    def _check_attributes(self, op: Op, row: OpDef) -> None:
        if set(op.attrs) - _OPTIONAL != set(row.attrs):
            raise self.fail(f"has attributes {sorted(op.attrs)}, not {sorted(row.attrs)}")
        for target in self.block.successors() if op.name in TERMINALS else ():
            if self.blocks.get(target.label) is not target:
                raise self.fail(f"{target!r} is no block of the function")
        local = op.attrs.get("local")
        if local is not None and local not in self.function.locals:
            raise self.fail("no local of the function")
        lane = op.attrs.get("lane")
        if lane is not None and lane not in ((32, 64) if op.name.startswith("vf") else
                                             (8, 16, 32, 64)):  # fmt: skip
            raise self.fail("no such lane width")

    def _check_result(self, op: Op, row: OpDef, bound: dict[str, Type]) -> None:
        if row.result == "*":
            type_ = op.type_attr()
        elif row.result in bound:
            type_ = bound[row.result]
        else:
            type_ = _FIXED.get(row.result) or Type(row.result)
        have = Type.VOID if op.out is None else op.out.type
        if have is not type_ and not (op.name == "call" and op.out is None):
            raise self.fail(f"results in {type_.value}, not {have.value}")

    def _check_special(self, op: Op) -> None:
        name = op.name
        if name in ("zext", "sext", "trunc"):
            source, target = op.args[0].bits, BITS[op.type_attr()]
            fits = target < source if name == "trunc" else target > source
            if op.type_attr() not in INTEGERS or not fits:
                raise self.fail("not a conversion that way")
        elif name == "bitcast" and BITS[op.type_attr()] != op.args[0].bits:
            raise self.fail("changes the width")
        elif name in ("get", "set"):
            local = op.attrs["local"]
            value = op.out if name == "get" else op.args[0]
            assert isinstance(local, Local) and value is not None
            if local.type is not value.type:
                raise self.fail(f"the local is a {local.type.value}")
        elif name == "ret":
            have = op.args[0].type if op.args else Type.VOID
            if len(op.args) > 1 or have is not self.function.result:
                raise self.fail(f"the function's result is {self.function.result.value}")
        elif name == "tail" and not self.function.threaded:
            raise self.fail("only threaded functions tail-call")

    # Definitions before uses -------------------------------------------------------------------

    def _check_order(self) -> None:
        closest = immediate_dominators(self.function)
        home: dict[int, str] = {p.id: "" for p in self.function.params}
        for block in self.function.blocks:
            self.block = block
            for op in block.ops:
                self.current, out = op, op.out
                if out is None:
                    continue
                if out.id in home:
                    raise self.fail(f"{out!r} is defined twice")
                home[out.id] = block.label
        for block in self.function.blocks:
            if block.label in closest:
                self.block = block
                self._check_uses(home, closest)

    def _check_uses(self, home: dict[int, str], closest: dict[str, str | None]) -> None:
        above: set[str] = {""}
        label = closest[self.block.label]
        while label is not None:
            above.add(label)
            label = closest[label]
        here: set[int] = set()
        for op in self.block.ops:
            self.current = op
            for value in op.args:
                defined = value.const is not None or value.id in here
                if not defined and home.get(value.id) not in above:
                    raise self.fail(f"{value!r} is used before it is defined")
            if op.out is not None:
                here.add(op.out.id)
