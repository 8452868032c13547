"""Resource descriptors (ACPI 6.4, 6.4)."""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Final

from pytcg.machine.acpi import aml

END_TAG: Final = b"\x79\0"  # checksum zero means "not checked"


class Space(IntEnum):
    """Resource types of address space descriptors."""

    MEMORY = 0
    IO = 1
    BUS_NUMBER = 2


MIN_AND_MAX_FIXED: Final = 0x0C  # produced for what is behind a bridge, positively decoded
ENTIRE_RANGE: Final = 3
READ_WRITE: Final = 1
CACHEABLE: Final = 2


def io_ports(base: int, length: int) -> bytes:
    """Fixed 16-bit ports (6.4.2.5)."""
    return struct.pack("<BBHHBB", 0x47, 0x01, base, base, 1, length)


def irq(number: int) -> bytes:
    """An edge-triggered, active-high ISA interrupt (6.4.2.1)."""
    return struct.pack("<BH", 0x22, 1 << number)


def dma(channel: int) -> bytes:
    """An ISA DMA channel of 8-bit transfers (6.4.2.2)."""
    return struct.pack("<BBB", 0x2A, 1 << channel, 0)


def interrupts(*numbers: int) -> bytes:
    """Level-triggered, active-high, shared interrupts of the I/O APIC (6.4.3.6)."""
    length = 2 + 4 * len(numbers)
    return struct.pack(f"<BHBB{len(numbers)}L", 0x89, length, 0x09, len(numbers), *numbers)


def memory(base: int, length: int) -> bytes:
    """Memory32Fixed, writable (6.4.3.4)."""
    return struct.pack("<BHBLL", 0x86, 9, READ_WRITE, base, length)


def words(space: Space, first: int, last: int) -> bytes:
    """An address space of 16 bits (6.4.3.5.3) that a bridge passes on."""
    specific = ENTIRE_RANGE if space is Space.IO else 0
    return struct.pack("<BHBBBHHHHH", 0x88, 13, space, MIN_AND_MAX_FIXED, specific,
                       0, first, last, 0, last - first + 1)  # fmt: skip


def dwords(first: int, last: int, *, cacheable: bool = False) -> bytes:
    """Memory of 32 bits (6.4.3.5.2) that a bridge passes on."""
    specific = READ_WRITE | (CACHEABLE if cacheable else 0)
    return struct.pack("<BHBBBLLLLL", 0x87, 23, Space.MEMORY, MIN_AND_MAX_FIXED, specific,
                       0, first, last, 0, last - first + 1)  # fmt: skip


def template(*items: bytes) -> bytes:
    """ResourceTemplate () { items }."""
    return aml.buffer(b"".join(items) + END_TAG)


def current(*items: bytes) -> bytes:
    """Name (_CRS, ResourceTemplate () { items })."""
    return aml.name("_CRS", template(*items))
