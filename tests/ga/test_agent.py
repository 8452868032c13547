"""The agent on a false root, with hostile clients, and as a program."""

from __future__ import annotations

import base64
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from ga.conftest import SECONDS, Client, Start
from pytcg.ga.agent import Agent
from pytcg.ga.bundle import bundle
from pytcg.ga.users import UTMP
from pytcg.ga.wire import ParseError, Splitter


class FalseRoot:
    """An agent whose system is a folder; programs there note how they were called."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "root"
        self.state = folder / "state"
        self.state.mkdir()
        self.folder.mkdir()
        self.agent = Agent(str(self.state), root=str(self.folder))

    def put(self, name: str, text: str = "") -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def program(self, name: str, status: int = 0) -> Path:
        log = self.folder / "called"
        lines = f'echo "{name} $*" >> {log}\ncat >> {log}\nexit {status}\n'
        path = self.put(name, f"#!/bin/sh\n{lines}")
        path.chmod(0o755)
        return log

    def ask(self, name: str, **arguments: Any) -> Any:
        request = {"execute": f"guest-{name}",
                   "arguments": {key.replace("_", "-"): value for key, value in arguments.items()}}
        answer = self.agent.serve(Splitter(), json.dumps(request).encode())
        if not answer:
            return None
        found = json.loads(answer)
        return found["return"] if "return" in found else found["error"]["desc"]


@pytest.fixture
def root(tmp_path: Path) -> FalseRoot:
    return FalseRoot(tmp_path)


def test_shutdown_has_no_answer_but_for_a_failure(root: FalseRoot) -> None:
    assert root.ask("shutdown") == "child process has failed to shutdown"
    log = root.program("sbin/shutdown")
    for mode in ("powerdown", "halt", "reboot"):
        assert root.ask("shutdown", mode=mode) is None
    flags = [line.split()[2] for line in log.read_text().splitlines()]
    assert flags == ["-P", "-H", "-r"]


def test_suspend_takes_what_the_system_has(root: FalseRoot) -> None:
    assert "No such file" in root.ask("suspend-ram")
    state = root.put("sys/power/state", "freeze disk")
    assert "not supported" in root.ask("suspend-ram")
    assert root.ask("suspend-disk") is None and state.read_text().startswith("disk")


def test_password_goes_to_chpasswd(root: FalseRoot) -> None:
    log = root.program("usr/sbin/chpasswd")
    secret = base64.b64encode(b"secret").decode()
    assert root.ask("set-user-password", username="joe", password=secret, crypted=True) == {}
    assert log.read_text() == "usr/sbin/chpasswd -e\njoe:secret\n"
    root.program("usr/sbin/chpasswd", 1)
    assert "failed" in root.ask("set-user-password", username="joe", password=secret, crypted=False)


def test_clock_is_taken_from_the_hardware(root: FalseRoot) -> None:
    assert root.ask("set-time") == "hwclock failed to set hardware clock to system time"
    log = root.program("sbin/hwclock")
    assert root.ask("set-time") == {} and log.read_text() == "sbin/hwclock -s\n"


def test_processors_and_memory_are_switched(root: FalseRoot) -> None:
    cpu = root.put("sys/devices/system/cpu/cpu1/online", "1\n")
    root.put("sys/devices/system/cpu/cpu0/topology")
    wish = [{"logical-id": 1, "online": False}, {"logical-id": 0, "online": False}]
    assert root.ask("set-vcpus", vcpus=wish) == 1 and cpu.read_text() == "0"
    assert root.ask("set-vcpus", vcpus=wish[1:]) == "logical processor #0 can't be offlined"
    block = root.put("sys/devices/system/memory/memory7/state", "online\n")
    answer = root.ask("set-memory-blocks", mem_blks=[{"phys-index": 7, "online": False}])
    assert answer == [{"phys-index": 7, "response": "success"}] and block.read_text() == "offline"


def test_users_are_those_of_utmp(root: FalseRoot) -> None:
    path = root.put("var/run/utmp")
    rows = [(7, b"joe", 50), (7, b"ann", 20), (7, b"joe", 30), (8, b"gone", 1)]
    path.write_bytes(b"".join(
        UTMP.pack(kind, 1, b"tty", b"", name, b"", 0, 0, 0, when, 500000, 0, 0, 0, 0)
        for kind, name, when in rows) + b"half")  # fmt: skip
    assert root.ask("get-users") == [{"user": "joe", "login-time": 30.5},
                                     {"user": "ann", "login-time": 20.5}]  # fmt: skip


def test_ssh_keys_come_and_go(root: FalseRoot) -> None:
    (root.folder / "root").mkdir()
    keys = ["ssh-ed25519 AAAA one", "ssh-rsa BBBB two"]
    for _ in range(2):
        assert root.ask("ssh-add-authorized-keys", username="root", keys=keys) == {}
    assert root.ask("ssh-get-authorized-keys", username="root") == {"keys": keys}
    path = root.folder / "root/.ssh/authorized_keys"
    assert path.stat().st_mode & 0o777 == 0o600 and path.parent.stat().st_mode & 0o777 == 0o700
    assert root.ask("ssh-remove-authorized-keys", username="root", keys=keys[:1]) == {}
    assert root.ask("ssh-get-authorized-keys", username="root") == {"keys": keys[1:]}
    root.ask("ssh-add-authorized-keys", username="root", keys=["ssh-x C"], reset=True)
    assert root.ask("ssh-get-authorized-keys", username="root") == {"keys": ["ssh-x C"]}


def test_a_frozen_agent_does_little_even_after_a_restart(root: FalseRoot) -> None:
    root.put("proc/self/mountinfo", "")
    root.agent.set_frozen(frozen=True)
    again = Agent(str(root.state), root=str(root.folder))
    root.agent = again
    assert root.ask("fsfreeze-status") == "frozen"
    assert "frozen state" in root.ask("get-host-name")
    assert root.ask("fsfreeze-thaw") == 0 and root.ask("fsfreeze-status") == "thawed"


def test_handles_are_never_used_twice(root: FalseRoot) -> None:
    first = root.ask("file-open", path="/etc/hostname")
    root.agent = Agent(str(root.state), root=str(root.folder))
    assert root.ask("file-open", path="/etc/hostname") == first + 1


def test_texts_may_come_in_any_pieces() -> None:
    source = b'{"a": [1, "}"]} \xff{"b": {}}\n["c"]' * 50
    whole = [str(item) for item in Splitter().feed(source)]
    chance = random.Random(1)
    splitter, pieces, at = Splitter(), [], 0
    while at < len(source):
        step = chance.randrange(1, 9)
        pieces += [str(item) for item in splitter.feed(source[at : at + step])]
        at += step
    assert pieces == whole and len(whole) == 200


def test_junk_is_answered_by_errors(root: FalseRoot) -> None:
    chance = random.Random(2)
    splitter = Splitter()
    alphabet = b'{}[]:,"\'\\ \n0truefalsn-.e\xff\x80execute'
    for _ in range(3000):
        data = bytes(chance.choice(alphabet) for _ in range(chance.randrange(40)))
        for line in root.agent.serve(splitter, data).splitlines():
            assert json.loads(line)["error"]["class"]
    assert isinstance(next(iter(splitter.feed(b"\xff"))), ParseError)
    assert root.agent.serve(splitter, b'{"execute":"guest-ping"}') == b'{"return": {}}\n'


def test_clients_come_and_go(start: Start) -> None:
    client = start("-b", "guest-exec,guest-get-users")
    assert client.ask("guest-get-users") == "Command guest-get-users has been disabled"
    path = client.socket.getpeername()
    client.socket.sendall(b'{"execute": "guest-pi')
    client.socket.close()
    assert Client(Path(path)).ask("guest-ping") == {}
    client = start("--allow-rpcs=guest-ping")
    assert client.ask("guest-ping") == {}
    assert client.ask("guest-info") == "Command guest-info has been disabled"


@pytest.mark.parametrize(("words", "text"), [
    ("--foo", "unrecognized option '--foo'"),
    ("-m tcp", "unsupported channel method/type: tcp"),
    ("-m unix-listen", "must specify a path for this channel"),
    ("-m unix-listen -p /none/x -t {0}", "Failed to bind socket to /none/x: No such file"),
    ("-p /none -t {0}", "error opening channel '/none': No such file or directory"),
    ("-p x -t /none", "unable to create state file at path /none/qga.state: No such file"),
    ("-c /none", "error loading configuration from path: /none, No such file or directory"),
    ("-p", "option '--path' requires an argument"),
])  # fmt: skip
def test_what_cannot_be_is_one_line(tmp_path: Path, words: str, text: str) -> None:
    sources = str(Path(__file__).parents[2] / "src")
    result = subprocess.run([sys.executable, "-m", "pytcg.ga", *words.format(tmp_path).split()],
                            capture_output=True, text=True, env={"PYTHONPATH": sources})
    assert result.returncode == 1 and text in result.stderr and "Traceback" not in result.stderr


def test_one_file_runs_as_a_daemon_on_a_python_without_packages(tmp_path: Path) -> None:
    file, pid = tmp_path / "pytcg-ga", tmp_path / "pid"
    bundle(file)
    configuration = tmp_path / "conf"
    configuration.write_text(f"[general]\ndaemon=true\npidfile={pid}\nstatedir={tmp_path}\n"
                             f"method=unix-listen\npath={tmp_path}/socket\n")  # fmt: skip
    subprocess.run([sys.executable, "-S", "-E", file, "-c", configuration], check=True, timeout=60)
    client = Client(tmp_path / "socket")
    assert client.ask("guest-ping") == {}
    number = int(pid.read_text())
    os.kill(number, 15)
    end = time.monotonic() + SECONDS
    while (tmp_path / "socket").exists():
        assert time.monotonic() < end
        time.sleep(0.02)


