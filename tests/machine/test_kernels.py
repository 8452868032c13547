"""Multiboot and PVH kernels: what is read from the files, what stands in memory at the entry."""

from __future__ import annotations

import contextlib
import random
import struct
from pathlib import Path

import pytest

from hw.test_fw_cfg import Memory
from machine.fakes import FakeVcpu, board_memory
from pytcg.hw.chipset.fw_cfg import FwCfg
from pytcg.machine import elf, linux_rom
from pytcg.machine.boot import boot_kernel, open_kernel
from pytcg.machine.layout import MIB
from pytcg.machine.linux import LoadError
from pytcg.machine.linux_rom import FirmwareKernel, make_firmware_kernel
from pytcg.softmmu.address_map import AddressMap
from x86.assemble import assemble

RAM = 16 * MIB
LOAD = 0x100000
HIGH = 0xC0000000  # where a kernel links itself
CODE = b"\xfa\xf4" * 8


def elf32(payload: bytes, *, entry: int = LOAD, virtual: int = LOAD, size: int | None = None,
          note: bytes = b"", physical: int = LOAD) -> bytes:  # fmt: skip
    """One segment, and one of notes if there are any."""
    count, start = (2 if note else 1), 52 + 2 * 32
    header = struct.pack("<4sBBB9xHHLLLLLHHHHHH", b"\x7fELF", 1, 1, 1, 2, 3, 1, entry, 52, 0, 0,
                         52, 32, count, 0, 0, 0)  # fmt: skip
    memory = size if size is not None else len(payload)
    load = struct.pack("<8L", 1, start, virtual, physical, len(payload), memory, 5, 4096)
    notes = struct.pack("<8L", 4, start + len(payload), 0, 0, len(note), len(note), 4, 4)
    return header + load + notes + payload + note


def multiboot_header(flags: int = 3, *addresses: int) -> bytes:
    return struct.pack("<LLL", 0x1BADB002, flags, -(0x1BADB002 + flags) & 0xFFFFFFFF) + b"".join(
        struct.pack("<L", address) for address in addresses
    )


def xen_note(entry: int) -> bytes:
    return struct.pack("<LLL4sL", 4, 4, 18, b"Xen\0", entry)


class Started:
    """A kernel that was loaded, and the processor at its entry."""

    def __init__(self, path: Path, initrd: str | None = None, append: str = "") -> None:
        self.memory: AddressMap = board_memory(RAM)
        self.vcpu = FakeVcpu(None, FakeVcpu.wait)  # type: ignore[arg-type]
        kernel = open_kernel(str(path), initrd, append, RAM)
        boot_kernel(kernel, self.memory, RAM, self.vcpu)

    def words(self, address: int, count: int) -> tuple[int, ...]:
        return struct.unpack(f"<{count}L", self.memory.read(address, 4 * count))

    def text(self, address: int) -> bytes:
        return self.memory.read(address, 200).split(b"\0")[0]


def written(folder: Path, data: bytes, name: str = "kernel") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def test_a_multiboot_elf_starts_in_flat_protected_mode(tmp_path: Path) -> None:
    path = written(tmp_path, elf32(multiboot_header() + CODE, entry=LOAD + 12, size=0x2000))
    started = Started(path, append="one two")
    regs = started.vcpu.regs
    assert regs["rax"] == 0x2BADB002 and regs["rip"] == LOAD + 12 and regs["cr0"] == 0x11
    assert started.vcpu.segments["cs"] == (8, 0, 0xFFFFFFFF, 0xC09B)
    assert started.vcpu.segments["ss"] == (16, 0, 0xFFFFFFFF, 0xC093)
    info = regs["rbx"]
    flags, lower, upper, device, line, modules = started.words(info, 6)
    assert flags & 0x24F == 0x24F and (lower, upper) == (640, 15 * 1024) and modules == 0
    assert device == 0x8000FFFF
    assert started.text(line) == str(path).encode() + b" one two"
    length, where = started.words(info + 44, 2)
    size, low, _, bytes_, _, kind = started.words(where, 6)
    assert (size, low, bytes_, kind) == (20, 0, 0x9FC00, 1) and length % 24 == 0
    assert started.memory.read(LOAD + 12, len(CODE)) == CODE


def test_modules_follow_the_kernel_page_by_page(tmp_path: Path) -> None:
    first = written(tmp_path, b"A" * 5000, "first")
    second = written(tmp_path, b"B", "second,really")
    kernel = written(tmp_path, elf32(multiboot_header() + CODE, size=0x2345))
    started = Started(kernel, f"{first} a b,{str(second).replace(',', ',,')}")
    count, table = started.words(started.vcpu.regs["rbx"] + 20, 2)
    assert count == 2
    start, end, line, _ = started.words(table, 4)
    assert (start, end) == (0x103000, 0x103000 + 5000)
    assert started.text(line) == str(first).encode() + b" a b"
    start, end, line, _ = started.words(table + 16, 4)
    assert (start, end) == (0x105000, 0x105001)
    assert started.memory.read(start, 1) == b"B" and started.text(line).endswith(b"second,really")


def test_the_header_may_say_itself_what_goes_where(tmp_path: Path) -> None:
    header = multiboot_header(0x10003, 0x200010, 0x200000, 0, 0x201000, 0x200030)
    image = bytes(0x20) + b"before header!!!" + header + CODE
    started = Started(written(tmp_path, image))
    assert started.vcpu.regs["rip"] == 0x200030
    assert started.memory.read(0x200000, 16) == b"before header!!!"
    assert started.memory.read(0x200030, len(CODE)) == CODE


def test_a_pvh_kernel_gets_its_start_info(tmp_path: Path) -> None:
    image = elf32(CODE, entry=HIGH, virtual=HIGH, note=xen_note(LOAD + 2))
    initrd = written(tmp_path, b"initrd!", "initrd")
    started = Started(written(tmp_path, image), str(initrd), "console=ttyS0")
    assert started.vcpu.regs["rip"] == LOAD + 2
    info = started.vcpu.regs["rbx"]
    magic, version, _, count = started.words(info, 4)
    assert (magic, version, count) == (0x336EC578, 1, 1)
    fields = started.memory.read(info + 16, 32)
    modules, line, rsdp, memory_map = struct.unpack("<QQQQ", fields)
    assert rsdp == 0xF0000 and started.text(line) == b"console=ttyS0"
    address, length = struct.unpack("<QQ", started.memory.read(modules, 16))
    assert started.memory.read(address, length) == b"initrd!" and address % 4096 == 0
    base, size, kind = struct.unpack("<QQL", started.memory.read(memory_map, 20))
    assert (base, size, kind) == (0, 0x9FC00, 1)


def test_a_virtual_entry_becomes_a_physical_one() -> None:
    parsed = elf.parse(elf32(CODE, entry=HIGH + 4, virtual=HIGH))
    assert (parsed.bits, parsed.entry, parsed.end) == (32, LOAD + 4, LOAD + len(CODE))


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (elf32(CODE), "without a multiboot header or a PVH note"),
        (elf32(CODE)[:60], "is truncated"),
        (elf32(multiboot_header(0x44) + CODE), "unknown multiboot features 0x40"),
        (elf32(multiboot_header() + CODE, physical=0xD0000000), "no memory at 0xd0000000"),
        (elf32(multiboot_header() + CODE, size=15 * MIB + 1), "not enough memory"),
        (multiboot_header(0x10003, 0, 1, 0, 0, 0), "impossible load addresses"),
        (multiboot_header() + bytes(100), "is no ELF file of x86"),
        (b"\x7fELF\x02" + elf32(multiboot_header() + CODE)[5:], "has nothing to load"),
    ],
)
def test_what_can_not_be_loaded_is_named(tmp_path: Path, image: bytes, message: str) -> None:
    path = written(tmp_path, image)
    with pytest.raises(LoadError, match=message) as caught:
        Started(path)
    assert str(path) in str(caught.value)


def test_a_missing_module_is_named(tmp_path: Path) -> None:
    kernel = written(tmp_path, elf32(multiboot_header() + CODE))
    with pytest.raises(LoadError, match="could not open module file '/none'"):
        Started(kernel, "/none x")


@pytest.mark.parametrize("seed", range(200))
def test_damaged_files_are_refused_or_loaded_never_worse(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    image = bytearray(elf32(multiboot_header() + CODE, note=xen_note(LOAD)))
    for _ in range(chance.randrange(1, 6)):
        image[chance.randrange(len(image))] = chance.choice([0, 1, 0xFF, chance.randrange(256)])
    if chance.random() < 0.3:
        del image[chance.randrange(len(image)) :]
    with contextlib.suppress(LoadError):
        Started(written(tmp_path, bytes(image)))


# Kernels that firmware starts -------------------------------------------------------------------


def old_kernel(version: int, loadflags: int, payload: bytes = b"P" * 4096) -> bytes:
    """A setup of two sectors and a payload, of some boot protocol."""
    image = bytearray(3 * 512)
    image[0x1F1] = 2
    image[0x1FE:0x200] = b"\x55\xaa"
    if version:
        image[0x202:0x206] = b"HdrS"
        struct.pack_into("<H", image, 0x206, version)
        image[0x211] = loadflags
        struct.pack_into("<L", image, 0x22C, 0x7FFFFFF)
    return bytes(image) + payload


def run_rom(made: FirmwareKernel) -> dict[int, bytes]:
    """What the ROM's transfers put where."""
    fw_cfg = FwCfg(Memory())
    made.tell(fw_cfg)
    fw_cfg.reset()
    rom = fw_cfg.file("genroms/linux.bin")
    assert rom[:2] == b"\x55\xaa" and len(rom) == rom[2] * 512 and sum(rom) & 0xFF == 0
    pnp = struct.unpack_from("<H", rom, 0x1A)[0]
    assert rom[pnp : pnp + 4] == b"$PnP" and sum(rom[pnp : pnp + 32]) & 0xFF == 0
    entry = struct.unpack_from("<H", rom, pnp + 0x1A)[0]
    table, count = (struct.unpack_from("<H", rom, entry + at)[0] for at in (15, 18))
    placed = {}
    for number in range(count):
        control, length, where = struct.unpack_from(">LLQ", rom, table + 16 * number)
        assert control & 0xFFFF == 0x0A
        fw_cfg.select(control >> 16)
        placed[where] = bytes(fw_cfg.read_data() for _ in range(length))
    jump = rom.index(b"\xea", entry)
    assert struct.unpack_from("<HH", rom, jump + 1) == (0, (made.setup_address >> 4) + 0x20)
    return placed


@pytest.mark.parametrize(
    ("version", "flags", "setup", "payload"),
    [(0x20F, 1, 0x10000, 0x100000), (0x201, 1, 0x90000, 0x100000), (0x200, 0, 0x90000, 0x10000),
     (0, 0, 0x90000, 0x10000)],
)  # fmt: skip
def test_each_boot_protocol_has_its_places(
    version: int, flags: int, setup: int, payload: int
) -> None:
    initrd = b"I" * 100 if version else b""
    made = make_firmware_kernel("k", old_kernel(version, flags), initrd, "quiet", RAM)
    placed = run_rom(made)
    assert placed[payload] == b"P" * 4096
    line = made.command_line_address
    assert placed[line] == b"quiet\0"
    header = placed[setup]
    if version >= 0x202:
        assert struct.unpack_from("<L", header, 0x228)[0] == line
    else:
        assert struct.unpack_from("<HH", header, 0x20) == (0xA33F, line - setup)
    if version:
        where, size = struct.unpack_from("<LL", header, 0x218)
        assert placed[where] == initrd and size == 100 and where % 4096 == 0


def test_the_roms_program_is_what_its_comments_say() -> None:
    text = """
        cli; cld; mov ax, cs; mov ds, ax; movzx ebx, ax; shl ebx, 4; mov si, 0x7080; mov cx, 0x300
        1: movzx eax, si; add eax, ebx; bswap eax; mov dx, 0x518; out dx, eax
        add si, 16; dec cx; jnz 1b
        mov ax, 0x1000; mov ds, ax; mov es, ax; mov fs, ax; mov gs, ax; mov ss, ax; mov sp, 0xfff0
    """
    program = bytearray(linux_rom.PROGRAM)
    struct.pack_into("<H", program, linux_rom.TRANSFERS_AT, 0x7080)
    struct.pack_into("<H", program, linux_rom.COUNT_AT, 0x300)
    struct.pack_into("<H", program, linux_rom.SEGMENT_AT, 0x1000)
    assert bytes(program).startswith(assemble(text, 16))
    assert program[linux_rom.ENTRY_AT - 1] == 0xEA and len(program) == linux_rom.ENTRY_AT + 4


@pytest.mark.parametrize(
    ("image", "initrd", "message"),
    [(b"x" * 2000, b"", "is not a Linux kernel"), (old_kernel(0, 0), b"I", "too old to load"),
     (old_kernel(0x20F, 1), b"I" * RAM, "not enough memory"), (b"", b"", "is not a Linux kernel")],
)  # fmt: skip
def test_what_firmware_can_not_start_is_named(image: bytes, initrd: bytes, message: str) -> None:
    with pytest.raises(LoadError, match=message):
        make_firmware_kernel("k", image, initrd, "", RAM)
