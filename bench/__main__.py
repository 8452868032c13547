"""`python -m bench`: guest programs on every engine, and the boot, in one table."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence

from bench import boot, measure, startup
from bench.engines import EngineError
from bench.programs import PROGRAMS
from bench.results import Measurement, document, table

NAMES = (*PROGRAMS, startup.NAME, boot.NAME)
_LIST = "\n".join(f"  {program.name:<10}{program.what}" for program in PROGRAMS.values())
EPILOG = f"""
programs:
{_LIST}
  {startup.NAME:<10}wall time of -version, and to a guest's first instruction
  {boot.NAME:<10}wall time to the shell of a Linux guest: empty and warm object cache, QEMU

"x QEMU" and "x host" are how many times as fast as QEMU's TCG and the host CPU: the peer's time
for the same work in the same run by ours (above 1 we are faster). The python engine does less
work, see "count". MIPS are millions of guest instructions a second, as counted by the threaded
engine, an instruction with a REP prefix once; those of the boot leave out the guest's sleep.
Keep the machine idle otherwise. Peers that are not installed are left out.
"""


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError
    return value


def _scale(text: str) -> float:
    value = float(text)
    if not 0 < value <= 1000:
        raise ValueError
    return value


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description=__doc__, epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("-n", dest="runs", type=_positive, default=3, metavar="RUNS",
                        help="runs to take the median of (3)")  # fmt: skip
    parser.add_argument("--only", action="append", choices=NAMES, metavar="NAME",
                        help="only this program; may be given again")  # fmt: skip
    parser.add_argument("--scale", type=_scale, default=1.0, metavar="FACTOR",
                        help="do so many times the usual work in each program (1)")  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser.parse_args(words)


def run(names: Sequence[str], runs: int, scale: float) -> list[Measurement]:
    """All rows, in the table's order."""
    rows: list[Measurement] = []
    runners = measure.engines() if any(name in PROGRAMS for name in names) else []
    for name in names:
        if sys.stderr.isatty():
            print(f"{name} ...", file=sys.stderr)
        if name == startup.NAME:
            rows += startup.measure(runs)
        elif name == boot.NAME:
            rows += boot.measure(runs)
        else:
            rows += measure.measure(PROGRAMS[name], runners, runs=runs, scale=scale)
    return rows


def main(words: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    options = _arguments(words)
    names = [name for name in NAMES if not options.only or name in options.only]
    try:
        rows = run(names, options.runs, options.scale)
    except (EngineError, OSError, subprocess.SubprocessError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    if options.json:
        print(json.dumps(document(rows, options.runs), indent=2))
    else:
        print(table(rows, options.runs))
    return 0


if __name__ == "__main__":
    sys.exit(main())
