"""The guest programs' table: seconds, ratios to QEMU and to the host, their geometric means."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Final

from bench.guests.machines import Result
from bench.results import NONE, machine

HOST: Final = "host"
QEMU: Final = "QEMU"
WRONG: Final = "WRONG"

Times = Mapping[str, Sequence[Result]]  # by program, one a run


@dataclass(frozen=True)
class Row:
    """A program on an engine; seconds is the median, None when it did not finish."""

    program: str
    engine: str
    seconds: float | None
    correct: bool
    times_qemu: float | None = None
    times_host: float | None = None


def _median(results: Sequence[Result]) -> float | None:
    return statistics.median(one.seconds for one in results) if results else None


def _ratio(peer: float | None, ours: float | None) -> float | None:
    return peer / ours if peer and ours else None


def rows(programs: Sequence[str], found: Mapping[str, Times]) -> list[Row]:
    """All rows, by program; ``found`` is by engine, QEMU's and the host's are the peers."""
    made = []
    for program in programs:
        medians = {engine: _median(times.get(program, ())) for engine, times in found.items()}
        expected = {one.checksum for one in found[HOST].get(program, ())}
        for engine, times in found.items():
            correct = {one.checksum for one in times.get(program, ())} <= expected
            ours = medians[engine]
            made.append(Row(program, engine, ours, correct, _ratio(medians.get(QEMU), ours),
                            _ratio(medians[HOST], ours)))  # fmt: skip
    return made


def geometric_mean(values: Sequence[float | None]) -> float | None:
    """Of those that are there; None if one is missing, as it would be no mean of the whole."""
    known = [value for value in values if value]
    return math.exp(statistics.fmean(map(math.log, known))) if len(known) == len(values) else None


def _text(value: float | None, digits: int = 2) -> str:
    return NONE if value is None else f"{value:.{digits}f}"


def table(programs: Sequence[str], made: Sequence[Row], runs: int) -> str:
    """A line a program: each engine's seconds, then each engine's ratios."""
    engines = list(dict.fromkeys(row.engine for row in made))
    compared = [engine for engine in engines if engine not in (HOST, QEMU)]
    by = {(row.program, row.engine): row for row in made}

    def ratios(engine: str, program: str) -> list[float | None]:
        return [by[program, engine].times_qemu, by[program, engine].times_host]

    peers = ("x QEMU", "x host")
    lines = [["program", *(f"{engine} s" for engine in engines),
              *(_heading(engine, peer, compared) for engine in compared for peer in peers)]]
    for program in programs:
        lines.append([
            program, *(_seconds(by[program, engine]) for engine in engines),
            *(_text(one) for engine in compared for one in ratios(engine, program)),
        ])  # fmt: skip
    means = [geometric_mean([ratios(engine, program)[peer] for program in programs])
             for engine in compared for peer in range(len(peers))]  # fmt: skip
    lines.append(["geometric mean", *("" for _ in engines), *map(_text, means)])
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    printed = ["  ".join([line[0].ljust(widths[0]),
                          *(text.rjust(width) for text, width in
                            zip(line[1:], widths[1:], strict=True))])
               for line in lines]  # fmt: skip
    return "\n".join([f"measured on {machine()}; medians of {runs} runs", *printed])


def _heading(engine: str, peer: str, compared: Sequence[str]) -> str:
    return peer if len(compared) == 1 else f"{engine} {peer}"


def _seconds(row: Row) -> str:
    return _text(row.seconds, 3) if row.correct else WRONG


def document(made: Sequence[Row], runs: int) -> dict[str, object]:
    """The same for programs, ready for `json.dumps`."""
    return {"runs": runs, "measured_on": machine(), "results": [asdict(row) for row in made]}
