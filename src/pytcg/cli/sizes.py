"""Sizes as people write and read them."""

from __future__ import annotations

from pytcg.block.options import parse_size as parse_size

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


def human_size(value: int) -> str:
    """``1.5 GiB``: three significant digits, a unit of 1024, as QEMU prints sizes."""
    unit = 0
    # The next unit already from 1000 of this one, so that four digits never show.
    while value >= 1000 * 1024**unit and unit < len(_UNITS) - 1:
        unit += 1
    return f"{significant(value / 1024**unit)} {_UNITS[unit]}"


def significant(value: float) -> str:
    """printf's %0.3g."""
    return f"{value:.3g}"
