"""Parallels, Bochs and cloop images, beside qemu-img."""

from __future__ import annotations

import random
import struct
import zlib
from pathlib import Path

import pytest

from pytcg.block.device import BlockError
from pytcg.block.open import open_image

from .conftest import needs_qemu, pytcg_img, qemu_img

SIZE = 5 << 20


def _same_content(path: Path, driver: str, model: bytes) -> None:
    plain = path.with_suffix(".plain")
    plain.write_bytes(model)
    argv = ("compare", "-f", "raw", "-F", driver, plain.name, path.name)
    for tool in (pytcg_img, qemu_img):
        done = tool(*argv, cwd=path.parent)
        assert done.code == 0, done.out + done.err


@needs_qemu
@pytest.mark.parametrize("maker", [pytcg_img, qemu_img])
@pytest.mark.parametrize("options", ["size=5M", "size=5M,cluster_size=32256"])
def test_parallels(maker: object, options: str, tmp_path: Path) -> None:
    path, rng = tmp_path / "x.hdd", random.Random(options)
    assert callable(maker)
    assert maker("create", "-f", "parallels", "-o", options, "x.hdd", cwd=tmp_path).code == 0
    model = bytearray(SIZE)
    with open_image(str(path), format="parallels") as disk:
        for _ in range(20):
            offset = rng.randrange(SIZE - 100_000)
            data = rng.randbytes(rng.randrange(100_000))
            disk.pwrite(offset, data)
            model[offset : offset + len(data)] = data
        copy = tmp_path / "crashed"
        copy.write_bytes(path.read_bytes())
    with pytest.raises(BlockError, match="not closed correctly"):
        open_image(str(copy), format="parallels")
    _same_content(path, "parallels", bytes(model))
    assert qemu_img("check", "x.hdd", cwd=tmp_path).code == 0


@needs_qemu
@pytest.mark.parametrize("damage", ["none", "open", "leak", "outside"])
def test_parallels_check(damage: str, tmp_path: Path) -> None:
    for name in ("ours", "theirs"):
        path = tmp_path / name
        assert qemu_img("create", "-f", "parallels", name, "5M", cwd=tmp_path).code == 0
        with open_image(str(path), format="parallels") as disk:
            disk.pwrite(1 << 20, b"a" * (2 << 20))
        with path.open("r+b") as file:
            if damage == "open":
                file.seek(44)
                file.write(b"Ynot")
            elif damage == "leak":
                file.truncate(path.stat().st_size + (3 << 20))
            elif damage == "outside":
                file.truncate(path.stat().st_size - (3 << 19))
    for argv in (["check"], ["check", "-r", "all"]):
        ours = pytcg_img(*argv, "ours", cwd=tmp_path)
        theirs = qemu_img(*argv, "theirs", cwd=tmp_path)
        assert ours == theirs._replace(err=theirs.err.replace("qemu-img", "pytcg-img"))
    # QEMU leaves the place of a cluster it dropped as a leak.
    assert pytcg_img("check", "ours", cwd=tmp_path).code == 0


def _bochs(catalog: list[int], extent: int, data: bytes) -> bytes:
    head = struct.pack("<32s16s16sIIIIIIQ", b"Bochs Virtual HD Image", b"Redolog", b"Growing",
                       0x20000, 512, len(catalog), 1, extent, 0, len(catalog) * extent)
    return head.ljust(512, b"\0") + struct.pack(f"<{len(catalog)}I", *catalog) + data


@needs_qemu
def test_bochs(tmp_path: Path) -> None:
    content = random.Random(1).randbytes(8192)
    # The second extent has its first two sectors and its last.
    bitmap = bytes([0b0000_0011, 0b1000_0000]).ljust(512, b"\0")
    (tmp_path / "x.bochs").write_bytes(_bochs([0xFFFFFFFF, 0], 8192, bitmap + content))
    model = bytes(8192) + content[:1024] + bytes(8192 - 1536) + content[-512:]
    _same_content(tmp_path / "x.bochs", "bochs", model)


def _cloop(model: bytes, block: int) -> bytes:
    packed = [zlib.compress(model[at : at + block]) for at in range(0, len(model), block)]
    offsets = [136 + 8 * (len(packed) + 1)]
    for piece in packed:
        offsets.append(offsets[-1] + len(piece))
    head = b"#!/bin/sh\n#V2.0 Format\n".ljust(128, b"\0") + struct.pack(">II", block, len(packed))
    return head + struct.pack(f">{len(offsets)}Q", *offsets) + b"".join(packed)


@needs_qemu
def test_cloop(tmp_path: Path) -> None:
    model = random.Random(2).randbytes(100) * 1000 + bytes(400_000)
    model = model[: len(model) // 65536 * 65536]
    (tmp_path / "x.cloop").write_bytes(_cloop(model, 65536))
    _same_content(tmp_path / "x.cloop", "cloop", model)
    assert open_image(str(tmp_path / "x.cloop"), read_only=True).format_name == "cloop"


@pytest.mark.parametrize("driver", ["parallels", "bochs", "cloop"])
def test_damaged_images_give_errors_only(driver: str, tmp_path: Path) -> None:
    path, rng = tmp_path / "x", random.Random(driver)
    if driver == "parallels":
        pytcg_img("create", "-f", driver, "x", "3M", cwd=tmp_path)
    else:
        path.write_bytes(_bochs([0, 1], 4096, bytes(16384)) if driver == "bochs"
                         else _cloop(bytes(8192), 1024))
    good = path.read_bytes()
    for _ in range(60):
        bad = bytearray(good)
        at = rng.randrange(0, min(200, len(bad) - 8) // 4) * 4
        bad[at : at + 4] = rng.choice([b"\xff" * 4, b"\xff\xff\xff\x7f", bytes(4),
                                       rng.randbytes(4)])
        path.write_bytes(bad)
        try:
            with open_image(str(path), format=driver, read_only=True) as disk:
                disk.pread(0, min(disk.size, 1 << 20))
                disk.block_status(0, disk.size, limit=10)
        except BlockError as error:
            assert str(error)
