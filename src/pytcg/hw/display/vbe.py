"""The Bochs VBE extension (dispi): packed-pixel modes of any size, banked or linear.

Register meanings: Bochs, "VBE Display Interface"; the version is B0C5h, QEMU's.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import Final

from pytcg.hw.bits import register_bits
from pytcg.hw.state import State, load, save

ID_NEWEST: Final = 0xB0C5
ID_OLDEST: Final = 0xB0C0
MAX_X: Final = 16000
MAX_Y: Final = 12000
MAX_BPP: Final = 32
BANK_BITS: Final = 16
DEPTHS: Final = (4, 8, 15, 16, 24, 32)


class Dispi(IntEnum):
    """Indexes of the 16-bit registers."""

    ID = 0
    XRES = 1
    YRES = 2
    BPP = 3
    ENABLE = 4
    BANK = 5
    VIRT_WIDTH = 6
    VIRT_HEIGHT = 7
    X_OFFSET = 8
    Y_OFFSET = 9
    MEMORY_64K = 10


@register_bits
class Enable(IntFlag):
    """Bits of Dispi.ENABLE."""

    ENABLED = 0x01
    GETCAPS = 0x02
    DAC_8BIT = 0x20
    LFB = 0x40
    NO_CLEAR = 0x80


_LIMITS: Final = {Dispi.XRES: MAX_X, Dispi.YRES: MAX_Y, Dispi.BPP: MAX_BPP}


class Vbe:
    """The register file. What a mode must be is settled by `enable`, not before."""

    _FIELDS = ("index", "regs", "start", "pitch")

    def __init__(self, memory_size: int) -> None:
        self.memory_size = memory_size
        self.reset()

    def reset(self) -> None:
        """Off, with no mode set."""
        self.index = 0
        self.regs = [0] * (max(Dispi) + 1)
        self.regs[Dispi.ID] = ID_NEWEST
        self.start = 0  # byte address of the first pixel
        self.pitch = 0  # bytes from one line to the next

    def state(self) -> State:
        return save(self, 1, self._FIELDS)

    def restore(self, state: State) -> None:
        load(self, state, 1, self._FIELDS)

    @property
    def enabled(self) -> bool:
        """Is a VBE mode shown?"""
        return bool(self.regs[Dispi.ENABLE] & Enable.ENABLED)

    @property
    def depth(self) -> int:
        """Bits a pixel."""
        return self.regs[Dispi.BPP]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height shown."""
        return self.regs[Dispi.XRES], self.regs[Dispi.YRES]

    @property
    def bank_offset(self) -> int:
        """What the window at A0000h is moved by, in bytes."""
        return self.regs[Dispi.BANK] << BANK_BITS if self.enabled else 0

    def read(self, index: int) -> int:
        """A register; capabilities while GETCAPS is set; unknown ones read 0."""
        if index == Dispi.MEMORY_64K:
            return self.memory_size >> 16
        if index >= len(self.regs):
            return 0
        if index in _LIMITS and self.regs[Dispi.ENABLE] & Enable.GETCAPS:
            return _LIMITS[Dispi(index)]
        return self.regs[index]

    def write(self, index: int, value: int) -> bool:
        """Store; True if a mode has just been enabled, for the VGA's registers to follow."""
        match index:
            case Dispi.ID:
                if ID_OLDEST <= value <= ID_NEWEST:
                    self.regs[index] = value
            case Dispi.BANK:
                self.regs[index] = value & (self.memory_size >> BANK_BITS) - 1
            case Dispi.ENABLE:
                return self._enable(value)
            case _ if index <= Dispi.Y_OFFSET:
                self.regs[index] = value
                self._settle()
        return False

    def _enable(self, value: int) -> bool:
        began = bool(value & Enable.ENABLED) and not self.enabled
        if began:
            for register in (Dispi.VIRT_WIDTH, Dispi.X_OFFSET, Dispi.Y_OFFSET):
                self.regs[register] = 0
        self.regs[Dispi.BANK] = 0
        self.regs[Dispi.ENABLE] = value
        self._settle()
        return began

    def line_bytes(self, pixels: int) -> int:
        """Bytes of a line; four-bit pixels are planar, a byte a plane for eight of them."""
        return pixels >> 1 if self.depth == 4 else pixels * (self.depth + 7 >> 3)

    def _settle(self) -> None:
        """Make the mode one that exists and fits into the memory, and find where it starts."""
        if not self.enabled:
            return
        regs = self.regs
        if regs[Dispi.BPP] not in DEPTHS:
            regs[Dispi.BPP] = 8
        regs[Dispi.XRES] = min(max(regs[Dispi.XRES] & ~7, 8), MAX_X)
        regs[Dispi.VIRT_WIDTH] = min(max(regs[Dispi.VIRT_WIDTH] & ~7, regs[Dispi.XRES]), MAX_X)
        self.pitch = self.line_bytes(regs[Dispi.VIRT_WIDTH])
        if self.pitch > self.memory_size:
            regs[Dispi.XRES] = regs[Dispi.VIRT_WIDTH] = 1024
            self.pitch = self.line_bytes(1024)
        lines = min(self.memory_size // self.pitch, 0xFFFF)
        regs[Dispi.VIRT_HEIGHT] = lines
        regs[Dispi.YRES] = min(max(regs[Dispi.YRES], 1), MAX_Y, lines)
        regs[Dispi.X_OFFSET] = min(regs[Dispi.X_OFFSET], regs[Dispi.VIRT_WIDTH] - regs[Dispi.XRES])
        regs[Dispi.Y_OFFSET] = min(regs[Dispi.Y_OFFSET], lines - regs[Dispi.YRES])
        skip = self.line_bytes(regs[Dispi.X_OFFSET])
        self.start = regs[Dispi.Y_OFFSET] * self.pitch + skip
