"""Jobs beside a guest that writes: what they leave is what it wrote, by qemu-img's word."""

from __future__ import annotations

import random
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from monitor.station import Station

Make = Callable[[str], Station]
SIZE = 8 << 20
BLOCK = 4096


def img(*words: str | Path) -> None:
    subprocess.run(["qemu-img", *words], check=True, stdout=subprocess.DEVNULL)


def same(one: Path, other: Path) -> None:
    img("compare", "-U", one, other)
    if other.suffix == ".qcow2":
        img("check", "-U", other)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A base with random content, and two overlays that have some of their own."""
    seed = random.Random(1)
    (tmp_path / "raw").write_bytes(seed.randbytes(SIZE // 2) + bytes(SIZE // 2))
    img("convert", "-O", "qcow2", tmp_path / "raw", tmp_path / "base.qcow2")
    for name, below in (("mid", "base"), ("top", "mid")):
        img("create", "-f", "qcow2", "-b", f"{below}.qcow2", "-F", "qcow2",
            tmp_path / f"{name}.qcow2")  # fmt: skip
        at = seed.randrange(0, SIZE - (1 << 20)) & -BLOCK
        subprocess.run(["qemu-io", "-c", f"write -P {seed.randrange(1, 255)} {at} 1M",
                        tmp_path / f"{name}.qcow2"], check=True, stdout=subprocess.DEVNULL)
    return tmp_path


DISK = "-drive file={folder}/top.qcow2,if=none,id=d -device virtio-blk-pci,drive=d"


class Guest:
    """Writes and discards at random through the machine's drive, and knows what must be there."""

    def __init__(self, station: Station) -> None:
        io = station.machine.drives["d"].io
        assert io is not None
        self.io = io
        self.expected = bytearray(io.device.pread(0, SIZE))
        self.writes = 0
        self._random = random.Random(7)
        self._stop = threading.Event()

    def write_some(self) -> None:
        ended = threading.Semaphore(0)
        errors: list[int] = []

        def done(data: bytes, error: int) -> None:
            errors.append(error)
            ended.release()

        places = self._random.sample(range(SIZE // BLOCK), 4)
        for place in places:
            data = bytes([self._random.randrange(256)]) * BLOCK
            self.expected[place * BLOCK : (place + 1) * BLOCK] = data
            self.io.write(place * BLOCK, data, done)
        for _ in places:
            assert ended.acquire(timeout=60)
        assert not any(errors)
        self.writes += len(places)

    def _run(self) -> None:
        while not self._stop.is_set():
            self.write_some()
            self._stop.wait(0.002)

    @contextmanager
    def writing(self) -> Iterator[None]:
        thread = threading.Thread(target=self._run)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()
            self._stop.clear()

    def check(self) -> None:
        assert self.io.device.pread(0, SIZE) == self.expected
        self.io.device.flush()


@pytest.mark.parametrize("sync", ["full", "top", "none"])
def test_a_mirror_follows_the_guest_and_takes_over(station: Make, folder: Path, sync: str) -> None:
    made = station(DISK)
    guest = Guest(made)
    with guest.writing():
        made.run("drive-mirror", device="d", target=str(folder / "new.qcow2"), sync=sync,
                 format="qcow2")  # fmt: skip
        made.event("BLOCK_JOB_READY", device="d")
        before = guest.writes
        made.until(lambda: guest.writes > before + 40)
        made.run("block-job-complete", device="d")
        made.event("BLOCK_JOB_COMPLETED", device="d")
        before = guest.writes
        made.until(lambda: guest.writes > before + 40)
    guest.check()
    states = [data["status"] for _, data in made.events("JOB_STATUS_CHANGE")]
    assert states == ["created", "running", "ready", "waiting", "pending", "concluded", "null"]
    node = made.run("query-block")[0]["inserted"]
    assert node["file"] == str(folder / "new.qcow2")
    assert node["backing_file_depth"] == {"full": 0, "top": 2, "none": 3}[sync]
    (folder / "expected").write_bytes(guest.expected)
    same(folder / "expected", folder / "new.qcow2")


def test_a_mirror_that_is_cancelled_leaves_a_copy(station: Make, folder: Path) -> None:
    made = station(DISK)
    guest = Guest(made)
    made.run("blockdev-add", driver="qcow2", node_name="t", file={
        "driver": "file", "filename": str(_empty(folder))})  # fmt: skip
    with guest.writing():
        made.run("blockdev-mirror", device="d", target="t", sync="full", job_id="j")
        made.event("BLOCK_JOB_READY", device="j")
        assert made.refused("blockdev-del", node_name="t") == "Node t is in use"
        assert made.refused("block-commit", device="d").endswith("by block job: mirror")
        assert made.run("query-block-jobs")[0]["ready"] is True
    made.run("block-job-cancel", device="j")
    told = made.event("BLOCK_JOB_COMPLETED", device="j")
    assert told["len"] == told["offset"]
    made.run("blockdev-del", node_name="t")
    guest.check()
    same(folder / "top.qcow2", folder / "empty.qcow2")


def _empty(folder: Path) -> Path:
    img("create", "-f", "qcow2", folder / "empty.qcow2", str(SIZE))
    return folder / "empty.qcow2"


@pytest.mark.parametrize("sync", ["full", "top"])
def test_a_backup_is_the_disk_as_it_was(station: Make, folder: Path, sync: str) -> None:
    made = station(DISK)
    guest = Guest(made)
    (folder / "expected").write_bytes(guest.expected)
    made.run("drive-backup", device="d", target=str(folder / "b.qcow2"), sync=sync,
             format="qcow2", speed=6 << 20)  # fmt: skip
    with guest.writing():
        made.until(lambda: guest.writes > 100)
        made.run("block-job-set-speed", device="d", speed=0)
        made.event("BLOCK_JOB_COMPLETED", device="d")
    guest.check()
    same(folder / "expected", folder / "b.qcow2")


def test_the_active_layer_is_committed(station: Make, folder: Path) -> None:
    made = station(DISK)
    guest = Guest(made)
    with guest.writing():
        made.run("block-commit", device="d")
        made.event("BLOCK_JOB_READY", device="d")
        before = guest.writes
        made.until(lambda: guest.writes > before + 40)
        made.run("job-complete", id="d")
        made.event("BLOCK_JOB_COMPLETED", device="d")
        before = guest.writes
        made.until(lambda: guest.writes > before + 40)
    guest.check()
    assert [row["file"] for row in made.run("query-named-block-nodes")] == [
        str(folder / "base.qcow2")] * 2
    (folder / "expected").write_bytes(guest.expected)
    same(folder / "expected", folder / "base.qcow2")


def test_a_lower_layer_is_committed(station: Make, folder: Path) -> None:
    made = station(DISK)
    guest = Guest(made)
    with guest.writing():
        made.run("block-commit", device="d", top=str(folder / "mid.qcow2"))
        made.event("BLOCK_JOB_COMPLETED", device="d")
    guest.check()
    node = made.run("query-block")[0]["inserted"]
    assert node["backing_file_depth"] == 1 and node["backing_file"].endswith("base.qcow2")
    (folder / "expected").write_bytes(guest.expected)
    same(folder / "expected", folder / "top.qcow2")


@pytest.mark.parametrize("base", [None, "base.qcow2"])
def test_a_chain_is_streamed(station: Make, folder: Path, base: str | None) -> None:
    made = station(DISK)
    guest = Guest(made)
    with guest.writing():
        made.run("block-stream", device="d", **({"base": str(folder / base)} if base else {}))
        made.event("BLOCK_JOB_COMPLETED", device="d")
    guest.check()
    assert made.run("query-block")[0]["inserted"]["backing_file_depth"] == bool(base)
    (folder / "mid.qcow2").unlink()  # it isn't needed any more
    (folder / "expected").write_bytes(guest.expected)
    same(folder / "expected", folder / "top.qcow2")


def test_jobs_rest_and_end_when_they_are_told_to(station: Make, folder: Path) -> None:
    made = station(DISK)
    for name, arguments, text in (
        ("block-job-cancel", {"device": "d"}, "Block job 'd' not found"),
        ("job-cancel", {"id": "d"}, "Job not found"),
        ("drive-mirror", {"device": "x", "target": "t", "sync": "full"},
         "Cannot find device='x' nor node-name='x'"),
        ("block-commit", {"device": "x"}, "Device 'x' not found"),
        ("block-stream", {"device": "d", "base": "x"}, "Can't find 'x' in the backing chain"),
        ("drive-mirror", {"device": "d", "target": "t", "sync": "full", "granularity": 5},
         "Parameter 'granularity' expects a power of 2"),
    ):  # fmt: skip
        if name != "drive-mirror" or "granularity" not in arguments:
            assert made.refused(name, **arguments).endswith(text), name
    made.run("drive-backup", device="d", target=str(folder / "b.qcow2"), sync="full", speed=1 << 16,
             job_id="j", auto_finalize=False, auto_dismiss=False)  # fmt: skip
    made.run("job-pause", id="j")
    assert made.run("query-jobs")[0]["status"] == "paused"
    assert made.refused("job-pause", id="j") == "Job is already paused"
    assert "cannot accept command verb 'complete'" in made.refused("job-complete", id="j")
    made.run("job-resume", id="j")
    made.run("block-job-set-speed", device="j", speed=0)
    made.event("JOB_STATUS_CHANGE", id="j", status="pending")
    made.run("job-finalize", id="j")
    assert made.run("query-jobs")[0]["status"] == "concluded"
    made.run("job-dismiss", id="j")
    assert made.run("query-jobs") == []
    made.run("drive-backup", device="d", target=str(folder / "c.qcow2"), sync="full", speed=1 << 16)
    made.run("block-job-cancel", device="d")
    made.event("BLOCK_JOB_CANCELLED", device="d")


def test_a_disk_above_a_commit_stays(station: Make, folder: Path) -> None:
    made = station("")
    made.run("blockdev-add", driver="qcow2", node_name="n", file={
        "driver": "file", "filename": str(folder / "top.qcow2")})  # fmt: skip
    made.run("block-commit", job_id="c", device="n", top=str(folder / "mid.qcow2"), speed=1)
    assert made.refused("blockdev-del", node_name="n").endswith(
        "busy: block device is in use by block job: commit")
    made.run("block-job-cancel", device="c")
    made.event("BLOCK_JOB_CANCELLED", device="c")
    made.run("blockdev-del", node_name="n")
