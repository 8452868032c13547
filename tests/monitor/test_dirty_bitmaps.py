"""Dirty bitmaps of disks that the guest writes to, and backups that go by them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from monitor.station import Station
from monitor.test_block_jobs import DISK, SIZE, Guest, folder, img, same
from pytcg.block.dirty import DirtyBitmap, runs_of

__all__ = ["folder"]
Make = Callable[[str], Station]
CHUNK = 64 << 10


def told(made: Station) -> dict[str, dict[str, Any]]:
    node = made.run("query-block")[0]["inserted"]
    return {each["name"]: each for each in node.get("dirty-bitmaps", [])}


def test_incremental_backups_follow_the_guest(station: Make, folder: Path) -> None:
    made = station(DISK)
    guest = Guest(made)
    full = {"type": "drive-backup", "data": {
        "device": "d", "target": str(folder / "b0.qcow2"), "sync": "full", "format": "qcow2"}}
    start = {"type": "block-dirty-bitmap-add", "data": {"node": "d", "name": "bm"}}
    with guest.writing():
        made.run("transaction", actions=[start, full])
        made.event("BLOCK_JOB_COMPLETED", device="d")
    below = folder / "b0.qcow2"
    for number in (1, 2):
        made.forget()
        over = folder / f"b{number}.qcow2"
        img("create", "-f", "qcow2", "-b", below, "-F", "qcow2", over)
        with guest.writing():
            made.run("drive-backup", device="d", target=str(over), sync="incremental",
                     bitmap="bm", mode="existing", format="qcow2")  # fmt: skip
            made.event("BLOCK_JOB_COMPLETED", device="d")
        below = over
    guest.write_some()
    made.forget()
    img("create", "-f", "qcow2", "-b", below, "-F", "qcow2", folder / "last.qcow2")
    made.run("drive-backup", device="d", target=str(folder / "last.qcow2"), sync="incremental",
             bitmap="bm", mode="existing", format="qcow2")  # fmt: skip
    end = made.event("BLOCK_JOB_COMPLETED", device="d")
    assert end["len"] == end["offset"] < SIZE
    guest.check()
    (folder / "expected").write_bytes(guest.expected)
    same(folder / "last.qcow2", folder / "expected")
    assert told(made)["bm"] == {"name": "bm", "count": 0, "granularity": CHUNK, "recording": True,
                                "busy": False, "persistent": False}  # fmt: skip


def test_a_bitmap_comes_back_when_a_backup_fails(station: Make, folder: Path) -> None:
    made = station(DISK)
    guest = Guest(made)
    made.run("block-dirty-bitmap-add", node="d", name="bm", granularity=CHUNK)
    guest.write_some()
    count = told(made)["bm"]["count"]
    assert count
    made.run("drive-backup", device="d", target=str(folder / "b.qcow2"), sync="bitmap",
             bitmap="bm", bitmap_mode="on-success", format="qcow2", speed=1)  # fmt: skip
    assert told(made)["bm"]["busy"] and told(made)["bm"]["count"] == count
    for name in ("remove", "clear", "enable"):
        assert "currently in use" in made.refused(f"block-dirty-bitmap-{name}", node="d",
                                                  name="bm")  # fmt: skip
    made.run("block-job-cancel", device="d", force=True)
    made.event("BLOCK_JOB_CANCELLED", device="d")
    assert told(made)["bm"]["count"] == count and not told(made)["bm"]["busy"]
    (folder / "b.qcow2").unlink()
    made.run("drive-backup", device="d", target=str(folder / "b.qcow2"), sync="bitmap",
             bitmap="bm", bitmap_mode="never", format="qcow2")  # fmt: skip
    made.event("BLOCK_JOB_COMPLETED", device="d")
    assert told(made)["bm"]["count"] == count


def test_a_persistent_bitmap_is_in_the_image(station: Make, folder: Path) -> None:
    made = station(DISK)
    guest = Guest(made)
    made.run("block-dirty-bitmap-add", node="d", name="keep", persistent=True, granularity=CHUNK)
    made.run("block-dirty-bitmap-add", node="d", name="still", persistent=True, disabled=True)
    assert made.refused("block-dirty-bitmap-add", node="d", name="keep") == (
        "Bitmap already exists: keep")
    guest.write_some()
    hashed = made.run("x-debug-block-dirty-bitmap-sha256", node="d", name="keep")
    made.run("block-dirty-bitmap-add", node="d", name="copy", granularity=CHUNK, disabled=True)
    made.run("block-dirty-bitmap-merge", node="d", target="copy", bitmaps=["keep", {
        "node": "d", "name": "still"}])
    assert made.run("x-debug-block-dirty-bitmap-sha256", node="d", name="copy") == hashed
    found = told(made)
    assert found["still"]["count"] == 0 and not found["still"]["recording"]
    made.run("block-dirty-bitmap-remove", node="d", name="still")
    for drive in made.machine.drives.values():
        if drive.io is not None:
            drive.io.close()
            drive.io.device.close()
    shown = json.loads(subprocess.check_output(
        ["qemu-img", "info", "--output=json", folder / "top.qcow2"]))  # fmt: skip
    assert shown["format-specific"]["data"]["bitmaps"] == [
        {"name": "keep", "granularity": CHUNK, "flags": ["auto"]}]
    subprocess.run(["qemu-img", "check", "-q", folder / "top.qcow2"], check=True)
    again = station(DISK)
    assert told(again)["keep"]["count"] == found["keep"]["count"]
    assert again.run("x-debug-block-dirty-bitmap-sha256", node="d", name="keep") == hashed


def test_a_transaction_on_bitmaps_is_undone_whole(station: Make, folder: Path) -> None:
    made = station(DISK)
    guest = Guest(made)
    for name in ("one", "two"):
        made.run("block-dirty-bitmap-add", node="d", name=name)
    guest.write_some()
    before = told(made)
    actions = [(f"block-dirty-bitmap-{verb}", {"node": "d", **data}) for verb, data in (
        ("clear", {"name": "one"}), ("disable", {"name": "two"}), ("remove", {"name": "two"}),
        ("add", {"name": "three"}), ("merge", {"target": "one", "bitmaps": ["two"]}),
    )]  # fmt: skip
    made.refused("transaction", actions=[
        {"type": kind, "data": data} for kind, data in [*actions, ("abort", {})]])
    assert told(made) == before
    made.run("transaction", actions=[{"type": kind, "data": data} for kind, data in actions])
    assert set(told(made)) == {"one", "three"}
    assert told(made)["one"]["count"] == before["two"]["count"]


def test_grouped_jobs_end_together(station: Make, folder: Path) -> None:
    made = station(DISK)
    made.run("block-dirty-bitmap-add", node="d", name="bm")
    img("create", "-q", "-f", "qcow2", folder / "o.qcow2", str(SIZE))
    made.run("blockdev-add", driver="qcow2", node_name="o", file={
        "driver": "file", "filename": str(folder / "o.qcow2")})  # fmt: skip
    data = [{"device": name, "target": str(folder / f"{name}.b"), "sync": "full", "job-id": name,
             "format": "qcow2"} for name in ("d", "o")]  # fmt: skip
    data[0]["speed"] = 1
    made.run("transaction", properties={"completion-mode": "grouped"}, actions=[
        {"type": "drive-backup", "data": each} for each in data])
    made.event("JOB_STATUS_CHANGE", id="o", status="waiting")
    made.run("block-job-cancel", device="d", force=True)
    made.event("BLOCK_JOB_CANCELLED", device="o")
    made.event("BLOCK_JOB_CANCELLED", device="d")


@pytest.mark.parametrize(("arguments", "error"), [
    ({"sync": "incremental"}, "must provide a valid bitmap name for 'incremental' sync mode"),
    ({"sync": "bitmap", "bitmap": "x", "bitmap-mode": "never"}, "Bitmap 'x' could not be found"),
    ({"sync": "bitmap", "bitmap": "bm"}, "Bitmap sync mode must be given when providing a bitmap"),
    ({"sync": "full", "bitmap-mode": "never"}, "Cannot specify bitmap sync mode without a bitmap"),
    ({"sync": "none", "bitmap": "bm", "bitmap-mode": "always"},
     "sync mode 'none' does not produce meaningful bitmap outputs"),
])  # fmt: skip
def test_what_makes_no_sense_is_refused(station: Make, folder: Path, arguments: dict[str, str],
                                        error: str) -> None:  # fmt: skip
    made = station(DISK)
    made.run("block-dirty-bitmap-add", node="d", name="bm")
    assert made.refused("drive-backup", device="d", target=str(folder / "t"), **arguments) == error


def test_bits_stand_for_chunks() -> None:
    bitmap = DirtyBitmap("a", 100 * 512 + 1, 512)
    assert len(bitmap.bits) == 13
    bitmap.mark(511, 2)
    bitmap.mark(100 * 512, 4096)
    assert runs_of(bitmap.bits) == [(0, 2), (100, 101)] and bitmap.count == 3 * 512
    other = DirtyBitmap("b", bitmap.size, 4096, enabled=False)
    other.mark(0, 1)
    assert other.count == 0
    other.merge(bitmap.bits, 512)
    assert runs_of(other.bits) == [(0, 1), (12, 13)]
    bitmap.freeze()
    bitmap.mark(5120, 1)
    assert bitmap.busy and bitmap.count == 3 * 512
    bitmap.thaw(back=True)
    assert runs_of(bitmap.bits) == [(0, 2), (10, 11), (100, 101)]


def test_an_export_shows_a_bitmap(station: Make, folder: Path) -> None:
    made = station(DISK)
    guest = Guest(made)
    made.run("nbd-server-start", addr={"type": "unix", "data": {"path": str(folder / "nbd")}})
    made.run("block-dirty-bitmap-add", node="d", name="bm", granularity=CHUNK)
    guest.write_some()
    node = made.run("query-block")[0]["inserted"]["node-name"]
    given = {"type": "nbd", "id": "e", "node_name": node, "name": "e", "bitmaps": ["bm"]}
    assert made.refused("block-export-add", **given) == (
        "Enabled bitmap 'bm' incompatible with readonly export")
    assert made.refused("nbd-server-add", device="d", bitmap="x") == "Bitmap 'x' is not found"
    made.run("block-dirty-bitmap-disable", node="d", name="bm")
    made.run("block-export-add", **given)
    assert "currently in use" in made.refused("block-dirty-bitmap-clear", node="d", name="bm")
    shown = json.loads(subprocess.check_output(
        ["nbdinfo", "--json", "--map=qemu:dirty-bitmap:bm",
         f"nbd+unix:///e?socket={folder}/nbd"]))  # fmt: skip
    dirty = sum(run["length"] for run in shown if run["type"])
    assert dirty == told(made)["bm"]["count"] and sum(run["length"] for run in shown) == SIZE
    made.run("block-export-del", id="e")
    made.event("BLOCK_EXPORT_DELETED", id="e")
    made.run("block-dirty-bitmap-clear", node="d", name="bm")
    made.run("nbd-server-stop")


def test_the_server_speaks_tls(station: Make, folder: Path) -> None:
    made = station(DISK)
    guest = Guest(made)
    keys = folder / "keys.psk"
    keys.write_text("alice:00112233445566778899aabbccddeeff\n")
    address = {"type": "unix", "data": {"path": str(folder / "nbd")}}
    assert made.refused("nbd-server-start", addr=address, tls_creds="t") == (
        "No TLS credentials with id 't'")
    made.run("object-add", qom_type="tls-creds-psk", id="t", dir=str(folder), endpoint="server")
    made.run("nbd-server-start", addr=address, tls_creds="t")
    made.run("nbd-server-add", device="d")
    (folder / "expected").write_bytes(guest.expected)
    uri = f"nbds+unix://alice@/d?socket={folder}/nbd&tls-psk-file={keys}"
    subprocess.run(["nbdcopy", uri, folder / "copy"], check=True)
    assert (folder / "copy").read_bytes() == bytes(guest.expected)
    plain = subprocess.run(["nbdinfo", f"nbd+unix:///d?socket={folder}/nbd"], capture_output=True)
    assert plain.returncode
    made.run("nbd-server-stop")
    made.run("object-del", id="t")


def test_a_backup_may_be_compressed(station: Make, folder: Path) -> None:
    made = station(DISK)
    guest = Guest(made)
    (folder / "expected").write_bytes(guest.expected)
    made.run("drive-backup", device="d", target=str(folder / "c.qcow2"), sync="full",
             format="qcow2", compress=True, speed=16 << 20)  # fmt: skip
    with guest.writing():
        made.event("BLOCK_JOB_COMPLETED", device="d")
    same(folder / "c.qcow2", folder / "expected")
    shown = json.loads(subprocess.check_output(
        ["qemu-img", "check", "--output=json", folder / "c.qcow2"]))  # fmt: skip
    assert shown["compressed-clusters"] > 0
    assert made.refused("drive-backup", device="d", target=str(folder / "r"), sync="full",
                        format="raw", compress=True).startswith("Compression is not supported")
