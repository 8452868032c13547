"""The Linux/x86 boot protocol: a bzImage, its command line and initrd, laid out in guest memory.

Kernel: Documentation/arch/x86/boot.rst and zero-page.rst. The kernel is entered at its 64-bit entry
point where it has one (XLF_KERNEL_64), else at its 32-bit one; no BIOS call is ever needed.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntFlag
from typing import Final, Protocol

from pytcg.machine.layout import HIGH_MEMORY, MIB, E820Entry, low_memory_end
from pytcg.machine.runner import Vcpu

# Below 640 KiB, where the kernel looks at nothing but what it is told of.
GDT: Final = 0x5000
BOOT_PARAMS: Final = 0x7000
PAGE_TABLES: Final = 0x9000  # PML4, PDPT and four page directories
COMMAND_LINE: Final = 0x20000

SECTOR: Final = 512
HEADER: Final = 0x1F1
BOOT_FLAG: Final = 0xAA55
MAGIC: Final = b"HdrS"
LOADER_UNDEFINED: Final = 0xFF  # type_of_loader: "undefined", the value for loaders without an ID
STARTUP_64: Final = 0x200  # the 64-bit entry lies this far into the protected-mode kernel
DEFAULT_INITRD_MAX: Final = 0x37FFFFFF  # before protocol 2.03
DEFAULT_COMMAND_LINE_MAX: Final = 255  # before protocol 2.06
E820_TABLE: Final = 0x2D0
E820_MAX: Final = 128


class LoadError(Exception):
    """A kernel or initrd can't be booted; the text names the file and the reason."""


class NeedsFirmware(LoadError):
    """The kernel can be started by a BIOS only."""


class LoadFlags(IntFlag):
    """`loadflags` of the setup header."""

    LOADED_HIGH = 1 << 0
    KEEP_SEGMENTS = 1 << 6
    CAN_USE_HEAP = 1 << 7


class XLoadFlags(IntFlag):
    """`xloadflags` of the setup header (protocol 2.12)."""

    KERNEL_64 = 1 << 0


class Memory(Protocol):
    """Guest physical memory."""

    def write(self, physical: int, data: bytes) -> None:
        """Store bytes."""
        ...


@dataclass(frozen=True)
class Kernel:
    """A bzImage, parsed: the setup header's fields that decide where things go."""

    path: str
    header: bytes  # from HEADER on, as copied into boot_params
    payload: bytes  # the protected-mode kernel
    version: int
    code32_start: int
    initrd_max: int  # highest address the initrd may occupy
    command_line_max: int
    relocatable: bool
    alignment: int
    is_64_bit: bool
    preferred_address: int
    init_size: int  # memory needed from the load address on until the kernel knows its own map


def _field(image: bytes, layout: str, offset: int) -> int:
    value: int = struct.unpack_from(layout, image, offset)[0]
    return value


def read_file(path: str, what: str, limit: int) -> bytes:
    """The whole file, or LoadError in the words of QEMU's messages.

    A pipe is fine; the limit is for devices that never end.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise LoadError(f"could not open {what} file '{path}': {error.strerror}") from error
    if len(data) > limit:
        raise LoadError(f"{what} file '{path}' is larger than the guest's {limit // MIB} MiB")
    return data


def is_linux(image: bytes) -> bool:
    """Whether the image has a setup header."""
    return len(image) >= 0x206 and image[0x202:0x206] == MAGIC


def parse_kernel(path: str, image: bytes) -> Kernel:
    """Check that the image is a bzImage and read its setup header."""
    if len(image) < 0x268 or _field(image, "<H", 0x1FE) != BOOT_FLAG or image[0x202:0x206] != MAGIC:
        raise LoadError(f"kernel file '{path}' is not a Linux bzImage")
    version = _field(image, "<H", 0x206)
    flags = LoadFlags(image[0x211])
    if version < 0x202 or not flags & LoadFlags.LOADED_HIGH:
        number = f"{version >> 8}.{version & 0xFF:02}"
        raise NeedsFirmware(
            f"kernel file '{path}' has boot protocol {number}, too old to start without a BIOS"
        )
    setup_sectors = image[HEADER] or 4
    payload = image[(setup_sectors + 1) * SECTOR :]
    if len(payload) + 15 < _field(image, "<L", 0x1F4) * 16 or not payload:
        raise LoadError(f"kernel file '{path}' is truncated")
    newer = version >= 0x20A
    return Kernel(
        path=path,
        header=image[HEADER : 0x202 + image[0x201]],
        payload=payload,
        version=version,
        code32_start=_field(image, "<L", 0x214),
        initrd_max=_field(image, "<L", 0x22C) if version >= 0x203 else DEFAULT_INITRD_MAX,
        command_line_max=(
            _field(image, "<L", 0x238) if version >= 0x206 else DEFAULT_COMMAND_LINE_MAX
        ),
        relocatable=version >= 0x205 and bool(image[0x234]),
        alignment=_field(image, "<L", 0x230) if version >= 0x205 else 0,
        is_64_bit=version >= 0x20C
        and bool(XLoadFlags(_field(image, "<H", 0x236)) & XLoadFlags.KERNEL_64),
        preferred_address=_field(image, "<Q", 0x258) if newer else HIGH_MEMORY,
        init_size=_field(image, "<L", 0x260) if newer else len(payload),
    )


@dataclass(frozen=True)
class Placement:
    """Where the kernel and the initrd go, in guest physical addresses."""

    kernel: int
    initrd: int


def _megabytes(size: int) -> str:
    return f"{-(-size // MIB)} MiB"


def place(kernel: Kernel, initrd_size: int, ram_size: int) -> Placement:
    """Kernel at its preferred address, initrd as high as it may go; LoadError if RAM is too small.

    A 64-bit kernel moves itself to its preferred address or above even when loaded lower, so
    there is no smaller memory to try.
    """
    address = kernel.preferred_address if kernel.relocatable else kernel.code32_start
    if address < HIGH_MEMORY:
        raise NeedsFirmware(
            f"kernel file '{kernel.path}' has only a real-mode entry: it needs a BIOS"
        )
    end = address + max(kernel.init_size, len(kernel.payload))
    low_end = low_memory_end(ram_size)
    top = min(low_end, kernel.initrd_max + 1)
    initrd = (top - initrd_size) & ~0xFFF
    if end > low_end or (initrd_size and initrd < end):
        needs = f"kernel '{kernel.path}' needs {_megabytes(end)}"
        if initrd_size:
            needs += f" and its initrd {_megabytes(initrd_size)}"
        raise LoadError(f"not enough memory: {needs}, the guest has {_megabytes(ram_size)}")
    return Placement(address, initrd if initrd_size else 0)


def boot_params(
    kernel: Kernel,
    placement: Placement,
    initrd_size: int,
    e820: Sequence[E820Entry],
    rsdp: int,
) -> bytes:
    """The zero page: setup header, the loader's answers, the memory map, the RSDP's address."""
    page = bytearray(0x1000)
    page[HEADER : HEADER + len(kernel.header)] = kernel.header
    page[0x210] = LOADER_UNDEFINED
    page[0x211] = LoadFlags(page[0x211]) & ~LoadFlags.CAN_USE_HEAP
    struct.pack_into("<H", page, 0x1FA, 0xFFFF)  # vid_mode: "normal"
    struct.pack_into("<L", page, 0x214, placement.kernel)
    struct.pack_into("<LL", page, 0x218, placement.initrd, initrd_size)
    struct.pack_into("<L", page, 0x228, COMMAND_LINE)
    struct.pack_into("<Q", page, 0x70, rsdp)
    page[0x1E8] = min(len(e820), E820_MAX)
    for index, entry in enumerate(e820[:E820_MAX]):
        struct.pack_into("<QQL", page, E820_TABLE + index * 20, *entry)
    return bytes(page)


def identity_map() -> bytes:
    """PML4, PDPT and page directories that map the low 4 GiB to themselves in 2 MiB pages."""
    present_writable = 0x3
    huge = 0x80 | present_writable
    pml4 = [PAGE_TABLES + 0x1000 | present_writable]
    pdpt = [PAGE_TABLES + 0x2000 + index * 0x1000 | present_writable for index in range(4)]
    directories = [index << 21 | huge for index in range(2048)]
    blank = [0]
    tables = pml4 + blank * 511 + pdpt + blank * 508 + directories
    return struct.pack(f"<{len(tables)}Q", *tables)


# Descriptor attributes: bits 40-47 of the descriptor, then AVL, L, D/B, G (SDM vol. 3A 3.4.5).
CODE_64: Final = 0xA09B
CODE_32: Final = 0xC09B
DATA: Final = 0xC093
TSS: Final = 0x008B
BOOT_CS: Final = 0x10
BOOT_DS: Final = 0x18
BOOT_TR: Final = 0x20
FLAT_LIMIT: Final = 0xFFFFFFFF


def _descriptor(attributes: int, limit_pages: int) -> int:
    low, high = limit_pages & 0xFFFF, limit_pages >> 16
    return low | (attributes & 0xFF) << 40 | high << 48 | (attributes >> 12) << 52


def boot_gdt(code: int) -> bytes:
    """Null, unused, __BOOT_CS, __BOOT_DS and a task state segment, as boot.rst asks."""
    rows = [0, 0, _descriptor(code, 0xFFFFF), _descriptor(DATA, 0xFFFFF), _descriptor(TSS, 0)]
    return struct.pack(f"<{len(rows)}Q", *rows)


@dataclass(frozen=True)
class Entry:
    """The processor's state at the kernel's first instruction."""

    registers: dict[str, int]
    code: int  # attributes of CS


def entry_state(kernel: Kernel, placement: Placement) -> Entry:
    """Registers for the 64-bit entry, or for the 32-bit one of kernels that have no other."""
    common = {
        "rsi": BOOT_PARAMS,
        "gdtr.base": GDT,
        "gdtr.limit": len(boot_gdt(0)) - 1,
    }
    if not kernel.is_64_bit:
        return Entry({**common, "rip": placement.kernel, "cr0": 0x11}, CODE_32)
    long_mode = {
        "cr3": PAGE_TABLES,
        "cr4": 1 << 5,  # PAE
        "efer": 1 << 8 | 1 << 10,  # LME, LMA
        "cr0": 1 << 31 | 1 << 4 | 1 << 0,  # PG, ET, PE
    }
    return Entry({**common, **long_mode, "rip": placement.kernel + STARTUP_64}, CODE_64)


@dataclass(frozen=True)
class LinuxBoot:
    """A kernel, its initrd and its command line, checked and ready to be loaded again and again."""

    kernel: Kernel
    initrd: bytes
    command_line: bytes
    placement: Placement

    @classmethod
    def open(cls, kernel: str, initrd: str | None, command_line: str, ram_size: int) -> LinuxBoot:
        """Read and check the files; LoadError names what is wrong."""
        image = read_file(kernel, "kernel", ram_size)
        return cls.make(kernel, image, initrd, command_line, ram_size)

    @classmethod
    def make(cls, kernel: str, image: bytes, initrd: str | None, command_line: str,
             ram_size: int) -> LinuxBoot:  # fmt: skip
        """The same of a kernel that was read already."""
        parsed = parse_kernel(kernel, image)
        data = read_file(initrd, "initrd", ram_size) if initrd is not None else b""
        text = os.fsencode(command_line)
        if len(text) > parsed.command_line_max:
            raise LoadError(
                f"kernel command line is {len(text)} bytes long,"
                f" '{kernel}' takes {parsed.command_line_max}"
            )
        return cls(parsed, data, text, place(parsed, len(data), ram_size))

    def start(self, memory: Memory, e820: Sequence[E820Entry], rsdp: int, vcpu: Vcpu) -> None:
        """Load it and point the processor, fresh from reset, at its entry."""
        entry = self.load(memory, e820, rsdp)
        for name, value in entry.registers.items():
            vcpu.regs[name] = value
        vcpu.set_segment("cs", BOOT_CS, 0, FLAT_LIMIT, entry.code)
        for name in ("ds", "es", "ss", "fs", "gs"):
            vcpu.set_segment(name, BOOT_DS, 0, FLAT_LIMIT, DATA)
        vcpu.set_segment("tr", BOOT_TR, 0, 0xFFFF, TSS)

    def load(self, memory: Memory, e820: Sequence[E820Entry], rsdp: int) -> Entry:
        """Write everything into guest memory and say how the processor starts."""
        entry = entry_state(self.kernel, self.placement)
        params = boot_params(self.kernel, self.placement, len(self.initrd), e820, rsdp)
        memory.write(GDT, boot_gdt(entry.code))
        memory.write(BOOT_PARAMS, params)
        memory.write(PAGE_TABLES, identity_map())
        memory.write(COMMAND_LINE, self.command_line + b"\0")
        memory.write(self.placement.kernel, self.kernel.payload)
        if self.initrd:
            memory.write(self.placement.initrd, self.initrd)
        return entry
