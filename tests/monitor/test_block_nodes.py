"""Drives, nodes and media, as QEMU tells and changes them."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from monitor.qemu_monitor import QEMU, ask_qemu
from monitor.station import Station

Make = Callable[[str], Station]
LINE = ("-blockdev driver=file,filename={folder}/b.qcow2,node-name=f,read-only=on"
        " -blockdev driver=qcow2,file=f,node-name=bl,read-only=on"
        " -drive file={folder}/o.qcow2,if=none,id=d0"
        " -device virtio-blk-pci,drive=d0,id=x0 -device ide-cd,id=cd,bus=ide.1")
NULL = {"driver": "null-co", "node-name": "n", "size": 1 << 20}
ASKED: tuple[tuple[str, dict[str, Any]], ...] = (
    ("query-block", {}),
    ("query-named-block-nodes", {"flat": True}),
    ("blockdev-add", NULL),
    ("blockdev-add", NULL),
    ("blockdev-add", {"driver": "qcow2", "file": "nix", "node-name": "q"}),
    ("blockdev-add", {"driver": "null-co"}),
    ("blockdev-del", {"node-name": "nix"}),
    ("blockdev-del", {"node-name": "f"}),
    ("blockdev-del", {"node-name": "bl"}),
    ("blockdev-del", {"node-name": "f"}),
    ("block_resize", {"device": "nix", "size": 1 << 20}),
    ("block_resize", {"device": "d0", "size": 2 << 20}),
    ("eject", {"device": "d0"}),
    ("eject", {"device": "nix"}),
    ("eject", {}),
    ("blockdev-open-tray", {"id": "nix"}),
    ("blockdev-open-tray", {"id": "x0"}),
    ("blockdev-insert-medium", {"id": "cd", "node-name": "n"}),
    ("blockdev-open-tray", {"id": "cd"}),
    ("blockdev-insert-medium", {"id": "cd", "node-name": "nix"}),
    ("blockdev-insert-medium", {"id": "cd", "node-name": "n"}),
    ("blockdev-insert-medium", {"id": "cd", "node-name": "n"}),
    ("blockdev-close-tray", {"id": "cd"}),
    ("blockdev-del", {"node-name": "n"}),
    ("blockdev-remove-medium", {"id": "cd"}),
    ("human-monitor-command", {"command-line": "info block"}),
    ("human-monitor-command", {"command-line": "info block -v d0"}),
    ("human-monitor-command", {"command-line": "info block -n n"}),
    ("query-block", {}),
    ("blockdev-change-medium", {"id": "cd", "filename": "/nowhere/x"}),
    ("blockdev-change-medium", {"id": "cd", "filename": "{folder}/b.qcow2", "format": "nix"}),
    ("blockdev-change-medium", {"id": "cd", "filename": "{folder}/b.qcow2",
                                "read-only-mode": "read-only"}),
    ("query-block", {}),
    ("eject", {"id": "cd"}),
    ("blockdev-del", {"node-name": "n"}),
    ("query-block", {}),
)  # fmt: skip


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for name, more in (("b.qcow2", []), ("o.qcow2", ["-b", "b.qcow2", "-F", "qcow2"])):
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *more, tmp_path / name, "1M"],
                       check=True)  # fmt: skip
    return tmp_path


def even(answers: list[dict[str, Any]]) -> list[Any]:
    """Without names that are made up, and in one order."""
    text = json.dumps(answers, sort_keys=True)
    # The files' lengths are taken at another moment of their lives.
    text = re.sub(r'"actual-size": \d+', '"actual-size": 0', text)
    text = re.sub(r'("format": "file", "virtual-size"): \d+', r"\1: 0", text)
    text = re.sub(r"disk size: [^\\]*", "disk size: ", text)
    found: list[Any] = json.loads(re.sub(r"#block\d+", "#block", text))
    for answer in found:
        if isinstance(answer.get("return"), list):
            answer["return"].sort(key=json.dumps)
    return found


@pytest.mark.skipif(QEMU is None, reason="needs QEMU to compare with")
def test_it_tells_and_refuses_what_qemu_does(station: Make, images: Path) -> None:
    asked = [{"execute": name, "arguments": {
        key: value.replace("{folder}", str(images)) if isinstance(value, str) else value
        for key, value in arguments.items()}} for name, arguments in ASKED]  # fmt: skip
    theirs = even(ask_qemu(["-m", "16", *LINE.format(folder=images).split()], asked))
    subprocess.run(["qemu-img", "resize", "-q", "--shrink", images / "o.qcow2", "1M"], check=True)
    made = station(LINE)
    ours = even([made.say(request) for request in asked])
    wrong = [f"{request}:\n {json.dumps(mine)}\n {json.dumps(yours)}\n"
             for request, mine, yours in zip(asked, ours, theirs, strict=True) if mine != yours]
    assert not wrong, "\n".join(wrong)


def test_results_are_of_their_types(station: Make, images: Path) -> None:
    made = station(LINE)
    assert made.run("query-block")[0]["inserted"]["image"]["backing-image"]["format"] == "qcow2"
    stats = made.run("query-blockstats")
    assert stats[0]["device"] == "d0"
    assert {row["node-name"] for row in made.run("query-named-block-nodes")} >= {"f", "bl"}
    assert "d0: rd_bytes=0 " in made.line("info blockstats")
    assert made.run("query-blockstats", query_nodes=True)


def test_a_disc_is_changed_and_clients_are_told(station: Make, images: Path) -> None:
    (images / "one.iso").write_bytes(b"1" * 2048)
    (images / "two.iso").write_bytes(b"2" * 2048)
    made = station("-drive file={folder}/one.iso,media=cdrom,id=cd,index=2")
    unit = made.machine.drives["cd"].tray
    assert unit is not None
    made.line(f"change cd {images}/two.iso")
    moved = [data["tray-open"] for _, data in made.events("DEVICE_TRAY_MOVED")]
    made.until(lambda: len(made.events("DEVICE_TRAY_MOVED")) == 2)
    moved = [data["tray-open"] for _, data in made.events("DEVICE_TRAY_MOVED")]
    assert moved == [True, False] and unit.medium.device.pread(0, 1) == b"2"
    unit.locked = True
    assert "is locked and force was not specified" in made.line("eject cd")
    assert made.line("eject -f cd") == ""
    assert "[not inserted]" in made.line("info block cd") and unit.medium.size == 2048
    assert unit.tray_open
