"""The board's ACPI tables: RSDP, RSDT, XSDT, FADT, FACS, MADT and DSDT (ACPI 6.4, chapter 5)."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntFlag
from typing import Final, NamedTuple

from pytcg.machine import aml

OEM_ID: Final = b"PYTCG "
OEM_TABLE_ID: Final = b"PYTCGPC "
HEADER_SIZE: Final = 36


class FadtFlags(IntFlag):
    """Fixed feature flags (table 5.10)."""

    WBINVD = 1 << 0
    PROC_C1 = 1 << 2
    SLP_BUTTON = 1 << 5  # set: there is no fixed sleep button
    FIX_RTC = 1 << 6  # set: no RTC wake status in the fixed registers
    RESET_REG_SUP = 1 << 10


class BootArch(IntFlag):
    """IA-PC boot architecture flags (table 5.11)."""

    LEGACY_DEVICES = 1 << 0
    HAS_8042 = 1 << 1
    VGA_NOT_PRESENT = 1 << 2


class SerialPort(NamedTuple):
    """A UART the operating system should know of."""

    base: int
    irq: int


@dataclass(frozen=True)
class Hardware:
    """What the tables say of the board; the board fills it in."""

    lapic: int
    ioapic: int
    sci: int
    smi_command: int
    acpi_enable: int
    acpi_disable: int
    pm1_event: int
    pm1_control: int
    pm_timer: int
    gpe0: int
    gpe0_length: int
    reset_port: int
    reset_value: int
    soft_off: int  # SLP_TYP of S5
    serial_ports: Sequence[SerialPort]


def _checksum(data: bytes | bytearray) -> int:
    return -sum(data) & 0xFF


def table(signature: bytes, revision: int, body: bytes) -> bytes:
    """A system description table: header (5.2.6), body and the checksum that zeroes the sum."""
    length = HEADER_SIZE + len(body)
    header = struct.pack("<4sLBB6s8sL4sL", signature, length, revision, 0,
                         OEM_ID, OEM_TABLE_ID, 1, b"PTCG", 1)  # fmt: skip
    whole = bytearray(header + body)
    whole[9] = _checksum(whole)
    return bytes(whole)


def _isa_device(identifier: str, eisa: str, uid: int, *items: bytes) -> bytes:
    parts = [aml.name("_HID", aml.eisa_id(eisa)), aml.name("_UID", aml.integer(uid))]
    return aml.device(identifier, *parts, aml.name("_STA", aml.integer(0xF)), aml.resources(*items))


def dsdt(hardware: Hardware) -> bytes:
    """\\_S5, the processor and the ISA devices; there is no PCI bus to describe."""
    soft_off = aml.integer(hardware.soft_off)
    processor = aml.device(
        "CPU0", aml.name("_HID", aml.string("ACPI0007")), aml.name("_UID", aml.integer(0))
    )
    serial = [
        _isa_device(
            f"COM{number}", "PNP0501", number, aml.io_ports(port.base, 8), aml.irq(port.irq)
        )
        for number, port in enumerate(hardware.serial_ports, 1)
    ]
    clock = _isa_device("RTC", "PNP0B00", 0, aml.io_ports(0x70, 2), aml.irq(8))
    keyboard = _isa_device(
        "KBD", "PNP0303", 0, aml.io_ports(0x60, 1), aml.io_ports(0x64, 1), aml.irq(1)
    )
    # The fixed hardware's ports are in use: no driver may claim them.
    motherboard = _isa_device(
        "MBRD",
        "PNP0C02",
        0,
        aml.io_ports(hardware.pm1_event, 0x10),
        aml.io_ports(hardware.gpe0, hardware.gpe0_length),
        aml.io_ports(hardware.smi_command, 2),
    )
    body = aml.name("\\_S5", aml.package(soft_off, soft_off, aml.integer(0), aml.integer(0)))
    body += aml.scope("\\_SB", processor, clock, keyboard, motherboard, *serial)
    return table(b"DSDT", 2, body)


def _io_register(address: int, bits: int, access: int) -> bytes:
    """Generic address structure of a port (5.2.3.2); address 0 means absent."""
    if not address:
        return bytes(12)
    return struct.pack("<BBBBQ", 1, bits, 0, access, address)


def fadt(hardware: Hardware, facs_address: int, dsdt_address: int) -> bytes:
    """Fixed ACPI description table (5.2.9), in its 244-byte form."""
    flags = FadtFlags.WBINVD | FadtFlags.PROC_C1 | FadtFlags.SLP_BUTTON | FadtFlags.FIX_RTC
    flags |= FadtFlags.RESET_REG_SUP
    boot = BootArch.LEGACY_DEVICES | BootArch.HAS_8042 | BootArch.VGA_NOT_PRESENT
    no_c2, no_c3 = 0xFFF, 0xFFFF  # latencies too long to be used
    body = struct.pack("<LLBBH", facs_address, dsdt_address, 0, 1, hardware.sci)
    body += struct.pack("<LBBBB", hardware.smi_command, hardware.acpi_enable,
                        hardware.acpi_disable, 0, 0)  # fmt: skip
    body += struct.pack("<8L", hardware.pm1_event, 0, hardware.pm1_control, 0, 0,
                        hardware.pm_timer, hardware.gpe0, 0)  # fmt: skip
    body += struct.pack("<8B", 4, 2, 0, 4, hardware.gpe0_length, 0, 0, 0)
    body += struct.pack("<4H5B", no_c2, no_c3, 0, 0, 0, 0, 0, 0, 0x32)
    body += struct.pack("<HBL", boot, 0, flags)
    body += _io_register(hardware.reset_port, 8, 1) + bytes([hardware.reset_value])
    # The X_ pointer to the FACS stays zero: only one of the two may be given.
    body += struct.pack("<HBQQ", 0, 0, 0, dsdt_address)
    body += _io_register(hardware.pm1_event, 32, 2) + _io_register(0, 0, 0)
    body += _io_register(hardware.pm1_control, 16, 2) + _io_register(0, 0, 0) * 2
    body += _io_register(hardware.pm_timer, 32, 3)
    body += _io_register(hardware.gpe0, hardware.gpe0_length * 8, 1) + _io_register(0, 0, 0)
    return table(b"FACP", 3, body)


def facs() -> bytes:
    """Firmware ACPI control structure (5.2.10): the global lock; no checksum."""
    return struct.pack("<4sLLLLLQB31x", b"FACS", 64, 0, 0, 0, 0, 0, 1)


def madt(hardware: Hardware) -> bytes:
    """Multiple APIC description table (5.2.12): one processor, one I/O APIC, the ISA overrides."""
    edge_default, level_high = 0, 0xD
    body = struct.pack("<LL", hardware.lapic, 1)  # PCAT_COMPAT: the 8259s are there too
    body += struct.pack("<BBBBL", 0, 8, 0, 0, 1)  # local APIC 0, enabled
    body += struct.pack("<BBBBLL", 1, 12, 0, 0, hardware.ioapic, 0)
    body += struct.pack("<BBBBLH", 2, 10, 0, 0, 2, edge_default)  # the PIT is on pin 2
    body += struct.pack("<BBBBLH", 2, 10, 0, hardware.sci, hardware.sci, level_high)
    body += struct.pack("<BBBHB", 4, 6, 0xFF, 0, 1)  # NMI on every processor's LINT1
    return table(b"APIC", 3, body)


def rsdp(rsdt_address: int, xsdt_address: int) -> bytes:
    """Root system description pointer (5.2.5.3): one checksum of 20 bytes, one of all 36."""
    whole = bytearray(struct.pack("<8sB6sBLLQB3x", b"RSD PTR ", 0, OEM_ID, 2,
                                  rsdt_address, 36, xsdt_address, 0))  # fmt: skip
    whole[8] = _checksum(whole[:20])
    whole[32] = _checksum(whole)
    return bytes(whole)


def build(hardware: Hardware, base: int) -> bytes:
    """All tables as one image for the physical address base (page aligned), the RSDP first."""
    image = bytearray(64)

    def put(data: bytes) -> int:
        image.extend(bytes(-len(image) % 64))  # the FACS must be 64-byte aligned
        address = base + len(image)
        image.extend(data)
        return address

    facs_address = put(facs())
    tables = [put(fadt(hardware, facs_address, put(dsdt(hardware)))), put(madt(hardware))]
    rsdt = put(table(b"RSDT", 1, struct.pack(f"<{len(tables)}L", *tables)))
    xsdt = put(table(b"XSDT", 1, struct.pack(f"<{len(tables)}Q", *tables)))
    image[:36] = rsdp(rsdt, xsdt)
    return bytes(image)
