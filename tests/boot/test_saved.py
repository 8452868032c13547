"""Saved machines: a busy Linux, stopped at random moments, goes on where it was."""

from __future__ import annotations

import itertools
import json
import random
import re
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from boot.terminal import ANSWER_SECONDS, BOOT_SECONDS, PROMPT, Terminal
from pytcg.cli import guest

pytestmark = pytest.mark.boot
Start = Callable[..., "tuple[Terminal, Monitor]"]
# Computes, forks, and notices whatever goes wrong: the sums must stay what they are.
BUSY = (
    "i=0; x=$(seq 1 2000 | sha256sum); while :; do i=$((i+1));"
    " y=$(seq 1 2000 | sha256sum); [ \"$x\" = \"$y\" ] || echo WR''ONG; echo tick $i; done\n"
)


@pytest.fixture
def start(initramfs: Path, tmp_path: Path, terminals: Callable[..., Terminal]) -> Start:
    paths = (str(tmp_path / f"qmp{number}") for number in itertools.count())

    def begin(*options: str) -> tuple[Terminal, Monitor]:
        path = next(paths)
        terminal = terminals(
            "-m", "192", "-nographic", "-no-reboot", *options,
            "-qmp", f"unix:{path},server=on,wait=off",
            "-kernel", str(initramfs.parent / guest.KERNEL), "-initrd", str(initramfs),
            "-append", "console=ttyS0 quiet",
        )  # fmt: skip
        return terminal, Monitor(terminal, path)

    return begin


class Monitor:
    """The human monitor through QMP, which the guest's output does not disturb."""

    def __init__(self, terminal: Terminal, path: str) -> None:
        self.terminal = terminal
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(ANSWER_SECONDS)
        while self.sock.connect_ex(path):
            terminal.read(0.05)
        self.file = self.sock.makefile("rwb")
        self._answer("QMP")
        self._execute("qmp_capabilities")

    def _answer(self, key: str) -> Any:
        while True:
            said = json.loads(self.file.readline())
            if key in said or "error" in said:
                return said[key]

    def _execute(self, name: str, **arguments: str) -> Any:
        arguments = {key.replace("_", "-"): value for key, value in arguments.items()}
        self.file.write(json.dumps({"execute": name, "arguments": arguments}).encode())
        self.file.flush()
        return self._answer("return")

    def __call__(self, *lines: str) -> str:
        return "".join(self._execute("human-monitor-command", command_line=line)
                       for line in lines)  # fmt: skip


def end(terminal: Terminal) -> None:
    """As by a power cut."""
    terminal.process.kill()
    terminal.process.wait()


def tick(terminal: Terminal, after: int) -> int:
    """The number of a tick that comes after some number."""
    end = time.monotonic() + ANSWER_SECONDS
    while time.monotonic() < end:
        seen = terminal.wait_for(rb"tick \d+\s*$", ANSWER_SECONDS)
        assert b"WRONG" not in seen
        last = int(re.findall(rb"tick (\d+)", seen)[-1])
        if last > after:
            return last
    raise AssertionError(f"no tick after {after}")


def test_a_busy_linux_goes_on_in_another_process(start: Start, tmp_path: Path) -> None:
    rng = random.Random(7)
    terminal, monitor = start()
    terminal.wait_for(PROMPT, BOOT_SECONDS)
    terminal.type(BUSY)
    last = tick(terminal, 0)
    for number in range(4):
        time.sleep(rng.random())
        last = tick(terminal, last)
        path = tmp_path / f"saved{number}"
        said = monitor(f"migrate file:{path}", "info migrate", "info status")
        assert "Migration status: completed" in said, said
        assert "paused (postmigrate)" in said, said
        end(terminal)
        assert path.stat().st_size < 192 << 20
        terminal, monitor = start("-incoming", f"file:{path}")
        last = tick(terminal, last)
    terminal.type("\x03")
    terminal.wait_for(PROMPT, ANSWER_SECONDS)
    terminal.type("uptime; poweroff -f\n")
    assert terminal.wait(ANSWER_SECONDS) == 0


def stop(terminal: Terminal, monitor: Monitor) -> list[int]:
    """Stop the machine; the ticks it told of since the screen was cleared."""
    time.sleep(0.7)
    monitor("stop")
    while terminal.read(0.5):
        pass
    seen, terminal.screen = terminal.screen, b""
    return [int(number) for number in re.findall(rb"tick (\d+)\r", seen)]


def test_snapshots_go_back_and_forth(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "disk.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", path, "64M"], check=True)
    disk = ("-drive", f"file={path},format=qcow2,if=ide")
    terminal, monitor = start(*disk)
    terminal.wait_for(PROMPT, BOOT_SECONDS)
    terminal.type("i=0; while :; do i=$((i+1)); echo tick $i; sleep 0.05; done\n")
    tick(terminal, 0)
    at = {}
    for name in ("one", "two"):
        at[name] = stop(terminal, monitor)[-1]
        assert monitor(f"savevm {name}", "cont") == ""
    assert re.search(r"--\s+one\s", said := monitor("info snapshots")), said
    for name in ("two", "one"):
        stop(terminal, monitor)
        assert monitor(f"loadvm {name}", "cont") == ""
        assert stop(terminal, monitor)[0] - at[name] in (1, 2)  # a line may have been half out
        monitor("cont")
    assert "does not exist" in monitor("loadvm three")
    end(terminal)
    check = subprocess.run(["qemu-img", "check", path], capture_output=True, text=True, check=False)
    assert check.returncode == 0, check.stdout
    terminal, monitor = start(*disk, "-loadvm", "two")
    assert tick(terminal, at["two"]) < at["two"] + 100


@pytest.mark.parametrize("tier", ["auto", pytest.param("jit", marks=pytest.mark.slow)])
def test_a_busy_linux_goes_back_at_random_moments(start: Start, tmp_path: Path, tier: str) -> None:
    """Regions of what was in memory before must not run, nor those that compilers finish later."""
    rng = random.Random(9)
    path = tmp_path / "disk.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", path, "64M"], check=True)
    terminal, monitor = start("-drive", f"file={path},format=qcow2,if=ide",
                              "-accel", f"tcg,tier={tier}")  # fmt: skip
    terminal.wait_for(PROMPT, BOOT_SECONDS)
    names: list[str] = []
    terminal.type(BUSY)
    tick(terminal, 0)
    for number in range(12):
        time.sleep(rng.random())
        if number % 4 == 0:
            names.append(f"at{number}")
        command = f"savevm {names[-1]}" if number % 4 == 0 else f"loadvm {rng.choice(names)}"
        assert monitor(command) == ""
        terminal.screen = b""
        tick(terminal, 0)
    terminal.type("\x03")
    terminal.wait_for(PROMPT, ANSWER_SECONDS)
    terminal.type("uptime; poweroff -f\n")
    assert terminal.wait(ANSWER_SECONDS) == 0
