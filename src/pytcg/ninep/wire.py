"""9P messages as bytes: numbers, fields, packing (9p(5); .u: RFC draft; .L: Linux's 9P2000.L).

Fields of a message are letters: ``b h d q`` integers of 1, 2, 4 and 8 bytes, ``s`` a string (bytes
here), ``S`` a list of them, ``R`` and ``D`` raw bytes behind lengths of 2 and 4 bytes, ``Q`` a
`Qid`, ``W`` a list of those.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Sequence
from enum import IntEnum
from functools import cache
from typing import Any, Final, NamedTuple

HEADER: Final = struct.Struct("<LBH")  # size, type, tag
QID: Final = struct.Struct("<BLQ")
READ_HEADER: Final = HEADER.size + 4  # in front of the data of Rread and Rreaddir
IO_HEADER: Final = 24  # what clients leave for headers in front of data
NO_FID: Final = 0xFFFFFFFF
NO_TAG: Final = 0xFFFF


class Kind(IntEnum):
    """Requests; each reply is one more."""

    LERROR = 6
    STATFS = 8
    LOPEN = 12
    LCREATE = 14
    SYMLINK = 16
    MKNOD = 18
    RENAME = 20
    READLINK = 22
    GETATTR = 24
    SETATTR = 26
    XATTRWALK = 30
    XATTRCREATE = 32
    READDIR = 40
    FSYNC = 50
    LOCK = 52
    GETLOCK = 54
    LINK = 70
    MKDIR = 72
    RENAMEAT = 74
    UNLINKAT = 76
    VERSION = 100
    AUTH = 102
    ATTACH = 104
    ERROR = 106
    FLUSH = 108
    WALK = 110
    OPEN = 112
    CREATE = 114
    READ = 116
    WRITE = 118
    CLUNK = 120
    REMOVE = 122
    STAT = 124
    WSTAT = 126


class Qid(NamedTuple):
    """What a file is: type bits, a version that changes with it, and a number of its own."""

    type: int
    version: int
    path: int


class Malformed(OSError):
    """A message that ends before its fields do, or holds what none may."""

    def __init__(self, text: str) -> None:
        super().__init__(errno.EINVAL, text)


_COUNT: Final = struct.Struct("<H")
_SIZES: Final = {"b": "B", "h": "H", "d": "L", "q": "Q"}


@cache
def _steps(fields: str) -> tuple[struct.Struct | str, ...]:
    """Runs of integers as structures, everything else letter by letter."""
    steps: list[struct.Struct | str] = []
    run = ""
    for letter in fields:
        if letter in _SIZES:
            run += _SIZES[letter]
            continue
        if run:
            steps.append(struct.Struct("<" + run))
        run = ""
        steps.append(letter)
    return (*steps, struct.Struct("<" + run)) if run else tuple(steps)


def unpack(fields: str, body: bytes, at: int = 0) -> list[Any]:
    """The fields of a message's body; what is behind them is not looked at. Raises Malformed."""
    values: list[Any] = []
    try:
        for step in _steps(fields):
            if isinstance(step, struct.Struct):
                values += step.unpack_from(body, at)
                at += step.size
            elif step == "D":
                value, at = _counted("<L", body, at)
                values.append(value)
            elif step == "R":
                value, at = _counted("<H", body, at)
                values.append(value)
            elif step == "S":
                (count,), at = _COUNT.unpack_from(body, at), at + _COUNT.size
                values.append(names := [])
                for _ in range(count):
                    name, at = _string(body, at)
                    names.append(name)
            else:
                value, at = _string(body, at)
                values.append(value)
    except struct.error:
        raise Malformed("a message that is too short") from None
    return values


def _string(body: bytes, at: int) -> tuple[bytes, int]:
    value, at = _counted("<H", body, at)
    if b"\0" in value:
        raise Malformed("a zero byte in a string")
    return value, at


def _counted(prefix: str, body: bytes, at: int) -> tuple[bytes, int]:
    (length,) = struct.unpack_from(prefix, body, at)
    at += struct.calcsize(prefix)
    if at + length > len(body):
        raise Malformed("a message that is too short")
    return body[at : at + length], at + length


def pack(fields: str, values: Sequence[Any]) -> bytes:
    """The body of a message."""
    return b"".join(pieces_of(fields, values))


def pieces_of(fields: str, values: Sequence[Any]) -> list[bytes]:
    """The body of a message, not yet joined: data may be long."""
    pieces = []
    for letter, value in zip(fields, values, strict=True):
        if letter in _SIZES:
            pieces.append(struct.pack("<" + _SIZES[letter], value))
        elif letter == "Q":
            pieces.append(QID.pack(*value))
        elif letter == "S":
            pieces.append(struct.pack("<H", len(value)))
            pieces += [struct.pack("<H", len(name)) + name for name in value]
        elif letter == "W":
            pieces.append(struct.pack("<H", len(value)))
            pieces += [QID.pack(*qid) for qid in value]
        else:
            pieces += [struct.pack("<L" if letter == "D" else "<H", len(value)), value]
    return pieces


def message(kind: int, tag: int, *body: bytes) -> bytes:
    """A whole message."""
    return b"".join((HEADER.pack(HEADER.size + sum(map(len, body)), kind, tag), *body))
