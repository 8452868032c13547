"""What managers of machines do: ask an empty one, send one to the background, hand sockets over."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from boot.terminal import SOURCES

OURS = [sys.executable, "-m", "pytcg.cli.system"]
SECONDS = 120


def start(*options: str, **more: Any) -> subprocess.Popen[str]:
    return subprocess.Popen([*OURS, *options], text=True, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, env={**os.environ, "PYTHONPATH": SOURCES},
                            **more)  # fmt: skip


def ask(path: str, *names: str) -> list[dict[str, Any]]:
    """Answers of a monitor; it is told to quit last."""
    with socket.socket(socket.AF_UNIX) as peer, peer.makefile("rw") as stream:
        peer.settimeout(SECONDS)
        peer.connect(path)
        stream.readline()
        answers = []
        for name in ("qmp_capabilities", *names, "quit"):
            stream.write(json.dumps({"execute": name}) + "\n")
            stream.flush()
            answers.append(json.loads(stream.readline()))
        return answers[1:-1]


def test_an_empty_machine_in_the_background_is_asked(tmp_path: Path) -> None:
    """As libvirt finds out what an emulator can do."""
    monitor, pid = str(tmp_path / "qmp"), tmp_path / "pid"
    caller = start("-S", "-no-user-config", "-nodefaults", "-nographic", "-machine",
                   "none,accel=tcg", "-qmp", f"unix:{monitor},server=on,wait=off", "-pidfile",
                   str(pid), "-daemonize", stdin=subprocess.DEVNULL)  # fmt: skip
    assert caller.communicate(timeout=SECONDS) == ("", "") and caller.returncode == 0
    number = int(pid.read_text())
    assert os.getsid(number) != os.getsid(0)
    status, processors, machines = ask(monitor, "query-status", "query-cpus-fast",
                                       "query-machines")  # fmt: skip
    assert status["return"]["status"] == "prelaunch" and processors["return"] == []
    assert {row["name"] for row in machines["return"]} >= {"pc-i440fx-7.2", "none"}
    end = time.monotonic() + SECONDS
    while pid.exists():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_what_is_wrong_is_told_before_it_goes_to_the_background(tmp_path: Path) -> None:
    for options, text in (
        (["-nographic"], "-nographic cannot be used with -daemonize"),
        (["-display", "none", "-hda", str(tmp_path / "nix")], "Could not open"),
    ):
        caller = start("-daemonize", *options, stdin=subprocess.DEVNULL)
        assert text in caller.communicate(timeout=SECONDS)[1]
        assert caller.returncode == 1


def test_output_goes_to_a_descriptor_of_a_set(tmp_path: Path) -> None:
    with open(tmp_path / "out", "ab") as file:
        file.write(b"before\n")
        file.flush()
        number = file.fileno()
        program = start("-S", "-nodefaults", "-machine", "none", "-add-fd",
                        f"set=3,fd={number},opaque=x", "-chardev",
                        "file,id=c,path=/dev/fdset/3,append=on", "-mon", "chardev=c",
                        "-qmp", f"unix:{tmp_path}/qmp,server=on,wait=on",
                        pass_fds=[number])  # fmt: skip
    end = time.monotonic() + SECONDS
    while not (tmp_path / "qmp").exists():
        assert time.monotonic() < end and program.poll() is None
        time.sleep(0.05)
    ask(str(tmp_path / "qmp"))
    program.communicate(timeout=SECONDS)
    assert (tmp_path / "out").read_bytes().startswith(b"before\n")
    assert b"monitor" in (tmp_path / "out").read_bytes()


def test_a_monitor_on_a_socket_that_was_handed_over(tmp_path: Path) -> None:
    path = str(tmp_path / "qmp")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(1)
        number = listener.fileno()
        program = start("-machine", "none", "-nodefaults", "-chardev",
                        f"socket,id=m,fd={number},server=on,wait=off", "-mon",
                        "chardev=m,mode=control", pass_fds=[number])  # fmt: skip
    assert ask(path, "query-kvm")[0]["return"]["enabled"] is False
    program.communicate(timeout=SECONDS)
    assert program.returncode == 0
