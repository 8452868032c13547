"""Booting the distribution's kernel to a shell: wall time, average speed, memory.

From the process's start to the prompt, ours with an empty object cache and with the one that left,
and QEMU's TCG; the same kernel, initramfs, command line and memory.
"""

from __future__ import annotations

import re
import statistics
import tempfile
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench import process
from bench.engines import EngineError
from bench.process import Console
from bench.qemu import QemuTcg
from bench.results import Measurement
from pytcg.cli import guest

NAME: Final = "boot"
_STATS: Final = re.compile(r"instructions (\d+) seconds ([\d.]+) MIPS")
_RESULT = "pytcg threaded"


@dataclass(frozen=True)
class Boot:
    """One boot."""

    seconds: float
    memory: int
    instructions: int | None = None
    guest_seconds: float | None = None


def guest_options() -> list[str]:
    """The guest, fetched if it is not there; EngineError when it can't be had."""
    folder = guest.cache_folder()
    try:
        guest.ensure(folder)
    except (guest.GuestError, OSError) as error:
        raise EngineError(f"{NAME}: {error}") from error
    return ["-m", "256", "-nographic", "-no-reboot", "-kernel", str(folder / guest.KERNEL),
            "-initrd", str(folder / guest.INITRAMFS),
            "-append", "console=ttyS0 quiet"]  # fmt: skip


def boot(command: Sequence[str], cache: str | None = None) -> Boot:
    """Start an emulator, wait for the prompt, end it."""
    with closing(Console(command, process.environment(cache))) as console:
        seconds = console.wait_for_prompt()
        return Boot(seconds, console.terminate())


def boot_ours(options: Sequence[str], cache: str) -> Boot:
    """A boot of ours with the object cache in a folder, and its own account of itself."""
    log = Path(cache, "stats")
    found = boot([*process.OURS, *options, "-d", "stats", "-D", str(log)], cache)
    stats = _STATS.search(log.read_text(encoding="utf-8"))
    if stats is None:
        raise EngineError(f"{NAME}: no statistics at the end")
    return Boot(found.seconds, found.memory, int(stats[1]), float(stats[2]))


def measure(runs: int) -> list[Measurement]:
    """Rows of the boot; each run empties the cache and fills it again."""
    options = guest_options()
    boots: dict[str, list[Boot]] = {}
    qemu = QemuTcg().name if QemuTcg.available() else None
    for _ in range(runs):
        with tempfile.TemporaryDirectory(prefix="bench-") as cache:
            boots.setdefault(f"{_RESULT}, warm cache", [])
            boots.setdefault(f"{_RESULT}, empty cache", []).append(boot_ours(options, cache))
            boots[f"{_RESULT}, warm cache"].append(boot_ours(options, cache))
        if qemu is not None:
            boots.setdefault(qemu, []).append(boot([*process.QEMU, *options]))
    return [row(name, rows) for name, rows in boots.items()]


def row(name: str, boots: Sequence[Boot]) -> Measurement:
    """The medians; instructions and their seconds are those of the median boot."""
    middle = sorted(boots, key=lambda one: one.seconds)[len(boots) // 2]
    seconds = statistics.median(one.seconds for one in boots)
    memory = max(one.memory for one in boots)
    return Measurement(NAME, name, seconds, 1, middle.instructions, middle.guest_seconds, memory)
