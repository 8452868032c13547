"""Large reads of a raw image, which go from the page cache to the socket through a pipe."""

from __future__ import annotations

import errno
import os
import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pytcg.block.open import open_image
from pytcg.block.protocols.nbd import splice as nbd_splice
from pytcg.block.protocols.nbd.client import open_nbd
from pytcg.block.protocols.nbd.export import Export
from pytcg.block.protocols.nbd.protocol import Command
from pytcg.block.protocols.nbd.splice import Splicer

from .nbd_support import TIMEOUT, RawClient, serving, uri

pytestmark = pytest.mark.skipif(not hasattr(os, "splice"), reason="no splice(2)")
KIB, MIB = 1 << 10, 1 << 20
DATA = random.Random(5).randbytes(3 * MIB)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.raw"
    path.write_bytes(DATA)
    return path


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bool]]:
    """Whether each attempt to go by a pipe succeeded."""
    found: list[bool] = []
    load = Splicer.load

    def spy(self: Splicer, fd: int, offset: int, length: int) -> bool:
        found.append(load(self, fd, offset, length))
        return found[-1]

    monkeypatch.setattr(Splicer, "load", spy)
    yield found


@pytest.mark.parametrize("structured", [False, True])
def test_large_reads_are_spliced(
        tmp_path: Path, image: Path, loads: list[bool], *, structured: bool) -> None:
    with (open_image(str(image), format="raw") as disk, serving(tmp_path, Export(disk)) as path,
          RawClient(path) as client):
        client.go(structured=structured)
        for offset, length in ((0, MIB), (1, 256 * KIB), (4095, 64 * KIB), (2 * MIB, 512 * KIB)):
            client.request(Command.READ, offset, length)
            got = client.chunk()[3][8:] if structured else client.simple_reply(length)[2]
            assert got == DATA[offset : offset + length]
    assert loads == [True] * 4


def test_what_no_pipe_holds_is_read(tmp_path: Path, image: Path, loads: list[bool]) -> None:
    with (open_image(str(image), format="raw") as disk, serving(tmp_path, Export(disk)) as path,
          RawClient(path) as client):
        client.go()
        client.request(Command.READ, 0, 3 * MIB)
        assert client.simple_reply(3 * MIB)[2] == DATA
        client.request(Command.READ, 1, MIB)  # a page more than a mebibyte has
        assert client.simple_reply(MIB)[2] == DATA[1 : MIB + 1]
        os.truncate(image, MIB)  # behind our back
        client.request(Command.READ, MIB - 64 * KIB, 128 * KIB)
        assert client.simple_reply(128 * KIB)[2] == DATA[MIB - 64 * KIB : MIB] + bytes(64 * KIB)
        client.request(Command.READ, 0, 64 * KIB)
        assert client.simple_reply(64 * KIB)[2] == DATA[: 64 * KIB]
    assert loads == [False, False, False, True]


def test_without_splice_nothing_is_lost(
        tmp_path: Path, image: Path, monkeypatch: pytest.MonkeyPatch, loads: list[bool]) -> None:
    monkeypatch.setattr(nbd_splice, "_make_pipe", lambda: (-1, -1, 0))
    with (open_image(str(image), format="raw") as disk, serving(tmp_path, Export(disk)) as path,
          open_nbd({"filename": uri(path)}) as device):
        assert device.pread(0, MIB) == DATA[:MIB]
    assert loads == [False]


def test_a_filesystem_that_cannot_splice_is_asked_once(
        tmp_path: Path, image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def refuse(*args: int, **options: int) -> int:
        asked.append(args[0])
        raise OSError(errno.EINVAL, "")

    monkeypatch.setattr(os, "splice", refuse)
    with open(image, "rb") as file:
        splicer = Splicer()
        assert not splicer.load(file.fileno(), 0, MIB)
        assert not splicer.load(file.fileno(), 0, MIB)
    assert len(asked) == 1


def test_many_clients_read_and_write_and_leave_no_pipe_behind(tmp_path: Path, image: Path) -> None:
    def work(number: int) -> None:
        with open_nbd({"filename": uri(path)}) as device:
            for step in range(30):
                offset = (number * 30 + step) % 24 * 128 * KIB
                assert device.pread(offset, 128 * KIB) == DATA[offset : offset + 128 * KIB]
                device.pwrite(offset, DATA[offset : offset + 64 * KIB])

    before = _descriptors()
    with (open_image(str(image), format="raw") as disk, ThreadPoolExecutor(8) as pool,
          serving(tmp_path, Export(disk, shared=True)) as path):
        for done in [pool.submit(work, number) for number in range(8)]:
            done.result(TIMEOUT)
    end = time.monotonic() + TIMEOUT
    while _descriptors() > before and time.monotonic() < end:
        time.sleep(0.02)
    assert _descriptors() == before


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))
