"""Runs that jobs move along a backing chain, with layers of different sizes."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytcg.block.device import BlockDevice
from pytcg.block.jobs.chain import copy_run
from pytcg.block.open import open_image

UNIT = 1 << 16


def raw(path: Path, data: bytes) -> BlockDevice:
    path.write_bytes(data)
    return open_image(str(path), format="raw")


@pytest.mark.parametrize(("at", "copied"), [(0, b"s"), (UNIT, b"\0"), (2 * UNIT, b"\0")])
def test_what_a_shorter_layer_hides_stays_hidden(at: int, copied: bytes, tmp_path: Path) -> None:
    short = raw(tmp_path / "short", b"s" * UNIT)
    below = raw(tmp_path / "below", b"b" * (3 * UNIT))
    target = raw(tmp_path / "target", b"t" * (3 * UNIT))
    length = copy_run([short, below], target, at, UNIT)
    assert length == UNIT
    assert target.pread(at, UNIT) == copied * UNIT
    for device in (short, below, target):
        device.close()
