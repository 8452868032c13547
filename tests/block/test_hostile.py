"""Images that lie: a clear error, in bounded time and memory."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pytcg.block.device import BlockError
from pytcg.block.formats.qcow2.device import Qcow2Device
from pytcg.block.formats.qcow2.snapshot import create_snapshot
from pytcg.block.open import open_image

from .images import make, make_open

READER = Path(__file__).with_name("hostile_reader.py")
BASES = {
    "small clusters": "cluster_size=4k",
    "default": "",
    "extended": "extended_l2=on",
    "version 2": "compat=0.10,cluster_size=4k",
    "narrow refcounts": "refcount_bits=2,cluster_size=512",
}


def _base(path: Path, options: str) -> None:
    with make_open(path, 3 << 20, options) as disk:
        assert isinstance(disk, Qcow2Device)
        disk.pwrite(0, b"a" * 300_000)
        disk.write_zeroes(1 << 20, 200_000)
        disk.write_compressed(2 << 20, b"b" * disk.cluster_size)
        if disk.header.version >= 3:
            disk.bitmaps.add("map", 65536)
        create_snapshot(disk, "one")
        disk.pwrite(100_000, b"c" * 1000)


def _damage(base: Path, seed: int, count: int) -> None:
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, str(READER), str(base), str(seed), str(count)], capture_output=True,
        text=True, env={**os.environ, "PYTHONPATH": str(root / "src")})
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", BASES)
def test_damaged_images_give_errors_only(name: str, tmp_path: Path) -> None:
    base = tmp_path / "base.qcow2"
    _base(base, BASES[name])
    _damage(base, 0, 80)


@pytest.mark.slow
@pytest.mark.parametrize("name", BASES)
@pytest.mark.parametrize("seed", range(1000, 11000, 1000))
def test_many_more_damaged_images(name: str, seed: int, tmp_path: Path) -> None:
    base = tmp_path / "base.qcow2"
    _base(base, BASES[name])
    _damage(base, seed, 1000)


@pytest.mark.parametrize(("driver", "options"), [
    ("vmdk", ""), ("vmdk", "zeroed_grain=on"), ("vmdk", "subformat=streamOptimized"),
    ("vhdx", "block_size=1M"), ("qed", "cluster_size=4k,table_size=2"), ("vdi", ""),
    ("vpc", "")])
def test_other_damaged_images_give_errors_only(driver: str, options: str, tmp_path: Path) -> None:
    base = tmp_path / f"base.{driver}"
    with make_open(base, 3 << 20, options, driver) as disk:
        disk.pwrite(0, b"a" * (4 << 16))
        disk.pwrite(1 << 20, b"b" * 65536)
        if not disk.needs_compressed_writes:
            disk.write_zeroes(1 << 16, 200_000)
    _damage(base, 0, 25)


def test_backing_cycle_is_an_error(tmp_path: Path) -> None:
    one, two = tmp_path / "one.qcow2", tmp_path / "two.qcow2"
    make(one, 1 << 20, f"backing_file={two},backing_fmt=qcow2")
    make(two, 1 << 20, f"backing_file={one},backing_fmt=qcow2")
    with pytest.raises(BlockError, match="infinite loop"):
        open_image(str(one))


def test_random_bytes_are_a_raw_image_or_an_error(tmp_path: Path) -> None:
    path = tmp_path / "noise"
    for magic in (b"", b"QFI\xfb\0\0\0\3", b"KDMV", b"vhdxfile", b"conectix", b"QED\0",
                  bytes(64) + b"\x7f\x10\xda\xbe"):
        path.write_bytes(magic + os.urandom(4096 - len(magic)))
        try:
            with open_image(str(path), read_only=True) as disk:
                disk.pread(0, min(4096, disk.size))
        except BlockError as error:
            assert str(error)
