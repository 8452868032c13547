"""Messages between emulator and helper, as QEMU 7.2's `-fsdev proxy` and its helper have them.

A header (type, size) and fields; integers are little-endian, strings have 2-byte lengths. Replies
are a status (a negative errno, or 0 and more), a response, or for what opens a file a number alone
with the descriptor beside it. Fields' letters are those of `pytcg.ninep.wire`.
"""

from __future__ import annotations

import socket
import struct
from enum import IntEnum
from typing import Final

HEADER: Final = struct.Struct("<LL")
STATUS: Final = struct.Struct("<l")
MOST: Final = 64 << 10  # bytes of a message's fields
FD_VALID: Final = 0x7FFFFFFF
SUCCESS, ERROR = 0, 1
STAT: Final = "qqqdddqqqqqqqqqq"
STATFS: Final = "qqqqqqqqqqq"


class Request(IntEnum):
    """Types of requests."""

    OPEN = 2
    CREATE = 3
    MKNOD = 4
    MKDIR = 5
    SYMLINK = 6
    LINK = 7
    LSTAT = 8
    READLINK = 9
    STATFS = 10
    CHMOD = 11
    CHOWN = 12
    TRUNCATE = 13
    UTIME = 14
    RENAME = 15
    REMOVE = 16
    LGETXATTR = 17
    LLISTXATTR = 18
    LSETXATTR = 19
    LREMOVEXATTR = 20
    GETVERSION = 21


FIELDS: Final = {
    Request.OPEN: "sd", Request.CREATE: "sdddd", Request.MKNOD: "ddsdq", Request.MKDIR: "ddsd",
    Request.SYMLINK: "ddss", Request.LINK: "ss", Request.LSTAT: "s", Request.READLINK: "sd",
    Request.STATFS: "s", Request.CHMOD: "sd", Request.CHOWN: "sdd", Request.TRUNCATE: "sq",
    Request.UTIME: "sqqqq", Request.RENAME: "ss", Request.REMOVE: "s", Request.LGETXATTR: "dss",
    Request.LLISTXATTR: "ds", Request.LSETXATTR: "ssRdd", Request.LREMOVEXATTR: "ss",
    Request.GETVERSION: "s",
}  # fmt: skip
OPENING: Final = (Request.OPEN, Request.CREATE)
RESPONSES: Final = {
    Request.LSTAT: STAT, Request.STATFS: STATFS, Request.READLINK: "s", Request.LGETXATTR: "R",
    Request.LLISTXATTR: "R", Request.GETVERSION: "q",
}  # fmt: skip


class Gone(OSError):
    """The other end is gone, or what it says makes no sense."""


def receive(connection: socket.socket, length: int) -> bytes:
    """That many bytes; Gone."""
    data = bytearray()
    while len(data) < length:
        try:
            piece = connection.recv(length - len(data))
        except OSError as error:
            raise Gone(str(error)) from error
        if not piece:
            raise Gone("the connection has ended")
        data += piece
    return bytes(data)


def receive_message(connection: socket.socket) -> tuple[int, bytes]:
    """A message's type and fields; Gone, also for one that is too long."""
    kind, size = HEADER.unpack(receive(connection, HEADER.size))
    if size > MOST:
        raise Gone(f"a message of {size} bytes")
    return kind, receive(connection, size)
