"""Copy propagation: a `get` of a local becomes the value that was last `set`.

Within a block the last set or get is known. At a block's head what the immediate dominator knew
still holds for every local that only strict dominators set: on any path to the block, the last of
them to be passed is the nearest.
"""

from __future__ import annotations

from pytcg.ir.blocks import Block, Function, Local, Op, Value
from pytcg.ir.flow import immediate_dominators, reachable
from pytcg.opt.rewrite import replace_operands, replace_values


def propagate_copies(function: Function) -> None:
    """Replace gets whose value is known."""
    closest = immediate_dominators(function)
    blocks = reachable(function)
    setters = _setters(blocks)
    known: dict[int, Value] = {}
    after: dict[str, dict[int, Value]] = {}
    for block in blocks:
        above = _strict_dominators(block, closest)
        nearest = after[above[0]] if above else {}
        start = {i: value for i, value in nearest.items()
                 if setters.get(i, set()).issubset(above)}  # fmt: skip
        after[block.label] = _propagate(block, start, known)
    replace_values(function, known)


def _setters(blocks: list[Block]) -> dict[int, set[str]]:
    """Labels of the blocks that set each local."""
    found: dict[int, set[str]] = {}
    for block in blocks:
        for op in block.ops:
            if op.name == "set":
                found.setdefault(_local(op).id, set()).add(block.label)
    return found


def _strict_dominators(block: Block, closest: dict[str, str | None]) -> list[str]:
    """Nearest first."""
    found: list[str] = []
    label = closest[block.label]
    while label is not None:
        found.append(label)
        label = closest[label]
    return found


def _propagate(block: Block, values: dict[int, Value],
               known: dict[int, Value]) -> dict[int, Value]:  # fmt: skip
    values = dict(values)
    kept: list[Op] = []
    for op in block.ops:
        replace_operands(op, known)
        if op.name == "get" and op.out is not None:
            value = values.setdefault(_local(op).id, op.out)
            if value is not op.out:
                known[op.out.id] = value
                continue
        elif op.name == "set":
            values[_local(op).id] = op.args[0]
        kept.append(op)
    block.ops = kept
    return values


def _local(op: Op) -> Local:
    local = op.attrs["local"]
    assert isinstance(local, Local)
    return local
