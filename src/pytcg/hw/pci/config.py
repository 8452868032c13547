"""Configuration space: 256 bytes, of which software may change some and clear others."""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import Final

from pytcg.hw.bits import register_bits

SIZE: Final = 256
HEADER: Final = 0x40  # what follows belongs to the device and its capabilities


class Reg(IntEnum):
    """Registers of header type 0 (PCI 3.0, 6.1)."""

    VENDOR_ID = 0x00
    DEVICE_ID = 0x02
    COMMAND = 0x04
    STATUS = 0x06
    REVISION_ID = 0x08
    CLASS_CODE = 0x09  # programming interface, sub-class, base class
    CACHE_LINE_SIZE = 0x0C
    HEADER_TYPE = 0x0E
    BASE_ADDRESS = 0x10
    SUBSYSTEM_VENDOR_ID = 0x2C
    SUBSYSTEM_ID = 0x2E
    EXPANSION_ROM = 0x30
    CAPABILITIES = 0x34
    INTERRUPT_LINE = 0x3C
    INTERRUPT_PIN = 0x3D


@register_bits
class Command(IntFlag):
    """The command register's bits that software may set (6.2.2)."""

    IO = 0x0001
    MEMORY = 0x0002
    BUS_MASTER = 0x0004
    SERR = 0x0100
    INTX_DISABLE = 0x0400


@register_bits
class Status(IntFlag):
    """The status register (6.2.3); errors are cleared by writing ones."""

    INTERRUPT = 0x0008
    CAPABILITIES = 0x0010
    RECEIVED_MASTER_ABORT = 0x2000
    ERRORS = 0xF900


class ConfigSpace:
    """Bytes with two masks: what may be written, and what a written 1 clears."""

    def __init__(self) -> None:
        self.bytes = bytearray(SIZE)
        self._writable = bytearray(SIZE)
        self._clearable = bytearray(SIZE)
        self._at_reset = bytes(SIZE)
        self._next_capability = HEADER

    def define(self, reg: int, size: int, value: int = 0, *, writable: int = 0,
               clearable: int = 0) -> None:
        """One register: its value after reset and its masks."""
        where = slice(reg, reg + size)
        self.bytes[where] = value.to_bytes(size, "little")
        self._writable[where] = writable.to_bytes(size, "little")
        self._clearable[where] = clearable.to_bytes(size, "little")
        self._at_reset = bytes(self.bytes)

    def add_capability(self, identity: int, length: int) -> int:
        """Link a capability in front of the list (6.7); returns where it is."""
        place = self._next_capability
        if place + length > SIZE:
            raise ValueError(f"no room for capability {identity:#x} of {length} bytes")
        self._next_capability = place + length + 3 & ~3
        self.define(place, 2, identity | self.bytes[Reg.CAPABILITIES] << 8)
        self.define(Reg.CAPABILITIES, 1, place)
        self.define(Reg.STATUS, 2, self.get(Reg.STATUS, 2) | Status.CAPABILITIES,
                    clearable=Status.ERRORS)
        return place

    def reset(self) -> None:
        """Every register as it was defined."""
        self.bytes[:] = self._at_reset

    def get(self, reg: int, size: int) -> int:
        """A register's value."""
        return int.from_bytes(self.bytes[reg : reg + size], "little")

    def put(self, reg: int, size: int, value: int) -> None:
        """Set a register from the device's side: no mask counts."""
        self.bytes[reg : reg + size] = value.to_bytes(size, "little")

    def write(self, reg: int, size: int, value: int) -> None:
        """Store from the bus."""
        for at in range(reg, min(reg + size, SIZE)):
            new = value & 0xFF
            value >>= 8
            mask = self._writable[at]
            self.bytes[at] = (self.bytes[at] & ~mask | new & mask) & ~(new & self._clearable[at])
