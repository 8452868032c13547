"""VMDK's kinds of images, with qemu-img on the other side."""

from __future__ import annotations

import json
import random
from functools import partial
from pathlib import Path

import pytest

from block import images
from block.images import run
from pytcg.block.device import BlockError
from pytcg.block.formats.vmdk.device import VmdkDevice
from pytcg.block.open import open_image

from .conftest import QEMU_IMG, pytcg_img

needs_qemu = pytest.mark.skipif(QEMU_IMG is None, reason="qemu-img is not installed")

SUBFORMATS = ["monolithicSparse", "monolithicFlat", "twoGbMaxExtentSparse",
              "twoGbMaxExtentFlat", "streamOptimized"]
SIZE = (2 << 30) + (5 << 20)
make = partial(images.make, driver="vmdk")
make_open = partial(images.make_open, driver="vmdk")


@needs_qemu
@pytest.mark.parametrize("kind", SUBFORMATS)
def test_made_and_described_as_qemu_does(kind: str, tmp_path: Path) -> None:
    described = []
    for who in ("ours", "theirs"):
        (tmp_path / who).mkdir()
        argv = ("create", "-f", "vmdk", "-o", f"subformat={kind}", str(tmp_path / who / "x.vmdk"),
                str(SIZE))
        if who == "ours":
            assert pytcg_img(*argv, cwd=tmp_path).code == 0
        else:
            run("qemu-img", *argv)
        for tool in ("ours", "theirs"):
            image = str(tmp_path / who / "x.vmdk")
            text = (pytcg_img("info", "--output=json", image, cwd=tmp_path).out if tool == "ours"
                    else run("qemu-img", "info", "--output=json", image).stdout)
            info = json.loads(text.replace(f"{tmp_path}/{who}", ""))
            info["format-specific"]["data"].pop("cid")
            described.append(info)
    assert all(info == described[0] for info in described[1:])
    assert (sorted(path.name for path in (tmp_path / "ours").iterdir())
            == sorted(path.name for path in (tmp_path / "theirs").iterdir()))


@needs_qemu
@pytest.mark.parametrize("kind", SUBFORMATS)
def test_converted_images_are_read_by_qemu(kind: str, tmp_path: Path) -> None:
    source = tmp_path / "source.raw"
    with source.open("wb") as file:
        file.truncate(SIZE)
        for offset in (0, 70_000, (2 << 30) - 40_000, SIZE - 1000):
            file.seek(offset)
            file.write(random.Random(offset).randbytes(1000) * 40 if offset < SIZE - 1000
                       else b"end")
    done = pytcg_img("convert", "-O", "vmdk", "-o", f"subformat={kind}", "source.raw", "x.vmdk",
                     cwd=tmp_path)
    assert done.code == 0, done.err
    compared = run("qemu-img", "compare", "-f", "raw", source, tmp_path / "x.vmdk")
    assert compared.returncode == 0, compared.stdout + compared.stderr
    assert run("qemu-img", "check", tmp_path / "x.vmdk").returncode == 0
    assert pytcg_img("check", "x.vmdk", cwd=tmp_path).code == 0
    if kind == "streamOptimized":
        assert (tmp_path / "x.vmdk").stat().st_size < 1 << 20


@needs_qemu
def test_zeroed_grains(tmp_path: Path) -> None:
    path = tmp_path / "x.vmdk"
    with make_open(path, 1 << 20, "zeroed_grain=on") as disk:
        disk.pwrite(0, b"a" * 300_000)
        disk.write_zeroes(1000, 200_000)
        assert disk.layer_status(65536, 65536).zero
    plain = tmp_path / "plain"
    plain.write_bytes(b"a" * 1000 + bytes(200_000) + b"a" * 99_000 + bytes((1 << 20) - 300_000))
    assert run("qemu-img", "compare", "-f", "raw", plain, path).returncode == 0


@needs_qemu
@pytest.mark.parametrize("kind", ["monolithicSparse", "twoGbMaxExtentSparse"])
def test_overlay(kind: str, tmp_path: Path) -> None:
    base, top = tmp_path / "base.vmdk", tmp_path / "top.vmdk"
    with make_open(base, SIZE, "") as disk:
        disk.pwrite((2 << 30) - 3000, b"b" * 6000)
    make(top, SIZE, f"subformat={kind},backing_file=base.vmdk,backing_fmt=vmdk")
    with open_image(str(top)) as disk:
        disk.pwrite((2 << 30) - 100, b"t" * 200)
        assert disk.pread((2 << 30) - 101, 202) == b"b" + b"t" * 200 + b"b"
    flat = tmp_path / "flat.raw"
    run("qemu-img", "convert", "-O", "raw", top, flat)
    done = pytcg_img("compare", "-f", "raw", str(flat), str(top), cwd=tmp_path)
    assert done.code == 0, done.out + done.err
    with open_image(str(base)) as disk:
        disk.pwrite(0, b"changed")  # gives the base a new CID
    with open_image(str(top), read_only=True) as disk, pytest.raises(BlockError):
        disk.pread(0, 512)


def test_the_first_write_renews_the_cid(tmp_path: Path) -> None:
    path = tmp_path / "x.vmdk"
    for kind in ("monolithicSparse", "monolithicFlat"):
        with make_open(path, 1 << 20, f"subformat={kind}") as disk:
            assert isinstance(disk, VmdkDevice)
            before = disk.descriptor.cid("CID")
            disk.pwrite(0, b"a")
        with open_image(str(path), read_only=True) as disk:
            assert isinstance(disk, VmdkDevice)
            assert disk.descriptor.cid("CID") != before


def test_a_compressed_grain_is_written_once(tmp_path: Path) -> None:
    with make_open(tmp_path / "x.vmdk", 1 << 20, "subformat=streamOptimized") as disk:
        disk.pwrite(65536, b"a" * 65536)
        with pytest.raises(BlockError, match="allocated cluster"):
            disk.pwrite(65536, b"a" * 65536)
        with pytest.raises(BlockError):
            disk.pwrite(1 << 18, b"less than a grain")


@needs_qemu
@pytest.mark.parametrize("options", [
    "subformat=foo", "adapter_type=foo", "compat6=on,hwversion=9", "zeroed_grain=on,"
    "subformat=monolithicFlat"])
def test_refusals(options: str, tmp_path: Path) -> None:
    path = tmp_path / "x.vmdk"
    with pytest.raises(BlockError) as caught:
        make(path, 1 << 20, options)
    done = run("qemu-img", "create", "-f", "vmdk", "-o", options, path, "1M")
    assert done.stderr.splitlines()[-1] == f"qemu-img: {path}: {caught.value}"


@needs_qemu
@pytest.mark.parametrize("line", [
    'RW 2048 VMFS "flat" 1', 'RW 2048 FLAT "flat"', 'RW 2048 SPARSE "flat" 0',
    'RW 2048 FLAT "flat" -1', 'RW 2048 SPARSE "flat"'])
def test_bad_extent_lines(line: str, tmp_path: Path) -> None:
    path = tmp_path / "x.vmdk"
    (tmp_path / "flat").write_bytes(bytes(1 << 20))
    path.write_text('# Disk DescriptorFile\nversion=1\nCID=58ab4847\nparentCID=ffffffff\n'
                    f'createType="vmfs"\n# Extents\n{line}\n')
    ours = pytcg_img("info", str(path), cwd=tmp_path)
    theirs = run("qemu-img", "info", str(path))
    assert (ours.code, ours.err) == (theirs.returncode,
                                     theirs.stderr.replace("qemu-img", "pytcg-img"))


@needs_qemu
def test_check_finds_a_grain_beyond_the_end(tmp_path: Path) -> None:
    path = tmp_path / "x.vmdk"
    with make_open(path, 1 << 20, "") as disk:
        disk.pwrite(0, b"a" * 200_000)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 65536)
    ours, theirs = pytcg_img("check", "x.vmdk", cwd=tmp_path), run("qemu-img", "check", path)
    assert ours.code == theirs.returncode == 1
    assert ours.err == theirs.stderr.replace("qemu-img", "pytcg-img")
