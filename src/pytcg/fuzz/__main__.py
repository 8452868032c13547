"""`python -m pytcg.fuzz`: random instruction sequences on several engines, which must agree.

Each seed is a sequence. One that the engines disagree about is minimised and reported as a one-line
case; `--seed N --count 1` runs it again. The exit status is 1 if there was one.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from pytcg.errors import CpuError
from pytcg.fuzz import hostcpu
from pytcg.fuzz.engines import ENGINES, rules, runner
from pytcg.fuzz.generate import KINDS, generate
from pytcg.fuzz.report import disagreement, report

_TICK = 0.2  # seconds between two looks at the bar

class Bar:
    """A line of progress, on a terminal only."""

    def __init__(self) -> None:
        self._on = sys.stderr.isatty()
        self._next = 0.0

    def show(self, done: int, share: float, bad: int) -> None:
        """``share`` of the whole is done."""
        if self._on and time.monotonic() >= self._next:
            self._next = time.monotonic() + _TICK
            filled = int(30 * min(share, 1.0))
            print(f"\r[{'#' * filled:<30}] {done} sequences, {bad} bad", end="", file=sys.stderr)

    def end(self) -> None:
        if self._on:
            print(file=sys.stderr)


def run(options: argparse.Namespace) -> int:
    """Fuzz in this process; how many seeds were bad."""
    engines, kinds = options.engines.split(","), options.kinds.split(",")
    for name in engines:
        runner(name)
    allowed = rules(engines)
    began, bar = time.monotonic(), Bar()
    state = _resumed(options)
    seed, bad = state["seed"], state["bad"]
    done = 0
    try:
        while not _finished(options, done, began):
            sequence = generate(seed, options.length, kinds, allowed)
            if disagreement(sequence, engines):
                bad += 1
                print(report(seed, sequence, engines), flush=True)
            seed += options.stride
            done += 1
            bar.show(done, _share(options, done, began), bad)
            if options.resume and done % 100 == 0:
                _keep(options, seed, bad)
    except KeyboardInterrupt:
        pass
    bar.end()
    if options.resume:
        _keep(options, seed, bad)
    print(f"{done} sequences, {bad} bad, next seed {seed}")
    return bad


def _finished(options: argparse.Namespace, done: int, began: float) -> bool:
    if options.seconds is not None and time.monotonic() - began >= options.seconds:
        return True
    return options.count is not None and done >= options.count


def _share(options: argparse.Namespace, done: int, began: float) -> float:
    if options.seconds is not None:
        return float((time.monotonic() - began) / max(options.seconds, 1e-9))
    return float(done / max(options.count, 1))


def _resumed(options: argparse.Namespace) -> dict[str, int]:
    state = {"seed": options.seed, "bad": 0}
    if options.resume and Path(options.resume).exists():
        try:
            kept = json.loads(Path(options.resume).read_text())
            state = {"seed": int(kept["seed"]), "bad": int(kept["bad"])}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CpuError(f"{options.resume}: no state to go on from: {error}") from None
    return state


def _keep(options: argparse.Namespace, seed: int, bad: int) -> None:
    """Write the state whole or not at all."""
    path = Path(options.resume)
    fresh = path.with_name(path.name + ".new")
    fresh.write_text(json.dumps({"seed": seed, "bad": bad}))
    os.replace(fresh, path)


def spread(options: argparse.Namespace, arguments: list[str]) -> int:
    """The same in ``jobs`` processes, each with every so many-th seed."""
    count = None if options.count is None else -(-options.count // options.jobs)
    children = []
    for number in range(options.jobs):
        command = [sys.executable, "-m", "pytcg.fuzz", *arguments, "--jobs", "1", "--seed",
                   str(options.seed + number), "--stride", str(options.jobs)]  # fmt: skip
        if count is not None:
            command += ["--count", str(count)]
        if options.resume:
            command += ["--resume", f"{options.resume}.{number}"]
        children.append(subprocess.Popen(command))
    return max(child.wait() for child in children)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python -m pytcg.fuzz", description=__doc__)
    oracle = "host" if hostcpu.available() else "unicorn"
    made.add_argument("--engines", default=f"threaded,jit,{oracle}", metavar="A,B",
                      help=f"of {', '.join(ENGINES)}; the first is compared with the others")
    made.add_argument("--kinds", default=",".join(KINDS), metavar="A,B",
                      help=f"kinds of sequences (default: {','.join(KINDS)})")
    made.add_argument("--count", type=_positive, help="sequences (default: 1000)")
    made.add_argument("--seconds", type=float, help="how long")
    made.add_argument("--seed", type=int, default=0, help="the first seed")
    made.add_argument("--length", type=_positive, default=8, help="instructions a sequence at most")
    made.add_argument("--jobs", type=_positive, default=1, help="processes")
    made.add_argument("--resume", metavar="FILE", help="go on where FILE says, and keep it there")
    made.add_argument("--stride", type=_positive, default=1, help=argparse.SUPPRESS)
    return made


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not positive")
    return value


def main(arguments: list[str]) -> int:
    """The exit status: 0, 1 for disagreements or what can't be done, 2 for a wrong command line."""
    options = parser().parse_args(arguments)
    if options.count is None and options.seconds is None:
        options.count = 1000
    act: Callable[[], int] = lambda: run(options)  # noqa: E731
    if options.jobs > 1:
        act = lambda: spread(options, arguments)  # noqa: E731
    try:
        return int(act() > 0)
    except (CpuError, OSError) as error:
        print(f"pytcg.fuzz: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
