"""The same requests give the same file as QEMU's: every table and cluster lies where its does."""

from __future__ import annotations

import random
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from pytcg.block.open import open_image

from .images import assert_clean, make, needs_qemu

SIZE = 1 << 20


def requests(rng: random.Random, cluster: int) -> list[tuple[str, int, int]]:
    """A few (what, offset, length); what frees clusters is followed by a flush.

    Ours gives clusters out again once the disk no longer points at them, QEMU's at once.
    """
    found = []
    for _ in range(rng.randrange(1, 10)):
        align = rng.choice([512, cluster, 4 * cluster])
        offset = rng.randrange(SIZE) // align * align
        length = min(SIZE - offset, rng.choice([512, cluster, align * rng.randrange(1, 60)]))
        found.append((rng.choice(["write", "write", "zero", "unmap", "discard"]), offset, length))
        found.append(("flush", 0, 0))
    return found


def in_qemu_io(path: Path, todo: list[tuple[str, int, int]]) -> None:
    words = {"write": "write -P 7", "zero": "write -z", "unmap": "write -zu"}
    argv = ["qemu-io", "-f", "qcow2", "-d", "unmap"]
    for what, offset, length in todo:
        text = "flush" if what == "flush" else f"{words.get(what, what)} {offset} {length}"
        argv += ["-c", text]
    subprocess.run([*argv, str(path)], check=True, stdout=subprocess.DEVNULL, timeout=60)


def in_ours(path: Path, todo: list[tuple[str, int, int]]) -> None:
    with open_image(str(path), format="qcow2", discard="unmap") as disk:
        for what, offset, length in todo:
            if what == "write":
                disk.pwrite(offset, b"\7" * length)
            elif what == "discard":
                disk.discard(offset, length)
            elif what == "flush":
                disk.flush()
            else:
                disk.write_zeroes(offset, length, may_unmap=what == "unmap")


@needs_qemu
@pytest.mark.parametrize("options", [
    "", "cluster_size=512", "cluster_size=1k,refcount_bits=64", "compat=0.10,cluster_size=4k",
    "extended_l2=on,cluster_size=16k", "cluster_size=512,preallocation=metadata",
    "cluster_size=2k,preallocation=falloc",
])
def test_layout_is_qemus(tmp_path: Path, options: str) -> None:
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    for seed in range(4):
        todo = requests(random.Random(f"{options} {seed}"), 4096)
        make(theirs, SIZE, options)
        shutil.copy(theirs, ours)
        in_qemu_io(theirs, todo)
        in_ours(ours, todo)
        assert ours.read_bytes().rstrip(b"\0") == theirs.read_bytes().rstrip(b"\0"), (seed, todo)


@needs_qemu
@pytest.mark.parametrize("options", [
    "", "cluster_size=512", "preallocation=metadata", "cluster_size=512,preallocation=metadata",
    "preallocation=falloc", "cluster_size=512,preallocation=full",
    "cluster_size=1k,refcount_bits=1,preallocation=falloc",
])
def test_new_images_are_qemus(tmp_path: Path, options: str) -> None:
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    make(ours, SIZE, options)
    given = ["-o", options] if options else []
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *given, str(theirs), str(SIZE)],
                   check=True, timeout=60)
    assert ours.read_bytes().rstrip(b"\0") == theirs.read_bytes().rstrip(b"\0")


@needs_qemu
@pytest.mark.parametrize("options", ["", "cluster_size=512", "lazy_refcounts=on"])
def test_vm_state_lies_behind_the_disk(tmp_path: Path, options: str) -> None:
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    make(theirs, SIZE, options)
    make(ours, SIZE, options)
    subprocess.run(["qemu-io", "-f", "qcow2", "-c", "write -b -P 7 0 70k", "-c",
                    "write -b -P 7 1G 512", "-c", "write -P 7 0 1k", str(theirs)], check=True,
                   stdout=subprocess.DEVNULL, timeout=60)
    with open_image(str(ours), format="qcow2") as disk:
        disk.write_vm_state(0, memoryview(b"\7" * 71680))
        disk.write_vm_state(1 << 30, memoryview(b"\7" * 512))
        disk.pwrite(0, b"\7" * 1024)
    assert_clean(ours)
    with open_image(str(theirs), format="qcow2", read_only=True) as disk:
        buffer = memoryview(bytearray(71680))
        disk.read_vm_state(0, buffer)
        assert bytes(buffer) == b"\7" * 71680
    done = subprocess.run(["qemu-io", "-f", "qcow2", "-c", "read -b -P 7 1G 512", str(ours)],
                          capture_output=True, text=True, check=True, timeout=60)
    assert "failed" not in done.stdout


@needs_qemu
def test_a_cluster_that_moves_takes_its_data_alone(tmp_path: Path) -> None:
    """Of subclusters: what holds nothing before and after the data is not copied."""
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    make(theirs, SIZE, "extended_l2=on")
    subprocess.run(["qemu-io", "-f", "qcow2", "-c", "write 20k 4k", "-c", "write -z 30k 2k",
                    str(theirs)], check=True, stdout=subprocess.DEVNULL, timeout=60)
    subprocess.run(["qemu-img", "snapshot", "-c", "s", str(theirs)], check=True, timeout=60)
    shutil.copy(theirs, ours)
    todo = [("write", 26 << 10, 512), ("flush", 0, 0), ("write", 90 << 10, 512)]
    in_qemu_io(theirs, todo)
    in_ours(ours, todo)
    assert ours.read_bytes().rstrip(b"\0") == theirs.read_bytes().rstrip(b"\0")


@needs_qemu
@pytest.mark.parametrize("mode", ["off", "metadata", "falloc", "full"])
def test_growing_keeps_what_the_backing_file_shows(tmp_path: Path, mode: str) -> None:
    base = tmp_path / "base"
    base.write_bytes(b"\1" * (128 << 10))
    images = []
    for program in ("qemu-img", "ours"):
        path = tmp_path / program
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", str(base),
                        str(path), "31k"], check=True, timeout=60)
        images.append(path)
    subprocess.run(["qemu-img", "resize", "-q", f"--preallocation={mode}", str(images[0]), "96k"],
                   check=True, timeout=60)
    with open_image(str(images[1]), format="qcow2") as disk:
        disk.truncate(96 << 10, preallocation=mode)
    with open_image(str(images[1]), format="qcow2", read_only=True) as disk:
        assert disk.pread(0, 96 << 10) == b"\1" * (31 << 10) + bytes(65 << 10)
    assert images[0].stat().st_size == images[1].stat().st_size
    if mode != "metadata":  # there QEMU also copies what its zero flag hides
        assert images[0].read_bytes().rstrip(b"\0") == images[1].read_bytes().rstrip(b"\0")


@needs_qemu
def test_shrinking_gives_back_refcount_blocks_that_count_nothing(tmp_path: Path) -> None:
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    used = []
    for path in (theirs, ours):
        make(path, 16 << 20, "cluster_size=512")
        in_qemu_io(path, [("write", 0, 12 << 20)])
    subprocess.run(["qemu-img", "resize", "-q", "--shrink", str(theirs), "1M"], check=True,
                   timeout=60)
    with open_image(str(ours), format="qcow2") as disk:
        disk.truncate(1 << 20)
    assert_clean(ours)
    for path in (theirs, ours):
        image = path.read_bytes()
        offset, clusters = struct.unpack_from(">QI", image, 48)
        table = struct.unpack_from(f">{clusters * 64}Q", image, offset)
        used.append([index for index, entry in enumerate(table) if entry])
        assert all(any(image[entry : entry + 512]) for entry in table if entry)
    assert used[0] == used[1]
