"""How a region is kept: the entries' block numbers, `SEPARATOR`, an `Image`; or `UNFIT`.

Beside it is its shape, rows by which the same blocks are found again.
"""

from __future__ import annotations

import struct

SEPARATOR = b"\n\0"
UNFIT = b"unfit" + SEPARATOR
"""The answer to a request that is better left to threaded code."""

SHAPE_ROW = struct.Struct("<qQqq")
"""A block of a region, for `region_follow`: pc, whether it is an entry, taken, fall."""


def region_name(key: str) -> str:
    """The symbol of a region's code."""
    return f"region_{key}"
