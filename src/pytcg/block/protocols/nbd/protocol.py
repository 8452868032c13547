"""The NBD wire protocol: numbers, on-wire structs and error codes, and nothing that acts.

Names and values follow the protocol document of the NBD project,
https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md
"""

from __future__ import annotations

import enum
import errno
import struct
from collections.abc import Iterable
from dataclasses import dataclass

DEFAULT_PORT = 10809

NBD_MAGIC = 0x4E42444D41474943  # "NBDMAGIC"
OPTS_MAGIC = 0x49484156454F5054  # "IHAVEOPT"
OLDSTYLE_MAGIC = 0x00420281861253
OPTION_REPLY_MAGIC = 0x0003E889045565A9
REQUEST_MAGIC = 0x25609513
SIMPLE_REPLY_MAGIC = 0x67446698
STRUCTURED_REPLY_MAGIC = 0x668E33EF

#: Largest payload of one request: what QEMU and libnbd use when nothing is negotiated.
MAX_PAYLOAD = 32 << 20
#: Names and descriptions are bounded by the protocol document.
MAX_STRING = 4096
#: Longest option body worth reading; SET_META_CONTEXT with many queries is the largest honest one.
MAX_OPTION_DATA = 128 << 10
#: Most extents in one BLOCK_STATUS reply (QEMU's bound: 1 MiB of descriptors).
MAX_EXTENTS = (1 << 20) // 8
#: What a client that doesn't ask may assume, and what a server advertises.
PREFERRED_BLOCK = 4096

GREETING = struct.Struct(">QQH")  # NBD_MAGIC, OPTS_MAGIC, handshake flags
OLDSTYLE_GREETING = struct.Struct(">QQQI124x")  # NBD_MAGIC, OLDSTYLE_MAGIC, size, flags
CLIENT_FLAGS = struct.Struct(">I")
OPTION = struct.Struct(">QII")  # OPTS_MAGIC, option, length
OPTION_REPLY = struct.Struct(">QIII")  # OPTION_REPLY_MAGIC, option, reply type, length
EXPORT_NAME_REPLY = struct.Struct(">QH")  # size, transmission flags
INFO_EXPORT = struct.Struct(">HQH")  # Info.EXPORT, size, transmission flags
INFO_BLOCK_SIZE = struct.Struct(">HIII")  # Info.BLOCK_SIZE, minimum, preferred, maximum
REQUEST = struct.Struct(">IHHQQI")  # magic, flags, type, cookie, offset, length
SIMPLE_REPLY = struct.Struct(">IIQ")  # magic, error, cookie
STRUCTURED_REPLY = struct.Struct(">IHHQI")  # magic, flags, type, cookie, length
CHUNK_OFFSET = struct.Struct(">Q")
CHUNK_HOLE = struct.Struct(">QI")  # offset, hole size
CHUNK_ERROR = struct.Struct(">IH")  # error, message length
EXTENT = struct.Struct(">II")  # length, status flags
U16 = struct.Struct(">H")
U32 = struct.Struct(">I")


class HandshakeFlag(enum.IntFlag):
    """Flags of the greeting; the client answers with the same bits."""

    FIXED_NEWSTYLE = 1 << 0
    NO_ZEROES = 1 << 1


class Option(enum.IntEnum):
    """NBD_OPT_*: what a client may ask during negotiation."""

    EXPORT_NAME = 1
    ABORT = 2
    LIST = 3
    PEEK_EXPORT = 4
    STARTTLS = 5
    INFO = 6
    GO = 7
    STRUCTURED_REPLY = 8
    LIST_META_CONTEXT = 9
    SET_META_CONTEXT = 10
    EXTENDED_HEADERS = 11


ERROR_BIT = 1 << 31


class Reply(enum.IntEnum):
    """NBD_REP_*: answers to options; errors have bit 31 set."""

    ACK = 1
    SERVER = 2
    INFO = 3
    META_CONTEXT = 4
    ERR_UNSUP = ERROR_BIT | 1
    ERR_POLICY = ERROR_BIT | 2
    ERR_INVALID = ERROR_BIT | 3
    ERR_PLATFORM = ERROR_BIT | 4
    ERR_TLS_REQD = ERROR_BIT | 5
    ERR_UNKNOWN = ERROR_BIT | 6
    ERR_SHUTDOWN = ERROR_BIT | 7
    ERR_BLOCK_SIZE_REQD = ERROR_BIT | 8
    ERR_TOO_BIG = ERROR_BIT | 9
    ERR_EXT_HEADER_REQD = ERROR_BIT | 10


class Info(enum.IntEnum):
    """NBD_INFO_*: items of a reply to INFO and GO."""

    EXPORT = 0
    NAME = 1
    DESCRIPTION = 2
    BLOCK_SIZE = 3


class TransmissionFlag(enum.IntFlag):
    """NBD_FLAG_*: what an export can do."""

    HAS_FLAGS = 1 << 0
    READ_ONLY = 1 << 1
    SEND_FLUSH = 1 << 2
    SEND_FUA = 1 << 3
    ROTATIONAL = 1 << 4
    SEND_TRIM = 1 << 5
    SEND_WRITE_ZEROES = 1 << 6
    SEND_DF = 1 << 7
    CAN_MULTI_CONN = 1 << 8
    SEND_RESIZE = 1 << 9
    SEND_CACHE = 1 << 10
    SEND_FAST_ZERO = 1 << 11


#: The flags by the words `-L` prints them with, in bit order.
FLAG_WORDS = {
    TransmissionFlag.READ_ONLY: "readonly",
    TransmissionFlag.SEND_FLUSH: "flush",
    TransmissionFlag.SEND_FUA: "fua",
    TransmissionFlag.ROTATIONAL: "rotational",
    TransmissionFlag.SEND_TRIM: "trim",
    TransmissionFlag.SEND_WRITE_ZEROES: "zeroes",
    TransmissionFlag.SEND_DF: "df",
    TransmissionFlag.CAN_MULTI_CONN: "multi",
    TransmissionFlag.SEND_RESIZE: "resize",
    TransmissionFlag.SEND_CACHE: "cache",
    TransmissionFlag.SEND_FAST_ZERO: "fast-zero",
}


class Command(enum.IntEnum):
    """NBD_CMD_*: requests of the transmission phase."""

    READ = 0
    WRITE = 1
    DISC = 2
    FLUSH = 3
    TRIM = 4
    CACHE = 5
    WRITE_ZEROES = 6
    BLOCK_STATUS = 7
    RESIZE = 8


class CommandFlag(enum.IntFlag):
    """NBD_CMD_FLAG_*."""

    FUA = 1 << 0
    NO_HOLE = 1 << 1
    DF = 1 << 2
    REQ_ONE = 1 << 3
    FAST_ZERO = 1 << 4


CHUNK_FLAG_DONE = 1
CHUNK_ERROR_BIT = 1 << 15


class Chunk(enum.IntEnum):
    """NBD_REPLY_TYPE_*: kinds of structured reply chunks."""

    NONE = 0
    OFFSET_DATA = 1
    OFFSET_HOLE = 2
    BLOCK_STATUS = 5
    ERROR = CHUNK_ERROR_BIT | 1
    ERROR_OFFSET = CHUNK_ERROR_BIT | 2


BASE_ALLOCATION = "base:allocation"
ALLOCATION_DEPTH = "qemu:allocation-depth"
DIRTY_BITMAP = "qemu:dirty-bitmap:"


class AllocationState(enum.IntFlag):
    """Status bits of base:allocation."""

    HOLE = 1 << 0
    ZERO = 1 << 1


def whole_blocks(length: int, status: int, block: int) -> tuple[int, int]:
    """A run of base:allocation cut to whole blocks; a block of several kinds counts as data."""
    if length % block == 0:
        return length, status
    return (length // block * block, status) if length > block else (block, 0)


# Errors on the wire are numbered as Linux numbers them, whatever the host's own numbers.
_WIRE_FROM_ERRNO = {
    errno.EPERM: 1,
    errno.EROFS: 1,
    errno.EIO: 5,
    errno.ENOMEM: 12,
    errno.EINVAL: 22,
    errno.ENOSPC: 28,
    errno.EFBIG: 28,
    errno.EDQUOT: 28,
    errno.EOVERFLOW: 75,
    errno.ENOTSUP: 95,
    errno.EOPNOTSUPP: 95,
    errno.ESHUTDOWN: 108,
}
_ERRNO_FROM_WIRE = {
    1: errno.EPERM,
    5: errno.EIO,
    12: errno.ENOMEM,
    22: errno.EINVAL,
    28: errno.ENOSPC,
    75: errno.EOVERFLOW,
    95: errno.ENOTSUP,
    108: errno.ESHUTDOWN,
}


def wire_error(number: int | None) -> int:
    """The NBD error for a host errno; whatever the protocol can't name is EINVAL, as in QEMU."""
    return _WIRE_FROM_ERRNO.get(number or errno.EIO, 22)


def host_error(code: int) -> int:
    """The host errno for an NBD error."""
    return _ERRNO_FROM_WIRE.get(code, errno.EINVAL)


class NbdError(Exception):
    """The peer broke the protocol, or refused; the text says how."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request header."""

    flags: int
    command: int
    cookie: int
    offset: int
    length: int

    def pack(self) -> bytes:
        """The 28 bytes on the wire."""
        return REQUEST.pack(
            REQUEST_MAGIC, self.flags, self.command, self.cookie, self.offset, self.length
        )

    @classmethod
    def unpack(cls, header: bytes | memoryview | bytearray) -> Request:
        """Parse 28 bytes; a wrong magic means the stream is lost."""
        magic, flags, command, cookie, offset, length = REQUEST.unpack(header)
        if magic != REQUEST_MAGIC:
            raise NbdError(f"invalid magic (got 0x{magic:x})")
        return cls(flags, command, cookie, offset, length)


class Cursor:
    """Reads fields from an option body, refusing to run past its end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> int:
        """Bytes not yet taken."""
        return len(self._data) - self._at

    def take(self, count: int) -> bytes:
        """The next `count` bytes."""
        if count > self.left:
            raise NbdError("option data is too short")
        self._at += count
        return self._data[self._at - count : self._at]

    def u16(self) -> int:
        """A big-endian 16-bit number."""
        return int(U16.unpack(self.take(2))[0])

    def u32(self) -> int:
        """A big-endian 32-bit number."""
        return int(U32.unpack(self.take(4))[0])

    def string(self) -> str:
        """A string with a 32-bit length before it."""
        length = self.u32()
        if length > MAX_STRING:
            raise NbdError(f"string of {length} bytes is longer than {MAX_STRING}")
        return self.text(length)

    def text(self, length: int) -> str:
        """`length` bytes as UTF-8 without NUL."""
        try:
            text = self.take(length).decode()
        except UnicodeDecodeError:
            raise NbdError("string is not UTF-8") from None
        if "\0" in text:
            raise NbdError("string holds a NUL byte")
        return text

    def end(self) -> None:
        """Nothing may be left."""
        if self.left:
            raise NbdError(f"{self.left} bytes too many in option data")


def pack_string(text: str) -> bytes:
    """A string with its 32-bit length."""
    raw = text.encode()
    return U32.pack(len(raw)) + raw


def pack_option(option: Option, data: bytes = b"") -> bytes:
    """An option as the client sends it."""
    return OPTION.pack(OPTS_MAGIC, option, len(data)) + data


def pack_option_reply(option: int, reply: Reply, data: bytes = b"") -> bytes:
    """A reply to an option as the server sends it."""
    return OPTION_REPLY.pack(OPTION_REPLY_MAGIC, option, reply, len(data)) + data


def pack_info_request(name: str, items: Iterable[Info]) -> bytes:
    """Body of INFO and GO."""
    wanted = list(items)
    return pack_string(name) + U16.pack(len(wanted)) + b"".join(U16.pack(i) for i in wanted)


def pack_meta_request(name: str, queries: Iterable[str]) -> bytes:
    """Body of LIST_META_CONTEXT and SET_META_CONTEXT."""
    wanted = [pack_string(query) for query in queries]
    return pack_string(name) + U32.pack(len(wanted)) + b"".join(wanted)


def parse_info_request(data: bytes) -> tuple[str, set[int]]:
    """Export name and wanted items of INFO and GO."""
    cursor = Cursor(data)
    name = cursor.string()
    items = {cursor.u16() for _ in range(cursor.u16())}
    cursor.end()
    return name, items


def parse_meta_request(data: bytes) -> tuple[str, list[str]]:
    """Export name and queries of LIST_META_CONTEXT and SET_META_CONTEXT."""
    cursor = Cursor(data)
    name = cursor.string()
    count = cursor.u32()
    if count > cursor.left // 4:  # each query has at least its length
        raise NbdError(f"{count} queries don't fit the option data")
    queries = [cursor.string() for _ in range(count)]
    cursor.end()
    return name, queries
