"""The three places a guest program runs: our emulator, QEMU's, and the host.

An emulator is booted once for all programs of a run; the guest prints a line for each of them, with
its checksum and the nanoseconds its own clock counted.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bench import process
from bench.engines import EngineError

# Not at a line's start: firmware leaves escape sequences there.
_RESULT: Final = re.compile(r"result (\S+) ([0-9a-f]{16}) (\d+)\r?$", re.MULTILINE)


@dataclass(frozen=True)
class Result:
    """One run of one program: its checksum and the seconds it took, by the clock it saw."""

    checksum: str
    seconds: float


@dataclass(frozen=True)
class Run:
    """All that was run at once; seconds of the whole process, start and boot included."""

    results: Mapping[str, Result]
    seconds: float
    complaint: str = ""  # what the emulator or the guest said when something is missing


@dataclass(frozen=True)
class Guest:
    """What is booted: kernel, initramfs, memory in MiB."""

    kernel: Path
    initrd: Path
    memory: int = 256
    cpu: str = ""  # a CPU model, if the emulators' defaults won't do

    def options(self, programs: Sequence[str]) -> list[str]:
        """The emulator's options, ours and QEMU's alike."""
        words = f"console=ttyS0 quiet panic=-1 programs={','.join(programs)}"
        return ["-m", str(self.memory), "-nographic", "-no-reboot", "-kernel", str(self.kernel),
                "-initrd", str(self.initrd), "-append", words,
                *(["-cpu", self.cpu] if self.cpu else [])]  # fmt: skip


@dataclass(frozen=True)
class Emulator:
    """A command that boots a guest, and the table's name for it."""

    name: str
    command: Sequence[str]
    options: Sequence[str] = field(default=())

    def run(self, guest: Guest, programs: Sequence[str], limit: float) -> Run:
        """Boot, run the programs, wait for the power to go off; a run past ``limit`` is killed."""
        command = [*self.command, *guest.options(programs), *self.options]
        began = time.perf_counter()
        # A file, not a pipe: what was printed before the limit is there to be shown.
        with tempfile.TemporaryFile() as output:
            try:
                status = subprocess.run(
                    command, env=process.environment(), stdin=subprocess.DEVNULL, stdout=output,
                    stderr=subprocess.STDOUT, timeout=limit, check=False).returncode  # fmt: skip
                problem = f"exit status {status}" if status else ""
            except subprocess.TimeoutExpired:
                problem = f"not done after {limit:.0f} s"
            seconds = time.perf_counter() - began
            output.seek(0)
            text = output.read().decode(errors="replace")
        return Run(parse(text), seconds, complaint(text, problem))


def parse(text: str) -> dict[str, Result]:
    """Results by program from a console's text."""
    return {name: Result(checksum, int(nanoseconds) / 1e9)
            for name, checksum, nanoseconds in _RESULT.findall(text)}  # fmt: skip


def complaint(text: str, problem: str) -> str:
    """The reason there may be less than was asked for: the last words, or nothing."""
    failed = [line.strip() for line in text.splitlines() if line.startswith("failed ")]
    if not problem and not failed:
        return ""
    last = [line.strip() for line in text.splitlines() if line.strip()][-1:]
    return "; ".join(part for part in (problem, *failed, *last) if part)


def on_host(commands: Mapping[str, Sequence[str]]) -> dict[str, Result]:
    """The programs on the host itself."""
    found: dict[str, Result] = {}
    for name, command in commands.items():
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        try:
            found[name] = parse(done.stdout)[name]
        except KeyError:
            words = done.stderr.strip() or f"exit status {done.returncode}, no result"
            raise EngineError(f"{name} on the host: {words}") from None
    return found
