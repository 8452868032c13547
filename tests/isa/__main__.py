"""Compare every row of the instruction table with an oracle; write what was found to docs/ISA.md.

    python -m tests.isa [--states 10000] [--only MNEMONIC,…] [--output docs/ISA.md]
    python -m tests.isa --new [--states 10000]

Exit status 1 if anything differs. With --only nothing is written, unless --output says where. With
--new the rows that docs/ISA.md has not are compared and put in; the others stay as they are.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
for _folder in ("tests", "backends", "frontends", "src"):
    if str(ROOT / _folder) not in sys.path:
        sys.path.insert(0, str(ROOT / _folder))

from isa.absent import ABSENT  # noqa: E402
from isa.oracles import Verdict, check_for  # noqa: E402
from pytcg_x86.decode.opcodes import opcodes  # noqa: E402
from pytcg_x86.decode.seeds import row_text  # noqa: E402
from pytcg_x86.decode.table import Row  # noqa: E402

HEAD = """\
# Instructions, and how each is known to be right

Written by `python -m tests.isa`; not to be edited. A row is one encoding of the
decoder's table: its opcode (with a mandatory prefix, ModRM fields), operands in the manual's
letters (`frontends/pytcg_x86/decode/table.py`), the CPUID feature it needs, and what its results
were compared with: random and edge operands; registers, flags and memory after one instruction of
threaded code. The tests of `tests/x86` run such cases on the other engines; they compare the faults
of every row with a memory operand with hardware (`test_host_faults.py`), and arithmetic once more
with MPFR (`test_float_reference.py`).

| opcode | instruction | needs | state |
|---|---|---|---|
"""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.isa")
    parser.add_argument("--states", type=int, default=10_000)
    parser.add_argument("--only", default="")
    parser.add_argument("--new", action="store_true")
    parser.add_argument("--output", type=Path)
    return parser.parse_args()


def place(row: Row) -> str:
    """The head of a row's line, unique in the table."""
    name = " ".join([row.mnemonic, ",".join(row.operands)]).strip()
    opcode = row_text(row).split(",")[0]
    return f"| `{opcode}` | {name} | {' or '.join(row.features)} |"


def line(row: Row, verdict: Verdict) -> str:
    state = f"{verdict.text} ({verdict.states:,} states)" if verdict.states else verdict.text
    if verdict.difference:
        state = f"**differs** after {verdict.states} states: {verdict.difference}"
    return f"{place(row)} {state.replace('|', '/')} |\n"


def known(path: Path) -> dict[str, str]:
    """The lines of a table written before, by their heads."""
    lines = path.read_text().splitlines(keepends=True)
    return {text.rpartition(" | ")[0] + " |": text for text in lines if text.startswith("| `")}


def main() -> int:
    options = arguments()
    only = set(filter(None, options.only.split(",")))
    chosen = [row for row in opcodes().rows[2:] if not only or row.mnemonic in only]
    lines, bad = [], 0
    if options.new:
        before = known(ROOT / "docs/ISA.md")
        lines = [before[place(row)] for row in chosen if place(row) in before]
        chosen = [row for row in chosen if place(row) not in before]
    for number, row in enumerate(chosen):
        verdict = check_for(row)(row, options.states)
        lines.append(line(row, verdict))
        if verdict.difference:
            bad += 1
            print(lines[-1], end="")
        if sys.stderr.isatty():
            print(f"\r{number + 1}/{len(chosen)} {row.mnemonic:16}", end="", file=sys.stderr)
    absent = "".join(f"| {name} | not there ({why}) |\n" for name, why in ABSENT.items())
    output = options.output or (None if only else ROOT / "docs/ISA.md")
    if output is not None:
        text = HEAD + "".join(sorted(lines))
        output.write_text(text + f"\n| set | state |\n|---|---|\n{absent}")
    print(f"{len(chosen)} rows, {bad} differ")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
