"""Snapshots, transactions and exports of disks that the guest writes to."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from monitor.station import Station
from monitor.test_block_jobs import DISK, SIZE, Guest, folder, img, same

__all__ = ["folder"]
Make = Callable[[str], Station]


def test_an_overlay_takes_the_writes(station: Make, folder: Path) -> None:
    made = station(DISK)
    guest = Guest(made)
    with guest.writing():
        made.run("blockdev-snapshot-sync", device="d", snapshot_file=str(folder / "new.qcow2"),
                 snapshot_node_name="snap")  # fmt: skip
        before = guest.writes
        made.until(lambda: guest.writes > before + 40)
    guest.check()
    node = made.run("query-block")[0]["inserted"]
    assert node["node-name"] == "snap" and node["backing_file"].endswith("top.qcow2")
    told = json.loads(subprocess.check_output(
        ["qemu-img", "info", "-U", "--output=json", folder / "new.qcow2"]))  # fmt: skip
    assert told["backing-filename"] == str(folder / "top.qcow2")
    with guest.writing():  # and back into the image below
        made.run("block-commit", device="d", base=str(folder / "top.qcow2"))
        made.event("BLOCK_JOB_READY", device="d")
        made.run("block-job-complete", device="d")
        made.event("BLOCK_JOB_COMPLETED", device="d")
    guest.check()
    (folder / "expected").write_bytes(guest.expected)
    same(folder / "expected", folder / "top.qcow2")


def test_a_transaction_does_all_or_nothing(station: Make, folder: Path) -> None:
    made = station(DISK)
    guest = Guest(made)
    overlay = {"type": "blockdev-snapshot-sync", "data": {
        "device": "d", "snapshot-file": str(folder / "new.qcow2")}}  # fmt: skip
    wrong = {"type": "abort", "data": {}}
    assert "aborted" in made.refused("transaction", actions=[overlay, wrong])
    assert not (folder / "new.qcow2").exists()
    assert made.run("query-block")[0]["inserted"]["file"].endswith("top.qcow2")
    (folder / "expected").write_bytes(guest.expected)
    backup = {"type": "drive-backup", "data": {
        "device": "d", "target": str(folder / "b.qcow2"), "sync": "full", "format": "qcow2"}}
    inside = {"type": "blockdev-snapshot-internal-sync", "data": {"device": "d", "name": "one"}}
    backup["data"]["speed"] = 6 << 20
    made.run("transaction", actions=[inside, backup])
    with guest.writing():
        made.event("BLOCK_JOB_COMPLETED", device="d")
    same(folder / "b.qcow2", folder / "expected")
    assert "already exists" in made.refused("transaction", actions=[inside])
    told = made.run("blockdev-snapshot-delete-internal-sync", device="d", name="one")
    assert told["name"] == "one"
    assert "does not exist" in made.refused("blockdev-snapshot-delete-internal-sync", device="d",
                                            name="one")  # fmt: skip
    guest.check()
    assert made.refused("blockdev-snapshot-sync", device="x", snapshot_file="s").startswith(
        "Cannot find device='x'")


def test_an_export_shows_what_the_guest_writes(station: Make, folder: Path) -> None:
    made = station(DISK)
    guest = Guest(made)
    path = folder / "nbd.sock"
    assert made.refused("nbd-server-stop") == "NBD server not running"
    address = {"type": "unix", "data": {"path": str(path)}}
    made.run("nbd-server-start", addr=address)
    assert made.refused("nbd-server-start", addr=address) == "NBD server already running"
    made.run("nbd-server-add", device="d", writable=True)
    assert "is already in use" in made.refused("nbd-server-add", device="d")
    uri = f"nbd+unix:///d?socket={path}"
    guest.write_some()
    (folder / "expected").write_bytes(guest.expected)
    img("compare", "-f", "raw", folder / "expected", uri)
    with guest.writing():  # a client writes while a mirror runs: it is in the copy
        made.run("drive-mirror", device="d", target=str(folder / "m.qcow2"), sync="full",
                 format="qcow2")  # fmt: skip
        made.event("BLOCK_JOB_READY", device="d")
    subprocess.run(["qemu-io", "-f", "raw", "-c", "write -P 9 0 64k", "-c", "flush", uri],
                   check=True, stdout=subprocess.DEVNULL)  # fmt: skip
    guest.expected[: 64 << 10] = b"\x09" * (64 << 10)
    made.run("block-job-complete", device="d")
    made.event("BLOCK_JOB_COMPLETED", device="d")
    guest.check()
    assert subprocess.check_output(["nbdinfo", "--size", uri], text=True) == f"{SIZE}\n"
    (folder / "expected").write_bytes(guest.expected)
    img("compare", "-f", "raw", folder / "expected", uri)
    made.run("nbd-server-remove", name="d")
    made.event("BLOCK_EXPORT_DELETED", id="d")
    with pytest.raises(subprocess.CalledProcessError):
        subprocess.run(["nbdinfo", uri], check=True, capture_output=True)
    made.run("nbd-server-stop")
    assert not path.exists()
