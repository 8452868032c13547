"""Random operations on qcow2 images against a bytearray; then QEMU judges the file."""

from __future__ import annotations

import itertools
import random
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytcg.block.formats.qcow2.device import Qcow2Device
from pytcg.block.formats.qcow2.snapshot import apply_snapshot, create_snapshot, delete_snapshot
from pytcg.block.open import open_image

from .images import (
    QCOW2_OPTIONS,
    QEMU_IMG,
    assert_clean,
    assert_same_content,
    make,
    make_open,
    needs_qemu,
    run,
)

SECTOR = 512


def cut(buffer: bytearray, rng: random.Random) -> list[memoryview]:
    """A buffer in pieces, as guest memory is."""
    ends = sorted(rng.sample(range(len(buffer) + 1), min(len(buffer), rng.randrange(4))))
    bounds = [0, *ends, len(buffer)]
    view = memoryview(buffer)
    return [view[low:high] for low, high in itertools.pairwise(bounds)]


class Machine:
    """An image, its model, and the operations on both."""

    def __init__(self, path: Path, size: int, options: str, backing: Path | None = None,
                 backing_model: bytes = b"") -> None:
        self.path = path
        self.size = size
        if backing is None:
            make(path, size, options)
            self.model = bytearray(size)
        else:
            make(path, size, f"{options},backing_file={backing},backing_fmt=qcow2".strip(","))
            self.model = bytearray(backing_model[:size].ljust(size, b"\0"))
        self.saved: dict[str, bytes] = {}
        self.disk = self._open()

    def _open(self) -> Qcow2Device:
        disk = open_image(str(self.path), format="qcow2")
        assert isinstance(disk, Qcow2Device)
        return disk

    def write(self, offset: int, data: bytes) -> None:
        self.disk.pwrite(offset, data)
        self.model[offset : offset + len(data)] = data

    def write_now(self, offset: int, data: bytes, rng: random.Random) -> None:
        if not self.disk.write_now(offset, cut(bytearray(data), rng)):
            self.disk.pwrite(offset, data)
        self.model[offset : offset + len(data)] = data

    def read_now(self, offset: int, length: int, rng: random.Random) -> None:
        buffer = bytearray(b"?" * length)
        if self.disk.read_now(offset, cut(buffer, rng)):
            assert buffer == self.model[offset : offset + length]

    def zero(self, offset: int, length: int, may_unmap: bool) -> None:
        self.disk.write_zeroes(offset, length, may_unmap=may_unmap)
        self.model[offset : offset + length] = bytes(length)

    def discard(self, offset: int, length: int) -> None:
        before = bytes(self.model[offset : offset + length])
        self.disk.discard(offset, length)
        after = self.disk.pread(offset, length)
        # Each byte is what it was or zero.
        assert all(new in (0, old) for new, old in zip(after, before, strict=True))
        self.model[offset : offset + length] = after

    def compressed(self, offset: int, seed: int) -> None:
        cluster = self.disk.cluster_size
        offset -= offset % cluster
        length = min(cluster, self.size - offset)
        data = (bytes([seed & 0xFF]) * (length // 2)).ljust(length, b"\1")
        self.disk.write_compressed(offset, data)
        self.model[offset : offset + length] = data

    def reopen(self) -> None:
        self.disk.close()
        self.disk = self._open()

    def snapshot(self, name: str) -> None:
        if self.disk.refcounts.bits >= 8 and name not in self.saved:
            create_snapshot(self.disk, name)
            self.saved[name] = bytes(self.model)

    def apply(self, name: str) -> None:
        if name in self.saved:
            apply_snapshot(self.disk, name)
            self.model[:] = self.saved[name]

    def delete(self, name: str) -> None:
        if self.saved.pop(name, None) is not None:
            delete_snapshot(self.disk, name)

    def check(self) -> None:
        assert self.disk.pread(0, self.size) == self.model
        assert self.disk.check().clean
        self.disk.close()
        if QEMU_IMG is not None:
            assert_clean(self.path)
            assert_same_content(self.path, "qcow2", bytes(self.model))
            for name, content in self.saved.items():
                raw = self.path.with_suffix(".snap")
                done = run("qemu-img", "convert", "-l", name, "-O", "raw", self.path, raw)
                assert done.returncode == 0, done.stderr
                assert raw.read_bytes() == content


def step(machine: Machine, rng: random.Random) -> None:
    """One random operation."""
    offset = rng.randrange(machine.size)
    longest = min(machine.size - offset, rng.choice([1, 100, 512, 4096, 70_000, 300_000]))
    length = rng.randrange(1, longest + 1)
    name = rng.choice("abc")
    kind = rng.randrange(18)
    if kind < 4:
        machine.write(offset, rng.randbytes(length))
    elif kind < 6:
        machine.zero(offset, length, may_unmap=rng.random() < 0.5)
    elif kind < 7:
        machine.discard(offset, length)
    elif kind < 9:
        machine.compressed(offset, rng.randrange(256))
    elif kind < 10:
        machine.disk.flush()
    elif kind < 11:
        assert machine.disk.pread(offset, length) == machine.model[offset : offset + length]
    elif kind < 12:
        machine.reopen()
    elif kind < 14:
        machine.write_now(offset, rng.randbytes(length), rng)
    elif kind < 16:
        machine.read_now(offset, length, rng)
    else:
        rng.choice([machine.snapshot, machine.apply, machine.delete])(name)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**32), options=st.sampled_from(QCOW2_OPTIONS),
       sectors=st.integers(1, 6000), steps=st.integers(1, 50), backed=st.booleans())
def test_random_operations_keep_image_and_model_equal(
        seed: int, options: str, sectors: int, steps: int, backed: bool) -> None:
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as directory:
        backing, content = None, b""
        if backed:
            backing = Path(directory) / "base.qcow2"
            base = Machine(backing, rng.randrange(1, 6000) * SECTOR, "")
            for _ in range(5):
                step(base, rng)
            base.disk.close()
            content = bytes(base.model)
        machine = Machine(Path(directory) / "disk.qcow2", sectors * SECTOR, options, backing,
                          content)
        for _ in range(steps):
            step(machine, rng)
        machine.check()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(300))
def test_many_more_random_operations(seed: int, tmp_path: Path) -> None:
    rng = random.Random(seed)
    machine = Machine(tmp_path / "disk.qcow2", rng.randrange(1, 8000) * SECTOR,
                      rng.choice(QCOW2_OPTIONS))
    for _ in range(150):
        step(machine, rng)
    machine.check()


@needs_qemu
@pytest.mark.parametrize("options", QCOW2_OPTIONS)
def test_images_written_by_qemu_read_the_same(options: str, tmp_path: Path) -> None:
    path = tmp_path / "disk.qcow2"
    given = ["-o", options] if options else []
    assert run("qemu-img", "create", "-f", "qcow2", *given, path, "7M").returncode == 0
    commands = ["write -P 1 0 100k", "write -P 2 1M 2M", "write -z 1500k 100k",
                "write -zu 2M 64k", "discard 2500k 64k", "write -P 3 6999k 1k"]
    argv = [word for command in commands for word in ("-c", command)]
    done = run("qemu-io", *argv, path)
    assert done.returncode == 0 and "failed" not in done.stdout, done
    raw = tmp_path / "disk.raw"
    assert run("qemu-img", "convert", "-O", "raw", path, raw).returncode == 0
    packed = tmp_path / "packed.qcow2"
    assert run("qemu-img", "convert", "-c", "-O", "qcow2", *given, path, packed).returncode == 0
    for image in (path, packed):
        with open_image(str(image)) as disk:
            assert disk.pread(0, disk.size) == raw.read_bytes()
            assert isinstance(disk, Qcow2Device)
            assert disk.check().clean


def test_discarded_clusters_are_used_again(tmp_path: Path) -> None:
    with make_open(tmp_path / "a.qcow2", 8 << 20) as disk:
        for _ in range(10):
            disk.pwrite(0, b"x" * (4 << 20))
            disk.flush()
            disk.discard(0, 4 << 20)
            disk.flush()
        disk.pwrite(0, b"y" * (4 << 20))
        assert disk.file is not None and disk.file.size < 6 << 20


def test_compressed_data_does_not_follow_what_a_snapshot_took_away(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "disk.qcow2", 8 << 16, "")
    machine.snapshot("a")
    machine.compressed(0, 1)
    machine.apply("a")  # frees the host cluster that the compressed data began to fill
    machine.write(2 << 16, b"\7" * (1 << 16))
    machine.compressed(1 << 16, 3)
    machine.check()
