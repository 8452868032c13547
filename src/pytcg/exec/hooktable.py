"""Hooks as native code has them: lists of rows, by kind, in a buffer of their own."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pytcg.exec.hooks import Hooks
from pytcg.exec.layout import HOOK
from pytcg.softmmu.ram import HostBuffer

_ROW = struct.Struct("<QQQQQQII")  # layout.HOOK
LAST = (1 << 64) - 1


class HookRow(NamedTuple):
    """One hook: linear addresses ``first`` to ``last``, `HookFlag`s, and what it calls, if any."""

    first: int
    last: int
    flags: int
    code: int = 0
    data: int = 0
    rows: int = 0


def hook_table(lists: Mapping[Hooks, Sequence[HookRow]]) -> tuple[HostBuffer, dict[Hooks, int]]:
    """The rows in a new buffer, and where each list begins (0: it is empty).

    Lists are never changed in place: native code may be amid the old ones.
    """
    count = sum(map(len, lists.values()))
    table = HostBuffer(-(-max(count, 1) * HOOK.size // 4096) * 4096)
    heads, at = {}, 0
    for kind, hooks in lists.items():
        heads[kind] = table.address + at if hooks else 0
        for number, hook in enumerate(hooks):
            following = table.address + at + HOOK.size if number + 1 < len(hooks) else 0
            _ROW.pack_into(table.view, at, following, hook.code, hook.data, hook.rows, hook.first,
                           hook.last, hook.flags, 0)  # fmt: skip
            at += HOOK.size
    return table, heads
