"""pytcg-img beside qemu-img: whole program runs, the programs taking turns, medians.

    python -m bench.disk [--size MIB] [--runs N] [case ...]

Prints, for each case, both times and how many times qemu-img's speed ours is.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

OURS = [str(Path(sys.executable).with_name("pytcg-img"))]
THEIRS = ["qemu-img"]

# name: the command line; {size} in MiB. Files: data.raw (half of it holes), data.qcow2 and
# packed.qcow2 with the same content, large.qcow2 with metadata for 500 GiB.
CASES = {
    "convert raw to qcow2": "convert -f raw -O qcow2 data.raw out",
    "convert qcow2 to raw": "convert -f qcow2 -O raw data.qcow2 out",
    "convert qcow2 to qcow2": "convert -f qcow2 -O qcow2 data.qcow2 out",
    "convert to compressed": "convert -c -f qcow2 -O qcow2 data.qcow2 out",
    "convert from compressed": "convert -f qcow2 -O raw packed.qcow2 out",
    "create 100 GiB": "create -q -f qcow2 out 100G",
    "create 100 GiB, metadata": "create -q -f qcow2 -o preallocation=metadata out 100G",
    "check": "check -q data.qcow2",
    "check 500 GiB": "check -q large.qcow2",
    "map": "map --output=json data.qcow2",
    "compare": "compare -q data.raw data.qcow2",
    "random reads": "bench -q -f qcow2 -c 100000 -S 1234k data.qcow2",
    "overwrites": "bench -q -f qcow2 -w -t unsafe -c 50000 -S 300k data.qcow2",
}


def seconds(program: Sequence[str], line: str, directory: Path) -> float:
    """How long one command takes."""
    (directory / "out").unlink(missing_ok=True)
    environment = {**os.environ}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed program has its bytecode
    began = time.perf_counter()
    subprocess.run([*program, *line.split()], cwd=directory, check=True,
                   stdout=subprocess.DEVNULL, env=environment)
    return time.perf_counter() - began


def prepare(directory: Path, size: int) -> None:
    """Make the images that the cases read."""
    block = os.urandom(1 << 20)
    with (directory / "data.raw").open("wb") as file:
        file.truncate(size << 20)
        for index in range(0, size, 2):
            file.seek(index << 20)
            file.write(block[index:] + block[:index])  # no two alike, cheaply
    for line in ("convert -O qcow2 data.raw data.qcow2",
                 "convert -c -O qcow2 data.raw packed.qcow2",
                 "create -q -f qcow2 -o preallocation=metadata large.qcow2 500G"):
        subprocess.run([*THEIRS, *line.split()], cwd=directory, check=True)


def measure(line: str, directory: Path, runs: int) -> tuple[float, float]:
    """Median seconds of (ours, theirs)."""
    times: tuple[list[float], list[float]] = ([], [])
    seconds(OURS, line, directory)  # the first one warms up
    for _ in range(runs):
        for found, program in zip(times, (OURS, THEIRS), strict=True):
            found.append(seconds(program, line, directory))
    return statistics.median(times[0]), statistics.median(times[1])


def main(argv: Sequence[str] | None = None, show: Callable[[str], None] = print) -> int:
    """Run the cases and print a line each."""
    parser = argparse.ArgumentParser(description="pytcg-img beside qemu-img")
    parser.add_argument("--size", type=int, default=1024, help="MiB of the disk (1024)")
    parser.add_argument("--runs", type=int, default=5, help="runs of each program (5)")
    parser.add_argument("cases", nargs="*", metavar="case", help="cases, by their first letters")
    arguments = parser.parse_args(argv)
    if shutil.which(THEIRS[0]) is None:
        print("bench.disk: qemu-img is not installed", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory(prefix="bench-disk-") as name:
        directory = Path(name)
        prepare(directory, arguments.size)
        for case, line in CASES.items():
            if arguments.cases and not case.startswith(tuple(arguments.cases)):
                continue
            ours, theirs = measure(line, directory, arguments.runs)
            show(f"{case:<28} ours {ours:7.3f} s  qemu-img {theirs:7.3f} s  "
                 f"speed {theirs / ours:5.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
