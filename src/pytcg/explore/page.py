"""A region as one HTML page that needs nothing else."""

from __future__ import annotations

import html
import importlib.resources
import string
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytcg_region.explore import Explored

_TITLES = {"op": "IR", "llvm": "LLVM", "op_opt": "LLVM, optimised", "out_asm": "Host"}


def as_page(explored: Explored, name: str) -> str:
    """The page: a column for each stage; pointing at a row lights up all that is of the same."""
    columns = [("Guest", explored.guest)]
    columns += [(_TITLES[stage.item], stage.rows) for stage in explored.stages]
    text = importlib.resources.files("pytcg.explore").joinpath("page.html").read_text()
    return string.Template(text).substitute(
        name=html.escape(name), about=html.escape(about(explored)),
        columns="\n".join(_column(title, rows) for title, rows in columns))  # fmt: skip


def about(explored: Explored) -> str:
    """What it is, in a few words."""
    insns = f"{explored.insns} instruction{'s' * (explored.insns != 1)}"
    host = sum(1 for _, text in explored.stages[-1].rows if text.startswith("  "))
    kind = "one region" if explored.compiled else "no region: a handler for each"
    return f"{insns} at {explored.start:#x}, {kind}, {host} host instructions"


def _column(title: str, rows: list[tuple[int, str]]) -> str:
    lines = "".join(_row(line, text) for line, text in rows)
    return f"<section><h2>{html.escape(title)}</h2><div>{lines}</div></section>"


def _row(line: int, text: str) -> str:
    shown = html.escape(text) or "&nbsp;"
    if line == 0:
        return f"<p>{shown}</p>"
    # Neighbours get colours that are far apart.
    return f'<p data-i="{line}" style="--h:{line * 137 % 360}">{shown}</p>'
