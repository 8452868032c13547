"""PVH kernels: ELF files with Xen's note of a 32-bit entry (Xen's docs/misc/pvh, start_info.h)."""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pytcg.machine import elf, flat
from pytcg.machine.layout import E820Entry, low_memory_end
from pytcg.machine.linux import LoadError, Memory, read_file
from pytcg.machine.multiboot import check_segments, load_segments
from pytcg.machine.runner import Vcpu

NOTE_NAME: Final = b"Xen"
NOTE_PHYS32_ENTRY: Final = 18
MAGIC: Final = 0x336EC578
VERSION: Final = 1
START_INFO: Final = 0x6000
MODULE_LIST: Final = 0x6040
MEMORY_MAP: Final = 0x6100
COMMAND_LINE: Final = 0x20000
COMMAND_LINE_MAX: Final = 0xFFFF
PAGE: Final = 4096


@dataclass(frozen=True)
class PvhBoot:
    """A kernel, its initrd and its command line, ready to be loaded again and again."""

    segments: tuple[elf.Segment, ...]
    entry: int
    initrd: bytes
    initrd_address: int
    command_line: bytes

    def start(self, memory: Memory, e820: Sequence[E820Entry], rsdp: int, vcpu: Vcpu) -> None:
        """Write everything into guest memory and point the processor at the entry."""
        load_segments(memory, self.segments)
        memory.write(COMMAND_LINE, self.command_line + b"\0")
        if self.initrd:
            memory.write(self.initrd_address, self.initrd)
        memory.write(MODULE_LIST, struct.pack("<QQQQ", self.initrd_address, len(self.initrd), 0, 0))
        memory.write(MEMORY_MAP, b"".join(struct.pack("<QQLL", *entry, 0) for entry in e820))
        modules = int(bool(self.initrd))
        memory.write(START_INFO, struct.pack(
            "<LLLLQQQQLL", MAGIC, VERSION, 0, modules, MODULE_LIST if modules else 0,
            COMMAND_LINE, rsdp, MEMORY_MAP, len(e820), 0,
        ))  # fmt: skip
        flat.enter(memory, vcpu, self.entry, {"rbx": START_INFO})


def open_pvh(path: str, image: bytes, initrd: str | None, command_line: str,
             ram_size: int) -> PvhBoot | None:  # fmt: skip
    """The kernel, if the image is an ELF file; LoadError if it has no such entry."""
    if not image.startswith(elf.MAGIC):
        return None
    try:
        parsed = elf.parse(image)
    except elf.ElfError as error:
        raise LoadError(f"kernel file '{path}' {error}") from error
    check_segments(path, parsed.segments, ram_size)
    entry = _entry(parsed)
    if entry is None:
        raise LoadError(f"kernel file '{path}' is an ELF image without a multiboot header"
                        " or a PVH note")  # fmt: skip
    data = read_file(initrd, "initrd", ram_size) if initrd is not None else b""
    line = os.fsencode(command_line)
    if len(line) > COMMAND_LINE_MAX:
        raise LoadError(f"kernel command line is {len(line)} bytes long, too long for '{path}'")
    address = (low_memory_end(ram_size) - len(data)) & -PAGE
    if parsed.end > address:
        needed = parsed.end + len(data) >> 20
        raise LoadError(f"not enough memory: kernel '{path}' and its initrd need {needed} MiB")
    return PvhBoot(parsed.segments, entry, data, address if data else 0, line)


def _entry(parsed: elf.Elf) -> int | None:
    for note in parsed.notes:
        if note.name == NOTE_NAME and note.type == NOTE_PHYS32_ENTRY and len(note.data) >= 4:
            return int.from_bytes(note.data[:8], "little") & 0xFFFFFFFF
    return None
