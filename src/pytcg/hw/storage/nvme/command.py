"""Commands and the statuses they end with (NVMe 1.4, 4.2 and 4.6)."""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Final, NamedTuple

COMMAND_SIZE: Final = 64
COMPLETION_SIZE: Final = 16
DNR: Final = 0x4000  # do not retry
_LAYOUT: Final = struct.Struct("<BBHL8xQ16sLLLLLL")


class Status(IntEnum):
    """Status code type and status code: type << 8 | code."""

    SUCCESS = 0x000
    INVALID_OPCODE = 0x001
    INVALID_FIELD = 0x002
    DATA_TRANSFER_ERROR = 0x004
    INTERNAL_ERROR = 0x006
    ABORTED_BY_DELETION = 0x008
    INVALID_NAMESPACE = 0x00B
    SGL_SEGMENT_INVALID = 0x00D
    SGL_COUNT_INVALID = 0x00E
    SGL_LENGTH_INVALID = 0x00F
    SGL_TYPE_INVALID = 0x011
    INVALID_PRP_OFFSET = 0x013
    LBA_OUT_OF_RANGE = 0x080
    INVALID_CQ = 0x100
    INVALID_QUEUE_ID = 0x101
    INVALID_QUEUE_SIZE = 0x102
    TOO_MANY_EVENTS = 0x105
    INVALID_VECTOR = 0x108
    INVALID_LOG_PAGE = 0x109
    INVALID_QUEUE_DELETION = 0x10C
    FEATURE_NOT_SAVEABLE = 0x10D
    FEATURE_NOT_CHANGEABLE = 0x10E
    READ_ONLY = 0x182
    WRITE_FAULT = 0x280
    READ_ERROR = 0x281
    COMPARE_FAILURE = 0x285


class Failed(Exception):
    """A command that ends with a status other than success."""

    def __init__(self, status: Status) -> None:
        super().__init__(status)
        self.status = status


class Command(NamedTuple):
    """A submission queue entry; ``pointer`` is its data pointer, PRPs or an SGL descriptor."""

    opcode: int
    flags: int
    identifier: int
    namespace: int
    metadata: int
    pointer: bytes
    cdw10: int = 0
    cdw11: int = 0
    cdw12: int = 0
    cdw13: int = 0
    cdw14: int = 0
    cdw15: int = 0

    @classmethod
    def parse(cls, raw: bytes) -> Command:
        """Of its 64 bytes."""
        return cls(*_LAYOUT.unpack(raw))

    @property
    def uses_sgl(self) -> bool:
        """Whether the data pointer is an SGL descriptor; Failed where it is nothing known."""
        kind = self.flags >> 6
        if kind == 3 or self.flags & 3:  # reserved, or fused
            raise Failed(Status.INVALID_FIELD)
        return bool(kind)
