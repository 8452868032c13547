"""What becomes of a region, or of the forms it would be made of: each stage as rows of text.

They are built again by what the engine builds them with; what runs may come from a cache.
"""

from __future__ import annotations

from typing import NamedTuple

from pytcg.ir.blocks import Function
from pytcg.ir.text import function_rows
from pytcg_llvm.emit import emit_located
from pytcg_llvm.host import show_guest_code
from pytcg_llvm.listing import Row, host_rows, llvm_rows
from pytcg_region.compile import build_region
from pytcg_region.kept import region_name
from pytcg_region.request import Request
from pytcg_threaded.jobs import program
from pytcg_x86.core.form import build_form, describe


class Stage(NamedTuple):
    """One of the texts, by the name of its debug log item."""

    item: str
    title: str
    rows: list[Row]


def region_stages(request: Request, key: str) -> list[Stage]:
    """The stages of a region; rows know the instruction, counted through its blocks from 1.

    NotInRegion if there is no region of that.
    """
    function, _ = build_region(request, region_name(key))
    return _stages(function)


def form_stages(request: Request) -> list[Stage]:
    """The stages of the forms of a request's instructions, one behind the other."""
    stages: dict[str, Stage] = {}
    insns = [insn for block in request.blocks for insn in block.insns]
    for number, insn in enumerate(insns, 1):
        function, _ = build_form(program(), insn.key)
        for stage in _stages(function):
            rows = stages.setdefault(stage.item, Stage(stage.item, stage.title, [])).rows
            rows.append((number, f"; {describe(insn.key)}"))
            rows += [(number, text) for _, text in stage.rows]
    return list(stages.values())


def _stages(function: Function) -> list[Stage]:
    """IR, LLVM text before and after its passes, and host code."""
    text = emit_located(function)
    optimised, assembly = show_guest_code(text)
    return [Stage("op", "OP", list(function_rows(function))),
            Stage("llvm", "LLVM", list(llvm_rows(text))),
            Stage("op_opt", "LLVM after optimization", list(llvm_rows(optimised))),
            Stage("out_asm", "OUT", list(host_rows(assembly)))]  # fmt: skip
