"""I/O limits of drives: as QEMU tells and refuses them, and kept."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from monitor.qemu_monitor import QEMU, ask_qemu
from monitor.station import Station
from pytcg.machine.disk_io import DiskIo
from pytcg.machine.drives import DeviceError

Make = Callable[[str], Station]
LINE = ("-drive file={folder}/0,format=raw,if=none,id=d0,bps=4096,throttling.iops-read=8"
        ",iops_size=512 -drive file={folder}/1,format=raw,if=none,id=d1,throttling.group=h"
        ",iops_rd=3,throttling.iops-read-max=9,throttling.iops-read-max-length=2"
        " -device virtio-blk-pci,drive=d0,id=x0 -device virtio-blk-pci,drive=d1,id=x1"
        " -device ide-cd,id=cd,bus=ide.1")  # fmt: skip
NONE = dict.fromkeys(("bps", "bps_rd", "bps_wr", "iops", "iops_rd", "iops_wr"), 0)
ZERO, ONE = NONE | {"device": "d0"}, NONE | {"device": "d1"}
ASKED: tuple[tuple[str, dict[str, Any]], ...] = (
    ("query-block", {}),
    *(("block_set_io_throttle", given) for given in (
        NONE, NONE | {"device": "nix"}, NONE | {"id": "cd"}, {"device": "d0"},
        ZERO | {"bps": 1000, "bps_rd": 5}, ZERO | {"bps": -1}, ZERO | {"bps_max": 10},
        ZERO | {"bps": 1000, "bps_max": 10}, ZERO | {"iops_size": 4096},
        ZERO | {"bps": 1000, "bps_max_length": 3}, ZERO | {"bps": 1 << 60},
    )),
    ("query-block", {}),
    ("block_set_io_throttle", ZERO | {"bps": 1000, "bps_max": 5000, "bps_max_length": 3,
                                      "iops_rd": 7, "iops_size": 4096}),
    ("block_set_io_throttle", ONE | {"iops": 5}),
    ("query-block", {}),
    ("block_set_io_throttle", ZERO),
    ("block_set_io_throttle", ONE),
    ("query-block", {}),
    ("block_set_io_throttle", ONE | {"iops": 5, "group": "g"}),
    ("block_set_io_throttle", ZERO | {"iops": 6, "group": "g"}),
    ("query-block", {}),
    *(("human-monitor-command", {"command-line": line}) for line in (
        "block_set_io_throttle d1 1 2 3 4 5 6", "block_set_io_throttle d1 0 2 3 0 5 6",
        "help block_set_io_throttle",
    )),
    ("query-block", {}),
)  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in "01":
        (tmp_path / name).write_bytes(bytes(1 << 20))
    return tmp_path


def limits(answer: dict[str, Any]) -> Any:
    """What is told of them."""
    if not isinstance(answer.get("return"), list):
        return answer
    return {row["device"]: {name: value for name, value in row.get("inserted", {}).items()
                            if name.startswith(("bps", "iops", "group"))}
            for row in answer["return"]}  # fmt: skip


@pytest.mark.skipif(QEMU is None, reason="needs QEMU to compare with")
def test_they_are_told_and_refused_as_qemu_does(station: Make, folder: Path) -> None:
    asked = [{"execute": name, "arguments": arguments} for name, arguments in ASKED]
    theirs = ask_qemu(["-m", "16", *LINE.format(folder=folder).split()], asked)
    made = station(LINE)
    for request, answer in zip(asked, theirs, strict=True):
        assert limits(made.say(request)) == limits(answer), request
    assert made.line("info block d0").endswith(
        "    I/O throttling:   bps=0 bps_rd=2 bps_wr=3 bps_max=0 bps_rd_max=0 bps_wr_max=0 iops=0"
        " iops_rd=5 iops_wr=6 iops_max=0 iops_rd_max=0 iops_wr_max=0 iops_size=0 group=g\n")


@pytest.mark.parametrize(("more", "error"), [
    ("bps=1,bps_rd=2", "bps/iops/max total values and read/write values cannot be used at the"
                       " same time"),
    ("iops=-1", "bps/iops/max values must be within [0, 1000000000000000]"),
    ("bps=x", "Parameter 'throttling.bps-total' expects a number"),
    ("bps=1,throttling.bps-total=2", "'throttling.bps-total' and its alias 'bps' can't be used at"
                                     " the same time"),
])  # fmt: skip
def test_lines_that_are_refused(station: Make, folder: Path, more: str, error: str) -> None:
    with pytest.raises(DeviceError) as caught:
        station(f"-drive file={folder}/0,format=raw,if=none,id=d0,{more}")
    assert error in str(caught.value)


def disk(made: Station, name: str) -> DiskIo:
    io = made.machine.drives[name].io
    assert io is not None
    return io


def test_they_are_kept_by_a_group_and_given_up_at_the_end(station: Make, folder: Path) -> None:
    made = station(LINE)
    made.run("block_set_io_throttle", **ONE | {"bps_wr": 1 << 20, "group": "g"})
    made.run("block_set_io_throttle", **ZERO | {"bps_wr": 1 << 20, "group": "g"})
    assert not disk(made, "d0").write_now(0, [memoryview(bytearray(512))])
    ended: list[int] = []
    began = time.monotonic()
    for _ in range(4):  # 512 KiB more than what goes at once
        for name in ("d0", "d1"):
            disk(made, name).write(0, bytes(77 << 10), lambda _, errno: ended.append(errno))
    made.until(lambda: len(ended) == 8)
    assert time.monotonic() - began > 0.3 and not any(ended)
    made.run("block_set_io_throttle", **ZERO | {"bps_wr": 1, "group": "g"})
    for _ in range(3):
        disk(made, "d0").write(0, bytes(4096), lambda _, errno: ended.append(errno))
        disk(made, "d1").write(0, bytes(4096), lambda _, errno: ended.append(errno))
    disk(made, "d1").drain()  # who stops a disk doesn't wait for hours
    disk(made, "d0").drain()
    made.until(lambda: len(ended) == 14)
    disk(made, "d0").write(0, bytes(4096), lambda _, errno: ended.append(errno))
    made.run("block_set_io_throttle", **ZERO)
    made.until(lambda: len(ended) == 15)
    assert not any(ended)
