"""blockdev-create and block-export-*, as QEMU's answer."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from monitor.qemu_monitor import QEMU, ask_qemu
from monitor.station import Station

Make = Callable[[str], Station]
Say = Callable[[dict[str, Any]], dict[str, Any]]
MIB = 1 << 20
LINE = ("-blockdev null-co,node-name=n,size=1048576"
        " -blockdev file,filename={folder}/ro,node-name=ro,read-only=on"
        " -blockdev file,filename={folder}/fa,node-name=fa"
        " -blockdev file,filename={folder}/data,node-name=data")  # fmt: skip
FILE = {"driver": "file", "filename": "{folder}/new", "size": 3 * MIB}
QCOW2 = {"driver": "qcow2", "file": "fa", "size": 8 * MIB}
CREATED: tuple[dict[str, Any], ...] = (
    FILE,
    FILE | {"filename": "/nowhere/a"},
    FILE | {"preallocation": "metadata"},
    FILE | {"size": 4096, "preallocation": "full"},
    {"driver": "null-co"},
    {"driver": "file"},
    QCOW2,
    QCOW2 | {"file": "nix"},
    QCOW2 | {"size": 1001},
    QCOW2 | {"cluster-size": 3},
    QCOW2 | {"version": "v2", "lazy-refcounts": True},
    QCOW2 | {"refcount-bits": 7},
    QCOW2 | {"backing-fmt": "raw"},
    QCOW2 | {"backing-file": "{folder}/ro", "backing-fmt": "raw", "cluster-size": 4096},
    QCOW2 | {"version": "v2"},
    QCOW2 | {"file": {"driver": "file", "filename": "{folder}/new"}, "extended-l2": True},
    QCOW2 | {"preallocation": "metadata", "refcount-bits": 8, "compression-type": "zstd"},
    QCOW2 | {"data-file": "data", "data-file-raw": True, "lazy-refcounts": True},
)
IMAGES = ("new", "fa", "data")


def filled(value: Any, folder: Path) -> Any:
    return json.loads(json.dumps(value).replace("{folder}", str(folder)))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("ro", "fa", "data"):
        (tmp_path / name).write_bytes(b"old" * 100_000)
    return tmp_path


class Qemu:
    """Its monitor, asked one thing after the other."""

    def __init__(self, line: str) -> None:
        assert QEMU is not None
        self._process = subprocess.Popen(
            [QEMU, "-S", "-display", "none", "-nodefaults", "-m", "16", "-qmp", "stdio",
             *line.split()], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # fmt: skip
        self.say({"execute": "qmp_capabilities"})

    def say(self, request: dict[str, Any]) -> dict[str, Any]:
        process = self._process
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(json.dumps(request) + "\n")
        process.stdin.flush()
        for text in process.stdout:
            answer: dict[str, Any] = json.loads(text)
            if "return" in answer or "error" in answer:
                return answer
        raise AssertionError("QEMU ended")

    def close(self) -> None:
        self.say({"execute": "quit"})
        self._process.communicate()


def create(say: Say, options: dict[str, Any]) -> Any:
    """What became of the job."""
    answer = say({"execute": "blockdev-create",
                  "arguments": {"job-id": "c", "options": options}})  # fmt: skip
    if "error" in answer:
        return answer["error"]
    while True:
        (job,) = say({"execute": "query-jobs"})["return"]
        if job["status"] == "concluded":
            assert say({"execute": "job-dismiss", "arguments": {"id": "c"}}) == {"return": {}}
            return job


def described(path: Path) -> Any:
    """An image, but for where it is and what the file system makes of it."""
    if not path.exists():
        return None
    told = json.loads(subprocess.check_output(
        ["qemu-img", "info", "-U", "--output=json", path]))  # fmt: skip
    return {key: value for key, value in told.items()
            if key not in ("filename", "actual-size", "full-backing-filename")}  # fmt: skip


@pytest.mark.skipif(QEMU is None, reason="needs QEMU to compare with")
def test_it_makes_and_refuses_what_qemu_does(station: Make, folder: Path) -> None:
    cases = filled(CREATED, folder)
    theirs = []
    for options in cases:  # each from the same files
        for name in ("fa", "data"):
            (folder / name).write_bytes(b"old" * 100_000)
        qemu = Qemu(LINE.format(folder=folder))
        outcome = create(qemu.say, options)
        qemu.close()
        theirs.append([outcome, *(described(folder / name) for name in IMAGES)])
    for name in IMAGES:
        (folder / name).write_bytes(b"")
    (folder / "new").unlink()
    made = station(LINE)
    for options, expected in zip(cases, theirs, strict=True):
        for name in ("fa", "data"):
            (folder / name).write_bytes(b"old" * 100_000)
        outcome = create(made.say, options)
        assert [outcome, *(described(folder / name) for name in IMAGES)] == expected, options
        if options["driver"] == "qcow2" and "error" not in outcome:
            path = folder / "new" if isinstance(options["file"], dict) else folder / "fa"
            subprocess.run(["qemu-img", "check", "-U", "-q", path], check=True)
    assert [told["status"] for _, told in made.events("JOB_STATUS_CHANGE")][:6] == [
        "created", "running", "waiting", "pending", "concluded", "null"]  # fmt: skip


ADD = {"type": "nbd", "id": "e", "node-name": "n"}
EXPORTED: tuple[tuple[str, dict[str, Any]], ...] = (
    ("query-block-exports", {}),
    ("block-export-add", ADD),
    ("nbd-server-remove", {"name": "x"}),
    ("nbd-server-start", {"addr": {"type": "unix", "data": {"path": "{folder}/socket"}}}),
    ("block-export-add", ADD | {"node-name": "nix"}),
    ("block-export-add", ADD | {"id": "1e"}),
    ("block-export-add", ADD | {"id": "", "node-name": "nix"}),
    ("block-export-add", ADD),
    ("block-export-add", ADD),
    ("block-export-add", ADD | {"id": "e2"}),
    ("block-export-add", ADD | {"id": "e2", "name": "o", "description": "x", "writable": True}),
    ("block-export-add", ADD | {"id": "e3", "node-name": "ro", "name": "r", "writable": True}),
    ("block-export-add", ADD | {"id": "e3", "node-name": "ro", "name": "r"}),
    ("query-block-exports", {}),
    ("nbd-server-add", {"device": "n", "name": "e2"}),
    ("nbd-server-add", {"device": "n", "name": "old"}),
    ("block-export-add", ADD | {"id": "old", "name": "new"}),
    ("block-export-del", {"id": "nix"}),
    ("block-export-del", {"id": "old"}),
    ("block-export-del", {"id": "e2", "mode": "hard"}),
    ("nbd-server-remove", {"name": "r"}),
    ("nbd-server-remove", {"name": "e"}),
    ("query-block-exports", {}),
    ("block-export-add", ADD),
    ("query-block-exports", {}),
)


def even(answer: dict[str, Any]) -> dict[str, Any]:
    if isinstance(answer.get("return"), list):
        answer["return"].sort(key=json.dumps)
        answer = {"return": [dict(sorted(row.items())) for row in answer["return"]]}
        answer["return"].sort(key=lambda row: str(row["id"]))
    return answer


@pytest.mark.skipif(QEMU is None, reason="needs QEMU to compare with")
def test_exports_come_and_go_as_qemu_s_do(station: Make, folder: Path) -> None:
    asked = [{"execute": name, "arguments": filled(arguments, folder)}
             for name, arguments in EXPORTED]  # fmt: skip
    theirs = ask_qemu(["-m", "16", *LINE.format(folder=folder).split()], asked)
    made = station(LINE)
    for request, answer in zip(asked, theirs, strict=True):
        assert even(made.say(request)) == even(answer), request
    assert made.events("BLOCK_EXPORT_DELETED")


def test_an_export_under_another_name_is_read(station: Make, folder: Path) -> None:
    made = station(LINE)
    made.run("nbd-server-start", addr={"type": "unix", "data": {"path": f"{folder}/socket"}})
    made.run("block-export-add", type="nbd", id="x", node_name="fa", name="disk",
             allocation_depth=True)  # fmt: skip
    done = subprocess.run(["nbdinfo", "--json", f"nbd+unix:///disk?socket={folder}/socket"],
                          capture_output=True, text=True, check=True)
    (export,) = json.loads(done.stdout)["exports"]
    assert export["export-size"] == 300_000 and export["is_read_only"]
    assert set(export["contexts"]) == {"base:allocation", "qemu:allocation-depth"}
    made.run("nbd-server-stop")
    assert made.run("query-block-exports") == []
