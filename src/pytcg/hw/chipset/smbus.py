"""PIIX4's SMBus host controller (datasheet 290562, 7.3.3), and EEPROMs on the bus.

A transaction is done when START is written; the guest finds it finished at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum, IntFlag
from typing import Final, Protocol

from pytcg.hw.bits import register_bits
from pytcg.hw.state import State, load, save

BLOCK_MAX: Final = 32


class Reg(IntEnum):
    """Offsets from SMBBA."""

    HST_STS = 0
    HST_CNT = 2
    HST_CMD = 3
    HST_ADD = 4
    HST_DAT0 = 5
    HST_DAT1 = 6
    BLK_DAT = 7


@register_bits
class Status(IntFlag):
    """SMBHSTSTS: ones clear."""

    HOST_BUSY = 0x01
    INTERRUPT = 0x02
    DEV_ERR = 0x04
    BUS_ERR = 0x08
    FAILED = 0x10


@register_bits
class Control(IntFlag):
    """SMBHSTCNT; the command protocol is bits 2 to 4."""

    INTEREN = 0x01
    KILL = 0x02
    START = 0x40


class Transaction(IntEnum):
    """SMB_CMD_PROT."""

    QUICK = 0
    BYTE = 1
    BYTE_DATA = 2
    WORD_DATA = 3
    BLOCK = 5


class SmbusDevice(Protocol):
    """What sits on the bus."""

    def receive(self) -> int:
        """Receive byte: no command."""
        ...

    def send(self, value: int) -> None:
        """Send byte."""
        ...

    def read(self, command: int) -> int:
        """The byte at a command code."""
        ...

    def write(self, command: int, value: int) -> None:
        """Store to a command code."""
        ...


class SmbusEeprom:
    """256 bytes, such as a memory module's serial presence detect."""

    def __init__(self, contents: bytes) -> None:
        self.contents = bytearray(contents.ljust(256, b"\0"))
        self.offset = 0

    def receive(self) -> int:
        value = self.contents[self.offset]
        self.offset = (self.offset + 1) & 0xFF
        return value

    def send(self, value: int) -> None:
        self.offset = value

    def read(self, command: int) -> int:
        self.offset = (command + 1) & 0xFF
        return self.contents[command & 0xFF]

    def write(self, command: int, value: int) -> None:
        self.contents[command & 0xFF] = value
        self.offset = (command + 1) & 0xFF


class SmbusHost:
    """The controller; ``devices`` by their 7-bit addresses."""

    _FIELDS = ("status", "control", "command", "address", "data0", "data1", "block", "index")

    def __init__(self, devices: Mapping[int, SmbusDevice]) -> None:
        self._devices = devices
        self.block = bytearray(BLOCK_MAX)
        self.reset()

    def reset(self) -> None:
        """RSMRST#."""
        self.status = self.control = self.command = self.address = 0
        self.data0 = self.data1 = self.index = 0
        self.block[:] = bytes(BLOCK_MAX)

    def read(self, reg: int) -> int:
        """A byte register."""
        match reg:
            case Reg.HST_STS:
                return self.status
            case Reg.HST_CNT:
                self.index = 0
                return self.control & ~Control.START
            case Reg.HST_CMD:
                return self.command
            case Reg.HST_ADD:
                return self.address
            case Reg.HST_DAT0:
                return self.data0
            case Reg.HST_DAT1:
                return self.data1
            case Reg.BLK_DAT:
                value = self.block[self.index]
                self.index = (self.index + 1) % BLOCK_MAX
                return value
        return 0

    def write(self, reg: int, value: int) -> None:
        """Store a byte."""
        match reg:
            case Reg.HST_STS:
                self.status &= ~value
                self.index = 0
            case Reg.HST_CNT:
                self.control = value & ~Control.START
                if value & Control.KILL:
                    self.status |= Status.FAILED
                elif value & Control.START:
                    self._transact()
            case Reg.HST_CMD:
                self.command = value
            case Reg.HST_ADD:
                self.address = value
            case Reg.HST_DAT0:
                self.data0 = value
            case Reg.HST_DAT1:
                self.data1 = value
            case Reg.BLK_DAT:
                self.block[self.index] = value
                self.index = (self.index + 1) % BLOCK_MAX

    def read_wide(self, reg: int, size: int) -> int:
        """A window's access."""
        return sum(self.read(reg + offset) << 8 * offset for offset in range(size))

    def write_wide(self, reg: int, size: int, value: int) -> None:
        """A window's access."""
        for offset in range(size):
            self.write(reg + offset, value >> 8 * offset & 0xFF)

    def _transact(self) -> None:
        device = self._devices.get(self.address >> 1)
        if device is None:
            self.status |= Status.DEV_ERR  # nobody acknowledged the address
            return
        reads = bool(self.address & 1)
        match self.control >> 2 & 7:
            case Transaction.QUICK:
                pass
            case Transaction.BYTE if reads:
                self.data0 = device.receive()
            case Transaction.BYTE:
                device.send(self.command)
            case Transaction.BYTE_DATA if reads:
                self.data0 = device.read(self.command)
            case Transaction.BYTE_DATA:
                device.write(self.command, self.data0)
            case Transaction.WORD_DATA if reads:
                self.data0 = device.read(self.command)
                self.data1 = device.read(self.command + 1 & 0xFF)
            case Transaction.WORD_DATA:
                device.write(self.command, self.data0)
                device.write(self.command + 1 & 0xFF, self.data1)
            case Transaction.BLOCK:
                self._transact_block(device, reads=reads)
            case _:
                self.status |= Status.DEV_ERR
                return
        self.status |= Status.INTERRUPT

    def _transact_block(self, device: SmbusDevice, *, reads: bool) -> None:
        """A count, then so many bytes."""
        if reads:
            self.data0 = min(device.read(self.command), BLOCK_MAX)
            for number in range(self.data0):
                self.block[number] = device.receive()
        else:
            for number in range(min(self.data0, BLOCK_MAX)):
                device.write(self.command + number & 0xFF, self.block[number])
        self.index = 0

    def state(self) -> State:
        return save(self, 1, self._FIELDS)

    def restore(self, state: State) -> None:
        load(self, state, 1, self._FIELDS)
