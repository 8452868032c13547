"""A 9P client: requests as calls, errors as OSError."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from typing import Any

from pytcg.ninep.dotl import DOTL
from pytcg.ninep.local.beneath import Root
from pytcg.ninep.local.folder import LocalFolder
from pytcg.ninep.local.model import Passthrough
from pytcg.ninep.qids import Qids
from pytcg.ninep.session import Session
from pytcg.ninep.wire import HEADER, NO_FID, Kind, message, pack, unpack

REPLIES: dict[Kind, str] = {
    Kind.VERSION: "ds", Kind.ATTACH: "Q", Kind.WALK: "W", Kind.LOPEN: "Qd", Kind.LCREATE: "Qd",
    Kind.READ: "D", Kind.READDIR: "D", Kind.WRITE: "d", Kind.STATFS: "ddqqqqqqd", Kind.MKDIR: "Q",
    Kind.SYMLINK: "Q", Kind.MKNOD: "Q", Kind.READLINK: "s", Kind.XATTRWALK: "q", Kind.LOCK: "b",
    Kind.GETLOCK: "bqqds", Kind.GETATTR: "qQddd" + 15 * "q", Kind.OPEN: "Qd", Kind.CREATE: "Qd",
}  # fmt: skip


class Client:
    """Speaks to ``serve(request) -> reply`` in a dialect; fid 0 is the root."""

    def __init__(self, serve: Callable[[bytes], bytes], version: bytes = b"9P2000.L",
                 msize: int = 8192) -> None:  # fmt: skip
        self.serve = serve
        self.version = version
        self.next = 1
        self.msize, answered = self.ask(Kind.VERSION, "ds", msize, version)
        assert answered == version
        self.ask(Kind.ATTACH, "ddssd", 0, NO_FID, b"me", b"", os.getuid())

    def ask(self, kind: Kind, fields: str, *values: Any, tag: int = 7) -> list[Any]:
        reply = self.serve(message(kind, tag, pack(fields, values)))
        size, answered, same = HEADER.unpack_from(reply)
        assert (size, same) == (len(reply), tag)
        if answered == Kind.LERROR + 1:
            number = int.from_bytes(reply[7:], "little")
            raise OSError(number, os.strerror(number))
        if answered == Kind.ERROR + 1:
            name, number = read("sd", reply)
            assert name == os.strerror(number).encode()
            raise OSError(number, os.strerror(number))
        assert answered == kind + 1
        return read(REPLIES.get(kind, ""), reply)

    def walk(self, path: str | list[bytes], fid: int = 0) -> int:
        names = path.encode().split(b"/") if isinstance(path, str) else path
        self.next += 1
        names = [name for name in names if name] if isinstance(path, str) else names
        (qids,) = self.ask(Kind.WALK, "ddS", fid, self.next, names)
        if len(qids) < len(names):
            raise FileNotFoundError(path)
        return self.next

    def open(self, path: str, flags: int = 0) -> int:
        fid = self.walk(path)
        self.ask(Kind.LOPEN, "dd", fid, flags)
        return fid

    def create(self, path: str, data: bytes = b"", mode: int = 0o644) -> int:
        folder, _, name = path.rpartition("/")
        fid = self.walk(folder)
        self.ask(Kind.LCREATE, "dsddd", fid, name.encode(), os.O_RDWR, mode, os.getgid())
        if data:
            assert self.ask(Kind.WRITE, "dqD", fid, 0, data) == [len(data)]
        return fid

    def read(self, fid: int, count: int = 1 << 20, offset: int = 0) -> bytes:
        (data,) = self.ask(Kind.READ, "dqd", fid, offset, count)
        assert isinstance(data, bytes)
        return data

    def names(self, path: str, count: int = 1 << 20) -> list[bytes]:
        fid, found, offset = self.open(path), [], 0
        while True:
            (data,) = self.ask(Kind.READDIR, "dqd", fid, offset, count)
            if not data:
                break
            at = 0
            while at < len(data):
                offset, _, length = struct.unpack_from("<QBH", data, at + 13)
                found.append(data[at + 24 : at + 24 + length])
                at += 24 + length
        self.clunk(fid)
        return found

    def clunk(self, fid: int) -> None:
        self.ask(Kind.CLUNK, "d", fid)

    def stat(self, path: str) -> dict[str, int]:
        fid = self.walk(path)
        values = self.ask(Kind.GETATTR, "dq", fid, 0x7FF)
        self.clunk(fid)
        names = ("valid", "qid", "mode", "uid", "gid", "nlink", "rdev", "size", "blksize",
                 "blocks", "atime", "atime_ns", "mtime", "mtime_ns", "ctime")  # fmt: skip
        return dict(zip(names, values, strict=False))


def read(fields: str, reply: bytes) -> list[Any]:
    """A reply's fields, lists of qids included."""
    if fields == "W":
        count = int.from_bytes(reply[7:9], "little")
        assert len(reply) == 9 + 13 * count
        return [[struct.unpack_from("<BLQ", reply, 9 + 13 * index) for index in range(count)]]
    plain = "".join("bdq" if letter == "Q" else letter for letter in fields)
    values = unpack(plain, reply, HEADER.size)
    at = fields.find("Q")
    if at >= 0:
        values[at : at + 3] = [tuple(values[at : at + 3])]
    return values


def local(path: object, model: Passthrough | None = None, **more: Any) -> LocalFolder:
    """A folder as a backend."""
    return LocalFolder(Root(str(path)), model or Passthrough(strict=False), **more)


def client_of(backend: Any, **more: Any) -> Client:
    """A client of a backend."""
    return Client(Session(backend, Qids("remap"), (DOTL,)).handle, **more)
