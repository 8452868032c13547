"""The Linux/x86 boot protocol, with made-up kernels."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from pytcg.machine import linux
from pytcg.machine.layout import GIB, MIB, E820Type, e820_map, ram_blocks
from pytcg.machine.linux import LinuxBoot, LoadError, place

RSDP = 0xF0000


def bzimage(
    *,
    version: int = 0x20F,
    loadflags: int = 1,
    relocatable: int = 1,
    xloadflags: int = 1,
    preferred: int = 16 * MIB,
    init_size: int = 32 * MIB,
    payload: bytes = b"\x90" * 0x1000,
    initrd_max: int = 0x7FFFFFFF,
) -> bytes:
    """A setup of two sectors whose header has these fields, and a payload."""
    image = bytearray(3 * 512)
    image[0x1F1] = 2
    struct.pack_into("<L", image, 0x1F4, len(payload) // 16)
    struct.pack_into("<H", image, 0x1FE, 0xAA55)
    image[0x200:0x202] = b"\xeb\x6a"
    image[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", image, 0x206, version)
    image[0x211] = loadflags
    struct.pack_into("<L", image, 0x214, MIB)
    struct.pack_into("<L", image, 0x22C, initrd_max)
    struct.pack_into("<LBBH", image, 0x230, 2 * MIB, relocatable, 21, xloadflags)
    struct.pack_into("<L", image, 0x238, 2047)
    struct.pack_into("<Q", image, 0x258, preferred)
    struct.pack_into("<L", image, 0x260, init_size)
    return bytes(image) + payload


class FakeMemory:
    """Guest memory as the list of what was written."""

    def __init__(self) -> None:
        self.bytes = bytearray(256 * MIB)

    def write(self, physical: int, data: bytes) -> None:
        self.bytes[physical : physical + len(data)] = data


@pytest.fixture
def kernel_file(tmp_path: Path) -> Path:
    path = tmp_path / "bzImage"
    path.write_bytes(bzimage())
    return path


def test_a_64_bit_kernel_starts_in_long_mode_at_its_second_entry(kernel_file: Path) -> None:
    boot = LinuxBoot.open(str(kernel_file), None, "quiet", 128 * MIB)
    entry = boot.load(FakeMemory(), e820_map(128 * MIB), RSDP)
    assert entry.registers["rip"] == 16 * MIB + 0x200
    assert entry.registers["rsi"] == linux.BOOT_PARAMS
    assert entry.registers["efer"] == 0x500
    assert entry.registers["cr0"] == 0x80000011
    assert entry.code == linux.CODE_64


def test_a_32_bit_kernel_starts_in_flat_protected_mode(tmp_path: Path) -> None:
    path = tmp_path / "old"
    path.write_bytes(bzimage(version=0x204, xloadflags=0, relocatable=0))
    boot = LinuxBoot.open(str(path), None, "", 128 * MIB)
    entry = boot.load(FakeMemory(), e820_map(128 * MIB), RSDP)
    assert entry.registers["rip"] == MIB
    assert entry.registers["cr0"] == 0x11
    assert "cr3" not in entry.registers
    assert entry.code == linux.CODE_32


def test_memory_holds_the_kernel_its_command_line_and_the_zero_page(tmp_path: Path) -> None:
    kernel, initrd = tmp_path / "bzImage", tmp_path / "initrd"
    kernel.write_bytes(bzimage())
    initrd.write_bytes(b"cpio" * 1000)
    memory = FakeMemory()
    boot = LinuxBoot.open(str(kernel), str(initrd), "console=ttyS0", 128 * MIB)
    boot.load(memory, e820_map(128 * MIB), RSDP)
    page = memory.bytes[linux.BOOT_PARAMS :]
    assert memory.bytes[16 * MIB :].startswith(b"\x90" * 0x1000)
    assert memory.bytes[linux.COMMAND_LINE :].startswith(b"console=ttyS0\0")
    address, size = struct.unpack_from("<LL", page, 0x218)
    assert (address, size) == (128 * MIB - 4096, 4000)
    assert memory.bytes[address : address + 4] == b"cpio"
    assert struct.unpack_from("<L", page, 0x228)[0] == linux.COMMAND_LINE
    assert struct.unpack_from("<Q", page, 0x70)[0] == RSDP
    assert page[0x202:0x206] == b"HdrS"
    assert page[0x210] == 0xFF
    assert page[0x1E8] == len(e820_map(128 * MIB))


def test_page_tables_map_the_low_4_gib_to_themselves() -> None:
    tables = struct.unpack("<3072Q", linux.identity_map())
    assert tables[0] == linux.PAGE_TABLES + 0x1000 | 3
    assert tables[512:516] == tuple(linux.PAGE_TABLES + 0x2000 + n * 0x1000 | 3 for n in range(4))
    assert not any(tables[516:1024])
    assert [entry & ~0xFFF for entry in tables[1024:]] == [n * 2 * MIB for n in range(2048)]
    assert all(entry & 0xFFF == 0x83 for entry in tables[1024:])


def test_gdt_holds_the_selectors_the_protocol_names() -> None:
    rows = struct.unpack("<5Q", linux.boot_gdt(linux.CODE_64))
    assert rows[linux.BOOT_CS // 8] == 0x00AF9B000000FFFF
    assert rows[linux.BOOT_DS // 8] == 0x00CF93000000FFFF


def test_initrd_stays_below_the_kernels_limit() -> None:
    kernel = linux.parse_kernel("k", bzimage(initrd_max=0x37FFFFFF))
    assert place(kernel, 8 * MIB, 2 * GIB).initrd == 0x38000000 - 8 * MIB


def test_initrd_never_overlaps_what_the_kernel_needs() -> None:
    kernel = linux.parse_kernel("k", bzimage())
    assert place(kernel, 2 * MIB, 50 * MIB).initrd == 48 * MIB
    with pytest.raises(LoadError, match="not enough memory"):
        place(kernel, 2 * MIB + 1, 50 * MIB)


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (b"", "not a Linux bzImage"),
        (b"\x7fELF" + bytes(8192), "not a Linux bzImage"),
        (bzimage(version=0x201), "boot protocol 2.01"),
        (bzimage(loadflags=0), "too old"),
        (bzimage()[:-64], "truncated"),
        (bzimage()[: 3 * 512], "truncated"),
    ],
)
def test_what_is_no_kernel_is_named_with_the_reason(
    tmp_path: Path, image: bytes, reason: str
) -> None:
    path = tmp_path / "thing"
    path.write_bytes(image)
    with pytest.raises(LoadError, match=reason) as caught:
        LinuxBoot.open(str(path), None, "", 128 * MIB)
    assert str(path) in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match=r"could not open kernel file '.*/none': No such file"):
        LinuxBoot.open(str(tmp_path / "none"), None, "", 128 * MIB)


def test_a_missing_initrd_is_named(kernel_file: Path) -> None:
    with pytest.raises(LoadError, match="could not open initrd file '/none'"):
        LinuxBoot.open(str(kernel_file), "/none", "", 128 * MIB)


def test_too_little_memory_names_all_sizes(kernel_file: Path) -> None:
    with pytest.raises(LoadError, match="needs 48 MiB, the guest has 16 MiB"):
        LinuxBoot.open(str(kernel_file), None, "", 16 * MIB)


def test_a_kernel_that_needs_a_bios_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bzImage"
    path.write_bytes(bzimage(preferred=0))
    with pytest.raises(LoadError, match="has only a real-mode entry"):
        LinuxBoot.open(str(path), None, "", 64 * MIB)


def test_a_command_line_longer_than_the_kernel_takes_is_refused(kernel_file: Path) -> None:
    with pytest.raises(LoadError, match="2048 bytes"):
        LinuxBoot.open(str(kernel_file), None, "x" * 2048, 128 * MIB)


@pytest.mark.parametrize("size", [2 * MIB, 256 * MIB, 3584 * MIB, 4 * GIB, 17 * GIB])
def test_the_memory_map_reports_all_ram_but_the_reserved_areas(size: int) -> None:
    blocks, entries = ram_blocks(size), e820_map(size)
    assert max(block.offset + block.length for block in blocks) == size
    for entry in entries:
        if entry.type is E820Type.RAM:
            assert any(
                block.physical <= entry.base
                and entry.base + entry.length <= block.physical + block.length
                for block in blocks
            )
    ram = sum(entry.length for entry in entries if entry.type is E820Type.RAM)
    assert ram == size - (MIB - 0x9FC00)
    ends = [entry.base + entry.length for entry in entries if entry.base < 4 * GIB]
    assert max(ends) <= 0xE0000000
