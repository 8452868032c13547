"""Where guest RAM lies in the physical address space, and what the e820 map says about it."""

from __future__ import annotations

from enum import IntEnum
from typing import Final, NamedTuple

KIB: Final = 1 << 10
MIB: Final = 1 << 20
GIB: Final = 1 << 30

# The base memory a BIOS leaves: the last KiB below 640 KiB is its extended data area.
BASE_MEMORY_END: Final = 0x9FC00
VGA_HOLE: Final = 0xA0000  # display memory; from C0000h on the chipset switches ROM and RAM
VGA_HOLE_SIZE: Final = 0x20000
BIOS_AREA: Final = 0xE0000
HIGH_MEMORY: Final = 0x100000
FOUR_GIB: Final = 4 * GIB
# QEMU's i440fx rule: RAM reaches up to 3.5 GiB, but a guest with more than that is
# split at 3 GiB so that the part above 4 GiB starts gigabyte-aligned.
LOW_MEMORY_LIMIT: Final = 0xE0000000
LOW_MEMORY_SPLIT: Final = 0xC0000000
DEVICE_MEMORY: Final = 256 * MIB  # of the RAM window, behind the RAM: ROMs, display memory
MINIMUM: Final = 2 * MIB


class E820Type(IntEnum):
    """ACPI 15.1: address range types."""

    RAM = 1
    RESERVED = 2


class E820Entry(NamedTuple):
    """One row of the map the boot protocol hands the kernel."""

    base: int
    length: int
    type: E820Type


class RamBlock(NamedTuple):
    """A run of guest RAM: its physical address and its place in the RAM window."""

    physical: int
    length: int
    offset: int


def low_memory_end(ram_size: int) -> int:
    """First address above the RAM that lies below 4 GiB."""
    return LOW_MEMORY_SPLIT if ram_size > LOW_MEMORY_LIMIT else ram_size


def ram_blocks(ram_size: int) -> list[RamBlock]:
    """RAM that is always there; below 4 GiB, window offset and address are the same.

    The RAM from A0000h to FFFFFh is the chipset's to show.
    """
    low_end = low_memory_end(ram_size)
    blocks = [
        RamBlock(0, VGA_HOLE, 0),
        RamBlock(HIGH_MEMORY, low_end - HIGH_MEMORY, HIGH_MEMORY),
    ]
    if ram_size > low_end:
        blocks.append(RamBlock(FOUR_GIB, ram_size - low_end, low_end))
    return blocks


def e820_map(ram_size: int) -> list[E820Entry]:
    """The memory map a BIOS would report for this much RAM."""
    low_end = low_memory_end(ram_size)
    entries = [
        E820Entry(0, BASE_MEMORY_END, E820Type.RAM),
        E820Entry(BASE_MEMORY_END, VGA_HOLE - BASE_MEMORY_END, E820Type.RESERVED),
        E820Entry(BIOS_AREA, HIGH_MEMORY - BIOS_AREA, E820Type.RESERVED),
        E820Entry(HIGH_MEMORY, low_end - HIGH_MEMORY, E820Type.RAM),
    ]
    if ram_size > low_end:
        entries.append(E820Entry(FOUR_GIB, ram_size - low_end, E820Type.RAM))
    return entries
