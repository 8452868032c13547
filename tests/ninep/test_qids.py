"""Files' numbers, throttling, synthetic files."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from ninep.client import Client, client_of, local
from pytcg.ninep.backend import Stat
from pytcg.ninep.dotl import DOTL
from pytcg.ninep.qids import Qids
from pytcg.ninep.session import Session
from pytcg.ninep.synth import SynthFolder
from pytcg.ninep.wire import Kind


def on(device: int, inode: int) -> Stat:
    return Stat(device, inode, 0o100644, 1, 0, 0, 0, 0, 4096, 0, 0, 0, 0)


def test_files_of_several_devices_have_numbers_of_their_own() -> None:
    qids = Qids("remap")
    files = [(device, inode) for device in (5, 9, 12) for inode in (1, 2, 1 << 48, (1 << 64) - 1)]
    paths = [qids.of(on(*file)).path for file in files]
    assert len(set(paths)) == len(files)
    assert paths == [qids.of(on(*file)).path for file in files]


def test_other_devices_are_warned_of_or_forbidden() -> None:
    said: list[str] = []
    qids = Qids("warn", said.append)
    assert [qids.of(on(device, 3)).path for device in (1, 2, 3, 2)] == [3, 3, 3, 3]
    assert len(said) == 1
    qids = Qids("forbid")
    qids.of(on(1, 3))
    for _ in range(2):
        with pytest.raises(OSError, match=os.strerror(errno.ENODEV)):
            qids.of(on(2, 3))
    qids.of(on(1, 4))


def test_reads_and_writes_are_admitted(tmp_path: Path) -> None:
    asked: list[tuple[str, int]] = []
    session = Session(local(tmp_path), Qids(), (DOTL,), lambda *way: asked.append(way))
    client = Client(session.handle)
    client.read(client.create("a", b"12345"), 100)
    assert asked == [("write", 5), ("read", 100)]


def test_synthetic_files() -> None:
    backend, written = SynthFolder(), []
    backend.mkdir_here(b"d")

    def write(offset: int, data: bytes) -> int:
        written.append((offset, data))
        return len(data)

    backend.add_file(b"d/f", lambda offset, length: b"made up"[offset : offset + length], write)
    backend.add_file(b"d/nothing")
    client = client_of(backend)
    assert client.names("d") == [b".", b"..", b"f", b"nothing"]
    fid = client.open("d/f", os.O_RDWR)
    assert client.read(fid, 4, 2) == b"de u"
    assert client.ask(Kind.WRITE, "dqD", fid, 7, b"x") == [1] and written == [(7, b"x")]
    for kind, fields, values in (
        (Kind.MKDIR, "dsdd", (0, b"x", 0o700, 0)),
        (Kind.LCREATE, "dsddd", (client.walk(""), b"x", 2, 0o600, 0)),
        (Kind.UNLINKAT, "dsd", (client.walk("d"), b"f", 0)),
        (Kind.RENAMEAT, "dsds", (0, b"d", 0, b"e")),
    ):
        with pytest.raises(OSError, match=os.strerror(errno.EPERM)):
            client.ask(kind, fields, *values)
    with pytest.raises(OSError, match=os.strerror(errno.EACCES)):
        client.read(client.open("d/nothing"))
