"""VDI, VHD, VHDX, VMDK and QED, with qemu-img on the other side."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from pytcg.block.device import BlockError, Extent
from pytcg.block.open import open_image

from .images import assert_same_content, make_open, needs_qemu, run

SIZE = 40 << 20
FORMATS = [
    ("vdi", ""), ("vdi", "static=on"),
    ("vpc", ""), ("vpc", "subformat=fixed"), ("vpc", "force_size=on"),
    ("vhdx", ""), ("vhdx", "block_size=1M"), ("vhdx", "subformat=fixed"),
    ("vmdk", ""), ("vmdk", "subformat=monolithicFlat"), ("vmdk", "subformat=streamOptimized"),
    ("vmdk", "subformat=twoGbMaxExtentSparse"), ("vmdk", "subformat=twoGbMaxExtentFlat"),
    ("vmdk", "zeroed_grain=on"),
    ("qed", ""), ("qed", "cluster_size=4k,table_size=4"),
]
WRITABLE = [("vdi", ""), ("vdi", "static=on"), ("vpc", ""), ("vpc", "subformat=fixed"),
            ("vpc", "force_size=on"), ("vmdk", ""), ("vmdk", "subformat=monolithicFlat"),
            ("vmdk", "subformat=twoGbMaxExtentSparse"), ("vmdk", "zeroed_grain=on"),
            ("vhdx", ""), ("vhdx", "subformat=fixed"), ("qed", "")]


@pytest.fixture
def content(tmp_path: Path) -> Path:
    """A raw disk with data, holes and a ragged end."""
    rng = random.Random(5)
    path = tmp_path / "content.raw"
    with path.open("wb") as file:
        file.truncate(SIZE)
        for _ in range(12):
            file.seek(rng.randrange(0, SIZE - 300_000))
            file.write(rng.randbytes(rng.randrange(1, 300_000)))
    return path


@needs_qemu
@pytest.mark.parametrize(("driver", "options"), FORMATS)
def test_reads_what_qemu_wrote(driver: str, options: str, content: Path, tmp_path: Path) -> None:
    image = tmp_path / f"disk.{driver}"
    given = ["-o", options] if options else []
    done = run("qemu-img", "convert", "-f", "raw", "-O", driver, *given, content, image)
    assert done.returncode == 0, done.stderr
    with open_image(str(image), read_only=True,
                    format=driver if "fixed" in options else None) as disk:
        assert disk.format_name == driver
        data = disk.pread(0, disk.size)
        plain = content.read_bytes()
        assert data[:SIZE] == plain
        assert not any(data[SIZE:])
        for offset, extent in _walk(disk.block_status(0, disk.size)):
            if extent.zero:
                assert not any(data[offset : offset + extent.length])


def _walk(extents: list[Extent]) -> list[tuple[int, Extent]]:
    placed, offset = [], 0
    for extent in extents:
        placed.append((offset, extent))
        offset += extent.length
    return placed


@needs_qemu
@pytest.mark.parametrize(("driver", "options"), WRITABLE)
def test_qemu_reads_what_we_wrote(driver: str, options: str, tmp_path: Path) -> None:
    path = tmp_path / f"disk.{driver}"
    rng = random.Random(options)
    with make_open(path, SIZE, options, driver) as disk:
        model = bytearray(disk.size)
        for _ in range(40):
            offset = rng.randrange(len(model))
            length = rng.randrange(1, min(200_000, len(model) - offset) + 1)
            data = rng.randbytes(length) if rng.random() < 0.8 else bytes(length)
            if any(data):
                disk.pwrite(offset, data)
            else:
                disk.write_zeroes(offset, length)
            model[offset : offset + length] = data
        assert disk.pread(0, disk.size) == model
    with open_image(str(path), format=driver) as disk:
        assert disk.pread(0, disk.size) == model
    assert_same_content(path, driver, bytes(model))
    if driver in ("vdi", "vmdk", "vhdx"):
        assert run("qemu-img", "check", path).returncode == 0


@pytest.mark.parametrize("driver", ["vdi", "vpc", "vhdx", "vmdk", "qed"])
def test_noise_is_an_error(driver: str, tmp_path: Path) -> None:
    path = tmp_path / "noise"
    rng = random.Random(driver)
    for _ in range(50):
        path.write_bytes(rng.randbytes(rng.choice([0, 10, 512, 4096, 300_000])))
        with pytest.raises(BlockError):
            open_image(str(path), format=driver, read_only=True)


@needs_qemu
@pytest.mark.parametrize(("driver", "options"), FORMATS)
def test_damaged_images_give_errors_only(driver: str, options: str, content: Path,
                                         tmp_path: Path) -> None:
    image = tmp_path / f"disk.{driver}"
    given = ["-o", options] if options else []
    run("qemu-img", "convert", "-f", "raw", "-O", driver, *given, content, image)
    rng = random.Random(options)
    head = image.read_bytes()[:65536]
    for _ in range(40):
        with image.open("r+b") as file:
            file.write(head)
            for _ in range(4):
                file.seek(rng.randrange(0, rng.choice([100, 600, 4096, 65536])))
                file.write(rng.choice([b"\xff" * 8, b"\0", b"\x80", b"\1" * 4]))
        try:
            with open_image(str(image), format=driver, read_only=True) as disk:
                disk.pread(0, min(disk.size, 1 << 20))
                disk.block_status(0, disk.size, limit=10)
        except BlockError as error:
            assert str(error)
