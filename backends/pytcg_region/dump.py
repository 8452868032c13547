"""Regions in the debug log: `-d op,op_opt,llvm,out_asm`, when one is first put in place."""

from __future__ import annotations

from collections.abc import Callable

from pytcg.log import Log
from pytcg_region.request import Request
from pytcg_region.stages import region_stages

ITEMS = {"op", "op_opt", "llvm", "out_asm"}


def region_dumper(log: Log) -> Callable[[Request, str], None] | None:
    """What shows a region and its key; None if the log wants none of it."""
    wanted = log.items & ITEMS
    shown: set[str] = set()

    def show(request: Request, key: str) -> None:
        if key in shown:
            return
        shown.add(key)
        title = (f"region {key} at {request.pc:#x}, {request.count} blocks,"
                 f" {request.insns} instructions")  # fmt: skip
        log.write("\n".join(f"{stage.title}: {title}\n" + "\n".join(text for _, text in stage.rows)
                            for stage in region_stages(request, key) if stage.item in wanted))

    return show if wanted else None
