"""Linking: compiled objects become images, and images are put into memory and made executable.

An `Image` is what is left of objects when all that their own layout decides is done: bytes, the
names they define, and the places that depend on where the image and others lie. It is what is
kept on disk; images join to one, so that a start reads a file or two. All code of a `Linker` lies
within two gigabytes, and is called and addressed relative to rIP.
"""

from __future__ import annotations

import ctypes
import struct
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytcg.softmmu.ram import HostBuffer, RamError
from pytcg_llvm.elf import Elf, Section

if TYPE_CHECKING:
    from pathlib import Path

SPACE = 1 << 30
"""Bytes of address space for the code of a linker; memory is what is used of it."""
_PAGE = 4096
_ALIGN = 64
_R64, _PC32, _PLT32 = 1, 2, 4  # System V ABI, AMD64 supplement, table 4.9
_NOBITS, _UNWIND = 8, 0x7000_0001
_ALLOCATED = 2
_HEADER = struct.Struct("<III")
_ROW = struct.Struct("<IIIi")  # place, width, name, addend
_STUB = b"\xff\x25\0\0\0\0"
"""JMP [rip + 0]: the address follows."""


class LinkError(Exception):
    """An object that needs what isn't there."""


class NoRoom(LinkError):
    """The space is full."""


@dataclass(frozen=True, slots=True)
class Image:
    """Host code that may lie anywhere.

    ``symbols`` are offsets by name. A relocation is a place, its width (8: an address; 4: a
    distance from that place), the number of a name (0 is the image's own start) and an addend.
    """

    code: bytes
    symbols: Mapping[str, int]
    names: tuple[str, ...]
    relocations: tuple[tuple[int, int, int, int], ...]

    @classmethod
    def of(cls, *objects: bytes) -> Image:
        """The image of ELF objects; LinkError."""
        return cls.join([_image(Elf(one)) for one in objects])

    @classmethod
    def join(cls, images: Iterable[Image]) -> Image:
        """One image of several; the first definition of a name counts."""
        code = bytearray()
        symbols: dict[str, int] = {}
        numbers: dict[str, int] = {"": 0}
        rows: list[tuple[int, int, int, int]] = []
        for image in images:
            code += bytes(-len(code) % _ALIGN)
            base = len(code)
            code += image.code
            for name, at in image.symbols.items():
                symbols.setdefault(name, base + at)
            own = [numbers.setdefault(name, len(numbers)) for name in image.names]
            rows += [(base + place, width, own[name], addend if name else addend + base)
                     for place, width, name, addend in image.relocations]  # fmt: skip
        return cls(bytes(code), symbols, tuple(numbers), tuple(rows))

    def to_bytes(self) -> bytes:
        """How it is kept on disk."""
        names = "\n".join((*self.names, "", *(f"{n} {at:x}" for n, at in self.symbols.items())))
        text = names.encode()
        rows = b"".join(_ROW.pack(*row) for row in self.relocations)
        return _HEADER.pack(len(text), len(rows), len(self.code)) + text + rows + self.code

    @classmethod
    def from_bytes(cls, data: bytes) -> Image:
        """The same back; the object cache has checked that it is as it was written."""
        text, rows, code = _HEADER.unpack_from(data)
        at = _HEADER.size
        lines = data[at : at + text].decode().split("\n")
        end = lines.index("", 1)
        pairs = (line.split(" ") for line in lines[end + 1 :])
        symbols = {name: int(offset, 16) for name, offset in pairs}
        at += text
        return cls(data[at + rows : at + rows + code], symbols, tuple(lines[:end]),
                   tuple(_ROW.iter_unpack(data[at : at + rows])))  # fmt: skip


def _image(elf: Elf) -> Image:
    """The image of one object."""
    places, code = _lay_out(elf)
    table = elf.symbols()
    symbols = {s.name: places[s.section] + s.value for s in table
               if s.name and s.external and s.section in places}  # fmt: skip
    names: dict[str, int] = {"": 0}
    rows: list[tuple[int, int, int, int]] = []
    for row in elf.relocations():
        if row.section not in places:
            continue
        symbol, place = table[row.symbol], places[row.section] + row.place
        if row.kind not in (_R64, _PC32, _PLT32):
            raise LinkError(f"relocation of kind {row.kind} to '{symbol.name}'")
        if symbol.section == 0:
            number = names.setdefault(symbol.name, len(names))
            rows.append((place, 8 if row.kind == _R64 else 4, number, row.addend))
            continue
        value = places[symbol.section] + symbol.value + row.addend
        if row.kind == _R64:
            rows.append((place, 8, 0, value))
        else:
            struct.pack_into("<i", code, place, value - place)
    return Image(bytes(code), symbols, tuple(names), tuple(rows))


def _lay_out(elf: Elf) -> tuple[dict[int, int], bytearray]:
    """Where the sections lie that have a place in memory, by number, and their contents."""
    code = bytearray()
    places = {}
    for number, section in enumerate(elf.sections):
        if section.flags & _ALLOCATED and section.kind != _UNWIND:
            code += bytes(-len(code) % max(section.align, 1))
            places[number] = len(code)
            code += _contents(elf, section)
    return places, code


def _contents(elf: Elf, section: Section) -> bytes:
    return bytes(section.size) if section.kind == _NOBITS else elf.contents(section)


class Linker:
    """Code in this process: what is added sees the symbols of all before. Thread-safe."""

    def __init__(self, size: int = SPACE) -> None:
        self.symbols: dict[str, int] = {}
        self.perf_map: Path | None = None
        self._space, self._unit = _code_space(size)
        self._used, self._end = 0, size
        self._stubs: dict[int, int] = {}
        self._lock = threading.Lock()

    def part(self, size: int) -> LinkerPart:
        """A linker in the last free ``size`` bytes of this one's space; LinkError."""
        with self._lock:
            start = (self._end - size) & -_PAGE
            if start < self._used:
                raise NoRoom("no room for more code")
            end, self._end = self._end, start
        return LinkerPart(self, start, end)

    def write_perf_map(self, path: Path, others: Mapping[str, tuple[int, int]]) -> None:
        """Tell perf the names of what there is, and from now on of what comes (also of parts).

        ``others``: (address, size) of code that is not the linker's. OSError.
        """
        path.write_text("".join(f"{at:x} {size:x} {name}\n" for name, (at, size) in others.items()))
        with self._lock:
            self.perf_map = path
            known = {name: at - self._space.address for name, at in self.symbols.items()}
            self._tell_perf(known, self._used, self._space.address)

    def add(self, image: Image) -> dict[str, int]:
        """Put an image into memory; the addresses of its symbols. LinkError."""
        with self._lock:
            start = self._take(len(image.code))
            address = self._space.address + start
            found = {name: address + at for name, at in image.symbols.items()}
            values = [address, *(self._value(name, found) for name in image.names[1:])]
            view = self._space.view[start : start + len(image.code)]
            view[:] = image.code
            for place, width, name, addend in image.relocations:
                value = values[name] + addend
                if width == 8:
                    struct.pack_into("<Q", view, place, value)
                    continue
                value -= address + place
                if not -(1 << 31) <= value < 1 << 31:  # a function of the host's libraries
                    value = self._stub(values[name]) + addend - address - place
                struct.pack_into("<i", view, place, value)
            self._seal(start, len(image.code))
            self._keep(found)
            self._tell_perf(image.symbols, len(image.code), address)
        return found

    def _keep(self, found: Mapping[str, int]) -> None:
        self.symbols.update(found)

    def _take(self, size: int) -> int:
        """Room for so many bytes: where it begins."""
        start, end = self._used, self._used - (-size // self._unit) * self._unit
        if end > self._end:
            raise NoRoom("no room for more code")
        self._used = end
        return start

    def _seal(self, start: int, size: int) -> None:
        if self._unit == _PAGE:
            self._space.seal(start, -(-size // _PAGE) * _PAGE)

    def _value(self, name: str, found: Mapping[str, int]) -> int:
        value = found.get(name) or self.symbols.get(name) or _host_function(name)
        if value is None:
            raise LinkError(f"nothing is called '{name}'")
        return value

    def _stub(self, target: int) -> int:
        """The address of a jump to what is too far away."""
        if target not in self._stubs:
            body = _STUB + target.to_bytes(8, "little")
            at = self._take(len(body))
            self._space.view[at : at + len(body)] = body
            self._seal(at, len(body))
            self._stubs[target] = self._space.address + at
        return self._stubs[target]

    def _perf_map(self) -> Path | None:
        return self.perf_map

    def _tell_perf(self, symbols: Mapping[str, int], size: int, address: int) -> None:
        """Add offsets by name to the map in which perf looks for code that has no file."""
        path = self._perf_map()
        if path is None:
            return
        rows = sorted((at, name) for name, at in symbols.items())
        ends = [at for at, _ in rows[1:]] + [size]
        with path.open("a") as file:
            for (at, name), end in zip(rows, ends, strict=True):
                file.write(f"{address + at:x} {end - at:x} {name}\n")


class LinkerPart(Linker):
    """A piece of a linker's space that can be emptied. It sees the other's symbols, not its own."""

    def __init__(self, whole: Linker, start: int, end: int) -> None:
        self.symbols = whole.symbols
        self._whole = whole
        self._space, self._unit = whole._space, whole._unit
        self._start = self._used = start
        self._end = end
        self._stubs = {}
        self._lock = threading.Lock()

    @property
    def used(self) -> int:
        """Bytes of code in it."""
        return self._used - self._start

    def clear(self) -> None:
        """Give the memory back; nobody may be in that code any more, nor find a way there."""
        with self._lock:
            length = -(-self.used // _PAGE) * _PAGE
            if self._unit == _PAGE and length:
                self._space.unseal(self._start, length)
            self._space.discard(self._start, length)
            self._used = self._start
            self._stubs = {}

    def _keep(self, found: Mapping[str, int]) -> None:
        """Nothing refers to a region by name."""

    def _perf_map(self) -> Path | None:
        return self._whole.perf_map


def _code_space(size: int) -> tuple[HostBuffer, int]:
    """Memory for code and the unit it is given out in.

    Code that lies close keeps the host's caches and TLB small. Where nothing may be written and
    executed both, each image has pages of its own, made executable when they are written.
    """
    try:
        return HostBuffer(size, code=True), _ALIGN
    except RamError:
        return HostBuffer(size, huge=False), _PAGE


def _host_function(name: str) -> int | None:
    """The address of a function of the C library and what else this process has loaded."""
    try:
        function = ctypes.CDLL(None)[name]
    except AttributeError:
        return None
    return ctypes.cast(function, ctypes.c_void_p).value
