"""The distribution's qemu-ga and ours on the same system, asked the same."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from ga.conftest import SECONDS, SOURCES, Client, Start

REQUESTS = Path(__file__).with_name("requests.txt").read_text().splitlines()[1:]
THEIRS = ("/usr/sbin/qemu-ga",)


def plain(value: Any) -> Any:
    """Lists in an order of ours: theirs is the folder's."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return sorted(map(plain, value), key=lambda item: json.dumps(item, sort_keys=True))
    return value


def shape(value: Any) -> Any:
    """Names and types, without values."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    if isinstance(value, list):
        return [shape(item) for item in value]
    return type(value)


def until_marked(client: Client, request: str) -> bytes:
    """All that a line is answered by: one error or more, where it isn't JSON."""
    mark = b'{"execute":"guest-sync","arguments":{"id":77}}\n'
    client.socket.sendall(request.encode() + b"\n" + mark)
    answers = b""
    while not answers.endswith(b'{"return": 77}\n'):
        answers += client.raw(b"")
    return answers


def test_answers_are_equal(start: Start) -> None:
    theirs, ours = start(program=THEIRS), start()
    for request in REQUESTS:
        expected, got = (until_marked(client, request) for client in (theirs, ours))
        for pair in zip(expected.splitlines(), got.splitlines(), strict=True):
            both = [json.loads(line.lstrip(b"\xff")) for line in pair]
            assert plain(both[0]) == plain(both[1]), request
            assert pair[0][:1] == pair[1][:1]


@pytest.mark.parametrize("name", ["get-cpustats", "get-diskstats", "network-get-interfaces",
                                  "get-fsinfo", "get-time"])  # fmt: skip
def test_what_changes_has_the_same_shape(start: Start, name: str) -> None:
    theirs, ours = (client.ask(f"guest-{name}") for client in (start(program=THEIRS), start()))
    if isinstance(ours, list):
        theirs, ours = (sorted(rows, key=lambda row: str(row.get("name", row.get("cpu"))))
                        for rows in (theirs, ours))  # fmt: skip
        fixed = ("name", "hardware-address", "ip-addresses", "mountpoint", "type", "disk",
                 "total-bytes", "major", "minor")  # fmt: skip
        for one, other in zip(theirs, ours, strict=True):
            for key in fixed:
                assert plain(one.get(key)) == plain(other.get(key))
    else:
        assert abs(theirs - ours) < 60e9
    assert shape(theirs) == shape(ours)


def test_the_same_commands(start: Start) -> None:
    rows = [client.ask("guest-info")["supported_commands"]
            for client in (start(program=THEIRS), start())]  # fmt: skip
    assert plain(rows[0]) == plain(rows[1])


def run(client: Client, path: str, *words: str, **more: Any) -> dict[str, Any]:
    pid = client.ask("guest-exec", path=path, arg=list(words), **more)["pid"]
    end = time.monotonic() + SECONDS
    while not (answer := client.ask("guest-exec-status", pid=pid))["exited"]:
        assert time.monotonic() < end
        time.sleep(0.02)
    assert client.ask("guest-exec-status", pid=pid) == "Invalid parameter 'pid'"
    found: dict[str, Any] = answer
    return found


@pytest.mark.parametrize("line", [
    "echo out; echo err >&2; exit 3", "kill -9 $$", "cat; true", "env",
    "head -c 17000000 /dev/zero", "exec >&-; true",
])  # fmt: skip
@pytest.mark.parametrize("capture", [True, False])
def test_programs_end_the_same(start: Start, line: str, capture: bool) -> None:
    given = base64.b64encode(b"input" * 40000).decode()
    answers = [run(client, "sh", "-c", line, capture_output=capture, input_data=given,
                   env=["A=b=c", "PATH=/bin"]) for client in (start(program=THEIRS), start())]
    for answer in answers:  # sh adds a variable of its own
        answer["out-data"] = sorted(base64.b64decode(answer.get("out-data", "")).splitlines())
    assert answers[0] == answers[1]


def test_files(start: Start, tmp_path: Path) -> None:
    logs = []
    for client in (start(program=THEIRS), start()):
        path, log = str(tmp_path / f"file{len(logs)}"), []
        for mode in ("w", "r+", "a+", "ab", "rb+", "r+b", "wb+", "x", "", "rr", "r++", "+r"):
            handle = client.ask("guest-file-open", path=path, mode=mode)
            log.append(handle)
            for offset, text in ((0, b"hello"), (3, b"world")):
                data = base64.b64encode(text).decode()
                log.append(client.ask("guest-file-seek", handle=handle, offset=offset, whence=0)
                           if isinstance(handle, int) else 0)
                log.append(client.ask("guest-file-write", handle=handle, buf_b64=data, count=4)
                           if isinstance(handle, int) else 0)
            if isinstance(handle, int):
                log.append(client.ask("guest-file-flush", handle=handle))
                log.append(client.ask("guest-file-seek", handle=handle, offset=-2, whence="end"))
                log.append(client.ask("guest-file-read", handle=handle, count=10))
                log.append(client.ask("guest-file-seek", handle=handle, offset=-2, whence="set"))
                log.append(client.ask("guest-file-close", handle=handle))
        logs.append([json.dumps(item, sort_keys=True).replace(path, "PATH") for item in log])
    for one, other in zip(*logs, strict=True):
        assert one == other
    assert (tmp_path / "file0").read_bytes() == (tmp_path / "file1").read_bytes()


@pytest.mark.parametrize("words", ["-D", "-D -v -r -d -m isa-serial", "-D -bguest-ping -lx -F",
                                   "-D -m unix-listen -p y -F/hook -t /x -f /y",
                                   "--dump-conf --block-rpcs=guest-exec,guest-ping"])  # fmt: skip
def test_configurations_are_dumped_the_same(words: str) -> None:
    ours = [sys.executable, "-m", "pytcg.ga"]
    outputs = [subprocess.run([*program, *words.split()], capture_output=True, text=True,
                              env={"PYTHONPATH": SOURCES}, check=True).stdout
               for program in (THEIRS, ours)]  # fmt: skip
    assert outputs[0] == outputs[1]
