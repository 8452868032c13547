"""A terminal with the emulator on it, and someone who reads and types."""

from __future__ import annotations

import os
import re
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

REPOSITORY: Final = Path(__file__).parents[2]
SOURCES: Final = os.pathsep.join(
    str(REPOSITORY / root) for root in ("src", "frontends", "backends")
)
OURS: Final = (sys.executable, "-m", "pytcg.cli.system")
PROMPT: Final = rb"# (?:\x1b\[6n)?$"
BOOT_SECONDS: Final = 300  # an empty cache, both cores busy
ANSWER_SECONDS: Final = 60


class Terminal:
    """The program on a pseudo-terminal, and someone who reads and types."""

    def __init__(self, *arguments: str, program: tuple[str, ...] = OURS) -> None:
        self.master, slave = os.openpty()
        self.process = subprocess.Popen(
            [*program, *arguments],
            env={**os.environ, "PYTHONPATH": SOURCES},
            stdin=slave,
            stdout=slave,
            stderr=slave,
        )
        os.close(slave)
        self.screen = b""

    def read(self, seconds: float) -> bool:
        """Add what comes to the screen; False when nothing did, or no more will."""
        if not select.select([self.master], [], [], seconds)[0]:
            return False
        try:
            data = os.read(self.master, 65536)
        except OSError:  # EIO: the program is gone
            return False
        self.screen += data
        return bool(data)

    def wait_for(self, pattern: bytes, seconds: float) -> bytes:
        """Read until the pattern stands on the screen; returns the screen and clears it."""
        end = time.monotonic() + seconds
        while not re.search(pattern, self.screen.rstrip(b"\r\n"), re.MULTILINE):
            alive = self.process.poll() is None
            assert alive or self.read(0), f"it ended: {self.tail()}"
            assert time.monotonic() < end, f"no {pattern!r}: {self.tail()}"
            self.read(0.2)
        seen, self.screen = self.screen, b""
        return seen

    def tail(self) -> str:
        """The end of the screen, for messages."""
        return self.screen[-2000:].decode(errors="replace")

    def type(self, text: str) -> None:
        """Press keys, no faster than they are taken."""
        rest = text.encode()
        while rest:
            if select.select([], [self.master], [], 0.1)[1]:
                rest = rest[os.write(self.master, rest[:512]) :]
            self.read(0)

    def wait(self, seconds: float) -> int:
        """The program's exit status."""
        end = time.monotonic() + seconds
        while self.process.poll() is None and time.monotonic() < end:
            self.read(0.1)
        return self.process.wait(1)

    def close(self) -> None:
        """Leave nothing running."""
        self.process.kill()
        self.process.wait()
        os.close(self.master)
