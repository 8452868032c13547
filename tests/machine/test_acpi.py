"""ACPI tables: checksums, the chain of pointers, fields an operating system relies on."""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from pytcg.machine import acpi, aml

HARDWARE = acpi.Hardware(
    lapic=0xFEE00000,
    ioapic=0xFEC00000,
    sci=9,
    smi_command=0xB2,
    acpi_enable=2,
    acpi_disable=3,
    pm1_event=0x600,
    pm1_control=0x604,
    pm_timer=0x608,
    gpe0=0x620,
    gpe0_length=16,
    reset_port=0xCF9,
    reset_value=6,
    soft_off=5,
    serial_ports=[acpi.SerialPort(0x3F8, 4), acpi.SerialPort(0x2F8, 3)],
)
BASE = 0xF0000


@pytest.fixture
def image() -> bytes:
    return acpi.build(HARDWARE, BASE)


def table_at(image: bytes, address: int) -> bytes:
    offset = address - BASE
    length = struct.unpack_from("<L", image, offset + 4)[0]
    return image[offset : offset + length]


def pointers(root: bytes, width: str) -> tuple[int, ...]:
    return tuple(row[0] for row in struct.iter_unpack(f"<{width}", root[36:]))


def test_rsdp_has_both_checksums(image: bytes) -> None:
    assert image[:8] == b"RSD PTR "
    assert sum(image[:20]) & 0xFF == 0
    assert sum(image[:36]) & 0xFF == 0


def test_every_table_sums_to_zero_and_both_roots_list_the_same(image: bytes) -> None:
    rsdt = table_at(image, struct.unpack_from("<L", image, 16)[0])
    xsdt = table_at(image, struct.unpack_from("<Q", image, 24)[0])
    assert pointers(rsdt, "L") == pointers(xsdt, "Q")
    tables = [table_at(image, address) for address in pointers(xsdt, "Q")]
    assert [table[:4] for table in tables] == [b"FACP", b"APIC"]
    dsdt = table_at(image, struct.unpack_from("<L", tables[0], 40)[0])
    assert dsdt[:4] == b"DSDT"
    for table in (rsdt, xsdt, dsdt, *tables):
        assert sum(table) & 0xFF == 0, table[:4]


def test_facs_is_aligned_to_64_bytes() -> None:
    image = acpi.build(HARDWARE, BASE)
    offset = image.index(b"FACS")
    assert offset % 64 == 0
    assert struct.unpack_from("<L", image, offset + 4)[0] == 64 == len(acpi.facs())


@pytest.mark.parametrize(
    ("offset", "layout", "value"),
    [
        (46, "<H", 9),  # SCI_INT
        (48, "<L", 0xB2),  # SMI_CMD
        (52, "<B", 2),  # ACPI_ENABLE
        (56, "<L", 0x600),  # PM1a_EVT_BLK
        (64, "<L", 0x604),  # PM1a_CNT_BLK
        (76, "<L", 0x608),  # PM_TMR_BLK
        (88, "<B", 4),  # PM1_EVT_LEN
        (89, "<B", 2),  # PM1_CNT_LEN
        (91, "<B", 4),  # PM_TMR_LEN
        (92, "<B", 16),  # GPE0_BLK_LEN
        (108, "<B", 0x32),  # CENTURY
        (120, "<Q", 0xCF9),  # RESET_REG address
        (128, "<B", 6),  # RESET_VALUE
        (152, "<Q", 0x600),  # X_PM1a_EVT_BLK address
        (176, "<Q", 0x604),  # X_PM1a_CNT_BLK address
        (212, "<Q", 0x608),  # X_PM_TMR_BLK address
        (224, "<Q", 0x620),  # X_GPE0_BLK address
    ],
)
def test_fadt_field(offset: int, layout: str, value: int) -> None:
    fadt = acpi.fadt(HARDWARE, 0xF0040, 0xF0080)
    assert len(fadt) == 244
    assert struct.unpack_from(layout, fadt, offset)[0] == value


def test_madt_routes_the_timer_to_pin_2() -> None:
    madt = acpi.madt(HARDWARE)
    assert struct.pack("<BBBBLH", 2, 10, 0, 0, 2, 0) in madt


@pytest.mark.skipif(shutil.which("iasl") is None, reason="needs ACPICA's iasl")
def test_iasl_reads_the_dsdt_and_compiles_it_back(tmp_path: Path) -> None:
    """ACPICA, whose interpreter Linux contains, as the judge of our AML."""
    table = tmp_path / "dsdt.aml"
    table.write_bytes(acpi.dsdt(HARDWARE))
    command = ["iasl", "-d", table.name]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    source = (tmp_path / "dsdt.dsl").read_text()
    assert "Name (\\_S5, Package (0x04)" in source
    assert source.count('EisaId ("PNP0501"') == 2
    result = subprocess.run(
        ["iasl", "-oa", "-p", "again", "dsdt.dsl"], cwd=tmp_path, capture_output=True, text=True
    )
    assert "0 Errors, 0 Warnings" in result.stdout
    assert (tmp_path / "again.aml").read_bytes()[36:] == table.read_bytes()[36:]


def test_s5_names_the_sleep_type() -> None:
    assert b"\x08\\_S5_\x12" in acpi.dsdt(HARDWARE)
    soft_off = aml.package(aml.integer(5), aml.integer(5), aml.integer(0), aml.integer(0))
    assert soft_off in acpi.dsdt(HARDWARE)


@pytest.mark.parametrize("size", [0, 0x3E, 0x3F, 0x40, 0xFFC, 0xFFD, 0x1000, 0xFFFF0])
def test_package_length_counts_itself(size: int) -> None:
    encoded = aml.package_length(bytes(size))
    extra = encoded[0] >> 6
    length = encoded[0] & (0xF if extra else 0x3F)
    for index in range(extra):
        length |= encoded[1 + index] << (4 + 8 * index)
    assert length == len(encoded) == size + 1 + extra


def test_eisa_id_is_compressed_as_the_specification_shows() -> None:
    assert aml.eisa_id("PNP0A03") == bytes([aml.Op.DWORD]) + bytes.fromhex("41d00a03")


@pytest.mark.parametrize(
    ("value", "encoded"),
    [(0, "00"), (1, "01"), (2, "0a02"), (0x100, "0b0001"), (0x10000, "0c00000100")],
)
def test_integer_takes_the_shortest_form(value: int, encoded: str) -> None:
    assert aml.integer(value) == bytes.fromhex(encoded)
