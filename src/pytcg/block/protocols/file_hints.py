"""What a filesystem may be told about a new image file before anything is written to it."""

from __future__ import annotations

import errno
import fcntl
import os
import struct

from pytcg.block.device import BlockError

# linux/fs.h
_FS_IOC_GETFLAGS, _FS_IOC_SETFLAGS = 0x80086601, 0x40086602
_FS_NOCOW_FL = 0x00800000
_FS_IOC_FSGETXATTR, _FS_IOC_FSSETXATTR = 0x801C581F, 0x401C5820
_FS_XFLAG_EXTSIZE = 0x00000800
_FLAGS = struct.Struct("<I4x")
_FSXATTR = struct.Struct("<5I8s")  # xflags, extsize, nextents, projid, cowextsize, padding


def give_hints(path: str, *, nocow: bool, extent_size: int) -> None:
    """Create the file at ``path`` and set its flags; they are hints, so failures don't count.

    BlockError for an extent size that no filesystem could have.
    """
    if extent_size >= 1 << 32:
        raise BlockError("Extent size hint is too large", errno.EINVAL)
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError:
        return  # creating the image will say why
    try:
        if nocow:
            _set_nocow(fd)
        if extent_size:
            _set_extent_size(fd, extent_size)
    finally:
        os.close(fd)


def _set_nocow(fd: int) -> None:
    try:
        flags, = _FLAGS.unpack(fcntl.ioctl(fd, _FS_IOC_GETFLAGS, bytes(_FLAGS.size)))
        fcntl.ioctl(fd, _FS_IOC_SETFLAGS, _FLAGS.pack(flags | _FS_NOCOW_FL))
    except OSError:
        pass  # only btrfs knows the flag


def _set_extent_size(fd: int, extent_size: int) -> None:
    try:
        flags, _, *rest = _FSXATTR.unpack(fcntl.ioctl(fd, _FS_IOC_FSGETXATTR,
                                                      bytes(_FSXATTR.size)))
        fcntl.ioctl(fd, _FS_IOC_FSSETXATTR,
                    _FSXATTR.pack(flags | _FS_XFLAG_EXTSIZE, extent_size, *rest))
    except OSError:
        pass  # only XFS has them
