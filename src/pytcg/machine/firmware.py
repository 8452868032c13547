"""What a BIOS leaves behind for an operating system; without one, the board does it itself."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

from pytcg.hw.core.apic import LocalApic
from pytcg.hw.core.i8259 import I8259Pair

BIOS_DATA_AREA: Final = 0x400
MASTER_VECTORS: Final = 0x08
SLAVE_VECTORS: Final = 0x70
BASE_MEMORY_KIB: Final = 639
EXTENDED_BIOS_DATA: Final = 0x9FC0  # segment


def bios_data_area(serial_ports: Sequence[int], parallel_ports: Sequence[int] = ()) -> bytes:
    """The words of the BIOS data area that early kernel code looks at."""
    area = bytearray(0x100)
    struct.pack_into("<4H", area, 0, *[*serial_ports, 0, 0, 0, 0][:4])
    struct.pack_into("<3H", area, 8, *[*parallel_ports, 0, 0, 0][:3])
    struct.pack_into("<H", area, 0x0E, EXTENDED_BIOS_DATA)
    struct.pack_into("<H", area, 0x13, BASE_MEMORY_KIB)
    return bytes(area)


def program_interrupts(pic: I8259Pair, lapic: LocalApic) -> None:
    """Both 8259s initialised and masked, and reaching the processor through LINT0."""
    program_pics(pic)
    lapic.virtual_wire()


def program_pics(pic: I8259Pair) -> None:
    """Both 8259s initialised and masked."""
    for chip, vectors, cascade in (
        (pic.master, MASTER_VECTORS, 0x04),
        (pic.slave, SLAVE_VECTORS, 0x02),
    ):
        chip.write(0, 0x11)  # ICW1: edge triggered, cascaded, ICW4 follows
        for value in (vectors, cascade, 0x01):  # ICW2, ICW3, ICW4: 8086 mode
            chip.write(1, value)
        chip.write(1, 0xFF)  # OCW1: all masked
