"""Zero detection and copying."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytcg.block.jobs.convert import Copier, CopyOptions
from pytcg.block.open import open_image
from pytcg.block.zeroes import is_zero, split_zeroes

from .images import make_open

UNIT = 512


@given(pieces=st.lists(st.tuples(st.integers(1, 1500), st.booleans()), max_size=12),
       offset=st.integers(0, 5000))
def test_split_zeroes_covers_the_buffer_and_tells_the_truth(
        pieces: list[tuple[int, bool]], offset: int) -> None:
    data = bytearray(b"".join((b"\1" if full else b"\0") * length for length, full in pieces))
    position = 0
    last = None
    for start, stop, has_data in split_zeroes(data, offset, UNIT, len(data)):
        assert start == position and stop > start and has_data is not last
        position, last = stop, has_data
        first_unit = start
        while first_unit < stop:  # each unit is what its run says
            end = min(len(data), first_unit + UNIT - (offset + first_unit) % UNIT)
            assert is_zero(data, first_unit, end) is not has_data
            first_unit = end
        assert first_unit == stop
    assert position == len(data)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("workers", [1, 8])
def test_copy_keeps_content_and_holes(compressed: bool, workers: int, tmp_path: Path) -> None:
    rng = random.Random(3)
    with make_open(tmp_path / "a.qcow2", 20 << 20, "cluster_size=4k") as source, \
            make_open(tmp_path / "b.qcow2", 20 << 20) as target:
        for _ in range(30):
            source.pwrite(rng.randrange(19 << 20), rng.randbytes(100) * rng.randrange(5000))
        Copier(source, target, CopyOptions(target_is_zero=True, compressed=compressed,
                                           workers=workers)).run()
        assert target.pread(0, target.size) == source.pread(0, source.size)
        for extent in source.block_status(15 << 20, 5 << 20):
            assert extent.data or extent.zero


def test_out_of_order_and_full_copies(tmp_path: Path) -> None:
    with make_open(tmp_path / "a.raw", 12 << 20, driver="raw") as source:
        source.pwrite(5 << 20, b"data" * 100_000)
        for options in (CopyOptions(out_of_order=True), CopyOptions(min_sparse=0),
                        CopyOptions(copy_range=True), CopyOptions(rate=1 << 30)):
            with make_open(tmp_path / "b.raw", 12 << 20, driver="raw") as target:
                target.pwrite(0, b"old" * 1000)
                Copier(source, target, options).run()
                assert target.pread(0, target.size) == source.pread(0, source.size)


def test_salvage_reads_around_bad_sectors(tmp_path: Path) -> None:
    from pytcg.block.device import BlockError
    from pytcg.block.formats.raw import RawDevice

    class Scratched(RawDevice):
        def read_into(self, offset: int, buffer: memoryview) -> None:
            if offset <= 4096 < offset + len(buffer):
                raise BlockError("read failed")
            super().read_into(offset, buffer)

    path = tmp_path / "a.raw"
    path.write_bytes(b"x" * 10_240)
    with open_image(str(path), format="raw") as plain, \
            make_open(tmp_path / "b.raw", 10_240, driver="raw") as target:
        assert plain.file is not None
        warnings: list[str] = []
        Copier(Scratched(plain.file), target, CopyOptions(salvage=True), warn=warnings.append).run()
        assert warnings == ["error while reading offset 4096: Input/output error"]
        assert target.pread(0, 10_240) == b"x" * 4096 + bytes(512) + b"x" * 5632
        with pytest.raises(BlockError, match="reading at byte 0"):
            Copier(Scratched(plain.file), target, CopyOptions()).run()
