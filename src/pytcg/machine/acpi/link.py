"""Tables joined to one image: at a fixed address, or by firmware that runs a linker script.

The script is QEMU's table loader format (its bios-linker-loader): allocate a file, add its address
to a pointer, compute a checksum; entries of 128 bytes.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final, NamedTuple

from pytcg.machine.acpi import dsdt, tables
from pytcg.machine.acpi.hardware import Hardware

TABLES_FILE: Final = "etc/acpi/tables"
RSDP_FILE: Final = "etc/acpi/rsdp"
LOADER_FILE: Final = "etc/table-loader"
ENTRY_SIZE: Final = 128
TABLE_ALIGNMENT: Final = 64  # the FACS's


class Command(IntEnum):
    """First word of a script's entry."""

    ALLOCATE = 1
    ADD_POINTER = 2
    ADD_CHECKSUM = 3


class Zone(IntEnum):
    """Where firmware is to put a file."""

    HIGH = 1
    F_SEGMENT = 2


class Pointer(NamedTuple):
    """A field that holds the address of a place in the tables."""

    file: str
    offset: int
    size: int
    target: int


class Checksum(NamedTuple):
    """A byte that makes the bytes from start on sum to zero."""

    file: str
    offset: int
    start: int
    length: int


@dataclass
class Image:
    """RSDP and tables, unlinked: pointer fields hold offsets into the tables."""

    rsdp: bytearray
    tables: bytearray = field(default_factory=bytearray)
    pointers: list[Pointer] = field(default_factory=list)
    checksums: list[Checksum] = field(default_factory=list)

    def add(self, data: bytes, *, checksum: bool = True) -> int:
        """Append a table; its offset."""
        self.tables.extend(bytes(-len(self.tables) % TABLE_ALIGNMENT))
        offset = len(self.tables)
        self.tables.extend(data)
        if checksum:
            where = offset + tables.CHECKSUM
            self.tables[where] = 0
            self.checksums.append(Checksum(TABLES_FILE, where, offset, len(data)))
        return offset

    def point(self, file: str, offset: int, size: int, target: int) -> None:
        """Let a field be the address of a table."""
        self.pointers.append(Pointer(file, offset, size, target))
        self.file(file)[offset : offset + size] = target.to_bytes(size, "little")

    def file(self, name: str) -> bytearray:
        """A file by name."""
        return self.rsdp if name == RSDP_FILE else self.tables

    def place(self, base: int) -> bytes:
        """Everything linked for a physical address (in whole pages), the RSDP first."""
        start = base + TABLE_ALIGNMENT
        for file, offset, size, target in self.pointers:
            self.file(file)[offset : offset + size] = (start + target).to_bytes(size, "little")
        for file, offset, begin, length in self.checksums:
            data = self.file(file)
            data[offset] = 0
            data[offset] = tables.checksum(data[begin : begin + length])
        return bytes(self.rsdp.ljust(TABLE_ALIGNMENT, b"\0") + self.tables)

    def script(self) -> bytes:
        """The same as entries for firmware."""
        entries = [
            _entry("<L56sLB", Command.ALLOCATE, RSDP_FILE.encode(), 16, Zone.F_SEGMENT),
            _entry("<L56sLB", Command.ALLOCATE, TABLES_FILE.encode(), TABLE_ALIGNMENT, Zone.HIGH),
        ]
        for file, offset, size, _ in self.pointers:
            names = file.encode(), TABLES_FILE.encode()
            entries.append(_entry("<L56s56sLB", Command.ADD_POINTER, *names, offset, size))
        for file, *numbers in self.checksums:
            entries.append(_entry("<L56sLLL", Command.ADD_CHECKSUM, file.encode(), *numbers))
        return b"".join(entries)


def _entry(layout: str, *values: object) -> bytes:
    return struct.pack(layout, *values).ljust(ENTRY_SIZE, b"\0")


def build(hardware: Hardware) -> Image:
    """All tables of a board."""
    image = Image(bytearray(tables.rsdp()))
    facs = image.add(tables.facs(), checksum=False)
    description = image.add(dsdt.dsdt(hardware))
    fadt = image.add(tables.fadt(hardware))
    image.point(TABLES_FILE, fadt + tables.FADT_FACS, 4, facs)
    image.point(TABLES_FILE, fadt + tables.FADT_DSDT, 4, description)
    image.point(TABLES_FILE, fadt + tables.FADT_X_DSDT, 8, description)
    listed = [fadt, image.add(tables.madt(hardware))]
    if hardware.hpet is not None:
        listed.append(image.add(tables.hpet(hardware.hpet)))
    if hardware.ecam is not None:
        listed.append(image.add(tables.mcfg(hardware.ecam)))
    roots = [_root(image, b"RSDT", 4, listed), _root(image, b"XSDT", 8, listed)]
    image.point(RSDP_FILE, 16, 4, roots[0])
    image.point(RSDP_FILE, 24, 8, roots[1])
    image.checksums.append(Checksum(RSDP_FILE, 8, 0, tables.RSDP_V1_SIZE))
    image.checksums.append(Checksum(RSDP_FILE, 32, 0, tables.RSDP_SIZE))
    return image


def _root(image: Image, signature: bytes, size: int, listed: list[int]) -> int:
    root = image.add(tables.table(signature, 1, bytes(size * len(listed))))
    for number, table in enumerate(listed):
        image.point(TABLES_FILE, root + tables.HEADER_SIZE + size * number, size, table)
    return root
