"""A region as text: each instruction beside what became of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from itertools import zip_longest
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pytcg_region.explore import Explored

NARROW: Final = 24
_GAP = "  "


def as_text(explored: Explored, width: int) -> Iterator[str]:
    """Lines of at most ``width`` characters: a column for each stage, cut where it is too long.

    What belongs to no instruction (entering, the shared ends of exits) comes last.
    """
    columns = [("GUEST", explored.guest), *((s.title, s.rows) for s in explored.stages)]
    each = max((width - len(_GAP) * (len(columns) - 1)) // len(columns), NARROW)
    yield _line([title for title, _ in columns], each)
    by_line = [_by_line(rows) for _, rows in columns]
    order = dict.fromkeys(line for line, _ in explored.guest if line)
    for line in (*order, 0):
        yield _line(["-" * each] * len(columns), each)
        cells = [rows[line] for rows in by_line]
        if line == 0:
            cells[0] = ["in and out"]
        for row in zip_longest(*cells, fillvalue=""):
            yield _line(row, each)


def _by_line(rows: list[tuple[int, str]]) -> defaultdict[int, list[str]]:
    found = defaultdict(list)
    for line, text in rows:
        found[line].append(text.strip())
    return found


def _line(cells: list[str] | tuple[str, ...], each: int) -> str:
    shown = (cell if len(cell) <= each else cell[: each - 1] + "…" for cell in cells)
    return _GAP.join(f"{cell:<{each}}" for cell in shown).rstrip()
