"""Page tables as a debugger walks them: nothing is set, no right is asked for (SDM vol. 3A, 4)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from pytcg.softmmu.ram import RamError

if TYPE_CHECKING:
    from pytcg.machine.runner import Registers

PRESENT: Final = 1
WRITABLE: Final = 1 << 1
USER: Final = 1 << 2
LARGE: Final = 1 << 7
PAGING: Final = 1 << 31  # CR0
PSE: Final = 1 << 4  # CR4
PAE: Final = 1 << 5
LONG: Final = 1 << 10  # EFER.LMA
FRAME: Final = 0x000F_FFFF_FFFF_F000
PAGE: Final = 4096


class Memory(Protocol):
    """Physical memory."""

    def read(self, physical: int, length: int, /) -> bytes:
        """Bytes of RAM or ROM."""
        ...


class Levels(NamedTuple):
    """A paging mode: for each level the shift of its index, its index's bits, an entry's bytes."""

    shifts: tuple[int, ...]
    bits: tuple[int, ...]
    entry: int


LEGACY: Final = Levels((22, 12), (10, 10), 4)
PAE_LEVELS: Final = Levels((30, 21, 12), (2, 9, 9), 8)
FOUR: Final = Levels((39, 30, 21, 12), (9, 9, 9, 9), 8)


class Mapping(NamedTuple):
    """A page: where it is, its size, the last entry, and the rights of all levels together."""

    address: int
    physical: int
    size: int
    entry: int
    rights: int  # WRITABLE and USER


class Walker:
    """The page tables as registers say that they are now."""

    def __init__(self, memory: Memory, regs: Registers) -> None:
        self._memory = memory
        cr4, self._root = regs["cr4"], regs["cr3"]
        self.paging = bool(regs["cr0"] & PAGING)
        self.levels = LEGACY
        if cr4 & PAE:
            self.levels = FOUR if regs["efer"] & LONG else PAE_LEVELS
        self._root &= FRAME if self.levels is not PAE_LEVELS else 0xFFFFFFE0
        self._large = bool(cr4 & (PSE | PAE))

    def find(self, address: int) -> Mapping | None:
        """The page that an address is in; None where there is none."""
        if not self.paging:
            return Mapping(address & -PAGE, address & -PAGE, PAGE, PRESENT, WRITABLE | USER)
        if self.levels is not FOUR:
            address &= 0xFFFF_FFFF
        table, rights = self._root, WRITABLE | USER
        for level, (shift, bits) in enumerate(zip(self.levels.shifts, self.levels.bits,
                                                  strict=True)):  # fmt: skip
            entry = self._entry(table, address >> shift & ((1 << bits) - 1))
            if not entry & PRESENT:
                return None
            rights &= self._rights(level, entry)
            if self._is_last(level, entry):
                return self._mapping(address & -(1 << shift), shift, entry, rights)
            table = entry & FRAME
        return None

    def pages(self) -> Iterator[Mapping]:
        """Every page there is, in the order of their addresses."""
        if self.paging:
            yield from self._pages(0, self._root, 0, WRITABLE | USER)

    def _pages(self, level: int, table: int, base: int, rights: int) -> Iterator[Mapping]:
        shift, bits = self.levels.shifts[level], self.levels.bits[level]
        for index in range(1 << bits):
            entry = self._entry(table, index)
            if not entry & PRESENT:
                continue
            address = base | index << shift
            if self.levels is FOUR and level == 0 and index >= 256:
                address |= 0xFFFF << 48
            inner = rights & self._rights(level, entry)
            if self._is_last(level, entry):
                yield self._mapping(address, shift, entry, inner)
            else:
                yield from self._pages(level + 1, entry & FRAME, address, inner)

    def _entry(self, table: int, index: int) -> int:
        size = self.levels.entry
        try:
            return int.from_bytes(self._memory.read(table + size * index, size), "little")
        except RamError:
            return 0

    def _rights(self, level: int, entry: int) -> int:
        """A PAE directory pointer has none."""
        if self.levels is PAE_LEVELS and level == 0:
            return WRITABLE | USER
        return entry & (WRITABLE | USER)

    def _is_last(self, level: int, entry: int) -> bool:
        shift = self.levels.shifts[level]
        return shift == 12 or (shift in (21, 22, 30) and self._large and bool(entry & LARGE)
                               and not (self.levels is PAE_LEVELS and level == 0))  # fmt: skip

    def _mapping(self, address: int, shift: int, entry: int, rights: int) -> Mapping:
        frame = entry & FRAME & -(1 << shift)
        if self.levels is LEGACY and shift == 22:  # PSE-36
            frame = entry & 0xFFC0_0000 | (entry >> 13 & 0xFF) << 32
        return Mapping(address, frame, 1 << shift, entry, rights)


def page_pieces(address: int, size: int) -> Iterator[tuple[int, int]]:
    """(address, size) of a range's parts on each page."""
    end = address + size
    while address < end:
        part = min(end - address, PAGE - address % PAGE)
        yield address, part
        address += part


def physical_address(memory: Memory, regs: Registers, address: int) -> int | None:
    """Where a linear address lies; None if nowhere."""
    found = Walker(memory, regs).find(address)
    return None if found is None else found.physical + address % found.size


def read_virtual(memory: Memory, regs: Registers, address: int, length: int) -> bytes:
    """Bytes at a linear address; RamError where nothing is mapped."""
    walker = Walker(memory, regs)
    data = bytearray()
    while len(data) < length:
        here = (address + len(data)) & (1 << 64) - 1
        page = walker.find(here)
        if page is None:
            raise RamError(f"no page at {here:#x}")
        inside = here % page.size
        data += memory.read(page.physical + inside, min(length - len(data), page.size - inside))
    return bytes(data)
