"""`qemu-io` in the human monitor: pytcg-io's commands on a running machine's disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from monitor.station import Station
from monitor.test_block_jobs import DISK, Guest, folder

__all__ = ["folder"]
Make = Callable[[str], Station]


def test_io_commands_work_on_a_disk(station: Make, folder: Path,
                                    capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    made = station(DISK)
    guest = Guest(made)
    made.run("block-dirty-bitmap-add", node="d", name="bm")
    assert made.line('qemu-io d "write -P0x5d 128k 64k"') == ""
    assert "wrote 65536/65536 bytes at offset 131072" in capsys.readouterr().out
    assert guest.io.device.pread(128 << 10, 65536) == b"\x5d" * 65536
    assert made.run("query-block")[0]["inserted"]["dirty-bitmaps"][0]["count"] == 65536
    assert made.line('qemu-io d "read -P0x5e 128k 64k"') == ""
    assert "Pattern verification failed" in capsys.readouterr().out
    assert made.line('qemu-io x "read 0 1"') == (
        "Error: Cannot find device='x' nor node-name='x'\n")
    assert "not found" in made.line('qemu-io d "quit"')
    assert made.line('qemu-io d "aio_write -P7 0 64k"') == ""
    made.line('qemu-io d "aio_flush"')
    assert guest.io.device.pread(0, 1) == b"\x07"


def test_old_names_of_virtio_devices_are_there(station: Make, folder: Path) -> None:
    made = station(DISK.replace("virtio-blk-pci", "virtio-blk"))
    assert made.run("query-block")[0]["qdev"]
