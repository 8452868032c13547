"""ELF executables, 32 and 64 bits, as far as loading them into physical memory goes."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final, NamedTuple

MAGIC: Final = b"\x7fELF"
LITTLE_ENDIAN: Final = 1
EM_386, EM_X86_64 = 3, 62
PT_LOAD, PT_NOTE = 1, 4
PF_X: Final = 1


class ElfError(ValueError):
    """Not an ELF file for x86, or a damaged one; the text is the reason."""


class Segment(NamedTuple):
    """Bytes for a physical address, to be followed by zeroes up to ``size``."""

    physical: int
    data: bytes
    size: int


class Note(NamedTuple):
    """A note: who defined it, its type, what it says."""

    name: bytes
    type: int
    data: bytes


@dataclass(frozen=True)
class Elf:
    """An executable."""

    bits: int
    entry: int  # physical
    segments: tuple[Segment, ...]
    notes: tuple[Note, ...]

    @property
    def end(self) -> int:
        """First physical address above all segments."""
        return max(segment.physical + segment.size for segment in self.segments)


class _Header(NamedTuple):
    type: int
    flags: int
    offset: int
    virtual: int
    physical: int
    file_size: int
    memory_size: int
    alignment: int


def parse(image: bytes) -> Elf:
    """The executable in a file; ElfError."""
    try:
        return _parse(image)
    except struct.error:
        raise ElfError("is truncated") from None


def _parse(image: bytes) -> Elf:
    if image[:4] != MAGIC or len(image) < 52 or image[5] != LITTLE_ENDIAN:
        raise ElfError("is no ELF file of x86")
    wide = image[4] == 2
    machine = struct.unpack_from("<H", image, 18)[0]
    if machine not in (EM_386, EM_X86_64):
        raise ElfError(f"is an ELF file of machine {machine}, not of x86")
    entry, table = struct.unpack_from("<QQ" if wide else "<LL", image, 24)
    size, count = struct.unpack_from("<HH", image, 54 if wide else 42)
    headers = [_header(image, table + index * size, wide=wide) for index in range(count)]
    loads = [header for header in headers if header.type == PT_LOAD and header.memory_size]
    if not loads:
        raise ElfError("has nothing to load")
    segments = tuple(
        Segment(load.physical, _bytes(image, load), load.memory_size) for load in loads
    )
    notes = [note for header in headers if header.type == PT_NOTE
             for note in _notes(_bytes(image, header), max(header.alignment, 4))]  # fmt: skip
    return Elf(64 if wide else 32, _physical(entry, loads), segments, tuple(notes))


def _header(image: bytes, at: int, *, wide: bool) -> _Header:
    if wide:
        kind, flags, *rest = struct.unpack_from("<LLQQQQQQ", image, at)
        return _Header(kind, flags, *rest)
    kind, offset, virtual, physical, file, memory, flags, alignment = struct.unpack_from(
        "<8L", image, at
    )
    return _Header(kind, flags, offset, virtual, physical, file, memory, alignment)


def _bytes(image: bytes, header: _Header) -> bytes:
    data = image[header.offset : header.offset + header.file_size]
    if len(data) != header.file_size:
        raise ElfError("is truncated")
    return data


def _physical(entry: int, loads: list[_Header]) -> int:
    """The entry's physical address: files may give the virtual one."""
    for load in loads:
        if load.flags & PF_X and load.virtual <= entry < load.virtual + load.memory_size:
            return entry - load.virtual + load.physical
    return entry


def _notes(data: bytes, alignment: int) -> list[Note]:
    alignment = alignment if alignment in (4, 8) else 4
    notes, at = [], 0
    while at + 12 <= len(data):
        name_size, size, kind = struct.unpack_from("<LLL", data, at)
        start = at + 12
        name = data[start : start + name_size].rstrip(b"\0")
        start += -(-name_size // alignment) * alignment
        notes.append(Note(name, kind, data[start : start + size]))
        at = start + -(-size // alignment) * alignment
    return notes
