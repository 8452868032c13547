"""Damaged images: pytcg-img check finds what qemu-img check finds, and its repairs hold."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pytcg.block.formats.qcow2.format import EXT_FEATURE_NAMES, parse_header, unknown_features

from .conftest import needs_qemu, pytcg_img, qemu_img, qemu_io

CLUSTER = 65536


def _u64(image: bytearray, at: int) -> int:
    return int(struct.unpack_from(">Q", image, at)[0])


def _put(image: bytearray, at: int, value: int) -> None:
    struct.pack_into(">Q", image, at, value)


def _l2_at(image: bytearray) -> int:
    """Host offset of the first L2 table."""
    return _u64(image, _u64(image, 40)) & 0x00FF_FFFF_FFFF_FE00


def _refblock_at(image: bytearray) -> int:
    return _u64(image, _u64(image, 48))


def leak(image: bytearray) -> None:
    _put(image, _l2_at(image) + 8, 0)


def shared_cluster(image: bytearray) -> None:
    _put(image, _l2_at(image) + 8, _u64(image, _l2_at(image)))


def beyond_the_end(image: bytearray) -> None:
    _put(image, _l2_at(image) + 8, 1 << 63 | 1 << 40)


def uncounted(image: bytearray) -> None:
    struct.pack_into(">H", image, _refblock_at(image) + 2 * 5, 0)


def overcounted(image: bytearray) -> None:
    struct.pack_into(">H", image, _refblock_at(image) + 2 * 5, 7)


def copied_flag_missing(image: bytearray) -> None:
    _put(image, _l2_at(image), _u64(image, _l2_at(image)) & ~(1 << 63))


def l1_copied_flag_missing(image: bytearray) -> None:
    l1 = _u64(image, 40)
    _put(image, l1, _u64(image, l1) & ~(1 << 63))


def refblock_lost(image: bytearray) -> None:
    _put(image, _u64(image, 48), 0)


def refblock_outside(image: bytearray) -> None:
    _put(image, _u64(image, 48), 1 << 40)


def dirty(image: bytearray) -> None:
    image[79] |= 1


DAMAGES: list[Callable[[bytearray], None]] = [
    leak, shared_cluster, beyond_the_end, uncounted, overcounted, copied_flag_missing,
    l1_copied_flag_missing, refblock_lost, refblock_outside, dirty,
]
MENDED_BY_QEMU_TOO = [damage for damage in DAMAGES if damage is not beyond_the_end]


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.qcow2"
    assert qemu_img("create", "-f", "qcow2", str(path), "8M", cwd=tmp_path).code == 0
    qemu_io(str(path), "write -P 1 0 1M", "write -P 2 3M 640k", cwd=tmp_path)
    return path


def _damaged(image: Path, damage: Callable[[bytearray], None]) -> bytes:
    data = bytearray(image.read_bytes())
    damage(data)
    image.write_bytes(data)
    return bytes(data)


@needs_qemu
@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_check_agrees_with_qemu(damage: Callable[[bytearray], None], image: Path) -> None:
    _damaged(image, damage)
    ours = pytcg_img("check", "--output=json", image.name, cwd=image.parent)
    theirs = qemu_img("check", "--output=json", image.name, cwd=image.parent)
    assert ours.code == theirs.code, (ours, theirs)
    found, expected = json.loads(ours.out), json.loads(theirs.out)
    for key in ("leaks", "corruptions", "total-clusters", "allocated-clusters"):
        assert found.get(key) == expected.get(key), (key, ours, theirs)


@needs_qemu
@pytest.mark.parametrize("damage", MENDED_BY_QEMU_TOO, ids=lambda damage: damage.__name__)
def test_repair_satisfies_qemu(damage: Callable[[bytearray], None], image: Path) -> None:
    _damaged(image, damage)
    copy = image.with_name("theirs.qcow2")
    shutil.copy(image, copy)
    ours = pytcg_img("check", "-r", "all", image.name, cwd=image.parent)
    assert ours.code == 0, ours
    assert qemu_img("check", image.name, cwd=image.parent).code == 0
    qemu_img("check", "-r", "all", copy.name, cwd=image.parent)
    same = qemu_img("compare", image.name, copy.name, cwd=image.parent)
    assert same.code == 0, same
    qemu_io(str(image), "write -P 9 512k 3M", "read -P 9 512k 3M", cwd=image.parent)
    assert qemu_img("check", image.name, cwd=image.parent).code == 0


@needs_qemu
def test_leaks_are_mended_alone(image: Path) -> None:
    _damaged(image, leak)
    assert pytcg_img("check", image.name, cwd=image.parent).code == 3
    ran = pytcg_img("check", "-r", "leaks", image.name, cwd=image.parent)
    assert ran.code == 0 and "1 leaked clusters" in ran.out
    assert qemu_img("check", image.name, cwd=image.parent).code == 0


@needs_qemu
def test_opening_a_dirty_image_for_writing_repairs_it(image: Path) -> None:
    _damaged(image, dirty)
    _damaged(image, uncounted)
    assert pytcg_img("snapshot", "-c", "s", image.name, cwd=image.parent).code == 0
    assert qemu_img("check", image.name, cwd=image.parent).code == 0


def test_corrupt_image_is_not_opened_for_writing(tmp_path: Path) -> None:
    assert pytcg_img("create", "-q", "-f", "qcow2", "a.q", "1M", cwd=tmp_path).code == 0
    data = bytearray((tmp_path / "a.q").read_bytes())
    data[79] |= 2
    (tmp_path / "a.q").write_bytes(data)
    ran = pytcg_img("resize", "a.q", "2M", cwd=tmp_path)
    assert ran == (1, "", "pytcg-img: Could not open 'a.q': qcow2: Image is corrupt; cannot be "
                          "opened read/write\n")
    assert pytcg_img("check", "-r", "all", "a.q", cwd=tmp_path).code == 0
    assert pytcg_img("resize", "a.q", "2M", cwd=tmp_path).code == 0


@needs_qemu
@pytest.mark.parametrize("damage", [damage for damage in DAMAGES if damage is not refblock_outside],
                         ids=lambda damage: damage.__name__)
def test_repair_says_and_writes_what_qemus_does(damage: Callable[[bytearray], None], image: Path
                                                ) -> None:
    _damaged(image, damage)
    theirs_at = image.parent / "theirs" / image.name
    theirs_at.parent.mkdir()
    shutil.copy(image, theirs_at)
    ours = pytcg_img("check", "-r", "all", image.name, cwd=image.parent)
    theirs = qemu_img("check", "-r", "all", image.name, cwd=theirs_at.parent)
    assert (ours.code, ours.out, ours.err) == (theirs.code, theirs.out, theirs.err)
    assert image.read_bytes().rstrip(b"\0") == theirs_at.read_bytes().rstrip(b"\0")


@needs_qemu
def test_a_write_that_would_hit_metadata_marks_the_image(image: Path) -> None:
    data = bytearray(image.read_bytes())
    _put(data, _l2_at(data), 1 << 63 | _u64(data, 40))  # the first cluster lies on the L1 table
    image.write_bytes(data)
    done = subprocess.run([sys.executable, "-m", "pytcg.cli.io", "-f", "qcow2",
                           "-c", "write 0 512", image.name],
                          cwd=image.parent, capture_output=True, text=True, timeout=60)
    assert done.stdout == "write failed: Input/output error\n"
    assert done.stderr == ("qcow2: Marking image as corrupt: Preventing invalid write on metadata "
                           "(overlaps with active L1 table); further corruption events will be "
                           "suppressed\n")
    assert image.read_bytes()[79] & 2


@needs_qemu
def test_unknown_autoclear_bits_are_cleared_and_names_need_no_padding(image: Path) -> None:
    data = bytearray(image.read_bytes())
    data[88] |= 0x80
    image.write_bytes(data)
    assert pytcg_img("check", "-r", "all", image.name, cwd=image.parent).code == 0
    assert image.read_bytes()[88] == 0
    header = parse_header(image.read_bytes()[:65536])
    named = header.with_extension(EXT_FEATURE_NAMES, b"\0\x3fa new feature")
    assert unknown_features(named._replace(incompatible=1 << 63)) == "a new feature"


@needs_qemu
def test_snapshot_entries_without_extra_data_are_completed(image: Path) -> None:
    assert qemu_img("snapshot", "-c", "s", image.name, cwd=image.parent).code == 0
    data = bytearray(image.read_bytes())
    at = _u64(data, 64)
    struct.pack_into(">I", data, at + 36, 0)
    data[at + 40 : at + 66] = data[at + 64 : at + 66] + bytes(24)  # ID and name move up
    image.write_bytes(data)
    theirs_at = image.parent / "theirs" / image.name
    theirs_at.parent.mkdir()
    shutil.copy(image, theirs_at)
    for arguments in (("check",), ("check", "-r", "all"), ("check",)):
        ours = pytcg_img(*arguments, image.name, cwd=image.parent)
        theirs = qemu_img(*arguments, image.name, cwd=theirs_at.parent)
        assert (ours.code, ours.out, ours.err) == (theirs.code, theirs.out, theirs.err)
    assert pytcg_img("snapshot", "-d", "s", image.name, cwd=image.parent).code == 0
    assert qemu_img("check", image.name, cwd=image.parent).code == 0


@needs_qemu
def test_too_much_extra_data_of_a_snapshot_is_cut(image: Path) -> None:
    qemu_img("snapshot", "-c", "one", image.name, cwd=image.parent)
    data = bytearray(image.read_bytes())
    table = _u64(data, 64)
    data[table + 36 : table + 40] = (5000).to_bytes(4, "big")
    said = []
    for run in (qemu_img, pytcg_img):
        said.append("")
        image.write_bytes(data)
        for options in ((), ("-r", "all"), ()):
            done = run("check", *options, image.name, cwd=image.parent)
            said[-1] += f"{done.code}\n{done.err}".replace("pytcg-img", "qemu-img")
    assert said[0] == said[1]
