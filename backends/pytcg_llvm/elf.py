"""Relocatable ELF64 objects, as far as LLVM's are read here (System V gABI, chapter 4)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

_SYMTAB, _RELA = 2, 4
_LOCAL = 0
_ENTRY = 24
"""Bytes of an entry, of a symbol table or of one of relocations."""


class Section(NamedTuple):
    """A row of the section header table."""

    kind: int
    flags: int
    at: int
    size: int
    link: int
    info: int
    align: int


class Symbol(NamedTuple):
    """``section`` is 0 if the object does not define it; others may refer to an ``external``."""

    name: str
    external: bool
    section: int
    value: int
    size: int


class Relocation(NamedTuple):
    """A place in ``section`` that depends on a symbol, by its number."""

    section: int
    place: int
    kind: int
    symbol: int
    addend: int


class Elf:
    """One object."""

    def __init__(self, image: bytes):
        self._image = image
        start, = struct.unpack_from("<Q", image, 40)
        size, count = struct.unpack_from("<HH", image, 58)
        rows = (struct.unpack_from("<IIQQQQIIQ", image, start + n * size) for n in range(count))
        self.sections = [Section(kind, flags, at, length, link, info, align)
                         for _, kind, flags, _, at, length, link, info, align in rows]  # fmt: skip

    def _entries(self, section: Section) -> range:
        return range(section.at, section.at + section.size, _ENTRY)

    def symbols(self) -> list[Symbol]:
        """All symbols, the nameless first one too, so that relocations can be looked up."""
        table = next(s for s in self.sections if s.kind == _SYMTAB)
        strings = self.sections[table.link].at
        found = []
        for at in self._entries(table):
            name, info, _, section, value, size = struct.unpack_from("<IBBHQQ", self._image, at)
            start = strings + name
            text = self._image[start : self._image.index(0, start)].decode()
            found.append(Symbol(text, info >> 4 != _LOCAL, section, value, size))
        return found

    def relocations(self) -> Iterator[Relocation]:
        """All relocations."""
        for section in self.sections:
            if section.kind == _RELA:
                for at in self._entries(section):
                    place, info, addend = struct.unpack_from("<QQq", self._image, at)
                    yield Relocation(section.info, place, info & 0xFFFF_FFFF, info >> 32, addend)

    def contents(self, section: Section) -> bytes:
        """The bytes of a section that has any in the file."""
        return self._image[section.at : section.at + section.size]

    def code(self, symbol: Symbol) -> bytes:
        """The bytes of a function that the object defines."""
        start = self.sections[symbol.section].at + symbol.value
        return self._image[start : start + symbol.size]
