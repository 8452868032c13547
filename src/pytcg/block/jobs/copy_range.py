"""Copy offloading: copy_file_range(2) between the host files of raw disks."""

from __future__ import annotations

import errno
import os

from pytcg.block.device import BlockDevice, BlockError
from pytcg.block.protocols.posix import PosixFile

_UNSUPPORTED = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EXDEV, errno.EBADF)


def _host_file(device: BlockDevice) -> PosixFile | None:
    if isinstance(device, PosixFile):
        return device
    if device.format_name == "raw" and device.file is not None:
        return _host_file(device.file)
    return None


def copy_range(source: BlockDevice, target: BlockDevice, offset: int, length: int) -> bool:
    """Copy in the kernel; False if these disks or this host can't."""
    reader, writer = _host_file(source), _host_file(target)
    if reader is None or writer is None or source.size != reader.size:
        return False
    while length:
        try:
            done = os.copy_file_range(reader.fd, writer.fd, length, offset, offset)
        except OSError as error:
            if error.errno in _UNSUPPORTED:
                return False
            raise BlockError.from_os("copy failed", error) from None
        if done == 0:
            return False
        offset, length = offset + done, length - done
    return True
