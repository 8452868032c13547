"""The helper's end: serves one emulator from a folder until it hangs up."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import socket
import stat
import struct
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

from pytcg.ninep.backend import NOW, Owner
from pytcg.ninep.fids import error
from pytcg.ninep.local.folder import LocalFolder
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
    SUCCESS,
    Gone,
    Request,
    receive_message,
)
from pytcg.ninep.wire import pack, unpack

FLAGS: Final = (os.O_ACCMODE | os.O_TRUNC | os.O_APPEND | os.O_SYNC | os.O_DSYNC
                | os.O_DIRECTORY | os.O_NOATIME)  # fmt: skip
FS_IOC_GETVERSION: Final = 0x80087601
# CAP_CHOWN, _DAC_OVERRIDE, _FOWNER, _FSETID, _MKNOD: what serving files as their owners needs.
CAPABILITIES: Final = sum(1 << bit for bit in (0, 1, 3, 4, 27))
SYS_CAPSET: Final = 126
CAPABILITY_VERSION_3: Final = 0x20080522


class Helper:
    """Answers requests from a folder's files."""

    def __init__(self, folder: LocalFolder) -> None:
        self._folder = folder

    def serve(self, connection: socket.socket) -> None:
        """Until the emulator hangs up or sends what is no request."""
        with suppress(Gone, ConnectionError):
            while True:
                number, body = receive_message(connection)
                if number not in FIELDS:
                    return
                self._answer(connection, Request(number), body)

    def _answer(self, connection: socket.socket, kind: Request, body: bytes) -> None:
        made: list[Any] = []
        status = 0
        try:
            made = self._run(kind, _unpack(FIELDS[kind], body))
        except OSError as failure:
            status = -(failure.errno or errno.EIO)
        if kind in OPENING:
            _send_descriptor(connection, made[0] if made else None, status)
            return
        fields = RESPONSES.get(kind)
        if status or fields is None:
            reply = HEADER.pack(ERROR if status else SUCCESS, STATUS.size) + STATUS.pack(status)
        elif isinstance(made[0], int) and fields == "R":  # only how long it would be
            reply = HEADER.pack(SUCCESS, STATUS.size) + STATUS.pack(made[0])
        else:
            raw = pack(fields, made)
            reply = HEADER.pack(SUCCESS, len(raw)) + raw
        connection.sendall(reply)

    def _run(self, kind: Request, values: Sequence[Any]) -> list[Any]:
        name = "_" + kind.name.lower()
        if kind in _CHANGING and self._folder.read_only:
            raise error(errno.EROFS)
        found: list[Any] | None = getattr(self, name)(*values)
        return found or []

    # --- files ---------------------------------------------------------------------------------

    def _open(self, path: bytes, flags: int) -> list[Any]:
        if flags & (os.O_ACCMODE | os.O_TRUNC) and self._folder.read_only:
            raise error(errno.EROFS)
        return [self._folder.open(_inner(path), flags & FLAGS)]

    def _create(self, path: bytes, flags: int, mode: int, uid: int, gid: int) -> list[Any]:
        return [self._folder.create(_inner(path), flags & (FLAGS | os.O_EXCL),
                                    Owner(uid, gid, mode & 0o7777))]  # fmt: skip

    def _mknod(self, uid: int, gid: int, path: bytes, mode: int, device: int) -> None:
        if stat.S_ISDIR(mode) or stat.S_ISLNK(mode) or device >= 1 << 32:
            raise error(errno.EINVAL)
        self._folder.mknod(_inner(path), Owner(uid, gid, mode & 0o177777), device)

    def _mkdir(self, uid: int, gid: int, path: bytes, mode: int) -> None:
        self._folder.mkdir(_inner(path), Owner(uid, gid, mode & 0o7777))

    def _symlink(self, uid: int, gid: int, target: bytes, path: bytes) -> None:
        self._folder.symlink(_inner(path), target, Owner(uid, gid, 0o777))

    def _readlink(self, path: bytes, size: int) -> list[Any]:
        return [self._folder.readlink(_inner(path))[: max(size - 1, 0)]]

    def _link(self, old: bytes, new: bytes) -> None:
        self._folder.link(_inner(old), _inner(new))

    def _rename(self, old: bytes, new: bytes) -> None:
        self._folder.rename(_inner(old), _inner(new))

    def _remove(self, path: bytes) -> None:
        inner = _inner(path)
        if stat.S_ISDIR(self._folder.lstat(inner).mode):
            self._folder.rmdir(inner)
        else:
            self._folder.unlink(inner)

    # --- attributes ----------------------------------------------------------------------------

    def _lstat(self, path: bytes) -> list[Any]:
        found = self._folder.lstat(_inner(path))
        times = [part & 0xFFFFFFFFFFFFFFFF for time in (found.atime, found.mtime, found.ctime)
                 for part in divmod(time, SECOND)]  # fmt: skip
        return [found.dev, found.ino, found.nlink, found.mode, found.uid, found.gid, found.rdev,
                found.size, found.blksize, found.blocks, *times]  # fmt: skip

    def _statfs(self, path: bytes) -> list[Any]:
        *counts, fsid, namelen = self._folder.statfs(_inner(path))
        return [*counts, fsid & 0xFFFFFFFF, fsid >> 32, namelen, counts[1]]

    def _chmod(self, path: bytes, mode: int) -> None:
        self._folder.chmod(_inner(path), mode & 0o7777)

    def _chown(self, path: bytes, uid: int, gid: int) -> None:
        self._folder.chown(_inner(path), *(-1 if one == 0xFFFFFFFF else one for one in (uid, gid)))

    def _truncate(self, path: bytes, size: int) -> None:
        if size >> 63:
            raise error(errno.EINVAL)
        self._folder.truncate(_inner(path), size)

    def _utime(self, path: bytes, *times: int) -> None:
        self._folder.utimens(_inner(path), _time(*times[:2]), _time(*times[2:]))

    def _lgetxattr(self, size: int, path: bytes, name: bytes) -> list[Any]:
        return _sized(self._folder.getxattr(_inner(path), name), size)

    def _llistxattr(self, size: int, path: bytes) -> list[Any]:
        names = self._folder.listxattr(_inner(path))
        return _sized(b"".join(name + b"\0" for name in names), size)

    def _lsetxattr(self, path: bytes, name: bytes, value: bytes, size: int, flags: int) -> None:
        if flags & ~(os.XATTR_CREATE | os.XATTR_REPLACE):
            raise error(errno.EINVAL)
        self._folder.setxattr(_inner(path), name, value[:size], flags)

    def _lremovexattr(self, path: bytes, name: bytes) -> None:
        self._folder.removexattr(_inner(path), name)

    def _getversion(self, path: bytes) -> list[Any]:
        """The inode's generation, where the file system tells it; 0 elsewhere."""
        file = self._folder.open(_inner(path), os.O_RDONLY)
        assert isinstance(file, HostFile)
        try:
            raw = fcntl.ioctl(file.fd, FS_IOC_GETVERSION, bytes(8))
        except OSError:
            return [0]
        return [int.from_bytes(raw[:4], "little")]


_CHANGING: Final = frozenset({
    Request.CREATE, Request.MKNOD, Request.MKDIR, Request.SYMLINK, Request.LINK, Request.CHMOD,
    Request.CHOWN, Request.TRUNCATE, Request.UTIME, Request.RENAME, Request.REMOVE,
    Request.LSETXATTR, Request.LREMOVEXATTR,
})  # fmt: skip


def _unpack(fields: str, body: bytes) -> list[Any]:
    """A request's fields; QEMU counts the zero behind some strings in."""
    values = unpack(fields.replace("s", "R"), body)
    return [value.partition(b"\0")[0] if letter == "s" else value
            for letter, value in zip(fields, values, strict=True)]  # fmt: skip


def _inner(path: bytes) -> bytes:
    """A path in the folder; EINVAL for one with `..`."""
    names = [name for name in path.split(b"/") if name not in (b"", b".")]
    if b".." in names:
        raise error(errno.EINVAL)
    return b"/".join(names)


def _sized(value: bytes, size: int) -> list[Any]:
    if not size:
        return [len(value)]
    if len(value) > min(size, MOST - 2):
        raise error(errno.ERANGE)
    return [value]


def _time(seconds: int, part: int) -> int | None:
    if part == UTIME_OMIT:
        return None
    if part == UTIME_NOW:
        return NOW
    if part >= SECOND:
        raise error(errno.EINVAL)
    return (seconds - (seconds >> 63 << 64)) * SECOND + part


def _send_descriptor(connection: socket.socket, file: object, status: int) -> None:
    if isinstance(file, HostFile):
        socket.send_fds(connection, [STATUS.pack(FD_VALID)], [file.fd])
    else:
        connection.sendall(STATUS.pack(status or -errno.EIO))


def drop_capabilities() -> None:
    """Keep what serving files needs, as root; capset(2), for which Python has no call."""
    header = struct.pack("<LL", CAPABILITY_VERSION_3, 0)
    sets = struct.pack("<6L", CAPABILITIES, CAPABILITIES, 0, 0, 0, 0)
    if ctypes.CDLL(None, use_errno=True).syscall(SYS_CAPSET, header, sets):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
