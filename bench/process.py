"""Emulators as processes: how long until they say something, how much memory they take."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from bench.engines import EngineError

OURS: Final = (sys.executable, "-m", "pytcg.cli.system")
QEMU: Final = ("qemu-system-x86_64", "-accel", "tcg", "-cpu", "max")
TIMEOUT: Final = 600.0
_CURSOR_QUERY: Final = b"\x1b[6n"  # busybox's shell asks for the cursor's place behind its prompt
_ENDS: Final = 20.0


def environment(cache: str | None = None) -> dict[str, str]:
    """This process's environment and module path; with another cache folder when one is given.

    Python's bytecode is kept there, too: what is measured is pytcg as it is when installed.
    """
    found = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    if cache is not None:
        found["XDG_CACHE_HOME"] = cache
        found["PYTHONPYCACHEPREFIX"] = os.path.join(cache, "bytecode")
        found.pop("PYTHONDONTWRITEBYTECODE", None)
    return found


def seconds_of(command: Sequence[str], *, status: int = 0,
               variables: Mapping[str, str] | None = None) -> float:  # fmt: skip
    """Wall time of a process that must end with an exit status."""
    began = time.perf_counter()
    result = subprocess.run(command, env=variables, stdin=subprocess.DEVNULL, capture_output=True,
                            timeout=TIMEOUT, check=False)  # fmt: skip
    seconds = time.perf_counter() - began
    if result.returncode != status:
        words = result.stderr.decode(errors="replace").strip()
        raise EngineError(f"{command[0]}: exit status {result.returncode}: {words}")
    return seconds


class Console:
    """An emulator on a pseudo-terminal."""

    def __init__(self, command: Sequence[str], variables: Mapping[str, str] | None = None) -> None:
        self._master, slave = os.openpty()
        self._began = time.perf_counter()
        self._screen = b""
        self._memory = 0
        self._process = subprocess.Popen(command, env=variables, stdin=slave, stdout=slave,
                                         stderr=slave)  # fmt: skip
        os.close(slave)

    def wait_for_prompt(self, prompt: bytes = b"# ") -> float:
        """Seconds from the process's start until the prompt is the last thing on the screen."""
        return self._wait(lambda: self._screen.removesuffix(_CURSOR_QUERY).endswith(prompt))

    def wait_for(self, words: bytes) -> float:
        """The same until the words stand anywhere on it."""
        return self._wait(lambda: words in self._screen)

    def _wait(self, there: Callable[[], bool]) -> float:
        end = self._began + TIMEOUT
        while not there():
            if time.perf_counter() > end or not self._read(end - time.perf_counter()):
                tail = self._screen[-500:].decode(errors="replace")
                raise EngineError(f"not what was waited for: {tail!r}")
        return time.perf_counter() - self._began

    def _read(self, seconds: float) -> bool:
        """Add to the screen; False when nothing came, or nothing more will."""
        if not select.select([self._master], [], [], max(seconds, 0))[0]:
            return False
        try:
            data = os.read(self._master, 65536)
        except OSError:  # EIO: the other end is closed
            return False
        self._screen += data
        return bool(data)

    def terminate(self) -> int:
        """Ask it to end and wait; its peak of resident memory in bytes."""
        self._process.send_signal(signal.SIGTERM)
        end = time.perf_counter() + _ENDS
        while self._read(0.1) or not self._reap():
            if time.perf_counter() > end:
                raise EngineError(f"process {self._process.pid} does not end")
        return self._memory

    def _reap(self) -> bool:
        """Collect the process if it has ended; os.wait4 alone knows what one child used."""
        if self._process.returncode is None:
            pid, status, usage = os.wait4(self._process.pid, os.WNOHANG)
            if pid == 0:
                return False
            self._process.returncode = os.waitstatus_to_exitcode(status)
            self._memory = usage.ru_maxrss << 10
        return True

    def close(self) -> None:
        """Leave nothing running."""
        if self._process.returncode is None and not self._reap():
            self._process.kill()
            self._process.wait()
        os.close(self._master)
