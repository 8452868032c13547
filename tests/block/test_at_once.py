"""What an image does in its caller's thread, and what it leaves to threads that may wait."""

from __future__ import annotations

import random
import threading
from pathlib import Path

import pytest

from pytcg.block.formats.qcow2.device import Qcow2Device
from pytcg.block.formats.qcow2.format import COPIED
from pytcg.block.formats.qcow2.snapshot import create_snapshot
from pytcg.block.open import open_image

from .images import make, make_open

MIB = 1 << 20
CLUSTER = 65536


def pieces(data: bytearray, *sizes: int) -> list[memoryview]:
    """A buffer in parts of these sizes and a rest."""
    view, found = memoryview(data), []
    for size in sizes:
        found.append(view[:size])
        view = view[size:]
    return [*found, view]


def qcow2(path: Path, options: str = "") -> Qcow2Device:
    disk = make_open(path, 4 * MIB, options)
    assert isinstance(disk, Qcow2Device)
    return disk


def test_clusters_with_data_and_without_are_read_at_once(tmp_path: Path) -> None:
    with qcow2(tmp_path / "disk") as disk:
        data = random.Random(1).randbytes(3 * CLUSTER)
        disk.pwrite(5 * CLUSTER, data)
        disk.pwrite(0, data[:CLUSTER])  # lies behind that in the file
        disk.write_zeroes(6 * CLUSTER, CLUSTER)
        buffer = bytearray(b"?" * (10 * CLUSTER))
        assert disk.read_now(CLUSTER // 2, pieces(buffer, 512, CLUSTER, 4096, 5 * CLUSTER))
        whole = data[:CLUSTER] + bytes(4 * CLUSTER) + data[:CLUSTER] + bytes(CLUSTER)
        whole += data[2 * CLUSTER :] + bytes(4 * CLUSTER)
        assert buffer == whole[CLUSTER // 2 :][: len(buffer)]


def test_a_backing_file_is_read_at_once(tmp_path: Path) -> None:
    below, data = tmp_path / "below", random.Random(2).randbytes(MIB)
    below.write_bytes(data)
    with qcow2(tmp_path / "disk", f"backing_file={below},backing_fmt=raw") as disk:
        disk.pwrite(CLUSTER, b"new" * 1000)
        buffer = bytearray(3 * CLUSTER)
        assert disk.read_now(0, pieces(buffer, 5000))
        assert buffer == data[:CLUSTER] + b"new" * 1000 + data[CLUSTER + 3000 : 3 * CLUSTER]
        buffer = bytearray(CLUSTER)  # a run that goes past the backing file's end
        assert not disk.read_now(MIB - 512, [memoryview(buffer)])


def test_tables_and_packed_clusters_are_read_by_others(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    with qcow2(path) as disk:
        disk.pwrite(0, b"x" * CLUSTER)
        disk.write_compressed(CLUSTER, b"y" * CLUSTER)
    with open_image(str(path), format="qcow2") as disk:
        buffer = [memoryview(bytearray(512))]
        assert not disk.read_now(0, buffer)
        disk.pread(0, 512)
        assert disk.read_now(0, buffer) and buffer[0] == b"x" * 512
        assert not disk.read_now(CLUSTER, buffer)
        assert not disk.read_now(4 * MIB - 256, buffer) and not disk.read_now(-512, buffer)


def test_clusters_of_ones_own_are_written_at_once(tmp_path: Path) -> None:
    with qcow2(tmp_path / "disk") as disk:
        data = bytearray(random.Random(3).randbytes(CLUSTER))
        assert not disk.write_now(0, [memoryview(data)])  # has no cluster yet
        disk.pwrite(0, bytes(2 * CLUSTER))
        assert disk.write_now(512, pieces(data, 4096, 512))
        assert not disk.write_now(CLUSTER + 512, [memoryview(data)])
        assert disk.pread(0, 2 * CLUSTER) == bytes(512) + data + bytes(CLUSTER - 512)
        create_snapshot(disk, "a")
        assert not disk.write_now(0, [memoryview(data)])  # is the snapshot's now
        disk.pwrite(0, data)
        assert disk.write_now(0, [memoryview(data)])
        assert disk.check().clean


@pytest.mark.parametrize("options", ["", "extended_l2=on", "lazy_refcounts=on"])
def test_others_that_hold_the_tables_are_not_waited_for(tmp_path: Path, options: str) -> None:
    with qcow2(tmp_path / "disk", options) as disk:
        disk.pwrite(0, bytes(CLUSTER))
        buffer = [memoryview(bytearray(512))]
        assert disk.read_now(0, buffer) and disk.write_now(0, buffer)
        answers: list[bool] = []
        with disk.lock:
            other = threading.Thread(target=lambda: answers.extend(
                (disk.read_now(0, buffer), disk.write_now(0, buffer))))  # fmt: skip
            other.start()
            other.join()
        assert answers == [False, False]


def test_a_damaged_table_is_reported_by_the_request_that_may_wait(
        tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    path = tmp_path / "disk"
    with qcow2(path) as disk:
        disk.pwrite(0, bytes(CLUSTER))
        host = disk.map.lookup(0, 1).host
        part, entry = disk.map.writable(0)
        buffer = [memoryview(bytearray(512))]
        part.table[entry] = disk.map.l1[0]  # the L2 table itself
        assert not disk.write_now(0, buffer)
        part.table[entry] += 512
        assert not disk.read_now(0, buffer) and not disk.write_now(0, buffer)
        assert capsys.readouterr() == ("", "") and not disk.read_only
        part.table[entry] = host | COPIED


@pytest.mark.parametrize("option", ["read-only=on", "cache.direct=on"])
def test_what_must_wait_is_not_written_at_once(tmp_path: Path, option: str) -> None:
    path = tmp_path / "disk"
    make(path, MIB)
    with open_image(str(path), format="qcow2") as disk:
        disk.pwrite(0, bytes(CLUSTER))
    line = f"driver=qcow2,file.filename={path},{option}"
    with open_image(line, image_opts=True, read_only="read-only" in option) as disk:
        disk.pread(0, 512)
        assert not disk.write_now(0, [memoryview(bytearray(512))])
