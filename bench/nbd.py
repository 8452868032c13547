"""NBD throughput of pytcg-nbd beside qemu-nbd: whole copies by nbdcopy, medians of several runs.

    python -m bench.nbd [--size MIB] [--runs N]

Prints, for each direction and kind of image, how many times qemu-nbd's speed ours is.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

NEEDED = ("qemu-nbd", "qemu-img", "nbdcopy", "nbdinfo")


@contextlib.contextmanager
def serving(command: Sequence[str], path: str) -> Iterator[None]:
    """Run a server while the block lasts."""
    process = subprocess.Popen([*command, "-k", path])
    try:
        while process.poll() is None and not os.path.exists(path):
            time.sleep(0.02)
        yield
    finally:
        process.terminate()
        process.wait()


def seconds(command: Sequence[str]) -> float:
    """How long a program takes."""
    began = time.perf_counter()
    subprocess.run(command, check=True)
    return time.perf_counter() - began


def median_times(servers: Mapping[str, Sequence[str]], image: Sequence[str], directory: Path,
                 runs: int) -> dict[str, dict[str, float]]:
    """Median seconds by server and direction, the servers taking turns."""
    found: dict[str, dict[str, list[float]]] = {
        name: {"read": [], "write": []} for name in servers}
    local = directory / "local.raw"
    for run in range(runs):
        for name, program in servers.items():
            path = str(directory / f"{name}-{run}.sock")
            uri = f"nbd+unix:///?socket={path}"
            with serving([*program, "-t", "-e", "4", "--discard=unmap", *image], path):
                seconds(["nbdinfo", "--can", "connect", uri])  # the first one warms up
                found[name]["read"].append(seconds(["nbdcopy", uri, "null:"]))
                found[name]["write"].append(seconds(["nbdcopy", str(local), uri]))
    return {name: {way: statistics.median(times) for way, times in ways.items()}
            for name, ways in found.items()}


def make_images(directory: Path, size: int) -> dict[str, list[str]]:
    """Images of `size` MiB of random bytes, by kind, as server arguments."""
    local = directory / "local.raw"
    with open(local, "wb") as file:
        for _ in range(size):
            file.write(os.urandom(1 << 20))
    raw, qcow2 = str(directory / "disk.raw"), str(directory / "disk.qcow2")
    shutil.copy(local, raw)
    subprocess.run(["qemu-img", "convert", "-O", "qcow2", raw, qcow2], check=True)
    return {"raw": ["-f", "raw", raw], "qcow2": ["-f", "qcow2", qcow2]}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size", type=int, default=512, help="MiB in each image")
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    for program in NEEDED:
        if shutil.which(program) is None:
            sys.exit(f"bench.nbd: {program} is not installed")
    servers = {"pytcg": [str(Path(sys.executable).with_name("pytcg-nbd"))], "qemu": ["qemu-nbd"]}
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        for kind, image in make_images(directory, options.size).items():
            times = median_times(servers, image, directory, options.runs)
            for way in ("read", "write"):
                ours, theirs = times["pytcg"][way], times["qemu"][way]
                print(f"nbdcopy {way:5} {kind:5}  pytcg-nbd {options.size / ours:6.0f} MiB/s"
                      f"  qemu-nbd {options.size / theirs:6.0f} MiB/s"
                      f"  ratio {theirs / ours:.2f}")


if __name__ == "__main__":
    main()
