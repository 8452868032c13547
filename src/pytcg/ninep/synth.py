"""The backend `synth`: files made by a program, each of two functions. Nothing of the host's."""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable, Sequence
from typing import Final

from pytcg.ninep.backend import Entry, OpenFile, Owner, Stat, StatFs
from pytcg.ninep.fids import error

MAGIC: Final = 0x53594E54  # statfs's type
BLOCK: Final = 4096
Read = Callable[[int, int], bytes]
Write = Callable[[int, bytes], int]


class SynthFile:
    """A file, or a folder when it has ``children``; ``read`` gets (offset, length)."""

    def __init__(self, ino: int, mode: int, read: Read | None = None, write: Write | None = None,
                 children: dict[bytes, SynthFile] | None = None) -> None:  # fmt: skip
        self.ino, self.mode = ino, mode
        self.children = children
        self._read, self._write = read, write
        self.made = time.time_ns()

    def read(self, offset: int, length: int) -> bytes:
        if self._read is None:
            raise error(errno.EACCES)
        return self._read(offset, length)

    def write(self, offset: int, data: bytes) -> int:
        if self._write is None:
            raise error(errno.EACCES)
        return self._write(offset, data)

    def sync(self, *, data_only: bool) -> None:
        """Nothing is kept."""

    def truncate(self, size: int) -> None:
        """As for a device: it has no length."""

    def entries(self) -> list[Entry]:
        return [Entry(name, file.ino, file.mode >> 12)
                for name, file in (self.children or {}).items()]  # fmt: skip


class SynthFolder:
    """`Backend` of such files; clients can't change the tree."""

    def __init__(self, *, read_only: bool = False) -> None:
        self.read_only = read_only
        self._root = SynthFile(1, stat.S_IFDIR | 0o700, children={})
        self._made = 1

    def mkdir_here(self, path: bytes, mode: int = 0o700) -> None:
        """Make a folder; those above it are there."""
        self._enter(path, SynthFile(self._number(), stat.S_IFDIR | mode, children={}))

    def add_file(self, path: bytes, read: Read | None = None, write: Write | None = None,
                 mode: int = 0o600) -> None:  # fmt: skip
        """Make a file of functions."""
        self._enter(path, SynthFile(self._number(), stat.S_IFREG | mode, read, write))

    def _number(self) -> int:
        self._made += 1
        return self._made

    def _enter(self, path: bytes, file: SynthFile) -> None:
        folder, _, name = path.rpartition(b"/")
        children = self._find(folder).children
        if children is None:
            raise error(errno.ENOTDIR)
        if name in children:
            raise error(errno.EEXIST)
        children[name] = file

    def _find(self, path: bytes) -> SynthFile:
        file = self._root
        for name in path.split(b"/") if path else ():
            if file.children is None:
                raise error(errno.ENOTDIR)
            found = file.children.get(name)
            if found is None:
                raise error(errno.ENOENT)
            file = found
        return file

    # --- for clients ---------------------------------------------------------------------------

    def lstat(self, path: bytes) -> Stat:
        return self._stat(self._find(path))

    def fstat(self, file: OpenFile, path: bytes | None) -> Stat:
        assert isinstance(file, SynthFile)
        return self._stat(file)

    def _stat(self, file: SynthFile) -> Stat:
        links = 1 if file.children is None else 2
        return Stat(0, file.ino, file.mode, links, os.getuid(), os.getgid(), 0, 0, BLOCK, 0,
                    file.made, file.made, file.made)  # fmt: skip

    def statfs(self, path: bytes) -> StatFs:
        return StatFs(MAGIC, BLOCK, 0, 0, 0, self._made, 0, 0, 255)

    def open(self, path: bytes, flags: int) -> OpenFile:
        return self._find(path)

    def truncate(self, path: bytes, size: int) -> None:
        """Opening for writing may ask for it."""

    def utimens(self, path: bytes, atime: int | None, mtime: int | None) -> None:
        """Times are not kept."""

    def create(self, path: bytes, flags: int, owner: Owner) -> OpenFile:
        raise error(errno.EPERM)

    def mkdir(self, path: bytes, owner: Owner) -> None:
        raise error(errno.EPERM)

    def mknod(self, path: bytes, owner: Owner, device: int) -> None:
        raise error(errno.EPERM)

    def symlink(self, path: bytes, target: bytes, owner: Owner) -> None:
        raise error(errno.EPERM)

    def readlink(self, path: bytes) -> bytes:
        raise error(errno.EINVAL)

    def link(self, old: bytes, new: bytes) -> None:
        raise error(errno.EPERM)

    def rename(self, old: bytes, new: bytes) -> None:
        raise error(errno.EPERM)

    def unlink(self, path: bytes) -> None:
        raise error(errno.EPERM)

    def rmdir(self, path: bytes) -> None:
        raise error(errno.EPERM)

    def chmod(self, path: bytes, mode: int) -> None:
        raise error(errno.EPERM)

    def chown(self, path: bytes, uid: int, gid: int) -> None:
        raise error(errno.EPERM)

    def getxattr(self, path: bytes, name: bytes) -> bytes:
        raise error(errno.EOPNOTSUPP)

    def listxattr(self, path: bytes) -> Sequence[bytes]:
        return []

    def setxattr(self, path: bytes, name: bytes, value: bytes, flags: int) -> None:
        raise error(errno.EOPNOTSUPP)

    def removexattr(self, path: bytes, name: bytes) -> None:
        raise error(errno.EOPNOTSUPP)
