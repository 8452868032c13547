"""The passes in their order."""

from __future__ import annotations

from pytcg.ir.blocks import Function
from pytcg.opt.constants import fold_constants
from pytcg.opt.copies import propagate_copies
from pytcg.opt.dead_code import remove_dead_code
from pytcg.opt.dead_stores import remove_dead_stores

PASSES = (fold_constants, propagate_copies, fold_constants, remove_dead_code, remove_dead_stores,
          remove_dead_code)  # fmt: skip


def optimise(function: Function) -> None:
    """Run every pass, in place; the function stays well formed and means the same."""
    for one_pass in PASSES:
        one_pass(function)
