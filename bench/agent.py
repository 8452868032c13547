"""`python -m bench.agent`: guest agents, ours and the distribution's: start to answer, memory."""

from __future__ import annotations

import argparse
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from bench import process
from bench.engines import EngineError
from bench.results import machine
from pytcg.ga.bundle import bundle

SECONDS: Final = 30.0
REQUEST: Final = b'{"execute": "guest-get-osinfo"}\n'


class Run(NamedTuple):
    """Seconds from the process's start to its first answer; most memory it had, in MiB."""

    seconds: float
    memory: float


def _answered(path: Path) -> float:
    """When the first answer had come."""
    end = time.perf_counter() + SECONDS
    while time.perf_counter() < end:
        with socket.socket(socket.AF_UNIX) as client:
            try:
                client.connect(str(path))
            except OSError:
                time.sleep(0.001)
                continue
            client.settimeout(SECONDS)
            client.sendall(REQUEST)
            if client.recv(65536).startswith(b'{"return"'):
                return time.perf_counter()
    raise EngineError("the agent does not answer")


def _peak(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) / 1024


def run_once(command: Sequence[str]) -> Run:
    """Start an agent, ask it something, end it."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        path = Path(folder, "socket")
        words = [*command, "-m", "unix-listen", "-p", str(path), "-t", folder]
        began = time.perf_counter()
        with subprocess.Popen(words, env=process.environment()) as agent:
            try:
                return Run(_answered(path) - began, _peak(agent.pid))
            finally:
                agent.terminate()


def main(words: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.agent", description=__doc__)
    parser.add_argument("-n", dest="runs", type=int, default=5, help="runs to take the median of")
    options = parser.parse_args(words)
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        file = Path(folder, "pytcg-ga")
        bundle(file)
        agents = {"pytcg.ga": (sys.executable, "-m", "pytcg.ga"),
                  "one file": (sys.executable, str(file)), "qemu-ga": ("qemu-ga",)}  # fmt: skip
        print(f"measured on {machine()}; medians of {options.runs} runs")
        print("agent        answers after s  peak MiB")
        for name, command in agents.items():
            try:
                runs = [run_once(command) for _ in range(options.runs)]
            except (OSError, EngineError) as error:
                print(f"bench: {name}: {error}", file=sys.stderr)
                return 1
            seconds = statistics.median(run.seconds for run in runs)
            print(f"{name:<12} {seconds:15.3f} {max(run.memory for run in runs):9.1f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
