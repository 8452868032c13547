"""Register bits: named flags that calculate as plain ints."""

from __future__ import annotations

from enum import IntFlag
from typing import TypeVar

F = TypeVar("F", bound=IntFlag)

OPERATORS = (
    "__and__", "__or__", "__xor__", "__rand__", "__ror__", "__rxor__", "__invert__",
)  # fmt: skip


def register_bits(flags: type[F]) -> type[F]:
    """Give an IntFlag class the operators of int (a base class can't: each enum gets its own).

    IntFlag's complement ends at its highest member, so `word & ~Flag.BIT` would drop whatever the
    word holds above it; and looking the result's member up makes each operation cost more than
    the rest of a register access.
    """
    for name in OPERATORS:
        setattr(flags, name, getattr(int, name))
    return flags
