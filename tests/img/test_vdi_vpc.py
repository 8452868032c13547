"""VDI and VHD: sizes, refusals and checks, beside qemu-img."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

from .conftest import needs_qemu, pytcg_img, qemu_img, qemu_io

BLOCKS_AT, ALLOCATED_AT, TABLE_AT = 0x180, 0x184, 512


def _same(*argv: str, cwd: Path, outputs: bool = True) -> None:
    ours, theirs = pytcg_img(*argv, cwd=cwd), qemu_img(*argv, cwd=cwd)
    assert ours.code == theirs.code, ours.err + theirs.err
    assert ours.err == theirs.err.replace("qemu-img: ", "pytcg-img: ")
    assert not outputs or ours.out == theirs.out


def _poke(path: Path, at: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(data)


@needs_qemu
@pytest.mark.parametrize("options", ["", "force_size=on", "subformat=fixed"])
@pytest.mark.parametrize("size", ["1", "1M", "4G", "136363130880", "127G", "130G", "2040G"])
def test_vhd_sizes(options: str, size: str, tmp_path: Path) -> None:
    found = []
    given = ["-o", options] if options else []
    for tool in (pytcg_img, qemu_img):
        path = tmp_path / tool.__name__
        assert tool("create", "-f", "vpc", *given, path.name, size, cwd=tmp_path).code == 0
        info = json.loads(qemu_img("info", "-f", "vpc", "--output=json", path.name,
                                   cwd=tmp_path).out)
        # The geometry too, which other programs go by.
        with path.open("rb") as file:
            file.seek(path.stat().st_size - 512 + 56)
            found.append((info["virtual-size"], path.stat().st_size, file.read(4)))
        info = json.loads(pytcg_img("info", "-f", "vpc", "--output=json", path.name,
                                    cwd=tmp_path).out)
        assert info["virtual-size"] == found[-1][0]
    assert found[0] == found[1]


@needs_qemu
@pytest.mark.parametrize("argv", [
    "-f vpc x 2041G", "-f vpc -o subformat=foo x 1M", "-f vdi x 600T"])
def test_refused_to_make(argv: str, tmp_path: Path) -> None:
    _same("create", *argv.split(), cwd=tmp_path)


@needs_qemu
@pytest.mark.parametrize(("at", "data"), [
    (0x40, b"\1"), (0x44, b"\2"), (0x154, b"\1"), (0x158, b"\1"), (0x168, b"\1\1"),
    (0x170, b"\0\0\x02\0\0\0"), (0x170, b"\0\0\1\0\x80\xff\xff\1"), (0x178, b"\1"),
    (0x180, b"\xff\xff\xff\xff"), (0x180, b"\7\0"), (0x1A8, b"\1"), (0x1B8, b"\1"),
    (0x171, b"\xff\x0f")])
def test_vdi_headers(at: int, data: bytes, tmp_path: Path) -> None:
    qemu_img("create", "-f", "vdi", "x.vdi", "64M", cwd=tmp_path)
    _poke(tmp_path / "x.vdi", at, data)
    _same("info", "-f", "vdi", "x.vdi", cwd=tmp_path)


def test_the_largest_vdi_needs_little_memory(tmp_path: Path) -> None:
    assert pytcg_img("create", "-f", "vdi", "x.vdi", "64M", cwd=tmp_path).code == 0
    path = tmp_path / "x.vdi"
    _poke(path, 0x170, struct.pack("<Q", 0x1FFFFF80 << 20))
    _poke(path, BLOCKS_AT, struct.pack("<I", 0x1FFFFF80))
    assert "512 TiB" in pytcg_img("info", "x.vdi", cwd=tmp_path).out


@needs_qemu
@pytest.mark.parametrize("damage", ["none", "count", "double", "beyond"])
def test_vdi_check(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "x.vdi"
    assert pytcg_img("create", "-f", "vdi", "x.vdi", "8M", cwd=tmp_path).code == 0
    qemu_io("x.vdi", "write 1M 2M", "write 5M 1M", cwd=tmp_path, options=("-f", "vdi"))
    entries = {"double": b"\1\0\0\0\1\0\0\0", "beyond": b"\1\0\0\0\7\1\0\0"}
    if damage == "count":
        _poke(path, ALLOCATED_AT, b"\7")
    elif damage in entries:
        _poke(path, TABLE_AT + 4, entries[damage])
    _same("check", "x.vdi", cwd=tmp_path)
    _same("check", "-r", "all", "x.vdi", cwd=tmp_path)


@needs_qemu
@pytest.mark.parametrize(("at", "data"), [
    (64, b"\1"), (512, b"\1"), (512 + 28, b"\x40\0\0\1"), (512 + 28, b"\0\0\0\1"),
    (512 + 32, b"\0\0\0\3")])
def test_vhd_headers(at: int, data: bytes, tmp_path: Path) -> None:
    qemu_img("create", "-f", "vpc", "x.vhd", "64M", cwd=tmp_path)
    _poke(tmp_path / "x.vhd", at, data)
    _same("info", "-f", "vpc", "x.vhd", cwd=tmp_path)


@needs_qemu
def test_a_truncated_vhd(tmp_path: Path) -> None:
    path = tmp_path / "x.vhd"
    qemu_img("create", "-f", "vpc", "x.vhd", "64M", cwd=tmp_path)
    qemu_io("x.vhd", "write 1M 2M", cwd=tmp_path, options=("-f", "vpc"))
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - (1 << 20))
    _same("info", "-f", "vpc", "x.vhd", cwd=tmp_path)


@needs_qemu
@pytest.mark.parametrize("way", ["chs", "current_size", "foo"])
def test_which_size_counts(way: str, tmp_path: Path) -> None:
    qemu_img("create", "-f", "vpc", "x.vhd", "1000M", cwd=tmp_path)
    footer = bytearray((tmp_path / "x.vhd").read_bytes()[:512])
    footer[48:56] = (1001 << 20).to_bytes(8, "big")
    footer[64:68] = bytes(4)
    footer[64:68] = (~sum(footer) & 0xFFFFFFFF).to_bytes(4, "big")
    _poke(tmp_path / "x.vhd", 0, bytes(footer))
    _same("measure", "--image-opts", f"driver=vpc,force_size_calc={way},file.filename=x.vhd",
          cwd=tmp_path)
