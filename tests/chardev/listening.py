"""Whether a server is there: a socket's file is, before anybody listens on it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

ACCEPTS: Final = 0x10000  # __SO_ACCEPTCON, in the fourth column of /proc/net/unix


def listens(path: Path) -> bool:
    """Whether somebody listens on a Unix socket."""
    rows = (row.split(maxsplit=7) for row in Path("/proc/net/unix").read_text().splitlines()[1:])
    return any(row[7:] == [str(path)] and int(row[3], 16) & ACCEPTS for row in rows)
