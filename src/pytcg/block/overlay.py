"""``snapshot=on``: a throw-away overlay that keeps a disk unchanged."""

from __future__ import annotations

import os
import tempfile

from pytcg.block.device import BlockDevice, BlockError
from pytcg.block.formats.qcow2.create import CreateOptions, create_qcow2
from pytcg.block.formats.qcow2.device import Qcow2Device
from pytcg.block.formats.qcow2.validate import read_header
from pytcg.block.protocols.posix import PosixFile


def temporary_overlay(disk: BlockDevice) -> Qcow2Device:
    """A qcow2 over ``disk`` in a file that is gone with the process; closing it closes both."""
    try:
        fd, path = tempfile.mkstemp(prefix="pytcg-", suffix=".qcow2",
                                    dir=os.environ.get("TMPDIR", "/var/tmp"))
    except OSError as error:
        raise BlockError.from_os("Could not get temporary filename", error) from None
    os.close(fd)
    try:
        # Nobody reads it again, so it is never worth a flush.
        file = PosixFile(path, no_flush=True)
    finally:
        os.unlink(path)
    create_qcow2(file, CreateOptions(disk.size))
    overlay = Qcow2Device(file, read_header(file), data_file=None, read_only=False)
    overlay.backing = disk
    overlay.filename = disk.filename
    return overlay
