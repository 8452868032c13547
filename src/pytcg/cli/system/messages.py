"""What the program says on stderr."""

from __future__ import annotations

import sys
from typing import Final

PROGRAM: Final = "pytcg-system-x86_64"


def complain(text: object) -> None:
    """One line on stderr, starting with the program's name."""
    print(f"{PROGRAM}: {' '.join(str(text).split())}", file=sys.stderr, flush=True)
