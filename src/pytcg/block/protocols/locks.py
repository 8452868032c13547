"""Image locking: the byte ranges QEMU locks, so that it and pytcg exclude each other.

Per permission held, byte 100+n of the file is locked; per permission not shared with others,
byte 200+n. Open file description locks belong to the descriptor, not to the process.
"""

from __future__ import annotations

import errno
import fcntl
import struct

from pytcg.block.device import BlockError

PERM_BASE = 100
SHARED_BASE = 200
_FLOCK = struct.Struct("hhqqi4x")  # struct flock of 64-bit Linux


class Perm:
    """What a user of the file does to it, in QEMU's bit order."""

    CONSISTENT_READ = 1
    WRITE = 2
    WRITE_UNCHANGED = 4
    RESIZE = 8


ALL = Perm.CONSISTENT_READ | Perm.WRITE | Perm.WRITE_UNCHANGED | Perm.RESIZE
_NAMES = {
    Perm.CONSISTENT_READ: "consistent read",
    Perm.WRITE: "write",
    Perm.WRITE_UNCHANGED: "write unchanged",
    Perm.RESIZE: "resize",
}
_UNAVAILABLE = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK)


def supported() -> bool:
    """Whether this host has open file description locks."""
    return hasattr(fcntl, "F_OFD_SETLK")


def _set(fd: int, kind: int, byte: int) -> None:
    fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _FLOCK.pack(kind, 0, byte, 1, 0))


def _held_by_other(fd: int, byte: int) -> bool:
    probe = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, _FLOCK.pack(fcntl.F_WRLCK, 0, byte, 1, 0))
    return bool(_FLOCK.unpack(probe)[0] != fcntl.F_UNLCK)


def _refused(filename: str, prefix: str, perm: int) -> BlockError:
    return BlockError(
        f'Failed to get {prefix}"{_NAMES[perm]}" lock\n'
        f"Is another process using the image [{filename}]?",
        errno.EAGAIN,
    )


def acquire(fd: int, filename: str, perms: int, shared: int) -> None:
    """Lock ``fd`` for ``perms`` while letting others have ``shared``; BlockError if taken."""
    if not supported():
        return
    try:
        for index, perm in enumerate(_NAMES):
            if perm & perms:
                _set(fd, fcntl.F_RDLCK, PERM_BASE + index)
            if not perm & shared:
                _set(fd, fcntl.F_RDLCK, SHARED_BASE + index)
        for index, perm in enumerate(_NAMES):
            if perm & perms and _held_by_other(fd, SHARED_BASE + index):
                raise _refused(filename, "", perm)
            if not perm & shared and _held_by_other(fd, PERM_BASE + index):
                raise _refused(filename, "shared ", perm)
    except OSError as error:
        if error.errno not in _UNAVAILABLE:  # e.g. NFS without a lock daemon: QEMU goes on too
            raise BlockError.from_os("Failed to lock byte", error) from None
