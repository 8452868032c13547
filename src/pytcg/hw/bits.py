"""Register bits as flags that are safe to complement."""

from __future__ import annotations

from enum import IntFlag
from typing import TypeVar

F = TypeVar("F", bound=IntFlag)


def register_bits(flags: type[F]) -> type[F]:
    """Make `~` of an IntFlag class a plain int.

    IntFlag's own complement ends at the highest member, so `word & ~Flag.BIT` would drop whatever
    the word holds above it. A base class can't do this: each enum class gets its own operators.
    """
    flags.__invert__ = _complement  # type: ignore[method-assign, assignment]
    return flags


def _complement(self: IntFlag) -> int:
    return ~int(self)
