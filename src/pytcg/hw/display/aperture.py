"""The processor's window into display memory at A0000h: the graphics controller's data path.

An access is decoded to a word of four planes (chain-4, odd/even or planar), and goes through the
write mode or read mode, the latches, the logical function and the masks (FreeVGA, "Accessing the
VGA Display Memory").
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

from pytcg.hw.display.registers import (
    MISC_CHAIN,
    MISC_GRAPHICS,
    MODE_ODD_EVEN,
    MODE_READ_COMPARE,
    Gfx,
    MemoryMode,
    Misc,
    Seq,
)
from pytcg.hw.display.vram import Vram

WINDOW_SIZE: Final = 0x20000
BUSY: Final = 64
"""So many accesses under the same registers are worth another mapping."""
PLANE_MASKS: Final = tuple(
    sum(0xFF << plane * 8 for plane in range(4) if bits >> plane & 1) for bits in range(16)
)
"""A byte of ones for every plane of a map mask."""
REPLICATE: Final = 0x01010101
ALL: Final = 0xFFFFFFFF

_RANGES: Final = ((0, 0x20000), (0, 0x10000), (0x10000, 0x8000), (0x18000, 0x8000))
"""(start, length) in the window by the graphics controller's memory map select."""


class RegisterFiles(Protocol):
    """What the data path looks at."""

    seq: bytearray
    gfx: bytearray
    misc: int
    version: int  # counts their changes

    @property
    def bank_offset(self) -> int: ...


class Place(NamedTuple):
    """Where an access goes: a word of display memory, the planes it may write, the one it reads."""

    word: int
    planes: int
    read: int


class Flat(NamedTuple):
    """A text mode's window as plain memory: ``length`` bytes from ``start`` on.

    They are one plane's bytes, or without a ``plane`` characters and attributes in turn, of
    ``words`` addresses.
    """

    start: int
    length: int
    words: int
    plane: int | None


class Aperture:
    """128 KiB at A0000h. `latch` is the four bytes of the last read."""

    def __init__(self, regs: RegisterFiles, vram: Vram) -> None:
        self._regs = regs
        self._vram = vram
        self.latch = 0
        self._seen = -1
        self._text = range(0)
        self._calls = 0
        self.on_busy: Callable[[], None] = lambda: None

    def read(self, offset: int, size: int) -> int:
        """A load of `size` bytes: one after the other, as the 8-bit bus does."""
        self._count()
        if size == 2 and offset in self._characters():
            self.latch = self._vram.words[offset - self._text.start >> 1]
            return self.latch & 0xFFFF
        value = 0
        for index in range(size):
            value |= self.read_byte(offset + index) << index * 8
        return value

    def write(self, offset: int, size: int, value: int) -> None:
        """A store of `size` bytes."""
        if size == 2 and offset in self._characters():
            word = offset - self._text.start >> 1
            self._vram.store_word(word, self._vram.words[word] & ~0xFFFF | value & 0xFFFF)
        else:
            for index in range(size):
                self.write_byte(offset + index, value >> index * 8 & 0xFF)
        self._count()  # behind it: what is memory from here on has it

    def _count(self) -> None:
        self._calls += 1
        if self._calls == BUSY:
            self.on_busy()

    def rest(self) -> None:
        """Count the accesses from here on."""
        self._calls = 0

    def flat(self) -> Flat | None:
        """What the window shows in text modes, while accesses do nothing that another could miss.

        That is a character and its attribute for each word, or the one plane that is read and
        written, as when a font is loaded. The latches, which such modes don't use, aren't loaded.
        """
        if self._regs.gfx[Gfx.MISC] & MISC_GRAPHICS or self._regs.bank_offset:
            return None
        if text := self._characters():
            return Flat(text.start, text.stop - text.start, len(text), None)
        plane = self._single_plane()
        start, length = self._range()
        if plane is None or length > len(self._vram.words):
            return None
        return Flat(start, length, length, plane)

    def _single_plane(self) -> int | None:
        """The plane whose bytes are all that is read and written."""
        regs, gfx = self._regs, self._regs.gfx
        mode, plane = regs.seq[Seq.MEMORY_MODE], gfx[Gfx.READ_MAP]
        apart = gfx[Gfx.MODE] & MODE_ODD_EVEN or gfx[Gfx.MISC] & MISC_CHAIN
        planar = mode & MemoryMode.NO_ODD_EVEN and not mode & MemoryMode.CHAIN_4 and not apart
        alone = planar and self._plain() and regs.seq[Seq.MAP_MASK] == 1 << plane
        return plane if alone else None

    def chained(self) -> tuple[int, int, int] | None:
        """(window offset, length, memory offset) while plain stores do all there is to do.

        That is a chain-4 mode or a VBE bank with nothing in the data path: the window is then an
        alias of the memory.
        """
        regs = self._regs
        if not (regs.seq[Seq.MEMORY_MODE] & MemoryMode.CHAIN_4
                and regs.seq[Seq.MAP_MASK] == 0xF and self._plain()):  # fmt: skip
            return None
        start, length = self._range()
        length = min(length, 0x10000)
        bank = regs.bank_offset % self._vram.size
        return start, min(length, self._vram.size - bank), bank

    def _plain(self) -> bool:
        """Nothing in the data path: what is stored is what is kept."""
        gfx = self._regs.gfx
        return (
            not gfx[Gfx.ENABLE_SET_RESET]
            and not gfx[Gfx.ROTATE]
            and gfx[Gfx.BIT_MASK] == 0xFF
            and not gfx[Gfx.MODE] & (MODE_READ_COMPARE | 3)
            and bool(self._regs.misc & Misc.RAM)
        )

    def _characters(self) -> range:
        """Where in the window a word is a character and its attribute, as in text modes."""
        if self._seen != self._regs.version:
            self._seen, self._text = self._regs.version, self._find_characters()
        return self._text

    def _find_characters(self) -> range:
        regs, gfx = self._regs, self._regs.gfx
        both = MemoryMode.CHAIN_4 | MemoryMode.NO_ODD_EVEN
        text = (
            self._plain()
            and not regs.seq[Seq.MEMORY_MODE] & both
            and regs.seq[Seq.MAP_MASK] == 0b0011
            and not gfx[Gfx.READ_MAP] & 2
            and (gfx[Gfx.MODE] & MODE_ODD_EVEN or gfx[Gfx.MISC] & MISC_CHAIN)
            and not regs.bank_offset
        )
        start, length = self._range()
        return range(start, start + min(length, 2 * len(self._vram.words)), 2) if text else range(0)

    def _range(self) -> tuple[int, int]:
        return _RANGES[self._regs.gfx[Gfx.MISC] >> 2 & 3]

    def decode(self, offset: int) -> Place | None:
        """Which word and planes an address of the window means; None outside the mapped range."""
        regs = self._regs
        start, length = self._range()
        if not start <= offset < start + length or not regs.misc & Misc.RAM:
            return None
        address = offset - start + regs.bank_offset
        mode, masks = regs.seq[Seq.MEMORY_MODE], regs.seq[Seq.MAP_MASK]
        if mode & MemoryMode.CHAIN_4:
            plane = address & 3
            return self._place(address >> 2, masks & 1 << plane, plane)
        read = regs.gfx[Gfx.READ_MAP]
        if not mode & MemoryMode.NO_ODD_EVEN:
            odd = address & 1
            masks &= 0b1010 if odd else 0b0101
        if regs.gfx[Gfx.MODE] & MODE_ODD_EVEN or regs.gfx[Gfx.MISC] & MISC_CHAIN:
            read = read & 2 | address & 1
        if not mode & MemoryMode.NO_ODD_EVEN:
            address >>= 1
        return self._place(address, masks, read)

    def _place(self, word: int, planes: int, read: int) -> Place:
        return Place(word % len(self._vram.words), planes, read)

    def read_byte(self, offset: int) -> int:
        """Load the latches; the byte of read mode 0 or 1."""
        place = self.decode(offset)
        if place is None:
            return 0xFF
        self.latch = latch = self._vram.words[place.word]
        gfx = self._regs.gfx
        if not gfx[Gfx.MODE] & MODE_READ_COMPARE or self._chain4():
            return latch >> place.read * 8 & 0xFF
        differs = (latch ^ PLANE_MASKS[gfx[Gfx.COLOR_COMPARE]]) & PLANE_MASKS[gfx[Gfx.COLOR_CARE]]
        differs |= differs >> 16
        differs |= differs >> 8
        return ~differs & 0xFF

    def _chain4(self) -> bool:
        return bool(self._regs.seq[Seq.MEMORY_MODE] & MemoryMode.CHAIN_4)

    def write_byte(self, offset: int, value: int) -> None:
        """Store by the write mode."""
        place = self.decode(offset)
        if place is None or not place.planes:
            return
        mask = PLANE_MASKS[place.planes]
        word = self._pipeline(value)
        old = self._vram.words[place.word]
        self._vram.store_word(place.word, old & ~mask | word & mask)

    def _pipeline(self, value: int) -> int:
        """What the write mode makes of a byte: a byte for each plane."""
        gfx = self._regs.gfx
        mode = gfx[Gfx.MODE] & 3
        if mode == 1:
            return self.latch
        bits = gfx[Gfx.BIT_MASK]
        set_reset = PLANE_MASKS[gfx[Gfx.SET_RESET]]
        if mode == 2:
            return self._combine(PLANE_MASKS[value & 0xF], bits)
        count = gfx[Gfx.ROTATE] & 7
        value = (value >> count | value << 8 - count) & 0xFF
        if mode == 3:
            return self._combine(set_reset, bits & value)
        enable = PLANE_MASKS[gfx[Gfx.ENABLE_SET_RESET]]
        return self._combine(value * REPLICATE & ~enable | set_reset & enable, bits)

    def _combine(self, word: int, bits: int) -> int:
        """The logical function with the latches, then the bit mask."""
        latch, mask = self.latch, bits * REPLICATE
        match self._regs.gfx[Gfx.ROTATE] >> 3:
            case 1:
                word &= latch
            case 2:
                word |= latch
            case 3:
                word ^= latch
        return word & mask | latch & ~mask & ALL
