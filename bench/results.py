"""Measurements, what they were made on, and the table and JSON they are shown as."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import Final

import llvmlite
import llvmlite.binding as llvm

QEMU: Final = "QEMU"
HOST: Final = "host"
NONE: Final = "-"


@dataclass(frozen=True)
class Measurement:
    """The median of several runs of one program on one engine."""

    program: str
    engine: str
    seconds: float
    count: int = 1  # how often the work was done
    instructions: int | None = None  # guest instructions in those seconds
    guest_seconds: float | None = None  # of guest code alone, where it is known apart
    memory: int | None = None  # bytes, the process's peak

    @property
    def mips(self) -> float | None:
        """Millions of guest instructions a second."""
        seconds = self.guest_seconds or self.seconds
        if self.instructions is None or not seconds:
            return None
        return self.instructions / seconds / 1e6


def speed(measured: Measurement, peer: Measurement | None) -> float | None:
    """How many times the peer's speed: the peer's time for the same work by ours."""
    if peer is None or not peer.seconds or not measured.seconds:
        return None
    return (peer.seconds / peer.count) / (measured.seconds / measured.count)


@cache
def machine() -> str:
    """The host and the versions that matter, in one line."""
    cpu = platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            rows = (line.partition(":") for line in file)
            cpu = next(value.strip() for key, _, value in rows if key.strip() == "model name")
    except (OSError, StopIteration):
        pass
    parts = (f"{cpu}, {os.cpu_count()} CPUs", f"{platform.system()} {platform.release()}",
             f"Python {platform.python_version()}", f"llvmlite {llvmlite.__version__}",
             f"LLVM {llvm.llvm_version_info[0]}")  # fmt: skip
    return ", ".join(parts)


def _peer(rows: Sequence[Measurement], program: str, prefix: str) -> Measurement | None:
    found = (row for row in rows if row.program == program and row.engine.startswith(prefix))
    return next(found, None)


def _number(value: float | None, digits: int = 3) -> str:
    """A few significant digits, never an exponent."""
    if value is None:
        return NONE
    magnitude = math.floor(math.log10(value)) if value else 0
    return f"{value:.{max(digits - 1 - magnitude, 0)}f}"


HEADINGS: Final = ("program", "engine", "x QEMU", "x host", "MIPS", "seconds", "count", "peak MiB")


def _cells(rows: Sequence[Measurement], row: Measurement) -> tuple[str, ...]:
    memory = None if row.memory is None else row.memory / (1 << 20)
    return (row.program, row.engine, _number(speed(row, _peer(rows, row.program, QEMU))),
            _number(speed(row, _peer(rows, row.program, HOST))), _number(row.mips),
            _number(row.seconds), str(row.count), _number(memory))  # fmt: skip


def table(rows: Sequence[Measurement], runs: int) -> str:
    """Lines for people: ratios first, then the figures they come from."""
    cells = [HEADINGS, *(_cells(rows, row) for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(HEADINGS))]
    lines = [f"measured on {machine()}; medians of {runs} runs"]
    for line in cells:
        left = [text.ljust(width) for text, width in zip(line[:2], widths[:2], strict=True)]
        right = [text.rjust(width) for text, width in zip(line[2:], widths[2:], strict=True)]
        lines.append("  ".join(left + right))
    return "\n".join(lines)


def document(rows: Sequence[Measurement], runs: int) -> dict[str, object]:
    """The same for programs, ready for `json.dumps`; each row says what it was measured on."""
    results = [
        {**asdict(row), "mips": row.mips, "times_qemu": speed(row, _peer(rows, row.program, QEMU)),
         "times_host": speed(row, _peer(rows, row.program, HOST)), "measured_on": machine()}
        for row in rows
    ]  # fmt: skip
    return {"runs": runs, "results": results}
