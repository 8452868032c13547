"""QED: making, writing, checking, with qemu-img on the other side."""

from __future__ import annotations

import json
import random
import shutil
from functools import partial
from pathlib import Path

import pytest

from block import images
from block.images import run
from pytcg.block.device import BlockDevice
from pytcg.block.formats.qed.device import QedDevice
from pytcg.block.open import open_image

from .conftest import QEMU_IMG, pytcg_img

needs_qemu = pytest.mark.skipif(QEMU_IMG is None, reason="qemu-img is not installed")
SIZE = 9 << 20
make_open = partial(images.make_open, driver="qed")


def change(disk: BlockDevice, model: bytearray, rng: random.Random) -> None:
    """Write and zero at random, in the model too."""
    for _ in range(60):
        offset = rng.randrange(SIZE)
        length = rng.randrange(1, min(200_000, SIZE - offset) + 1)
        data = bytes(length) if rng.random() < 0.4 else rng.randbytes(length)
        if any(data):
            disk.pwrite(offset, data)
        else:
            disk.write_zeroes(offset, length)
        model[offset : offset + length] = data


@needs_qemu
@pytest.mark.parametrize("options", ["", "cluster_size=4k,table_size=2", "table_size=16"])
@pytest.mark.parametrize("overlay", [False, True])
def test_qemu_reads_what_we_wrote(options: str, overlay: bool, tmp_path: Path) -> None:
    path, plain = tmp_path / "x.qed", tmp_path / "plain"
    rng = random.Random(options)
    model = bytearray(SIZE)
    if overlay:
        model[: 4 << 20] = rng.randbytes(4 << 20)
        (tmp_path / "base").write_bytes(model[: 4 << 20])
        options += ",backing_file=base,backing_fmt=raw"
    with make_open(path, SIZE, options.lstrip(",")) as disk:
        change(disk, model, rng)
        assert disk.pread(0, SIZE) == model
    plain.write_bytes(model)
    done = run("qemu-img", "compare", "-f", "raw", "-F", "qed", plain, path)
    assert done.returncode == 0, done.stdout + done.stderr
    for command in ("check", "map"):
        ours = pytcg_img(command, "--output=json", "x.qed", cwd=tmp_path)
        theirs = run("qemu-img", command, "--output=json", "x.qed", cwd=tmp_path)
        assert (ours.code, json.loads(ours.out)) == (theirs.returncode, json.loads(theirs.stdout))
    ours = pytcg_img("info", "x.qed", cwd=tmp_path)
    assert ours.out == run("qemu-img", "info", "x.qed", cwd=tmp_path).stdout


def _but_disk_size(text: str) -> list[str]:
    """The lines that don't depend on what the filesystem did."""
    return [line for line in text.splitlines() if not line.startswith("disk size")]


def _crashed(path: Path, copy: Path) -> None:
    """A copy of an image in use, whose last cluster did not get into the file."""
    with make_open(path, SIZE) as disk:
        for at in (0, 1, 2):
            disk.pwrite(at << 20, b"data" * 30_000)
        shutil.copy(path, copy)
    with copy.open("r+b") as file:
        file.truncate(copy.stat().st_size - 65536)


@needs_qemu
def test_check_of_a_crashed_image(tmp_path: Path) -> None:
    copy = tmp_path / "copy.qed"
    _crashed(tmp_path / "x.qed", copy)
    theirs_copy = tmp_path / "theirs.qed"
    for argv in (["info"], ["check"], ["check", "-r", "all"], ["check"], ["info"]):
        if "-r" in argv:
            shutil.copy(copy, theirs_copy)
        image = theirs_copy if theirs_copy.exists() else copy
        theirs = run("qemu-img", *argv, image)
        ours = pytcg_img(*argv, str(copy), cwd=tmp_path)
        assert (ours.code, ours.out) == (theirs.returncode, theirs.stdout.replace(
            str(image), str(copy))), argv


def test_a_crashed_image_is_repaired_when_it_is_written(tmp_path: Path) -> None:
    copy = tmp_path / "copy.qed"
    _crashed(tmp_path / "x.qed", copy)
    with open_image(str(copy), read_only=True) as disk:
        assert isinstance(disk, QedDevice) and disk.needs_check
    with open_image(str(copy)) as disk:
        assert isinstance(disk, QedDevice) and not disk.needs_check
        disk.pwrite(8 << 20, b"more")
        assert disk.needs_check
    assert pytcg_img("check", "copy.qed", cwd=tmp_path).code == 0


@needs_qemu
def test_resize_and_rebase(tmp_path: Path) -> None:
    (tmp_path / "base").write_bytes(b"b" * (1 << 20))
    make_open(tmp_path / "x.qed", 1 << 20).close()
    for argv in (["resize", "x.qed", "2M"], ["resize", "--shrink", "x.qed", "1M"],
                 ["rebase", "-u", "-b", "base", "-F", "raw", "x.qed"], ["info", "x.qed"],
                 ["rebase", "-u", "-b", "", "x.qed"], ["info", "x.qed"]):
        shutil.copy(tmp_path / "x.qed", tmp_path / "y.qed")
        ours = pytcg_img(*argv, cwd=tmp_path)
        theirs = run("qemu-img", *[word.replace("x.qed", "y.qed") for word in argv], cwd=tmp_path)
        assert (ours.code, _but_disk_size(ours.out)) == (
            theirs.returncode, _but_disk_size(theirs.stdout.replace("y.q", "x.q")))
        assert ours.err == theirs.stderr.replace("qemu-img", "pytcg-img")


@needs_qemu
@pytest.mark.parametrize("options", ["cluster_size=3k", "table_size=3", "size=70P"])
def test_refusals(options: str, tmp_path: Path) -> None:
    argv = ["create", "-f", "qed", "-o", options, "x"] + ([] if "size=7" in options else ["1M"])
    ours = pytcg_img(*argv, cwd=tmp_path)
    theirs = run("qemu-img", *argv, cwd=tmp_path)
    assert (ours.code, ours.out, ours.err) == (
        theirs.returncode, theirs.stdout, theirs.stderr.replace("qemu-img", "pytcg-img"))
