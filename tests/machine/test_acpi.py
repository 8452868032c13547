"""ACPI tables: checksums, the chain of pointers, fields an operating system relies on."""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from pytcg.machine.acpi import aml, dsdt, link, tables
from pytcg.machine.acpi.hardware import Hardware, ParallelPort, SerialPort

HARDWARE = Hardware(
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
    sleep_types={3: 1, 4: 2, 5: 0},
    serial_ports=[SerialPort(0x3F8, 4), SerialPort(0x2F8, 3)],
    parallel_ports=[ParallelPort(0x378, 7)],
    hpet=0xFED00000,
    mouse=True,
    hotplug=0xAE00,
    hotplug_slots=[3, 31],
)
BASE = 0xF0000


@pytest.fixture
def image() -> bytes:
    return link.build(HARDWARE).place(BASE)


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
    found = [table_at(image, address) for address in pointers(xsdt, "Q")]
    assert [table[:4] for table in found] == [b"FACP", b"APIC", b"HPET"]
    description = table_at(image, struct.unpack_from("<L", found[0], 40)[0])
    assert description[:4] == b"DSDT"
    for table in (rsdt, xsdt, description, *found):
        assert sum(table) & 0xFF == 0, table[:4]


def test_facs_is_aligned_to_64_bytes() -> None:
    image = link.build(HARDWARE).place(BASE)
    offset = image.index(b"FACS")
    assert offset % 64 == 0
    assert struct.unpack_from("<L", image, offset + 4)[0] == 64 == len(tables.facs())


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
    fadt = tables.fadt(HARDWARE)
    assert len(fadt) == 244
    assert struct.unpack_from(layout, fadt, offset)[0] == value


def test_madt_routes_the_timer_to_pin_2() -> None:
    madt = tables.madt(HARDWARE)
    assert struct.pack("<BBBBLH", 2, 10, 0, 0, 2, 0) in madt


@pytest.mark.skipif(shutil.which("iasl") is None, reason="needs ACPICA's iasl")
def test_iasl_reads_the_dsdt_and_compiles_it_back(tmp_path: Path) -> None:
    """ACPICA, whose interpreter Linux contains, as the judge of our AML."""
    table = tmp_path / "dsdt.aml"
    table.write_bytes(dsdt.dsdt(HARDWARE))
    command = ["iasl", "-d", table.name]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    source = (tmp_path / "dsdt.dsl").read_text()
    for text in (
        "Name (\\_S5, Package (0x04)",
        "Name (\\_S3, Package (0x04)",
        "Device (PCI0)",
        "Interrupt (ResourceConsumer, Level, ActiveHigh, Shared",
        "WordBusNumber (ResourceProducer, MinFixed, MaxFixed, PosDecode",
        "CreateDWordField (Arg0, 0x05, PRRI)",
        "OperationRegion (P40C, PCI_Config, 0x60, 0x04)",
        "If ((Arg0 & 0x80))",
        "OperationRegion (PCST, SystemIO, 0xAE00, 0x08)",
        "Field (SEJ, DWordAcc, NoLock, WriteAsZeros)",
        "Device (SF8)",
        "B0EJ = 0x80000000",
        "Notify (S18, Arg1)",
        "Method (_E01, 0, NotSerialized)",
    ):
        assert text in source
    assert source.count('EisaId ("PNP0501"') == 2
    assert source.count('EisaId ("PNP0C0F"') == 5
    result = subprocess.run(
        ["iasl", "-oa", "-p", "again", "dsdt.dsl"], cwd=tmp_path, capture_output=True, text=True
    )
    assert "0 Errors, 0 Warnings" in result.stdout
    assert (tmp_path / "again.aml").read_bytes()[36:] == table.read_bytes()[36:]


def test_sleep_states_name_their_types() -> None:
    values = aml.package(aml.integer(2), aml.integer(2), aml.ZERO, aml.ZERO)
    assert aml.name("\\_S4", values) in dsdt.dsdt(HARDWARE)


def run_loader(image: link.Image, places: dict[str, int]) -> dict[str, bytearray]:
    """What firmware does with the script, its allocations given."""
    files: dict[str, bytearray] = {}
    contents = {link.RSDP_FILE: image.rsdp, link.TABLES_FILE: image.tables}
    script = image.script()
    for at in range(0, len(script), link.ENTRY_SIZE):
        entry = script[at : at + link.ENTRY_SIZE]
        kind = struct.unpack_from("<L", entry)[0]
        file = entry[4:60].rstrip(b"\0").decode()
        if kind == link.Command.ALLOCATE:
            alignment, zone = struct.unpack_from("<LB", entry, 60)
            assert places[file] % alignment == 0 and zone in (1, 2)
            files[file] = bytearray(contents[file])
        elif kind == link.Command.ADD_POINTER:
            source = entry[60:116].rstrip(b"\0").decode()
            offset, size = struct.unpack_from("<LB", entry, 116)
            field = slice(offset, offset + size)
            value = int.from_bytes(files[file][field], "little") + places[source]
            files[file][field] = value.to_bytes(size, "little")
        else:
            assert kind == link.Command.ADD_CHECKSUM
            offset, start, length = struct.unpack_from("<LLL", entry, 60)
            files[file][offset] = -sum(files[file][start : start + length]) & 0xFF
    return files


def test_the_loaders_script_makes_the_same_tables() -> None:
    files = run_loader(link.build(HARDWARE), {link.RSDP_FILE: BASE, link.TABLES_FILE: BASE + 64})
    rsdp = files[link.RSDP_FILE].ljust(64, b"\0")
    assert bytes(rsdp + files[link.TABLES_FILE]) == link.build(HARDWARE).place(BASE)


def test_paths_are_encoded_as_names_of_parts() -> None:
    assert aml.segment("\\_SB.PCI0.ISA") == b"\\/\x03_SB_PCI0ISA_"
    assert aml.segment("PCI0.ISA") == b".PCI0ISA_"


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
