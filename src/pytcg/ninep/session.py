"""A client and its server: what was negotiated, the fids, and requests that become replies."""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pytcg.ninep.fids import Fid, Fids, File, Folder, error
from pytcg.ninep.tree import Node, TreeLock
from pytcg.ninep.wire import (
    HEADER,
    IO_HEADER,
    READ_HEADER,
    Kind,
    Malformed,
    message,
    pack,
    pieces_of,
    unpack,
)

if TYPE_CHECKING:
    from pytcg.ninep.backend import Backend, Stat
    from pytcg.ninep.qids import Qids
    from pytcg.ninep.wire import Qid

MIN_MSIZE: Final = 4096
MAX_MSIZE: Final = 1 << 20


Admit = Callable[[str, int], None]
"""Of ("read" or "write", bytes): waits until that may be done."""


class Handler(NamedTuple):
    """Who serves a request: fields of request and reply, and a function from one to the other."""

    request: str
    reply: str
    serve: Callable[..., tuple[Any, ...]]


class Table(dict[int, Handler]):
    """Handlers by message number."""

    def serves(self, kind: Kind, request: str, reply: str
               ) -> Callable[[Callable[..., tuple[Any, ...]]], Callable[..., tuple[Any, ...]]]:
        """A decorator that enters a function of (session, field, …)."""

        def enter(serve: Callable[..., tuple[Any, ...]]) -> Callable[..., tuple[Any, ...]]:
            self[kind] = Handler(request, reply, serve)
            return serve

        return enter


class Dialect(NamedTuple):
    """A version of the protocol."""

    version: bytes
    handlers: Table
    error: Callable[[int, int], bytes]  # of (tag, errno): the message


class Session:
    """One client's state. `handle` may run in several threads at once."""

    def __init__(self, backend: Backend, qids: Qids, dialects: tuple[Dialect, ...],
                 admit: Admit | None = None) -> None:  # fmt: skip
        self.backend = backend
        self.admit = admit or _at_once
        self._qids = qids
        self._dialects = {dialect.version: dialect for dialect in dialects}
        self._nothing = dialects[0]._replace(handlers=Table())
        self.tree = TreeLock()
        self.reset()

    def reset(self) -> None:
        """As before the client came; files are closed when the last request is done with them."""
        self.msize = MIN_MSIZE
        self.dialect = self._nothing
        self.fids = Fids()
        self.root = Node(None, b"")

    def version(self, msize: int, version: bytes) -> tuple[int, bytes]:
        """Tversion begins anew; EMSGSIZE for messages too small for a server."""
        self.reset()
        if msize < MIN_MSIZE:
            raise error(errno.EMSGSIZE)
        self.msize = min(msize, MAX_MSIZE)
        known = self._dialects.get(version)
        if known is None:
            return self.msize, b"unknown"
        self.dialect = known
        return self.msize, version

    # --- messages ------------------------------------------------------------------------------

    def handle(self, request: bytes) -> bytes:
        """The reply to a message; whatever it holds, a reply comes of it."""
        dialect = self.dialect
        kind, tag = request[4], int.from_bytes(request[5:7], "little")
        try:
            return self._reply(dialect, kind, tag, request)
        except OSError as failure:
            return dialect.error(tag, failure.errno or errno.EIO)

    def _reply(self, dialect: Dialect, kind: int, tag: int, request: bytes) -> bytes:
        size = int.from_bytes(request[:4], "little")
        if size != len(request):
            raise Malformed("a message that is not as long as it says")
        if kind == Kind.VERSION:
            values = unpack("ds", request, HEADER.size)
            return message(kind + 1, tag, pack("ds", self.version(*values)))
        handler = dialect.handlers.get(kind)
        if handler is None:
            raise error(errno.EOPNOTSUPP)
        values = unpack(handler.request, request, HEADER.size)
        try:
            reply = pieces_of(handler.reply, handler.serve(self, *values))
        except struct.error:  # a host's figure that the protocol has no room for
            raise error(errno.EOVERFLOW) from None
        return message(kind + 1, tag, *reply)

    # --- for handlers --------------------------------------------------------------------------

    def must_be_writable(self) -> None:
        """EROFS where the export is for reading."""
        if self.backend.read_only:
            raise error(errno.EROFS)

    def qid(self, found: Stat) -> Qid:
        """The file's number."""
        return self._qids.of(found)

    def qid_path(self, device: int, inode: int) -> int:
        """The part of it that doesn't change."""
        return self._qids.path(device, inode)

    def look(self, fid: Fid) -> Stat:
        """A fid's attributes, of the open file if it is one: that may have no name any more."""
        if isinstance(fid.opened, File | Folder):
            return self.backend.fstat(fid.opened.file, fid.node.known_path)
        return self.backend.lstat(fid.node.path)

    def iounit(self, found: Stat) -> int:
        """What one message carries, in whole blocks of the file system's."""
        most = self.msize - IO_HEADER
        block = found.blksize
        return most // block * block if 0 < block <= most else most

    def limit(self, count: int) -> int:
        """How much a reply may carry of what is asked for."""
        return min(count, self.msize - READ_HEADER)


def _at_once(way: str, length: int) -> None:
    """Nothing is throttled."""


def plain_name(name: bytes) -> bytes:
    """A name for something new: ENOENT or EEXIST for what is none."""
    if not name or b"/" in name:
        raise error(errno.ENOENT)
    if name in (b".", b".."):
        raise error(errno.EEXIST)
    return name


def text_of(number: int) -> bytes:
    """An errno's text."""
    return os.strerror(number).encode()
