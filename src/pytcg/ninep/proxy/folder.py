"""The backend `proxy`: files that a helper reaches; open ones come as descriptors."""

from __future__ import annotations

import errno
import os
import socket
import struct
import threading
from collections.abc import Sequence
from typing import Any, Final, NoReturn

from pytcg.ninep.backend import NOW, OpenFile, Owner, Stat, StatFs
from pytcg.ninep.fids import error
from pytcg.ninep.local.hostfile import SECOND, UTIME_NOW, UTIME_OMIT, HostFile
from pytcg.ninep.proxy.protocol import (
    ERROR,
    FD_VALID,
    FIELDS,
    HEADER,
    MOST,
    OPENING,
    RESPONSES,
    STATUS,
    Gone,
    Request,
    receive_message,
)
from pytcg.ninep.wire import Malformed, pack, unpack

XATTR_ROOM: Final = MOST - 2


def connect(path: str) -> socket.socket:
    """A helper's socket; its name is removed, so that nobody else connects. Raises OSError."""
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(path)
        os.unlink(path)
    except OSError:
        connection.close()
        raise
    return connection


class ProxyFolder:
    """`Backend` of a helper's folder. When the helper is gone, every request ends with EIO."""

    def __init__(self, connection: socket.socket, *, read_only: bool = False,
                 write_out: bool = False) -> None:  # fmt: skip
        self._connection: socket.socket | None = connection
        self._lock = threading.Lock()
        self._write_out = write_out
        self.read_only = read_only

    def _ask(self, kind: Request, *values: Any) -> list[Any]:
        """Send a request; the response's fields, or the descriptor, or nothing."""
        try:
            fields = pack(FIELDS[kind], values)
        except struct.error:
            raise error(errno.EINVAL) from None
        if len(fields) > MOST:
            raise error(errno.ENOBUFS)
        with self._lock:
            if self._connection is None:
                raise error(errno.EIO)
            try:
                self._connection.sendall(HEADER.pack(kind, len(fields)) + fields)
                if kind in OPENING:
                    return [_receive_descriptor(self._connection)]
                answered, body = receive_message(self._connection)
            except (Gone, BrokenPipeError, ConnectionError):
                self._connection.close()
                self._connection = None
                raise error(errno.EIO) from None
        return _response(kind, answered, body)

    # --- attributes ----------------------------------------------------------------------------

    def lstat(self, path: bytes) -> Stat:
        (dev, ino, nlink, mode, uid, gid, rdev, size, blksize, blocks, *times
         ) = self._ask(Request.LSTAT, _full(path))  # fmt: skip
        pairs = zip(times[::2], times[1::2], strict=True)
        return Stat(dev, ino, mode, nlink, uid, gid, rdev, size, blksize, blocks,
                    *(_signed(seconds) * SECOND + part for seconds, part in pairs))  # fmt: skip

    def fstat(self, file: OpenFile, path: bytes | None) -> Stat:
        assert isinstance(file, HostFile)
        return Stat.of(os.fstat(file.fd))

    def statfs(self, path: bytes) -> StatFs:
        (kind, bsize, blocks, bfree, bavail, files, ffree, low, high, namelen, _
         ) = self._ask(Request.STATFS, _full(path))  # fmt: skip
        fsid = (high & 0xFFFFFFFF) << 32 | low & 0xFFFFFFFF
        return StatFs(kind, bsize, blocks, bfree, bavail, files, ffree, fsid, namelen)

    def chmod(self, path: bytes, mode: int) -> None:
        if self.lstat(path).mode & 0o170000 == 0o120000:  # helpers may follow it
            raise error(errno.EOPNOTSUPP)
        self._ask(Request.CHMOD, _full(path), mode)

    def chown(self, path: bytes, uid: int, gid: int) -> None:
        self._ask(Request.CHOWN, _full(path), uid & 0xFFFFFFFF, gid & 0xFFFFFFFF)

    def utimens(self, path: bytes, atime: int | None, mtime: int | None) -> None:
        times = [part & 0xFFFFFFFFFFFFFFFF for time in (atime, mtime) for part in _timespec(time)]
        self._ask(Request.UTIME, _full(path), *times)

    def truncate(self, path: bytes, size: int) -> None:
        self._ask(Request.TRUNCATE, _full(path), size)

    # --- files ---------------------------------------------------------------------------------

    def open(self, path: bytes, flags: int) -> OpenFile:
        mode = self.lstat(path).mode & 0o170000
        if mode not in (0o100000, 0o040000):  # opening others may do something, or wait
            raise error(errno.ELOOP if mode == 0o120000 else errno.ENXIO)
        (fd,) = self._ask(Request.OPEN, _full(path), flags | os.O_NOFOLLOW | os.O_NONBLOCK)
        return HostFile(fd, write_out=self._write_out)

    def create(self, path: bytes, flags: int, owner: Owner) -> OpenFile:
        flags |= os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
        (fd,) = self._ask(Request.CREATE, _full(path), flags, owner.mode, *owner[:2])
        return HostFile(fd, write_out=self._write_out)

    def mkdir(self, path: bytes, owner: Owner) -> None:
        self._ask(Request.MKDIR, *owner[:2], _full(path), owner.mode)

    def mknod(self, path: bytes, owner: Owner, device: int) -> None:
        self._ask(Request.MKNOD, *owner[:2], _full(path), owner.mode, device)

    def symlink(self, path: bytes, target: bytes, owner: Owner) -> None:
        self._ask(Request.SYMLINK, *owner[:2], target, _full(path))

    def readlink(self, path: bytes) -> bytes:
        (target,) = self._ask(Request.READLINK, _full(path), 4096)
        assert isinstance(target, bytes)
        return target

    # --- names ---------------------------------------------------------------------------------

    def link(self, old: bytes, new: bytes) -> None:
        self._ask(Request.LINK, _full(old), _full(new))

    def rename(self, old: bytes, new: bytes) -> None:
        self._ask(Request.RENAME, _full(old), _full(new))

    def unlink(self, path: bytes) -> None:
        if self.lstat(path).mode & 0o170000 == 0o040000:  # there is one request for both
            raise error(errno.EISDIR)
        self._ask(Request.REMOVE, _full(path))

    def rmdir(self, path: bytes) -> None:
        if self.lstat(path).mode & 0o170000 != 0o040000:
            raise error(errno.ENOTDIR)
        self._ask(Request.REMOVE, _full(path))

    # --- extended attributes -------------------------------------------------------------------

    def getxattr(self, path: bytes, name: bytes) -> bytes:
        (value,) = self._ask(Request.LGETXATTR, XATTR_ROOM, _full(path), name)
        assert isinstance(value, bytes)
        return value

    def listxattr(self, path: bytes) -> Sequence[bytes]:
        (names,) = self._ask(Request.LLISTXATTR, XATTR_ROOM, _full(path))
        found: list[bytes] = names.split(b"\0")
        return [name for name in found if name]

    def setxattr(self, path: bytes, name: bytes, value: bytes, flags: int) -> None:
        self._ask(Request.LSETXATTR, _full(path), name, value, len(value), flags)

    def removexattr(self, path: bytes, name: bytes) -> None:
        self._ask(Request.LREMOVEXATTR, _full(path), name)


def _full(path: bytes) -> bytes:
    """For a helper the folder is the root of everything."""
    return b"/" + path


def _signed(value: int) -> int:
    return value - (value >> 63 << 64)


def _timespec(time: int | None) -> tuple[int, int]:
    if time is None:
        return 0, UTIME_OMIT
    return (0, UTIME_NOW) if time == NOW else divmod(time, SECOND)


def _receive_descriptor(connection: socket.socket) -> int:
    """The descriptor that comes with a number; OSError if the number is an errno."""
    data, fds, _, _ = socket.recv_fds(connection, STATUS.size, 1)
    if len(data) < STATUS.size:
        _close_all(fds)
        raise Gone("the connection has ended")
    (status,) = STATUS.unpack(data)
    if status != FD_VALID or not fds:
        _close_all(fds)
        raise error(-status if status < 0 else errno.ENFILE)
    os.set_inheritable(fds[0], False)
    return fds[0]


def _close_all(fds: Sequence[int]) -> None:
    for fd in fds:
        os.close(fd)


def _response(kind: Request, answered: int, body: bytes) -> list[Any]:
    fields = RESPONSES.get(kind)
    if answered == ERROR or fields is None:
        status = STATUS.unpack(body)[0] if len(body) == STATUS.size else -errno.EIO
        if status < 0:
            raise error(-status)
        if fields is None:
            return []
        _refuse()
    try:
        return unpack(fields, body)
    except Malformed:
        _refuse()


def _refuse() -> NoReturn:
    raise error(errno.EIO)
