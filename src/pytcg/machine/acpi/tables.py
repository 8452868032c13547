"""ACPI tables but for the DSDT: RSDP, FADT, FACS, MADT, HPET (ACPI 6.4, chapter 5).

Pointers to other tables are zero here: `link` fills them in, or has firmware do it.
"""

from __future__ import annotations

import struct
from enum import IntFlag
from typing import Final

from pytcg.machine.acpi.hardware import Hardware

OEM_ID: Final = b"PYTCG "
OEM_TABLE_ID: Final = b"PYTCGPC "
HEADER_SIZE: Final = 36
CHECKSUM: Final = 9  # offset in the header
FADT_FACS: Final = 36  # offsets of the FADT's pointers
FADT_DSDT: Final = 40
FADT_X_DSDT: Final = 140
HPET_BLOCK_ID: Final = 0x8086A201  # QEMU's: Intel, legacy routing, 64 bits, three comparators


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


def checksum(data: bytes | bytearray) -> int:
    return -sum(data) & 0xFF


def table(signature: bytes, revision: int, body: bytes) -> bytes:
    """A system description table: header (5.2.6), body and the checksum that zeroes the sum."""
    length = HEADER_SIZE + len(body)
    header = struct.pack("<4sLBB6s8sL4sL", signature, length, revision, 0,
                         OEM_ID, OEM_TABLE_ID, 1, b"PTCG", 1)  # fmt: skip
    whole = bytearray(header + body)
    whole[CHECKSUM] = checksum(whole)
    return bytes(whole)


def _io_register(address: int, bits: int, access: int) -> bytes:
    """Generic address structure of a port (5.2.3.2); address 0 means absent."""
    if not address:
        return bytes(12)
    return struct.pack("<BBBBQ", 1, bits, 0, access, address)


def fadt(hardware: Hardware) -> bytes:
    """Fixed ACPI description table (5.2.9), in its 244-byte form."""
    flags = FadtFlags.WBINVD | FadtFlags.PROC_C1 | FadtFlags.SLP_BUTTON | FadtFlags.FIX_RTC
    flags |= FadtFlags.RESET_REG_SUP
    boot = BootArch.LEGACY_DEVICES | BootArch.HAS_8042
    if not hardware.vga:
        boot |= BootArch.VGA_NOT_PRESENT
    no_c2, no_c3 = 0xFFF, 0xFFFF  # latencies too long to be used
    body = struct.pack("<LLBBH", 0, 0, 0, 1, hardware.sci)
    body += struct.pack("<LBBBB", hardware.smi_command, hardware.acpi_enable,
                        hardware.acpi_disable, 0, 0)  # fmt: skip
    body += struct.pack("<8L", hardware.pm1_event, 0, hardware.pm1_control, 0, 0,
                        hardware.pm_timer, hardware.gpe0, 0)  # fmt: skip
    body += struct.pack("<8B", 4, 2, 0, 4, hardware.gpe0_length, 0, 0, 0)
    body += struct.pack("<4H5B", no_c2, no_c3, 0, 0, 0, 0, 0, 0, 0x32)
    body += struct.pack("<HBL", boot, 0, flags)
    body += _io_register(hardware.reset_port, 8, 1) + bytes([hardware.reset_value])
    # The X_ pointer to the FACS stays zero: only one of the two may be given.
    body += struct.pack("<HBQQ", 0, 0, 0, 0)
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
    for irq in sorted({hardware.sci, *hardware.pirq_choices}):
        body += struct.pack("<BBBBLH", 2, 10, 0, irq, irq, level_high)
    body += struct.pack("<BBBHB", 4, 6, 0xFF, 0, 1)  # NMI on every processor's LINT1
    return table(b"APIC", 3, body)


def hpet(address: int) -> bytes:
    """HPET description table (IA-PC HPET 1.0a, 3.2.4)."""
    body = struct.pack("<L", HPET_BLOCK_ID) + struct.pack("<BBBBQ", 0, 0, 0, 0, address)
    return table(b"HPET", 1, body + struct.pack("<BHB", 0, 0, 0))


def mcfg(address: int) -> bytes:
    """Where configuration space is memory (PCI firmware specification 3.0, 4.1.2): 256 buses."""
    return table(b"MCFG", 1, bytes(8) + struct.pack("<QHBB4x", address, 0, 0, 0xFF))


RSDP_SIZE: Final = 36
RSDP_V1_SIZE: Final = 20


def rsdp() -> bytes:
    """Root system description pointer (5.2.5.3), its pointers and checksums still zero."""
    return struct.pack("<8sB6sBLLQB3x", b"RSD PTR ", 0, OEM_ID, 2, 0, RSDP_SIZE, 0, 0)
