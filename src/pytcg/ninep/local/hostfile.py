"""Open files and folders of the host, and calls that Python has not."""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct
import weakref
from typing import Final

from pytcg.ninep.backend import NOW, Entry, StatFs
from pytcg.ninep.local.beneath import Place

SECOND: Final = 1_000_000_000
UTIME_NOW, UTIME_OMIT = (1 << 30) - 1, (1 << 30) - 2
AT_SYMLINK_NOFOLLOW: Final = 0x100
SYNC_FILE_RANGE: Final = 1 | 2  # wait for what is being written, then begin to write
_TIMES: Final = struct.Struct("<qqqq")
_libc: Final = ctypes.CDLL(None, use_errno=True)
_libc.sync_file_range.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)


class HostFile:
    """A descriptor. It is closed when nobody holds this object any more, which CPython's reference
    counts tell at once: a request that still uses it can't meet another file of its number.
    """

    def __init__(self, fd: int, *, write_out: bool = False) -> None:
        self.fd = fd
        self._write_out = write_out
        weakref.finalize(self, os.close, fd)

    def read(self, offset: int, length: int) -> bytes:
        return os.pread(self.fd, length, offset)

    def write(self, offset: int, data: bytes) -> int:
        written = os.pwrite(self.fd, data, offset)
        if self._write_out:
            _libc.sync_file_range(self.fd, offset, written, SYNC_FILE_RANGE)
        return written

    def sync(self, *, data_only: bool) -> None:
        (os.fdatasync if data_only else os.fsync)(self.fd)

    def truncate(self, size: int) -> None:
        os.ftruncate(self.fd, size)

    def entries(self) -> list[Entry]:
        os.lseek(self.fd, 0, os.SEEK_SET)
        with os.scandir(self.fd) as found:
            return [Entry(os.fsencode(entry.name), entry.inode(), _kind(entry)) for entry in found]


def _kind(entry: os.DirEntry[str]) -> int:
    if entry.is_symlink():
        return stat.S_IFLNK >> 12
    if entry.is_dir(follow_symlinks=False):
        return stat.S_IFDIR >> 12
    return stat.S_IFREG >> 12 if entry.is_file(follow_symlinks=False) else 0


def open_plain(place: Place, flags: int, mode: int = 0o600) -> int:
    """A descriptor of a plain file or folder; ENXIO for what acts when it is opened."""
    if not flags & os.O_CREAT:
        _check_plain(os.stat(place.name, dir_fd=place.folder, follow_symlinks=False).st_mode)
    flags |= os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
    try:
        fd = os.open(place.name, flags, mode, dir_fd=place.folder)
    except PermissionError:
        if not flags & os.O_NOATIME:  # which is for a file's owner alone
            raise
        fd = os.open(place.name, flags & ~os.O_NOATIME, mode, dir_fd=place.folder)
    try:
        _check_plain(os.fstat(fd).st_mode)  # it may have been replaced meanwhile
    except OSError:
        os.close(fd)
        raise
    return fd


def _check_plain(mode: int) -> None:
    if stat.S_ISLNK(mode):
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise OSError(errno.ENXIO, os.strerror(errno.ENXIO))


def chmod(place: Place, mode: int) -> None:
    """Without following a link: fchmodat(2) can't, so by a descriptor of the file itself."""
    fd = os.open(place.name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=place.folder)
    try:
        if stat.S_ISLNK(os.fstat(fd).st_mode):
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
        os.chmod(f"/proc/self/fd/{fd}", mode)
    finally:
        os.close(fd)


def utimens(place: Place, atime: int | None, mtime: int | None) -> None:
    """utimensat(2), which can leave one as it is."""
    times = _TIMES.pack(*_timespec(atime), *_timespec(mtime))
    if _libc.utimensat(place.folder, place.name, times, AT_SYMLINK_NOFOLLOW):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _timespec(time: int | None) -> tuple[int, int]:
    if time is None:
        return 0, UTIME_OMIT
    return (0, UTIME_NOW) if time == NOW else divmod(time, SECOND)


def statfs(fd: int) -> StatFs:
    """fstatfs(2): os.statvfs hides the type. x86-64's and aarch64's struct statfs."""
    raw = ctypes.create_string_buffer(120)
    if _libc.fstatfs(fd, raw):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    kind, bsize, blocks, bfree, bavail, files, ffree, fsid, namelen = struct.unpack("<7QQQ48x", raw)
    return StatFs(kind, bsize, blocks, bfree, bavail, files, ffree, fsid, namelen)
