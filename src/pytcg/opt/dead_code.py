"""Dead code: unreachable blocks, sets of locals nobody gets, results nobody uses."""

from __future__ import annotations

from pytcg.ir.blocks import Function, Op
from pytcg.ir.flow import reachable
from pytcg.ir.ops import UNREMOVABLE


def remove_dead_code(function: Function) -> None:
    """Drop what can't be reached or seen."""
    live = {block.label for block in reachable(function)}
    function.blocks = [block for block in function.blocks if block.label in live]
    got = {op.attrs["local"] for block in function.blocks for op in block.ops if op.name == "get"}
    while _sweep(function, got):
        got = {op.attrs["local"] for block in function.blocks for op in block.ops
               if op.name == "get"}  # fmt: skip
    function.locals = [local for local in function.locals if local in _mentioned(function)]


def _sweep(function: Function, got: set[object]) -> bool:
    """Remove dead ops once, backward; whether any went."""
    used = {a.id for block in function.blocks for op in block.ops for a in op.args
            if a.const is None}  # fmt: skip
    removed = False
    for block in function.blocks:
        kept = [op for op in block.ops if not _dead(op, used, got)]
        removed |= len(kept) != len(block.ops)
        block.ops = kept
    return removed


def _dead(op: Op, used: set[int], got: set[object]) -> bool:
    if op.name == "set":
        return op.attrs["local"] not in got
    return op.name not in UNREMOVABLE and (op.out is None or op.out.id not in used)


def _mentioned(function: Function) -> set[object]:
    return {op.attrs["local"] for block in function.blocks for op in block.ops
            if "local" in op.attrs}  # fmt: skip
