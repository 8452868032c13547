"""`python -m bench.guests`: programs of gcc, under Linux in pytcg and QEMU, and on the host."""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from bench import process
from bench.engines import EngineError
from bench.guests import build, large, report
from bench.guests.machines import Emulator, Guest, Result, on_host
from bench.guests.report import HOST, QEMU
from pytcg.cli import guest as base
from pytcg.cli.initramfs import Entry, executable

EXTENDED: Final = (*build.VECTORS, *build.CIPHERS)
PROGRAMS: Final = (*build.PROGRAMS, *EXTENDED, *large.PROGRAMS)
EPILOG: Final = """
The programs are in bench/guests/*.c; "python" and "gcc" are the distribution's. Each prints a
checksum, which must be the host's, and the time its kernel took by the guest's own clock; boots are
not in it. "x QEMU" and "x host" are how many times as fast as QEMU's TCG and as the host: above 1
we are faster. --engine gives our emulator
other options, and may be given again to compare them: --engine '-accel tcg,tb-size=64'.
"""


def arguments(words: Sequence[str] | None) -> argparse.Namespace:
    """The command line's options."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.guests", description=__doc__, epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--only", action="append", choices=PROGRAMS, metavar="NAME",
                        help="only this program; may be given again")  # fmt: skip
    parser.add_argument("-n", dest="runs", type=int, default=1, metavar="RUNS",
                        help="boots to take the median of (1)")  # fmt: skip
    parser.add_argument("--engine", action="append", metavar="OPTIONS",
                        help="options of our emulator; may be given again")  # fmt: skip
    parser.add_argument("--qemu", default="", metavar="OPTIONS", help="more options of QEMU's")
    parser.add_argument("--no-qemu", action="store_true", help="leave QEMU out")
    parser.add_argument("--limit", type=float, default=300.0, metavar="SECONDS",
                        help="kill a boot that takes longer (300)")  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(words)
    if options.runs < 1:
        parser.error("-n: at least one run")
    return options


def emulators(options: argparse.Namespace) -> list[Emulator]:
    """What is to be booted: ours in each variant, then QEMU if it is there."""
    variants = options.engine or [""]
    found = [Emulator(f"pytcg {words}".strip(), process.OURS, shlex.split(words))
             for words in variants]  # fmt: skip
    if not options.no_qemu and shutil.which(process.QEMU[0]):
        found.append(Emulator(QEMU, process.QEMU, shlex.split(options.qemu)))
    return found


@dataclass(frozen=True)
class Suite:
    """Programs that are booted together, and the host's command for each."""

    guest: Guest
    commands: Mapping[str, Sequence[str]]


def _guest(archive: str, files: Iterable[Entry], memory: int) -> Guest:
    """The distribution's kernel with an initramfs of our own, written to the cache folder."""
    folder = build.base_folder()
    _publish(folder / archive, build.initramfs((folder / base.BUSYBOX).read_bytes(), files))
    return Guest(folder / base.KERNEL, folder / archive, memory)


def _compiled(names: Iterable[str]) -> dict[str, Path]:
    made = build.base_folder() / "programs"
    made.mkdir(exist_ok=True)
    return {name: build.compile_program(name, made) for name in names}


def small_suite(programs: Iterable[str] = build.PROGRAMS,
                archive: str = "programs.cpio") -> Suite:  # fmt: skip
    """The small programs, all in one guest."""
    paths = _compiled(programs)
    files = [executable(f"{build.FOLDER}/{name}", path.read_bytes())
             for name, path in paths.items()]  # fmt: skip
    return Suite(_guest(archive, files, 256),
                 {name: [str(path)] for name, path in paths.items()})  # fmt: skip


def vector_suite() -> Suite:
    """Programs for x86-64-v3, and ciphers, on processors that have all of it."""
    suite = small_suite(EXTENDED, "vectors.cpio")
    return replace(suite, guest=replace(suite.guest, cpu="max"))


def large_suite() -> Suite:
    """Python and gcc, in a guest of their own."""
    root = large.folder_with_packages(build.base_folder())
    timed = _compiled([large.TIMED])[large.TIMED]
    large.write_inputs(timed.parent)
    commands = {
        name: large.command(name, root, str(root), str(timed), str(timed.parent), f"{name}.output")
        for name in large.PROGRAMS
    }
    return Suite(_guest("large.cpio", large.entries(root, timed), large.MEMORY), commands)


SUITES: Final = ((build.PROGRAMS, small_suite), (EXTENDED, vector_suite),
                 (large.PROGRAMS, large_suite))  # fmt: skip


def _publish(path: Path, data: bytes) -> None:
    if not path.exists() or path.read_bytes() != data:
        base.publish(path, data)


def run(options: argparse.Namespace, suite: Suite, programs: Sequence[str]) -> list[report.Row]:
    """Rows of one suite's programs; what an emulator complains of goes to stderr."""
    found: dict[str, dict[str, list[Result]]] = {}
    for _ in range(options.runs):
        for emulator in emulators(options):
            result = emulator.run(suite.guest, programs, options.limit)
            if result.complaint:
                print(f"{emulator.name}: {result.complaint}", file=sys.stderr)
            _add(found.setdefault(emulator.name, {}), result.results)
        commands = {name: suite.commands[name] for name in programs}
        _add(found.setdefault(HOST, {}), on_host(commands))
    return report.rows(programs, found)


def _add(to: dict[str, list[Result]], results: Mapping[str, Result]) -> None:
    for name, one in results.items():
        to.setdefault(name, []).append(one)


def main(words: Sequence[str] | None = None) -> int:
    """The command line; exit status 1 when a program failed or answered something else."""
    options = arguments(words)
    rows: list[report.Row] = []
    try:
        for names, make in SUITES:
            programs = [name for name in names if not options.only or name in options.only]
            if programs:
                found = run(options, make(), programs)
                rows += found
                if not options.json:
                    print(report.table(programs, found, options.runs))
    except (EngineError, OSError, subprocess.SubprocessError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    if options.json:
        print(json.dumps(report.document(rows, options.runs), indent=2))
    return 0 if all(row.correct and row.seconds is not None for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
