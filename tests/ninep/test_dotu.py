"""9P2000.u on a folder."""

from __future__ import annotations

import errno
import os
import stat
import struct
from pathlib import Path
from typing import Any

import pytest

from ninep.client import Client, local
from pytcg.ninep.dotl import DOTL
from pytcg.ninep.dotu import DMDIR, DMLINK, DMNAMEDPIPE, DMSYMLINK, DOTU, STAT
from pytcg.ninep.qids import Qids
from pytcg.ninep.session import Session
from pytcg.ninep.wire import HEADER, Kind, message, pack, unpack

KEEP = 0xFFFFFFFF


@pytest.fixture
def client(tmp_path: Path) -> Client:
    session = Session(local(tmp_path), Qids(), (DOTL, DOTU))
    return Client(session.handle, version=b"9P2000.u")


def stat_of(client: Client, fid: int) -> list[Any]:
    reply = client.serve(message(Kind.STAT, 5, fid.to_bytes(4, "little")))
    assert reply[4] == Kind.STAT + 1
    (outer, inner) = struct.unpack_from("<HH", reply, HEADER.size)
    assert outer == inner + 2 == len(reply) - HEADER.size - 2
    return unpack(STAT, reply, HEADER.size + 4)


def wstat(client: Client, fid: int, *, perm: int = KEEP, mtime: int = KEEP, name: bytes = b"",
          length: int = (1 << 64) - 1) -> None:  # fmt: skip
    body = pack(STAT, (0, 0, 0, 0, 0, perm, KEEP, mtime, length, name, b"", b"", b"", b"",
                       KEEP, KEEP, KEEP))  # fmt: skip
    client.ask(Kind.WSTAT, "ds", fid, struct.pack("<H", len(body)) + body)


def create(client: Client, name: bytes, perm: int, mode: int = 2, extension: bytes = b"") -> int:
    fid = client.walk("")
    client.ask(Kind.CREATE, "dsdbs", fid, name, perm, mode, extension)
    return fid


def test_files(client: Client, tmp_path: Path) -> None:
    fid = create(client, b"a", 0o640)
    client.ask(Kind.WRITE, "dqD", fid, 0, b"hello")
    assert client.read(fid, 3, 1) == b"ell"
    found = stat_of(client, fid)
    assert found[5] == 0o640 and found[8] == 5 and found[9] == b"a"
    wstat(client, fid)  # fsync
    wstat(client, fid, perm=0x80000 | 0o600, mtime=77, length=2, name=b"b")
    there = (tmp_path / "b").stat()
    assert (stat.S_IMODE(there.st_mode), there.st_mtime, there.st_size) == (0o4600, 77, 2)
    assert stat_of(client, fid)[5] & 0x80000
    assert stat_of(client, fid)[9] == b"b"
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        wstat(client, fid, perm=DMDIR | 0o700)
    client.ask(Kind.REMOVE, "d", fid)
    assert not list(tmp_path.iterdir())
    with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
        client.clunk(fid)


def test_what_is_no_file(client: Client, tmp_path: Path) -> None:
    create(client, b"d", DMDIR | 0o755, 0)
    link = create(client, b"s", DMSYMLINK | 0o777, 0, b"target")
    assert os.readlink(tmp_path / "s") == "target"
    assert stat_of(client, link)[13] == b"target"
    file = create(client, b"f", 0o600)
    create(client, b"hard", DMLINK | 0o600, 0, b"%d" % file)
    assert (tmp_path / "hard").samefile(tmp_path / "f")
    create(client, b"p", DMNAMEDPIPE | 0o600, 0)
    assert stat.S_ISFIFO((tmp_path / "p").stat().st_mode)
    assert stat_of(client, client.walk("p"))[5] == DMNAMEDPIPE | 0o600
    for extension in (b"", b"x 1 2", b"c 1", b"c a b"):
        with pytest.raises(OSError, match=os.strerror(errno.EINVAL)):
            create(client, b"c", 0x00800000, 0, extension)


def test_folders_read_as_structures(client: Client, tmp_path: Path) -> None:
    for number in range(200):
        (tmp_path / f"n{number}").touch()
    fid = client.walk("")
    client.ask(Kind.OPEN, "db", fid, 0)
    names, offset = [], 0
    while data := client.read(fid, 1000, offset):
        at = 0
        while at < len(data):
            names.append(unpack(STAT, data, at + 2)[9].decode())
            at += 2 + int.from_bytes(data[at : at + 2], "little")
        offset += len(data)
    assert sorted(names) == sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(OSError, match=os.strerror(errno.EINVAL)):
        client.read(fid, 1000, 5)
    assert client.read(fid, 1000, 0)


def test_remove_on_close(client: Client, tmp_path: Path) -> None:
    fid = create(client, b"a", 0o600, 0x42)
    assert (tmp_path / "a").exists()
    client.clunk(fid)
    assert not (tmp_path / "a").exists()
