"""The backend `local`: a folder of the host's."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Final

from pytcg.ninep.backend import Entry, OpenFile, Owner, Stat, StatFs
from pytcg.ninep.local import hostfile
from pytcg.ninep.local.beneath import Place, Root
from pytcg.ninep.local.hostfile import HostFile, open_plain
from pytcg.ninep.local.model import Passthrough, undo

CREATE: Final = os.O_CREAT


class LocalFolder:
    """`Backend` of a folder; ``model`` is one of the security models."""

    def __init__(self, root: Root, model: Passthrough, *, read_only: bool = False,
                 write_out: bool = False) -> None:  # fmt: skip
        self._root = root
        self._model = model
        self._write_out = write_out
        self.read_only = read_only

    def _place(self, path: bytes) -> Place:
        self._model.check(path)
        return self._root.place(path)

    # --- attributes ----------------------------------------------------------------------------

    def lstat(self, path: bytes) -> Stat:
        with self._place(path) as place:
            found = os.stat(place.name, dir_fd=place.folder, follow_symlinks=False)
            return self._model.see(place, found)

    def fstat(self, file: OpenFile, path: bytes | None) -> Stat:
        assert isinstance(file, HostFile)
        found = os.fstat(file.fd)
        if path is None or not self._model.needs_name:
            return self._model.see_open(file.fd, found, None)
        with self._place(path) as place:
            return self._model.see_open(file.fd, found, place)

    def statfs(self, path: bytes) -> StatFs:
        with self._place(path) as place:
            fd = os.open(place.name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=place.folder)
            try:
                return hostfile.statfs(fd)
            finally:
                os.close(fd)

    def chmod(self, path: bytes, mode: int) -> None:
        with self._place(path) as place:
            self._model.chmod(place, mode)

    def chown(self, path: bytes, uid: int, gid: int) -> None:
        with self._place(path) as place:
            self._model.chown(place, uid, gid)

    def utimens(self, path: bytes, atime: int | None, mtime: int | None) -> None:
        with self._place(path) as place:
            hostfile.utimens(place, atime, mtime)

    def truncate(self, path: bytes, size: int) -> None:
        with self._place(path) as place:
            HostFile(open_plain(place, os.O_WRONLY)).truncate(size)

    # --- files ---------------------------------------------------------------------------------

    def open(self, path: bytes, flags: int) -> OpenFile:
        with self._place(path) as place:
            fd = open_plain(place, self._model.open_flags(flags))
        return self._opened(fd, is_folder=bool(flags & os.O_DIRECTORY))

    def _opened(self, fd: int, *, is_folder: bool = False) -> HostFile:
        if is_folder:
            return HostFolder(fd, self._model)
        return HostFile(fd, write_out=self._write_out)

    def create(self, path: bytes, flags: int, owner: Owner) -> OpenFile:
        """An old file is opened as it is, unless the flags say otherwise."""
        with self._place(path) as place:
            flags = self._model.open_flags(flags)
            mode = self._model.file_mode(owner)
            try:
                fd = open_plain(place, flags | CREATE | os.O_EXCL, mode)
            except FileExistsError:
                if flags & os.O_EXCL:
                    raise
                return self._opened(open_plain(place, flags))
            file = self._opened(fd)
            with undo(place):
                self._model.made(place, owner._replace(mode=owner.mode & 0o7777 | 0o100000))
            return file

    def mkdir(self, path: bytes, owner: Owner) -> None:
        with self._place(path) as place:
            os.mkdir(place.name, self._model.folder_mode(owner), dir_fd=place.folder)
            try:
                self._model.made(place, owner._replace(mode=owner.mode & 0o7777 | 0o040000))
            except OSError:
                os.rmdir(place.name, dir_fd=place.folder)
                raise

    def mknod(self, path: bytes, owner: Owner, device: int) -> None:
        with self._place(path) as place:
            self._model.mknod(place, owner, device)

    def symlink(self, path: bytes, target: bytes, owner: Owner) -> None:
        with self._place(path) as place:
            self._model.symlink(place, target, owner)

    def readlink(self, path: bytes) -> bytes:
        with self._place(path) as place:
            return self._model.readlink(place)

    # --- names ---------------------------------------------------------------------------------

    def link(self, old: bytes, new: bytes) -> None:
        with self._place(old) as source, self._place(new) as target:
            os.link(source.name, target.name, src_dir_fd=source.folder, dst_dir_fd=target.folder,
                    follow_symlinks=False)  # fmt: skip
            with undo(target):
                self._model.linked(source, target)

    def rename(self, old: bytes, new: bytes) -> None:
        with self._place(old) as source, self._place(new) as target:
            os.rename(source.name, target.name, src_dir_fd=source.folder,
                      dst_dir_fd=target.folder)  # fmt: skip
            self._model.renamed(source, target)

    def unlink(self, path: bytes) -> None:
        with self._place(path) as place:
            os.unlink(place.name, dir_fd=place.folder)
            self._model.removed(place)

    def rmdir(self, path: bytes) -> None:
        with self._place(path) as place:
            self._model.before_rmdir(place)
            os.rmdir(place.name, dir_fd=place.folder)
            self._model.removed(place)

    # --- extended attributes -------------------------------------------------------------------

    def getxattr(self, path: bytes, name: bytes) -> bytes:
        host = self._model.host_xattr(name)
        with self._place(path) as place:
            return os.getxattr(place.link, host, follow_symlinks=False)

    def listxattr(self, path: bytes) -> Sequence[bytes]:
        with self._place(path) as place:
            names = os.listxattr(place.link, follow_symlinks=False)
        return self._model.client_xattrs([os.fsencode(name) for name in names])

    def setxattr(self, path: bytes, name: bytes, value: bytes, flags: int) -> None:
        host = self._model.host_xattr(name)
        with self._place(path) as place:
            os.setxattr(place.link, host, value, flags, follow_symlinks=False)

    def removexattr(self, path: bytes, name: bytes) -> None:
        host = self._model.host_xattr(name)
        with self._place(path) as place:
            os.removexattr(place.link, host, follow_symlinks=False)


class HostFolder(HostFile):
    """An open folder, whose names the model filters."""

    def __init__(self, fd: int, model: Passthrough) -> None:
        super().__init__(fd)
        self._model = model

    def entries(self) -> list[Entry]:
        return self._model.shown(super().entries())
