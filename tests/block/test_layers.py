"""Locks, names and options, filters, overlays, direct I/O, the asynchronous face."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pytcg.block.aio import AsyncDevice
from pytcg.block.device import BlockError, Extent, merge_extents
from pytcg.block.filters.filter import RequestPolicy
from pytcg.block.formats.qcow2.device import Qcow2Device
from pytcg.block.jobs.ahead import run_ordered
from pytcg.block.open import open_image
from pytcg.block.options import parse_keyval, parse_name, parse_size, resolve_backing, unflatten
from pytcg.block.probe import probe_format

from .images import QCOW2_OPTIONS, assert_clean, make, make_open, needs_qemu, run

MIB = 1 << 20


# ---- names ----

@pytest.mark.parametrize(("text", "value"), [
    ("0", 0), ("512", 512), ("1k", 1024), ("1K", 1024), ("1.5G", 3 << 29), ("0x200", 512),
    ("2T", 2 << 40), ("1E", 1 << 60), ("7b", 7),
    ("1.k", 1024), ("1.0", 1), (" +1.0009765625k", 1025)])
def test_sizes(text: str, value: int) -> None:
    assert parse_size(text) == value


@pytest.mark.parametrize("text", ["", "k", "1Q", "-1", "1.5", "1e3", "1 M", "0xg", ".5k", "1k ",
                                  "0x1.8k"])
def test_wrong_sizes(text: str) -> None:
    with pytest.raises(ValueError):
        parse_size(text)


def test_keyval_and_unflatten() -> None:
    flat = parse_keyval("driver=qcow2,file.filename=a,,b,file.driver=file,x,noy")
    assert flat == {"driver": "qcow2", "file.filename": "a,b", "file.driver": "file", "x": "on",
                    "y": "off"}
    assert unflatten(flat)["file"] == {"filename": "a,b", "driver": "file"}
    with pytest.raises(BlockError):
        unflatten({"a": "1", "a.b": "2"})


def test_backing_names_are_beside_the_overlay() -> None:
    assert resolve_backing("/d/top.q", "base.q") == "/d/base.q"
    assert resolve_backing("top.q", "base.q") == "base.q"
    assert resolve_backing("/d/top.q", "/e/base.q") == "/e/base.q"
    assert resolve_backing("/d/top.q", "nbd://host/x") == "nbd://host/x"


@pytest.mark.parametrize("name", [
    "nbd:unix:/s", "nbd://h/x", "nbd+unix:///x?socket=/s", "nbds://h/x?tls-certificates=/c",
    "nbds+unix:///x?socket=/s&tls-certificates=/c"])
def test_nbd_names_are_image_names(name: str) -> None:
    assert parse_name(name) == {"file": {"driver": "nbd", "filename": name}}


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_work_ahead_is_used_in_order(workers: int) -> None:
    done: list[tuple[int, int]] = []
    run_ordered(iter(range(20)), lambda task: task * task,
                lambda task, result: done.append((task, result)), workers)
    assert done == [(task, task * task) for task in range(20)]


def test_the_same_image_by_many_names(tmp_path: Path) -> None:
    path = tmp_path / "a,b.qcow2"
    with make_open(path, MIB) as disk:
        disk.pwrite(5, b"hello")
    escaped = str(path).replace(",", ",,")
    names: list[tuple[object, bool]] = [
        (str(path), False), (f"file:{path}", False),
        ("json:" + json.dumps({"driver": "qcow2",
                               "file": {"driver": "file", "filename": str(path)}}), False),
        ("json:" + json.dumps({"file.filename": str(path)}), False),
        ({"driver": "qcow2", "file": {"driver": "file", "filename": str(path)}}, False),
        (f"driver=qcow2,file.filename={escaped},read-only=on", True),
    ]
    for name, image_opts in names:
        with open_image(name, read_only=True, image_opts=image_opts) as disk:  # type: ignore[arg-type]
            assert disk.format_name == "qcow2"
            assert disk.pread(5, 5) == b"hello"


@pytest.mark.parametrize(("options", "message"), [
    ({"driver": "qcow3", "file.filename": "x"}, "Unknown driver 'qcow3'"),
    ({"driver": "raw"}, "must be specified"),
    ({"driver": "raw", "file.filename": "/nonexistent"}, "No such file or directory"),
    ({"driver": "raw", "file": "node7"}, "node7"),
    ({"driver": "raw", "file.filename": "/dev/null", "colour": "red"}, "'colour'"),
    ({"driver": "raw", "file.filename": "/dev/null", "read-only": "maybe"}, "'on' or 'off'"),
])
def test_wrong_options(options: dict[str, str], message: str) -> None:
    with pytest.raises(BlockError, match=message):
        open_image(options)


def test_json_names_may_be_wrong() -> None:
    for name in ("json:", "json:[]", "json:{", "json:{}", "json:" + "[" * 100_000, "tape:x"):
        with pytest.raises(BlockError):
            open_image(name)


def test_raw_windows(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    path.write_bytes(bytes(4096) + b"w" * 1024 + bytes(4096))
    with open_image({"driver": "raw", "offset": 4096, "size": 1024,
                     "file": {"driver": "file", "filename": str(path)}}) as disk:
        assert disk.size == 1024 and disk.pread(0, 1024) == b"w" * 1024
        with pytest.raises(BlockError):
            disk.pwrite(1020, b"12345")
        with pytest.raises(BlockError):
            disk.truncate(2048)


def test_a_guessed_raw_disk_does_not_become_another_format(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    path.write_bytes(bytes(4096))
    with open_image(str(path)) as disk:
        disk.pwrite(0, b"MBR")
        with pytest.raises(BlockError):
            disk.pwrite(0, b"QFI\xfb\0\0\0\3")
    with open_image(str(path), format="raw") as disk:
        disk.pwrite(0, b"QFI\xfb\0\0\0\3")
    assert probe_format(path.read_bytes(), "disk") == "qcow2"


# ---- locks ----

def test_writers_exclude_each_other(tmp_path: Path) -> None:
    path = tmp_path / "a.qcow2"
    with make_open(path, MIB):
        with pytest.raises(BlockError, match="Is another process using the image"):
            open_image(str(path))
        with pytest.raises(BlockError, match='shared "write" lock'):
            open_image(str(path), read_only=True)
        open_image(str(path), read_only=True, force_share=True).close()
    with open_image(str(path), read_only=True), open_image(str(path), read_only=True):
        pass


@needs_qemu
def test_qemu_and_we_exclude_each_other(tmp_path: Path) -> None:
    path = tmp_path / "a.qcow2"
    with make_open(path, MIB):
        done = run("qemu-img", "info", path)
        assert done.returncode == 1 and 'shared "write" lock' in done.stderr
        assert run("qemu-img", "info", "-U", path).returncode == 0
    assert run("qemu-img", "info", path).returncode == 0


# ---- data files ----

@pytest.mark.parametrize("raw", ["off", "on"])
def test_external_data_file(raw: str, tmp_path: Path) -> None:
    path, data = tmp_path / "a.qcow2", tmp_path / "a.data"
    with make_open(path, 4 * MIB, f"data_file={data},data_file_raw={raw}") as disk:
        disk.pwrite(MIB, b"d" * 100_000)
        disk.write_zeroes(MIB, 65_536)
        disk.discard(2 * MIB, MIB)
        content = disk.pread(0, disk.size)
    with open_image(str(path)) as disk:
        assert disk.pread(0, disk.size) == content
        assert isinstance(disk, Qcow2Device) and disk.check().clean
    if raw == "on":
        assert data.read_bytes() == content
    if run("which", "qemu-img").returncode == 0:
        assert_clean(path)


# ---- filters and overlays ----

def test_detect_zeroes_and_discard_policies(tmp_path: Path) -> None:
    path = tmp_path / "a.qcow2"
    make(path, 4 * MIB)
    with open_image(str(path), discard="ignore", detect_zeroes="on") as disk:
        assert isinstance(disk, RequestPolicy)
        disk.pwrite(0, b"x" * MIB)
        disk.discard(0, MIB)
        assert disk.pread(0, MIB) == b"x" * MIB
        disk.pwrite(0, bytes(MIB))
        assert disk.block_status(0, MIB)[0].zero
    with pytest.raises(BlockError):
        open_image(str(path), discard="ignore", detect_zeroes="unmap")
    with pytest.raises(BlockError):
        open_image(str(path), detect_zeroes="sometimes")


def test_snapshot_overlay_leaves_the_disk_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.raw"
    path.write_bytes(b"a" * MIB)
    with open_image(str(path), format="raw", snapshot=True) as disk:
        disk.pwrite(10, b"changed")
        disk.flush()
        assert disk.pread(8, 11) == b"aachangedaa"
    assert path.read_bytes() == b"a" * MIB


@pytest.mark.parametrize("cache", ["none", "directsync", "writethrough", "unsafe"])
def test_cache_modes(cache: str, tmp_path: Path) -> None:
    path = tmp_path / "a.qcow2"
    make(path, 4 * MIB)
    try:
        disk = open_image(str(path), cache=cache)
    except BlockError as error:
        pytest.skip(f"this filesystem: {error}")
    with disk:
        disk.pwrite(12_345, b"direct" * 10_000)
        disk.pwrite(3 * MIB + 1, b"!")
    with open_image(str(path)) as disk:
        assert disk.pread(12_345, 60_000) == b"direct" * 10_000
        assert disk.pread(3 * MIB, 3) == b"\0!\0"
    with pytest.raises(BlockError):
        open_image(str(path), cache="often")


# ---- concurrency ----

def test_threads_write_one_disk(tmp_path: Path) -> None:
    path = tmp_path / "a.qcow2"
    with make_open(path, 16 * MIB, "cluster_size=4k") as disk:
        def work(number: int) -> None:
            for index in range(100):
                # Neighbours share clusters, so that allocations collide.
                offset = (index * 8 + number) * 1000
                disk.pwrite(offset, bytes([number + 1]) * 1000)
                assert disk.pread(offset, 1000) == bytes([number + 1]) * 1000
                if index % 20 == number:
                    disk.flush()
                    disk.discard(12 * MIB, MIB)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        model = b"".join(bytes([number + 1]) * 1000 for _ in range(100) for number in range(8))
        assert disk.pread(0, len(model)) == model
        assert isinstance(disk, Qcow2Device) and disk.check().clean


@pytest.mark.parametrize("options", QCOW2_OPTIONS)
def test_zeroes_beside_a_write_under_way_spare_it(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: str) -> None:
    stored, go_on = threading.Event(), threading.Event()
    with make_open(tmp_path / "a.qcow2", 4 * MIB, options) as disk, \
            ThreadPoolExecutor(3) as pool:
        assert isinstance(disk, Qcow2Device)
        pwrite = disk.data_file.pwrite

        def slow(offset: int, data: bytes, *, fua: bool = False) -> None:
            pwrite(offset, data, fua=fua)
            if bytes(data).find(b"written") >= 0:
                stored.set()
                assert go_on.wait(20)

        monkeypatch.setattr(disk.data_file, "pwrite", slow)
        write = pool.submit(disk.pwrite, MIB + 100, b"written")
        assert stored.wait(20)
        before = pool.submit(disk.write_zeroes, MIB - 100, 200)
        after = pool.submit(disk.write_zeroes, MIB + 107, MIB)
        time.sleep(0.05)  # for them to have looked
        go_on.set()
        for done in (write, before, after):
            done.result(20)
        assert disk.pread(MIB, 200) == b"written".rjust(107, b"\0").ljust(200, b"\0")
        assert disk.check().clean


def test_asynchronous_requests_overlap(tmp_path: Path) -> None:
    async def story() -> None:
        async with AsyncDevice(make_open(tmp_path / "a.qcow2", 8 * MIB)) as disk:
            await asyncio.gather(*(disk.write(index * 5000, bytes([index]) * 5000)
                                   for index in range(1, 200)))
            await disk.flush()
            parts = await asyncio.gather(*(disk.read(index * 5000, 5000)
                                           for index in range(1, 200)))
            assert parts == [bytes([index]) * 5000 for index in range(1, 200)]
            await disk.write_zeroes(0, MIB)
            await disk.discard(MIB, MIB)
            assert (await disk.block_status(3 * MIB, MIB))[0].zero
            with pytest.raises(BlockError):
                await disk.read(8 * MIB, 1)
            disk.drain()
            assert disk.in_flight == 0

    asyncio.run(story())


# ---- extents ----

def test_extents_merge_where_they_continue() -> None:
    one = Extent(10, True, False, offset=100, filename="a")
    assert list(merge_extents(iter([one, one._replace(offset=110)]))) == [one._replace(length=20)]
    assert len(list(merge_extents(iter([one, one._replace(offset=111)])))) == 2
    assert len(list(merge_extents(iter([one, one._replace(offset=110, depth=1)])))) == 2
