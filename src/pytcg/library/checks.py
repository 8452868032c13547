"""What the library asks of arguments, so that a wrong one is an error that names it."""

from __future__ import annotations

from operator import index
from typing import SupportsIndex, cast

from pytcg.errors import CpuError


def whole(value: object, what: str) -> int:
    """A whole number (numpy's too) as an int; CpuError names ``what``."""
    try:
        return index(cast(SupportsIndex, value))
    except TypeError:
        raise CpuError(f"{what} is a whole number, not {value!r}") from None


def seconds(value: object, what: str) -> float:
    """A time that a timer can be set to; CpuError."""
    if not isinstance(value, (int, float)) or not value < 1 << 31:
        raise CpuError(f"{what} is a number of seconds, not {value!r}")
    return value
