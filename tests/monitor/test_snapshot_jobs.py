"""snapshot-save, snapshot-load and snapshot-delete."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from monitor.station import Station
from monitor.test_block_jobs import folder

__all__ = ["folder"]
Make = Callable[[str], Station]
NODE = ("-blockdev driver=qcow2,node-name=n,file.driver=file,file.filename={folder}/base.qcow2"
        " -device virtio-blk-pci,drive=n")  # fmt: skip


def ends(made: Station, id: str) -> str | None:
    """The error of a job that has ended; it is gone then."""
    made.event("JOB_STATUS_CHANGE", id=id, status="concluded")
    [job] = made.run("query-jobs")
    made.run("job-dismiss", id=id)
    made.forget()
    return job.get("error")


def test_a_machine_is_saved_loaded_and_forgotten(station: Make, folder: Path) -> None:
    made = station(NODE)
    memory = made.board.memory
    memory.write(0x5000, b"before")
    given = {"tag": "one", "vmstate": "n", "devices": ["n"]}
    made.run("snapshot-save", job_id="s", **given)
    assert ends(made, "s") is None
    memory.write(0x5000, b"after!")
    made.run("snapshot-save", job_id="s", **given)
    assert ends(made, "s") == "Snapshot 'one' already exists in one or more devices"
    made.run("snapshot-load", job_id="l", **given)
    assert ends(made, "l") is None and memory.read(0x5000, 6) == b"before"
    made.run("snapshot-delete", job_id="d", tag="one", devices=["n"])
    assert ends(made, "d") is None
    made.run("snapshot-load", job_id="l", **given)
    assert ends(made, "l") == "Snapshot 'one' does not exist in one or more devices"
    made.run("snapshot-save", job_id="s", tag="x", vmstate="y", devices=["n"])
    assert ends(made, "s") == "vmstate block device 'y' does not exist"
    made.run("snapshot-delete", job_id="d", tag="x", devices=["z"])
    assert ends(made, "d") == "No block device node 'z'"
    assert made.refused("snapshot-delete", job_id="-", tag="x", devices=["n"]) == (
        "Invalid job ID '-'")
