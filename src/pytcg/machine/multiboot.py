"""Multiboot 1 kernels (GNU's Multiboot Specification 0.6.96), with modules from `-initrd`."""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntFlag
from typing import Final

from pytcg.machine import elf, flat
from pytcg.machine.layout import HIGH_MEMORY, KIB, MIB, VGA_HOLE, E820Entry, low_memory_end
from pytcg.machine.linux import LoadError, Memory, read_file
from pytcg.machine.runner import Vcpu

HEADER_MAGIC: Final = 0x1BADB002
LOADER_MAGIC: Final = 0x2BADB002  # in EAX
SEARCH: Final = 8192
INFO: Final = 0x9000
INFO_SIZE: Final = 120
PAGE: Final = 4096
BASE_MEMORY_KIB: Final = 640
HIGH_MEMORY_KIB: Final = 1024
NO_BOOT_DEVICE: Final = 0x8000FFFF
LOADER_NAME: Final = b"pytcg\0"


class HeaderFlags(IntFlag):
    """What the kernel asks for (3.1.2)."""

    PAGE_ALIGN = 1 << 0
    MEMORY_INFO = 1 << 1
    VIDEO = 1 << 2
    ADDRESSES = 1 << 16
    MANDATORY = 0xFFFF


class InfoFlags(IntFlag):
    """What the information structure has (3.3)."""

    MEMORY = 1 << 0
    BOOT_DEVICE = 1 << 1
    COMMAND_LINE = 1 << 2
    MODULES = 1 << 3
    MEMORY_MAP = 1 << 6
    LOADER_NAME = 1 << 9


GRANTED: Final = HeaderFlags.PAGE_ALIGN | HeaderFlags.MEMORY_INFO | HeaderFlags.VIDEO


@dataclass(frozen=True)
class Module:
    """A file for the kernel, and its command line: the file's name comes first."""

    data: bytes
    command_line: bytes


@dataclass(frozen=True)
class MultibootBoot:
    """A kernel with its modules, ready to be loaded again and again."""

    segments: tuple[elf.Segment, ...]
    entry: int
    command_line: bytes
    modules: tuple[Module, ...]
    ram_size: int

    def start(self, memory: Memory, e820: Sequence[E820Entry], rsdp: int, vcpu: Vcpu) -> None:
        """Write everything into guest memory and point the processor at the entry."""
        del rsdp  # this protocol has no word for it: kernels look for it
        load_segments(memory, self.segments)
        places = self._load_modules(memory)
        memory.write(INFO, self._information(places, e820))
        flat.enter(memory, vcpu, self.entry, {"rax": LOADER_MAGIC, "rbx": INFO})

    def modules_end(self) -> int:
        """First address above everything that is loaded."""
        return _page(self._modules_start()) + sum(_page(len(m.data)) for m in self.modules)

    def _modules_start(self) -> int:
        return max(segment.physical + segment.size for segment in self.segments)

    def _load_modules(self, memory: Memory) -> list[tuple[int, int]]:
        places = []
        address = _page(self._modules_start())
        for module in self.modules:
            memory.write(address, module.data)
            places.append((address, address + len(module.data)))
            address += _page(len(module.data))
        return places

    def _information(self, places: list[tuple[int, int]], e820: Sequence[E820Entry]) -> bytes:
        """The structure, and behind it the strings, the modules and the memory map."""
        tail = bytearray()

        def put(data: bytes) -> int:
            tail.extend(bytes(-len(tail) % 4))
            address = INFO + INFO_SIZE + len(tail)
            tail.extend(data)
            return address

        rows = [
            struct.pack("<LLLL", *place, put(module.command_line + b"\0"), 0)
            for place, module in zip(places, self.modules, strict=True)
        ]
        command_line, loader = put(self.command_line + b"\0"), put(LOADER_NAME)
        modules = put(b"".join(rows))
        entries = b"".join(struct.pack("<LQQL", 20, *entry) for entry in e820)
        memory_map = put(entries)
        flags = (InfoFlags.MEMORY | InfoFlags.BOOT_DEVICE | InfoFlags.COMMAND_LINE
                 | InfoFlags.MODULES | InfoFlags.MEMORY_MAP | InfoFlags.LOADER_NAME)  # fmt: skip
        upper = low_memory_end(self.ram_size) // KIB - HIGH_MEMORY_KIB
        info = struct.pack("<LLLLLLL", flags, BASE_MEMORY_KIB, upper, NO_BOOT_DEVICE,
                           command_line, len(rows), modules)  # fmt: skip
        info = info.ljust(44, b"\0") + struct.pack("<LL", len(entries), memory_map)
        info = info.ljust(64, b"\0") + struct.pack("<L", loader)
        return info.ljust(INFO_SIZE, b"\0") + bytes(tail)


def find_header(image: bytes) -> tuple[int, int] | None:
    """Offset and flags of the multiboot header in an image, if it has one."""
    for offset in range(0, min(SEARCH, len(image)) - 11, 4):
        magic, flags, checksum = struct.unpack_from("<LLL", image, offset)
        if magic == HEADER_MAGIC and (magic + flags + checksum) & 0xFFFFFFFF == 0:
            return offset, flags
    return None


def open_multiboot(path: str, image: bytes, initrd: str | None, command_line: str,
                   ram_size: int) -> MultibootBoot | None:  # fmt: skip
    """The kernel, if the image is one; LoadError says what is wrong with it."""
    found = find_header(image)
    if found is None:
        return None
    offset, flags = found
    if unknown := flags & HeaderFlags.MANDATORY & ~GRANTED:
        raise LoadError(f"kernel file '{path}' asks for unknown multiboot features {unknown:#x}")
    if flags & HeaderFlags.ADDRESSES:
        segments, entry = _by_addresses(path, image, offset)
    else:
        segments, entry = _by_elf(path, image)
    line = os.fsencode(f"{path} {command_line}" if command_line else path)
    modules = open_modules(initrd, ram_size)
    check_segments(path, segments, ram_size)
    boot = MultibootBoot(segments, entry, line, modules, ram_size)
    if boot.modules_end() > low_memory_end(ram_size):
        raise LoadError(f"not enough memory: kernel '{path}' and its modules need"
                        f" {boot.modules_end() >> 20} MiB")  # fmt: skip
    return boot


def open_modules(initrd: str | None, ram_size: int) -> tuple[Module, ...]:
    """`-initrd "file arguments,file arguments"`; a comma within one is doubled."""
    if initrd is None:
        return ()
    texts = [text.replace("\0", ",") for text in initrd.replace(",,", "\0").split(",")]
    return tuple(
        Module(read_file(text.strip().split(" ")[0], "module", ram_size), os.fsencode(text.strip()))
        for text in texts
    )


def _by_elf(path: str, image: bytes) -> tuple[tuple[elf.Segment, ...], int]:
    try:
        parsed = elf.parse(image)
    except elf.ElfError as error:
        raise LoadError(f"multiboot kernel file '{path}' {error}") from error
    if parsed.bits != 32:
        raise LoadError(f"multiboot kernel file '{path}' is a 64-bit image, give a 32-bit one")
    return parsed.segments, parsed.entry


def _by_addresses(path: str, image: bytes, offset: int) -> tuple[tuple[elf.Segment, ...], int]:
    """The header itself says what goes where (3.1.3)."""
    try:
        header, load, load_end, bss_end, entry = struct.unpack_from("<5L", image, offset + 12)
    except struct.error:
        raise LoadError(f"multiboot kernel file '{path}' is truncated") from None
    start = offset - (header - load)
    if start < 0 or header < load:
        raise LoadError(f"multiboot kernel file '{path}' has impossible load addresses")
    data = image[start:] if not load_end else image[start : start + load_end - load]
    return (elf.Segment(load, data, max(bss_end - load, len(data))),), entry


def check_segments(path: str, segments: Sequence[elf.Segment], ram_size: int) -> None:
    """LoadError if one of them is not in RAM below 4 GiB."""
    low_end = low_memory_end(ram_size)
    for segment in segments:
        end = segment.physical + segment.size
        base_memory = end <= VGA_HOLE
        if not base_memory and (segment.physical < HIGH_MEMORY or segment.physical >= low_end):
            raise LoadError(f"kernel file '{path}': no memory at {segment.physical:#x}")
        if end > low_end:
            raise LoadError(f"not enough memory: kernel '{path}' needs {-(-end // MIB)} MiB")


def load_segments(memory: Memory, segments: Sequence[elf.Segment]) -> None:
    """Write segments with the zeroes behind them."""
    for segment in segments:
        memory.write(segment.physical, segment.data)
        if rest := segment.size - len(segment.data):
            memory.write(segment.physical + len(segment.data), bytes(rest))


def _page(size: int) -> int:
    return -(-size // PAGE) * PAGE
