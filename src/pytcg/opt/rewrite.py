"""What passes share: replacing values throughout a function."""

from __future__ import annotations

from pytcg.ir.blocks import Function, Op, Value


def resolve(value: Value, known: dict[int, Value]) -> Value:
    """``value``, or what replaces it in the end."""
    while value.const is None and value.id in known:
        value = known[value.id]
    return value


def replace_operands(op: Op, known: dict[int, Value]) -> None:
    if any(a.const is None and a.id in known for a in op.args):
        op.args = tuple(resolve(a, known) for a in op.args)


def replace_values(function: Function, known: dict[int, Value]) -> None:
    """Put the replacements into every op."""
    if known:
        for block in function.blocks:
            for op in block.ops:
                replace_operands(op, known)
