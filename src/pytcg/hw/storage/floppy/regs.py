"""Registers, status bits and commands of the 82077AA (Intel datasheet 290166, 2 and 5)."""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import Final

from pytcg.hw.bits import register_bits


class Reg(IntEnum):
    """Ports from 3F0h on; two names where reading and writing differ. 3F6h is the IDE's."""

    SRA = 0
    SRB = 1
    DOR = 2
    TDR = 3
    MSR = DSR = 4
    FIFO = 5
    DIR = CCR = 7


@register_bits
class Dor(IntFlag):
    """Digital output; bits 4 to 7 are the motors, 0 and 1 the drive."""

    RUN = 0x04  # 0: reset
    DMA_GATE = 0x08


@register_bits
class Msr(IntFlag):
    """Main status."""

    BUSY = 0x10
    NON_DMA = 0x20
    TO_HOST = 0x40
    READY = 0x80


@register_bits
class St0(IntFlag):
    """Status 0; bit 2 is the head, 0 and 1 the drive."""

    EQUIPMENT_CHECK = 0x10
    SEEK_END = 0x20
    ABNORMAL = 0x40
    INVALID = 0x80
    POLLING = 0xC0  # what the four drives say after a reset


@register_bits
class St1(IntFlag):
    """Status 1."""

    MISSING_MARK = 0x01
    NOT_WRITABLE = 0x02
    NO_DATA = 0x04
    OVERRUN = 0x10
    DATA_ERROR = 0x20
    END_OF_CYLINDER = 0x80


WRONG_CYLINDER: Final = 0x10  # status 2
SOFT_RESET: Final = 0x80  # in DSR
DISK_CHANGE: Final = 0x80  # in DIR
MULTI_TRACK: Final = 0x80  # in a command
IMPLIED_SEEK: Final = 0x40  # CONFIGURE's second byte
FIFO_OFF: Final = 0x20
VERSION: Final = 0x90
PART: Final = 0x41


class Command(IntEnum):
    """Operation codes without the modifiers MT, MFM and SK."""

    READ_TRACK = 0x02
    SPECIFY = 0x03
    SENSE_DRIVE = 0x04
    WRITE = 0x05
    READ = 0x06
    RECALIBRATE = 0x07
    SENSE_INTERRUPT = 0x08
    WRITE_DELETED = 0x09
    READ_ID = 0x0A
    READ_DELETED = 0x0C
    FORMAT = 0x0D
    DUMP = 0x0E
    SEEK = 0x0F
    VERSION = 0x10
    PERPENDICULAR = 0x12
    CONFIGURE = 0x13
    LOCK = 0x14
    VERIFY = 0x16
    PART_ID = 0x18


PARAMETERS: Final = {
    Command.READ_TRACK: 8, Command.SPECIFY: 2, Command.SENSE_DRIVE: 1, Command.WRITE: 8,
    Command.READ: 8, Command.RECALIBRATE: 1, Command.SENSE_INTERRUPT: 0, Command.WRITE_DELETED: 8,
    Command.READ_ID: 1, Command.READ_DELETED: 8, Command.FORMAT: 5, Command.DUMP: 0,
    Command.SEEK: 2, Command.VERSION: 0, Command.PERPENDICULAR: 1, Command.CONFIGURE: 3,
    Command.LOCK: 0, Command.VERIFY: 8, Command.PART_ID: 0,
}  # fmt: skip
FULL_OPCODE: Final = {  # the modifiers that may be set
    Command.READ_TRACK: 0x60, Command.WRITE: 0xC0, Command.READ: 0xE0,
    Command.WRITE_DELETED: 0xC0, Command.READ_ID: 0x40, Command.READ_DELETED: 0xE0,
    Command.FORMAT: 0x40, Command.VERIFY: 0xE0, Command.LOCK: 0x80, Command.SEEK: 0xC0,
}  # fmt: skip
