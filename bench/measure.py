"""Guest programs on every engine: the engines take turns, the medians count."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from bench.engines import Engine, EngineError, HostCpu, Outcome, PytcgEngine
from bench.program import Program
from bench.qemu import QemuTcg
from bench.results import Measurement


def engines() -> list[Engine]:
    """All that this machine has, ours first."""
    found: list[Engine] = [PytcgEngine("threaded"), PytcgEngine("python")]
    if QemuTcg.available():
        found.append(QemuTcg())
    if HostCpu.available():
        found.append(HostCpu())
    return found


def count_for(engine: Engine, program: Program, scale: float) -> int:
    """How often the program is to do its work."""
    whole = program.python_count if engine.name.endswith("python") else program.count
    return max(int(whole * scale), 1)


def measure(program: Program, runners: Sequence[Engine], *, runs: int,
            scale: float = 1.0) -> list[Measurement]:  # fmt: skip
    """One row an engine. EngineError when an engine fails or two of them disagree."""
    outcomes: dict[str, list[Outcome]] = {engine.name: [] for engine in runners}
    for _ in range(runs):
        for engine in runners:
            outcomes[engine.name].append(engine.run(program, count_for(engine, program, scale)))
    counts = {engine.name: count_for(engine, program, scale) for engine in runners}
    _compare(program, outcomes, counts)
    instructions = {counts[name]: rows[0].instructions for name, rows in outcomes.items()
                    if rows[0].instructions is not None}  # fmt: skip
    return [
        Measurement(program.name, name, statistics.median(row.seconds for row in rows),
                    counts[name], instructions.get(counts[name]))
        for name, rows in outcomes.items()
    ]  # fmt: skip


def _compare(program: Program, outcomes: dict[str, list[Outcome]], counts: dict[str, int]) -> None:
    """The same work must have had the same answer everywhere: speed without it is nothing."""
    answers: dict[int, int] = {}
    for name, rows in outcomes.items():
        for row in rows:
            expected = answers.setdefault(counts[name], row.answer)
            if row.answer != expected:
                what = f"{row.answer:#x}, others {expected:#x}"
                raise EngineError(f"{program.name}: {name} answers {what}")
