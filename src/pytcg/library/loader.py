"""Program files into a processor's memory: ELF (by pyelftools), PE (by pefile), raw bytes.

Functions that a file imports get a place each, which holds HLT: `Image.bind` makes a Python
function of one, and a call of one that is not bound stops the run there.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytcg.errors import CpuError, LoadError
from pytcg.softmmu.perm import Perm

if TYPE_CHECKING:
    from pytcg.cpu import Cpu
    from pytcg.library.hooks import Hook

_PAGE = 0x1000
_LARGEST = 1 << 30
_ELF_BASE, _ELF_IMPORTS = 0x5555_5555_4000, 0x100000
_STUB = 16
_R_RELATIVE, _R_GLOB, _R_SLOT, _R_64 = 8, 6, 7, 1  # R_X86_64_…; R_386_… has the first three too
_R_386_32, _R_IRELATIVE = 1, (37, 42)


@dataclass
class Image:
    """A loaded file: [``start``, ``end``), its entry point, symbols and imports by name."""

    cpu: Cpu = field(repr=False)
    path: str
    start: int
    end: int
    entry: int
    symbols: dict[str, int] = field(default_factory=dict, repr=False)
    imports: dict[str, int] = field(default_factory=dict, repr=False)

    def bind(self, name: str, function: Callable[[Cpu], int | None]) -> Hook:
        """Let an imported function be a Python one: what it returns goes into rAX, unless None.

        It finds its arguments in registers and on the stack, and returns to the caller, as a
        function does whose arguments the caller takes from the stack.
        """
        if name not in self.imports:
            raise LoadError(f"{self.path} imports no {name!r}")

        def imported(cpu: Cpu, address: int, size: int) -> None:
            result = function(cpu)
            wide = cpu.mode == "long"
            top = cpu.regs.rsp if wide else cpu.regs.esp
            target = cpu.read_int(top, 8 if wide else 4)
            if result is not None:
                cpu.regs["rax" if wide else "eax"] = result & ((1 << (64 if wide else 32)) - 1)
            cpu.regs["rsp" if wide else "esp"] = top + (8 if wide else 4)
            cpu.regs.rip = target

        return self.cpu.hooks.address(self.imports[name], imported)


def load(cpu: Cpu, source: str | Path | bytes, *, base: int | None, kind: str) -> Image:
    """See `Cpu.load`."""
    name, data = _read(source)
    if kind == "auto":
        kind = "elf" if data[:4] == b"\x7fELF" else "pe" if data[:2] == b"MZ" else "raw"
    loaders = {"elf": _load_elf, "pe": _load_pe, "raw": _load_raw}
    if kind not in loaders:
        raise LoadError(f"no kind of file {kind!r}: auto, {', '.join(loaders)} are there")
    try:
        return loaders[kind](cpu, name, data, base)
    except (CpuError, MemoryError):
        raise
    except ImportError as error:
        raise LoadError(f"{name}: {error.name} is needed: pip install pytcg[loaders]") from None
    except Exception as error:  # what these libraries raise at broken files is of many kinds
        raise LoadError(f"{name}: no {kind} file: {error}") from error


def _read(source: str | Path | bytes) -> tuple[str, bytes]:
    if isinstance(source, (bytes, bytearray)):
        return "bytes", bytes(source)
    try:
        return str(source), Path(source).read_bytes()
    except OSError as error:
        raise LoadError(f"{source}: {error.strerror}") from None
    except (TypeError, ValueError):
        raise LoadError(f"a program is a path or bytes, not {source!r}") from None


class _Layout:
    """Pages of a file, with permissions, mapped when all are known."""

    def __init__(self, cpu: Cpu):
        self.cpu = cpu
        self.pages: dict[int, Perm] = {}
        self.parts: list[tuple[int, bytes]] = []

    def add(self, address: int, size: int, data: bytes, perms: Perm) -> None:
        if size > _LARGEST:
            raise LoadError(f"a part of {size:#x} bytes")
        for page in range(address & -_PAGE, address + max(size, len(data)), _PAGE):
            self.pages[page] = self.pages.get(page, Perm(0)) | perms
        self.parts.append((address, data))

    def map(self) -> tuple[int, int]:
        """Map and fill; the first and the last address."""
        if not self.pages:
            raise LoadError("there is nothing to load in it")
        run: list[int] = []
        for page in [*sorted(self.pages), None]:
            if run and (page != run[-1] + _PAGE or self.pages[page] != self.pages[run[0]]):
                self.cpu.map(run[0], len(run) * _PAGE, self.pages[run[0]])
                run = []
            if page is not None:
                run.append(page)
        for address, data in self.parts:
            self.cpu.write(address, data)
        return min(self.pages), max(self.pages) + _PAGE


def _choose(read: int, write: int, execute: int) -> Perm:
    """Permissions whose flag is set."""
    found = Perm(0)
    for flag, perm in ((read, Perm.READ), (write, Perm.WRITE), (execute, Perm.EXECUTE)):
        if flag:
            found |= perm
    return found


def _place_imports(cpu: Cpu, names: list[str], address: int) -> dict[str, int]:
    """A stub of HLT for each."""
    if not names:
        return {}
    size = -(-len(names) * _STUB // _PAGE) * _PAGE
    cpu.map(address, size, "rx", data=b"\xf4" * size)
    return {name: address + _STUB * number for number, name in enumerate(names)}


# ELF ---------------------------------------------------------------------------------------------


def _load_elf(cpu: Cpu, name: str, data: bytes, base: int | None) -> Image:
    from elftools.elf.elffile import ELFFile

    elf: Any = ELFFile(io.BytesIO(data))
    wide = {"EM_X86_64": True, "EM_386": False}.get(elf["e_machine"])
    if wide is None or wide != (cpu.mode == "long"):
        raise LoadError(f"{name}: a file for {elf['e_machine']}, not for {cpu.mode} mode")
    fixed = elf["e_type"] == "ET_EXEC"
    slide = 0 if fixed else _ELF_BASE if base is None and wide else base or 0x400000
    if fixed and base is not None:
        raise LoadError(f"{name}: its addresses are fixed, so it has no base")
    layout = _Layout(cpu)
    for segment in elf.iter_segments("PT_LOAD"):
        flags = segment["p_flags"]
        perms = _choose(flags & 4, flags & 2, flags & 1)
        layout.add(segment["p_vaddr"] + slide, segment["p_memsz"], segment.data(), perms)
    start, end = layout.map()
    image = Image(cpu, name, start, end, elf["e_entry"] + slide)
    for table in (".symtab", ".dynsym"):
        section = elf.get_section_by_name(table)
        for symbol in section.iter_symbols() if section is not None else ():
            if symbol["st_shndx"] != "SHN_UNDEF" and symbol.name:
                image.symbols.setdefault(symbol.name, symbol["st_value"] + slide)
    _relocate_elf(cpu, elf, image, slide, wide=wide)
    return image


def _relocate_elf(cpu: Cpu, elf: Any, image: Image, slide: int, *, wide: bool) -> None:
    rows = []
    for section in elf.iter_sections():
        if section["sh_type"] in ("SHT_RELA", "SHT_REL"):
            symbols = elf.get_section(section["sh_link"])
            for row in section.iter_relocations():
                index = row["r_info_sym"]
                symbol = symbols.get_symbol(index) if index and symbols is not None else None
                rows.append((row, symbol))
    missing = [symbol.name for _, symbol in rows
               if symbol is not None and symbol["st_shndx"] == "SHN_UNDEF" and symbol.name]
    image.imports = _place_imports(cpu, list(dict.fromkeys(missing)), _after(cpu, image.end))
    size = 8 if wide else 4
    for row, symbol in rows:
        at, kind = row["r_offset"] + slide, row["r_info_type"]
        addend = row["r_addend"] if row.is_RELA() else cpu.read_int(at, size)
        if symbol is None:
            if kind == _R_RELATIVE:
                cpu.write_int(at, addend + slide, size)
            elif kind in _R_IRELATIVE:
                raise LoadError(f"{image.path}: it chooses functions when it starts (IRELATIVE)")
            continue
        value = image.imports.get(symbol.name, symbol["st_value"] + slide)
        if kind in (_R_GLOB, _R_SLOT):
            cpu.write_int(at, value, size)
        elif kind == _R_64 or (not wide and kind == _R_386_32):
            cpu.write_int(at, value + addend, size)


def _after(cpu: Cpu, end: int) -> int:
    """A free place for imports behind an image."""
    address = (end + _ELF_IMPORTS) & -_PAGE
    while cpu.memory.overlapping(address, _ELF_IMPORTS):
        address += _ELF_IMPORTS
    return address


# PE ----------------------------------------------------------------------------------------------


def _load_pe(cpu: Cpu, name: str, data: bytes, base: int | None) -> Image:
    import pefile

    pe: Any = pefile.PE(data=data)
    wide = {0x8664: True, 0x14C: False}.get(pe.FILE_HEADER.Machine)
    if wide is None or wide != (cpu.mode == "long"):
        raise LoadError(f"{name}: a file for machine {pe.FILE_HEADER.Machine:#x}, not for "
                        f"{cpu.mode} mode")  # fmt: skip
    if base is not None:
        pe.relocate_image(base)
        data = pe.write()
    origin = base if base is not None else pe.OPTIONAL_HEADER.ImageBase
    layout = _Layout(cpu)
    layout.add(origin, pe.OPTIONAL_HEADER.SizeOfHeaders, data[: pe.OPTIONAL_HEADER.SizeOfHeaders],
               Perm.READ)  # fmt: skip
    for section in pe.sections:
        flags = section.Characteristics  # the PE format's IMAGE_SCN_MEM_… bits
        perms = _choose(flags & 1 << 30, flags & 1 << 31, flags & 1 << 29)
        size = section.Misc_VirtualSize or section.SizeOfRawData
        raw = data[section.PointerToRawData : section.PointerToRawData + section.SizeOfRawData]
        layout.add(origin + section.VirtualAddress, size, raw[:size], perms)
    start, end = layout.map()
    image = Image(cpu, name, start, end, origin + pe.OPTIONAL_HEADER.AddressOfEntryPoint)
    for symbol in getattr(getattr(pe, "DIRECTORY_ENTRY_EXPORT", None), "symbols", ()):
        if symbol.name and symbol.address:
            image.symbols[symbol.name.decode()] = origin + symbol.address
    slots = {}
    for library in getattr(pe, "DIRECTORY_ENTRY_IMPORT", ()):
        for entry in library.imports:
            label = entry.name.decode() if entry.name else f"{library.dll.decode()}#{entry.ordinal}"
            slots[entry.address - pe.OPTIONAL_HEADER.ImageBase + origin] = label
    image.imports = _place_imports(cpu, list(dict.fromkeys(slots.values())), _after(cpu, end))
    for at, label in slots.items():
        cpu.write(at, struct.pack("<Q" if wide else "<I", image.imports[label]))
    return image


# Raw ---------------------------------------------------------------------------------------------


def _load_raw(cpu: Cpu, name: str, data: bytes, base: int | None) -> Image:
    address = base or 0
    layout = _Layout(cpu)
    layout.add(address, len(data), data, Perm.READ | Perm.WRITE | Perm.EXECUTE)
    layout.map()
    return Image(cpu, name, address, address + len(data), address)
