"""Registers, frame information structures and command lists (AHCI 1.3.1, 3 and 4; SATA 3, 10)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Final

from pytcg.hw.bits import register_bits

PORTS: Final = 0x100  # registers of the first port
PORT_SIZE: Final = 0x80
SLOTS: Final = 32
HEADER: Final = 32  # bytes of a command list's entry
REGION: Final = 16  # bytes of a region descriptor
TABLE_REGIONS: Final = 0x80  # in a command table
TABLE_PACKET: Final = 0x40
MAX_REGION: Final = 1 << 22


class Hba(IntEnum):
    """Generic host control."""

    CAP = 0x00
    GHC = 0x04
    IS = 0x08
    PI = 0x0C
    VS = 0x10


@register_bits
class Ghc(IntFlag):
    """Global HBA control."""

    RESET = 1 << 0
    INTERRUPTS = 1 << 1
    AHCI = 1 << 31


class Port(IntEnum):
    """A port's registers."""

    CLB = 0x00
    FB = 0x08
    IS = 0x10
    IE = 0x14
    CMD = 0x18
    TFD = 0x20
    SIG = 0x24
    SSTS = 0x28
    SCTL = 0x2C
    SERR = 0x30
    SACT = 0x34
    CI = 0x38


@register_bits
class Cmd(IntFlag):
    """PxCMD."""

    START = 1 << 0
    SPIN_UP = 1 << 1
    POWER_ON = 1 << 2
    OVERRIDE = 1 << 3  # command list override
    RECEIVE = 1 << 4
    RECEIVING = 1 << 14
    RUNNING = 1 << 15
    ATAPI = 1 << 24


@register_bits
class Irq(IntFlag):
    """PxIS and PxIE."""

    DEVICE_TO_HOST = 1 << 0
    PIO_SETUP = 1 << 1
    SET_DEVICE_BITS = 1 << 3
    PORT_CHANGE = 1 << 6
    OVERFLOW = 1 << 24
    HOST_BUS_DATA = 1 << 28
    HOST_BUS_FATAL = 1 << 29
    TASK_FILE_ERROR = 1 << 30


class Received(IntEnum):
    """Places in the received FIS area."""

    PIO_SETUP = 0x20
    DEVICE_TO_HOST = 0x40
    SET_DEVICE_BITS = 0x58


HOST_TO_DEVICE: Final = 0x27  # the type of a register FIS
FIS_COMMAND: Final = 0x80
SOFT_RESET: Final = 0x04  # in the control register
SATA_STATUS: Final = 0x113  # a device, first generation, active
NO_SIGNATURE: Final = 0xFFFFFFFF


@dataclass(frozen=True)
class Header:
    """A command header: lengths, direction, and where the command's table is."""

    fis_length: int  # bytes
    atapi: bool
    write: bool
    regions: int
    table: int

    @classmethod
    def parse(cls, raw: bytes) -> Header:
        """Of its 32 bytes."""
        flags, regions, _, table = struct.unpack_from("<HHLQ", raw)
        return cls((flags & 0x1F) * 4, bool(flags & 0x20), bool(flags & 0x40), regions,
                   table & ~0x7F)  # fmt: skip


@dataclass(frozen=True)
class HostFis:
    """A register FIS from the host."""

    is_command: bool
    command: int
    feature: int
    lba: int
    device: int
    count: int
    control: int

    @classmethod
    def parse(cls, raw: bytes) -> HostFis | None:
        """Of its 20 bytes; None if it is another FIS."""
        if raw[0] != HOST_TO_DEVICE:
            return None
        lba = int.from_bytes(raw[4:7] + raw[8:11], "little")
        return cls(bool(raw[1] & FIS_COMMAND), raw[2], raw[3] | raw[11] << 8, lba, raw[7],
                   raw[12] | raw[13] << 8, raw[15])  # fmt: skip
