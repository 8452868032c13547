"""What a server asks of the files behind it. Paths are names joined by "/"; b"" is the root.

Every call may raise OSError, whose errno the client gets.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple, Protocol


class Stat(NamedTuple):
    """A file's attributes; times are in nanoseconds."""

    dev: int
    ino: int
    mode: int
    nlink: int
    uid: int
    gid: int
    rdev: int
    size: int
    blksize: int
    blocks: int
    atime: int
    mtime: int
    ctime: int

    @classmethod
    def of(cls, host: os.stat_result) -> Stat:
        """What the host says."""
        return cls(host.st_dev, host.st_ino, host.st_mode, host.st_nlink, host.st_uid, host.st_gid,
                   host.st_rdev, host.st_size, host.st_blksize, host.st_blocks, host.st_atime_ns,
                   host.st_mtime_ns, host.st_ctime_ns)  # fmt: skip


class StatFs(NamedTuple):
    """A file system's figures."""

    type: int
    bsize: int
    blocks: int
    bfree: int
    bavail: int
    files: int
    ffree: int
    fsid: int
    namelen: int


class Entry(NamedTuple):
    """A name in a folder; ``kind`` is a DT_… number, 0 for "look yourself"."""

    name: bytes
    ino: int
    kind: int


class Owner(NamedTuple):
    """Who makes a file, and with which permissions."""

    uid: int
    gid: int
    mode: int


class OpenFile(Protocol):
    """A file or folder that is open; given back when nobody holds it any more."""

    def read(self, offset: int, length: int) -> bytes: ...

    def write(self, offset: int, data: bytes) -> int: ...

    def sync(self, *, data_only: bool) -> None: ...

    def truncate(self, size: int) -> None: ...

    def entries(self) -> list[Entry]:
        """A folder's names, without `.` and `..`."""
        ...


class Backend(Protocol):
    """Files."""

    read_only: bool

    def lstat(self, path: bytes) -> Stat: ...

    def fstat(self, file: OpenFile, path: bytes | None) -> Stat:
        """Of an open file; ``path`` is None when it has no name any more."""
        ...

    def statfs(self, path: bytes) -> StatFs: ...

    def open(self, path: bytes, flags: int) -> OpenFile: ...

    def create(self, path: bytes, flags: int, owner: Owner) -> OpenFile: ...

    def mkdir(self, path: bytes, owner: Owner) -> None: ...

    def mknod(self, path: bytes, owner: Owner, device: int) -> None:
        """``owner.mode`` holds the type."""
        ...

    def symlink(self, path: bytes, target: bytes, owner: Owner) -> None: ...

    def readlink(self, path: bytes) -> bytes: ...

    def link(self, old: bytes, new: bytes) -> None: ...

    def rename(self, old: bytes, new: bytes) -> None: ...

    def unlink(self, path: bytes) -> None: ...

    def rmdir(self, path: bytes) -> None: ...

    def chmod(self, path: bytes, mode: int) -> None: ...

    def chown(self, path: bytes, uid: int, gid: int) -> None:
        """-1 leaves one as it is."""
        ...

    def utimens(self, path: bytes, atime: int | None, mtime: int | None) -> None:
        """Nanoseconds, `NOW`, or None to leave one as it is."""
        ...

    def truncate(self, path: bytes, size: int) -> None: ...

    def getxattr(self, path: bytes, name: bytes) -> bytes: ...

    def listxattr(self, path: bytes) -> Sequence[bytes]: ...

    def setxattr(self, path: bytes, name: bytes, value: bytes, flags: int) -> None: ...

    def removexattr(self, path: bytes, name: bytes) -> None: ...


NOW = -(1 << 63)  # for `Backend.utimens`
