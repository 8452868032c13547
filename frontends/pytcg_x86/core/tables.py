"""A processor's tables in host memory, and what they hold when it is made.

What all processors begin with lies in a file in memory. Those that are made often and used briefly
(the library's) share its pages until they store to them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytcg.exec import layout
from pytcg.softmmu.ram import BufferPart, HostBuffer, Image, RamWindow
from pytcg_x86.core.state import ENV

if TYPE_CHECKING:
    from pytcg_x86.core.cpu import Engine

_ENTRIES = layout.MMU_MODES * layout.TLB_SIZE
_PREPARED = {
    "tlbs": _ENTRIES * layout.TLB_ENTRY.size, "jumps": layout.JUMP_CACHE_SIZE * layout.JUMP.size,
    "form_hash": layout.FORM_HASH_SIZE * 4,
    "form_list": layout.FORM_HASH_SIZE * layout.FORM.size,
}  # fmt: skip
"""Tables that don't begin as zeroes, in whole pages."""
_EMPTY = _PREPARED["tlbs"] + _PREPARED["jumps"]
_SIZES = _PREPARED | {
    "env": ENV.size + 2 * layout.MAX_COUNTS, "hash": layout.TB_HASH_SIZE * 8,
    "tlb_log": layout.FILL_LOG * 8, "jump_log": layout.FILL_LOG * 8,
    "global_tlb_log": _ENTRIES * 8, "global_jump_log": layout.FILL_LOG * 8,
    "tlb_global": _ENTRIES,
}  # fmt: skip

_beginnings: dict[int, tuple[tuple[int, int], int, Image]] = {}
"""By engine: how many forms and stencils there were, the next form's number, the tables."""


def table_parts(*, huge: bool) -> dict[str, BufferPart]:
    """Memory for the tables of fixed size, zeroes: parts of one buffer, each in whole pages."""
    sizes = {name: -(-size // layout.PAGE_SIZE) * layout.PAGE_SIZE for name, size in _SIZES.items()}
    whole, at = HostBuffer(sum(sizes.values()), huge=huge), 0
    parts = {}
    for name, size in sizes.items():
        parts[name] = BufferPart(whole, at, size)
        at += size
    return parts


def page_table_size(window: RamWindow) -> int:
    """Bytes of the table of a window's pages."""
    return (window.size // layout.PAGE_SIZE + 1) * layout.PAGE.size


def begin_tables(parts: dict[str, BufferPart], engine: Engine) -> int:
    """Empty TLBs and jump cache, known forms in place; the number that the next form gets.

    0 if the forms of ``engine`` have yet to be installed (`keep_tables`).
    """
    whole = parts["tlbs"].owner
    kept = _beginnings.get(id(engine))
    if kept is None or kept[0] != (len(engine.forms), len(engine.stencils)):
        whole.view[:_EMPTY] = b"\xff" * _EMPTY
        return 0
    kept[2].put(whole)
    return kept[1]


def keep_tables(parts: dict[str, BufferPart], engine: Engine, known: tuple[int, int],
                forms: int) -> None:  # fmt: skip
    """What the next processor begins with: these forms, of which ``forms`` - 1 are in place.

    ``known`` is how many forms and stencils the engine had before they were installed.
    """
    listed = bytes(parts["form_list"].view[: forms * layout.FORM.size])
    image = b"\xff" * _EMPTY + bytes(parts["form_hash"].view) + listed
    _beginnings[id(engine)] = known, forms, Image(image, sum(_PREPARED.values()))
