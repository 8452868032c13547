"""Images that are made inside an export."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from pytcg.block.create import create_image, new_values
from pytcg.block.device import BlockError
from pytcg.block.jobs.convert import Copier, CopyOptions
from pytcg.block.open import open_image
from pytcg.block.protocols.nbd.export import Export

from .nbd_support import MemoryDisk, serving, uri

MIB = 1 << 20


def test_a_compressed_qcow2_image_goes_into_an_export(tmp_path: Path) -> None:
    content = random.Random(1).randbytes(1000) * 500 + bytes(MIB)
    plain = tmp_path / "plain.img"
    plain.write_bytes(content.ljust(2 * MIB, b"\0"))
    with serving(tmp_path, Export(MemoryDisk(b"old" * (2 * MIB)), shared=True)) as path:
        name = uri(path)
        values = new_values("qcow2", name)
        values.set("size", str(2 * MIB))
        create_image(name, "qcow2", values)
        with open_image(str(plain), format="raw", read_only=True) as source, \
                open_image(name, format="qcow2") as target:
            Copier(source, target, CopyOptions(target_is_zero=True, compressed=True)).run()
            target.flush()
        with open_image(name, format="qcow2", read_only=True) as image:
            assert image.pread(0, 2 * MIB) == plain.read_bytes()


def test_an_export_does_not_grow_for_a_raw_image(tmp_path: Path) -> None:
    with serving(tmp_path, Export(MemoryDisk(bytes(MIB)))) as path:
        values = new_values("raw", uri(path))
        values.set("size", str(2 * MIB))
        with pytest.raises(BlockError, match="Cannot grow NBD nodes"):
            create_image(uri(path), "raw", values)
        with pytest.raises(BlockError, match="Invalid parameter 'nocow'"):
            values.set("nocow", "on")
