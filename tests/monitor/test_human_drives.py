"""drive_add, drive_del and commit in the human monitor."""

from __future__ import annotations

import errno
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

from monitor.station import Station
from monitor.test_block_jobs import DISK, Guest, folder, img, same

__all__ = ["folder"]
Make = Callable[[str], Station]


def test_a_drive_comes_and_goes(station: Make, folder: Path) -> None:
    made = station("")
    line = f"drive_add 0 file={folder}/top.qcow2,if=none,id=new"
    assert made.line(line) == "OK\n"
    assert made.run("query-block")[0]["device"] == "new"
    assert made.line(line).startswith("Error: -drive: Duplicate ID 'new' for drive")
    assert made.line("drive_add 0 if=floppy,file=x") == (
        "Error: Can't hot-add drive to type floppy\n")
    assert made.line("drive_add 0 file=/nowhere,if=none,id=x").startswith(
        "Error: Could not open '/nowhere'")
    assert made.line("drive_del new") == "" and made.run("query-block") == []
    assert made.line("drive_del new") == "Error: Device 'new' not found\n"
    img("check", folder / "top.qcow2")  # nobody has it open
    assert made.line(f"drive_add -n 0 driver=qcow2,node-name=n,file.driver=file,"
                     f"file.filename={folder}/top.qcow2") == ""
    assert "n" in {row["node-name"] for row in made.run("query-named-block-nodes")}
    assert made.line("drive_del n") == ""


def test_a_device_without_its_drive_finds_no_medium(station: Make, folder: Path) -> None:
    made = station(DISK)
    guest = Guest(made)
    guest.write_some()
    assert made.line("drive_del d") == ""
    (folder / "expected").write_bytes(guest.expected)
    same(folder / "top.qcow2", folder / "expected")
    ended = threading.Event()
    errors: list[int] = []

    def done(data: bytes, error: int) -> None:
        errors.append(error)
        ended.set()

    guest.io.read(0, 512, done)
    assert ended.wait(60) and errors == [errno.ENOMEDIUM]
    assert made.run("query-block")[0]["device"] == ""


def test_commit_empties_the_overlay(station: Make, folder: Path) -> None:
    made = station(DISK)
    guest = Guest(made)
    with guest.writing():
        assert made.line("commit d") == ""
        before = guest.writes
        made.until(lambda: guest.writes > before)
    guest.check()
    assert made.line("commit all") == ""
    guest.check()
    (folder / "expected").write_bytes(guest.expected)
    same(folder / "mid.qcow2", folder / "expected")
    assert made.line("commit x") == "Error: Device 'x' not found\n"
    img("create", "-q", "-f", "qcow2", folder / "alone", "1M")
    made.line(f"drive_add 0 file={folder}/alone,if=none,id=alone")
    assert made.line("commit alone") == (
        "Error: 'commit' error for 'alone': Operation not supported\n")
    subprocess.run(["qemu-img", "check", "-U", "-q", folder / "top.qcow2"], check=True)
