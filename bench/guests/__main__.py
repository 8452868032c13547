"""`python -m bench.guests`: programs of gcc, under Linux in pytcg and QEMU, and on the host."""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench import process
from bench.engines import EngineError
from bench.guests import build, report
from bench.guests.machines import Emulator, Guest, Result, on_host
from bench.guests.report import HOST, QEMU
from pytcg.cli import guest as base
from pytcg.cli.initramfs import executable

EPILOG = """
The programs are in bench/guests/*.c. Each prints a checksum, which must be the host's, and the time
its kernel took by the guest's own clock; boots are not in it. "x QEMU" and "x host" are how many
times as fast as QEMU's TCG and as the host: above 1 we are faster. --engine gives our emulator
other options, and may be given again to compare them: --engine '-accel tcg,tb-size=64'.
"""


def arguments(words: Sequence[str] | None) -> argparse.Namespace:
    """The command line's options."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.guests", description=__doc__, epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--only", action="append", choices=build.PROGRAMS, metavar="NAME",
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


def prepare(programs: Sequence[str]) -> tuple[Guest, dict[str, list[str]]]:
    """The guest with all programs in it, and the host's command for each that was asked for."""
    folder = build.base_folder()
    made = folder / "programs"
    made.mkdir(exist_ok=True)
    paths = {name: build.compile_program(name, made) for name in build.PROGRAMS}
    files = [executable(f"{build.FOLDER}/{name}", path.read_bytes())
             for name, path in paths.items()]  # fmt: skip
    archive = build.initramfs((folder / base.BUSYBOX).read_bytes(), files)
    initrd = folder / "programs.cpio"
    _publish(initrd, archive)
    return Guest(folder / base.KERNEL, initrd), {name: [str(paths[name])] for name in programs}


def _publish(path: Path, data: bytes) -> None:
    if not path.exists() or path.read_bytes() != data:
        base.publish(path, data)


def run(options: argparse.Namespace, programs: Sequence[str]) -> list[report.Row]:
    """All rows; what an emulator complains of goes to stderr."""
    guest, commands = prepare(programs)
    found: dict[str, dict[str, list[Result]]] = {}
    for _ in range(options.runs):
        for emulator in emulators(options):
            result = emulator.run(guest, programs, options.limit)
            if result.complaint:
                print(f"{emulator.name}: {result.complaint}", file=sys.stderr)
            _add(found.setdefault(emulator.name, {}), result.results)
        _add(found.setdefault(HOST, {}), on_host(commands))
    return report.rows(programs, found)


def _add(to: dict[str, list[Result]], results: Mapping[str, Result]) -> None:
    for name, one in results.items():
        to.setdefault(name, []).append(one)


def main(words: Sequence[str] | None = None) -> int:
    """The command line; exit status 1 when a program failed or answered something else."""
    options = arguments(words)
    programs = [name for name in build.PROGRAMS if not options.only or name in options.only]
    try:
        rows = run(options, programs)
    except (EngineError, OSError, subprocess.SubprocessError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    if options.json:
        print(json.dumps(report.document(rows, options.runs), indent=2))
    else:
        print(report.table(programs, rows, options.runs))
    return 0 if all(row.correct and row.seconds is not None for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
