"""What the program says on stderr."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import Final

PROGRAM: Final = "pytcg-system-x86_64"


class Messages:
    """One line on stderr, starting with the program's name; before it what -msg asks for."""

    time = False
    guest = ""

    def __call__(self, text: object) -> None:
        now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        words = [*([now] if self.time else []), *([self.guest] if self.guest else []),
                 f"{PROGRAM}:", *str(text).split()]  # fmt: skip
        print(" ".join(words), file=sys.stderr, flush=True)


complain: Final = Messages()
