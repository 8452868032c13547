"""Models that keep the client's owners, permissions and special files beside the host's files.

A host file then belongs to who runs us, and links, devices, FIFOs and sockets are plain files. The
attributes' names and forms are QEMU's, so that a folder can be shared by either.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Final

from pytcg.ninep.backend import Entry, Owner, Stat
from pytcg.ninep.local.beneath import Place
from pytcg.ninep.local.hostfile import open_plain
from pytcg.ninep.local.model import ACL, Passthrough, undo

HIDDEN: Final = b"user.virtfs."
ATTRIBUTES: Final = {"uid": 4, "gid": 4, "mode": 4, "rdev": 8}  # bytes, little-endian
FOLDER: Final = b".virtfs_metadata"
ROOT_FILE: Final = b".virtfs_metadata_root"
MOST_METADATA: Final = 4096
UNKNOWN: Final = 0xFFFFFFFF
Attributes = dict[str, int]


class Mapped(Passthrough):
    """What both have in common; ``file_mode`` and ``folder_mode`` are for the host's files."""

    def __init__(self, file_mode: int = 0o600, folder_mode: int = 0o700) -> None:
        super().__init__(strict=False)
        self._file_mode, self._folder_mode = file_mode, folder_mode

    @abstractmethod
    def load(self, place: Place) -> Attributes:
        """The attributes that are kept; some may be missing."""

    @abstractmethod
    def store(self, place: Place, changed: Attributes) -> None:
        """Keep some."""

    # --- attributes ----------------------------------------------------------------------------

    def see(self, place: Place, found: os.stat_result) -> Stat:
        return _merge(Stat.of(found), self.load(place))

    def file_mode(self, owner: Owner) -> int:
        return self._file_mode

    def folder_mode(self, owner: Owner) -> int:
        return self._folder_mode

    def made(self, place: Place, owner: Owner) -> None:
        given = {"uid": owner.uid, "gid": owner.gid, "mode": owner.mode}
        self.store(place, {name: value for name, value in given.items() if value != UNKNOWN})

    def chmod(self, place: Place, mode: int) -> None:
        kind = stat.S_IFMT(self._look(place).mode)
        self.store(place, {"mode": kind | mode & 0o7777})

    def chown(self, place: Place, uid: int, gid: int) -> None:
        given = {"uid": uid, "gid": gid}
        self.store(place, {name: value for name, value in given.items() if value != -1})

    def _look(self, place: Place) -> Stat:
        found = os.stat(place.name, dir_fd=place.folder, follow_symlinks=False)
        return self.see(place, found)

    # --- what is a plain file on the host ------------------------------------------------------

    def mknod(self, place: Place, owner: Owner, device: int) -> None:
        os.close(self._make(place))
        kind = stat.S_IFMT(owner.mode) or stat.S_IFREG
        with undo(place):
            self.made(place, owner._replace(mode=kind | owner.mode & 0o7777))
            if kind in (stat.S_IFCHR, stat.S_IFBLK):
                self.store(place, {"rdev": device})

    def symlink(self, place: Place, target: bytes, owner: Owner) -> None:
        fd = self._make(place)
        try:
            with undo(place):
                os.write(fd, target)
                self.made(place, owner._replace(mode=stat.S_IFLNK | 0o777))
        finally:
            os.close(fd)

    def _make(self, place: Place) -> int:
        return open_plain(place, os.O_CREAT | os.O_EXCL | os.O_RDWR, self._file_mode)

    def readlink(self, place: Place) -> bytes:
        found = self._look(place)
        if not stat.S_ISLNK(found.mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        with suppress(OSError):  # one that was made on the host
            return os.readlink(place.name, dir_fd=place.folder)
        fd = open_plain(place, os.O_RDONLY)
        try:
            return os.read(fd, found.size)
        finally:
            os.close(fd)


def _merge(found: Stat, kept: Attributes) -> Stat:
    """What the client sees; a folder stays one, and nothing else becomes one."""
    mode = kept.pop("mode", found.mode)
    if stat.S_ISDIR(mode) != stat.S_ISDIR(found.mode) or not stat.S_IFMT(mode):
        mode = stat.S_IFMT(found.mode) | mode & 0o7777
    return found._replace(mode=mode, **kept)


class MappedXattr(Mapped):
    """In extended attributes of the file's own."""

    def load(self, place: Place) -> Attributes:
        return _read_xattrs(place.link)

    def see_open(self, fd: int, found: os.stat_result, place: Place | None) -> Stat:
        return _merge(Stat.of(found), _read_xattrs(fd))

    def store(self, place: Place, changed: Attributes) -> None:
        for name, value in changed.items():
            raw = value.to_bytes(ATTRIBUTES[name], "little")
            os.setxattr(place.link, HIDDEN + name.encode(), raw, follow_symlinks=False)

    def host_xattr(self, name: bytes) -> bytes:
        if name.startswith(HIDDEN):
            raise OSError(errno.ENODATA, os.strerror(errno.ENODATA))
        if name in (ACL + b"access", ACL + b"default"):
            return HIDDEN + name
        return super().host_xattr(name)

    def client_xattrs(self, names: Sequence[bytes]) -> list[bytes]:
        shown = [name.removeprefix(HIDDEN) if name.startswith(HIDDEN + ACL) else name
                 for name in names]  # fmt: skip
        return [name for name in shown if name.startswith((b"user.", ACL))
                and not name.startswith(HIDDEN)]  # fmt: skip


def _read_xattrs(where: bytes | int) -> Attributes:
    follow = isinstance(where, int)
    kept: Attributes = {}
    with suppress(OSError):  # a file system without any
        there = os.listxattr(where, follow_symlinks=follow)
        for name, size in ATTRIBUTES.items():
            if f"user.virtfs.{name}" not in there:
                continue
            with suppress(OSError):
                raw = os.getxattr(where, HIDDEN + name.encode(), follow_symlinks=follow)
                if len(raw) == size:
                    kept[name] = int.from_bytes(raw, "little")
    return kept


class MappedFile(Mapped):
    """In a file of the same name in a hidden folder beside it."""

    needs_name = True

    def __init__(self, file_mode: int = 0o600, folder_mode: int = 0o700) -> None:
        super().__init__(file_mode, folder_mode)
        self._lock = threading.RLock()

    def load(self, place: Place) -> Attributes:
        with self._lock, suppress(OSError), self._metadata(place) as (folder, name):
            fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
            try:
                return _parse(os.read(fd, MOST_METADATA))
            finally:
                os.close(fd)
        return {}

    def see_open(self, fd: int, found: os.stat_result, place: Place | None) -> Stat:
        kept = {} if place is None else self.load(place)
        return _merge(Stat.of(found), kept)

    def store(self, place: Place, changed: Attributes) -> None:
        with self._lock:
            kept = self.load(place) | changed
            text = "".join(f"virtfs.{name}={value}\n" for name, value in kept.items())
            with self._metadata(place, make=True) as (folder, name):
                flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
                fd = os.open(name, flags, 0o600, dir_fd=folder)
                try:
                    os.write(fd, text.encode())
                finally:
                    os.close(fd)

    @contextmanager
    def _metadata(self, place: Place, *, make: bool = False) -> Iterator[tuple[int, bytes]]:
        """Where a file's attributes are: a folder's descriptor, and a name in it."""
        if place.name == b".":
            yield place.folder, ROOT_FILE
            return
        if make:
            with suppress(FileExistsError):
                os.mkdir(FOLDER, 0o700, dir_fd=place.folder)
        fd = os.open(FOLDER, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC,
                     dir_fd=place.folder)  # fmt: skip
        try:
            yield fd, place.name
        finally:
            os.close(fd)

    # --- names ---------------------------------------------------------------------------------

    def check(self, path: bytes) -> None:
        names = path.split(b"/")
        if FOLDER in names or ROOT_FILE in names:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    def shown(self, entries: list[Entry]) -> list[Entry]:
        return [entry for entry in entries if entry.name not in (FOLDER, ROOT_FILE)]

    def before_rmdir(self, place: Place) -> None:
        """Attributes of what the host has removed go as well, those of what is there stay."""
        fd = os.open(place.name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC,
                     dir_fd=place.folder)  # fmt: skip
        try:
            if os.listdir(fd) != [os.fsdecode(FOLDER)]:
                return
            with self._metadata(Place(fd, b"x", owned=False)) as (folder, _):
                inner = os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=folder)
            try:
                for name in os.listdir(inner):
                    os.unlink(name, dir_fd=inner)
            finally:
                os.close(inner)
            os.rmdir(FOLDER, dir_fd=fd)
        finally:
            os.close(fd)

    def linked(self, old: Place, new: Place) -> None:
        with self._lock, suppress(FileNotFoundError), self._metadata(old) as (source, name):
            os.stat(name, dir_fd=source, follow_symlinks=False)
            with self._metadata(new, make=True) as (target, other):
                with suppress(FileNotFoundError):
                    os.unlink(other, dir_fd=target)
                os.link(name, other, src_dir_fd=source, dst_dir_fd=target, follow_symlinks=False)

    def renamed(self, old: Place, new: Place) -> None:
        with self._lock:
            with suppress(FileNotFoundError), self._metadata(old) as (source, name):
                os.stat(name, dir_fd=source, follow_symlinks=False)
                with self._metadata(new, make=True) as (target, other):
                    os.rename(name, other, src_dir_fd=source, dst_dir_fd=target)
                    return
            self.removed(new)  # those of the file that was there

    def removed(self, place: Place) -> None:
        with suppress(FileNotFoundError), self._metadata(place) as (folder, name):
            os.unlink(name, dir_fd=folder)


def _parse(text: bytes) -> Attributes:
    kept: Attributes = {}
    for line in text.split(b"\n"):
        key, _, value = line.partition(b"=")
        name = key.removeprefix(b"virtfs.").decode("ascii", "replace")
        if name in ATTRIBUTES and value.isdigit() and int(value) < 1 << 8 * ATTRIBUTES[name]:
            kept[name] = int(value)
    return kept
