"""VHDX: making, writing, its log, with qemu-img on the other side."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
from functools import partial
from pathlib import Path

import pytest

from block import images
from block.images import run
from pytcg.block.device import BlockError
from pytcg.block.formats.vhdx.device import VhdxDevice
from pytcg.block.open import open_image

from .conftest import QEMU_IMG, pytcg_img

needs_qemu = pytest.mark.skipif(QEMU_IMG is None, reason="qemu-img is not installed")
SIZE = 40 << 20
make_open = partial(images.make_open, driver="vhdx")


@needs_qemu
@pytest.mark.parametrize("options", ["", "block_size=1M", "subformat=fixed",
                                     "block_state_zero=off", "subformat=fixed,block_size=1M",
                                     "log_size=3M"])
def test_qemu_reads_what_we_wrote(options: str, tmp_path: Path) -> None:
    path, plain = tmp_path / "x.vhdx", tmp_path / "plain"
    rng = random.Random(options)
    with make_open(path, SIZE, options) as disk:
        model = bytearray(SIZE)
        for _ in range(30):
            offset = rng.randrange(SIZE)
            data = rng.randbytes(rng.randrange(1, min(3_000_000, SIZE - offset) + 1))
            disk.pwrite(offset, data)
            model[offset : offset + len(data)] = data
        assert disk.pread(0, SIZE) == model
    plain.write_bytes(model)
    done = run("qemu-img", "compare", "-f", "raw", "-F", "vhdx", plain, path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert run("qemu-img", "check", path).returncode == 0
    assert pytcg_img("check", "x.vhdx", cwd=tmp_path).code == 0
    # QEMU goes on writing, and we read that.
    run("qemu-io", "-f", "vhdx", "-c", "write -P 7 1234k 12345k", path)
    model[1234 << 10 : 13579 << 10] = b"\7" * (12345 << 10)
    with open_image(str(path), read_only=True) as disk:
        assert disk.pread(0, SIZE) == model


@needs_qemu
@pytest.mark.parametrize("size", ["1M", "3G", "200G", "33T"])
def test_described_as_qemus(size: str, tmp_path: Path) -> None:
    assert pytcg_img("create", "-f", "vhdx", "ours", size, cwd=tmp_path).code == 0
    run("qemu-img", "create", "-f", "vhdx", tmp_path / "theirs", size)
    seen = []
    for name in ("ours", "theirs"):
        for argv in (["info"], ["map"]):
            text = run("qemu-img", *argv, "--output=json", tmp_path / name).stdout
            seen.append(json.loads(text.replace(name, "")))
    seen[0].pop("actual-size"), seen[2].pop("actual-size")
    assert seen[:2] == seen[2:]


def _crashed(path: Path, copy: Path) -> None:
    """A copy of an image in use whose last change of the BAT did not arrive."""
    with make_open(path, SIZE, "block_size=1M") as disk:
        assert isinstance(disk, VhdxDevice)
        disk.pwrite(5 << 20, b"first" * 1000)
        disk.pwrite(30 << 20, b"second" * 1000)
        shutil.copy(path, copy)
        at = disk._bat_at + 8 * disk._entry_index(30)
    with copy.open("r+b") as file:
        file.seek(at)
        file.write(bytes(8))


def test_the_log_is_replayed(tmp_path: Path) -> None:
    copy = tmp_path / "copy.vhdx"
    _crashed(tmp_path / "x.vhdx", copy)
    with pytest.raises(BlockError, match="log that needs to be replayed"):
        open_image(str(copy), read_only=True)
    done = pytcg_img("check", "-r", "all", str(copy), cwd=tmp_path)
    assert done.code == 0 and "1 corruptions" in done.out
    with open_image(str(copy), read_only=True) as disk:
        assert disk.pread(5 << 20, 5000) == b"first" * 1000
        assert disk.pread(30 << 20, 6000) == b"second" * 1000


@needs_qemu
def test_qemu_replays_our_log_and_tells_the_same(tmp_path: Path) -> None:
    copy, plain = tmp_path / "copy.vhdx", tmp_path / "plain"
    _crashed(tmp_path / "x.vhdx", copy)
    for argv in (["info"], ["check"]):
        ours = pytcg_img(*argv, "copy.vhdx", cwd=tmp_path)
        theirs = subprocess.run(["qemu-img", *argv, "copy.vhdx"], cwd=tmp_path,
                                capture_output=True, text=True)
        assert (ours.code, ours.err) == (
            theirs.returncode, theirs.stderr.replace("qemu-img: C", "pytcg-img: C"))
    again = tmp_path / "again.vhdx"
    shutil.copy(copy, again)
    ours = pytcg_img("check", "-r", "all", "again.vhdx", cwd=tmp_path)
    theirs = run("qemu-img", "check", "-r", "all", copy)
    assert (ours.code, ours.out) == (theirs.returncode, theirs.stdout)
    run("qemu-img", "convert", "-O", "raw", copy, plain)
    with plain.open("rb") as file, open_image(str(again), read_only=True) as disk:
        assert file.read() == disk.pread(0, disk.size)


def test_a_torn_log_entry_is_ignored(tmp_path: Path) -> None:
    copy = tmp_path / "copy.vhdx"
    _crashed(tmp_path / "x.vhdx", copy)
    with copy.open("r+b") as file:
        file.seek((1 << 20) + 5000)
        file.write(b"torn")
    with open_image(str(copy)) as disk:
        assert disk.pread(5 << 20, 5000) == b"first" * 1000
        assert not any(disk.pread(30 << 20, 6000))


@needs_qemu
def test_check_finds_lost_blocks(tmp_path: Path) -> None:
    path = tmp_path / "x.vhdx"
    with make_open(path, SIZE, "block_size=1M") as disk:
        for block in (1, 5, 9):
            disk.pwrite(block << 20, b"data")
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - (3 << 19))
    ours, theirs = pytcg_img("check", "x.vhdx", cwd=tmp_path), run("qemu-img", "check", path)
    assert (ours.code, ours.out) == (theirs.returncode, theirs.stdout)
    assert ours.err.splitlines() == [line.removeprefix("qemu-img: ")
                                     for line in theirs.stderr.splitlines()]
    with pytest.raises(BlockError):
        open_image(str(path))


@needs_qemu
@pytest.mark.parametrize("options", ["subformat=foo", "block_size=3M",
                                     "log_size=4G"])
def test_refusals(options: str, tmp_path: Path) -> None:
    ours = pytcg_img("create", "-f", "vhdx", "-o", options, "x", "1M", cwd=tmp_path)
    theirs = subprocess.run(["qemu-img", "create", "-f", "vhdx", "-o", options, "x", "1M"],
                            cwd=tmp_path, capture_output=True, text=True)
    assert (ours.code, ours.err) == (theirs.returncode,
                                     theirs.stderr.replace("qemu-img", "pytcg-img"))
