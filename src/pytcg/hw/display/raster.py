"""What the CRT controller's registers mean: where each line of the picture comes from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pytcg.hw.display.crt_numbers import display_end, line_compare
from pytcg.hw.display.registers import (
    CLOCKING_8_DOTS,
    CLOCKING_HALF,
    MISC_GRAPHICS,
    Att,
    AttMode,
    Crt,
    Gfx,
    Seq,
)

Lines = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Raster:
    """One frame. Addresses count words of four planes; `start` and `row` have one element a line.

    `start`: word of the line's first character; `row`: scan line within its character row;
    `pan`: dots by which it is moved left.
    """

    columns: int  # characters, of 8 dots in graphics modes
    dots: int  # of a character as shown
    start: Lines
    row: Lines
    pan: Lines
    double_dots: bool

    @property
    def width(self) -> int:
        return self.columns * self.dots

    @property
    def height(self) -> int:
        return len(self.start)


def vga_raster(
    crt: bytes | bytearray, seq: bytes | bytearray, gfx: bytes | bytearray, att: bytes | bytearray
) -> Raster:
    """The frame that the registers of a plain VGA mode describe."""
    height = display_end(crt)
    graphics = bool(gfx[Gfx.MISC] & MISC_GRAPHICS)
    double_dots = bool(seq[Seq.CLOCKING] & CLOCKING_HALF)
    dots = 8 if graphics or seq[Seq.CLOCKING] & CLOCKING_8_DOTS else 9
    if double_dots:
        dots = 16  # of nine the last would be lost anyway in every mode with halved clock
    lines = np.arange(height, dtype=np.int64)
    split = line_compare(crt) + 1
    scans = (crt[Crt.MAX_SCAN_LINE] & 0x1F) + 1
    doubling = 2 if crt[Crt.MAX_SCAN_LINE] & 0x80 else 1
    below = lines >= split
    preset = crt[Crt.PRESET_ROW] & 0x1F
    count = np.where(below, (lines - split) // doubling, lines // doubling + preset)
    start = crt[Crt.START_HIGH] << 8 | crt[Crt.START_LOW]
    start += crt[Crt.PRESET_ROW] >> 5 & 3
    first = np.where(below, 0, start) + count // scans * (crt[Crt.OFFSET] * 2)
    row = count % scans
    if graphics:
        first = _bank_by_row(crt, first, row)
    pan = _panning(att, graphics=graphics, dots=dots)
    pans = np.where(below & bool(att[Att.MODE] & AttMode.PAN_SPLIT), 0, pan)
    return Raster(crt[Crt.H_DISPLAY_END] + 1, dots, first, row, pans, double_dots)


def _bank_by_row(crt: bytes | bytearray, first: Lines, row: Lines) -> Lines:
    """Row scan bits in place of address bits 13 and 14 (the CGA's and Hercules' layout).

    In word mode an address of ours, which counts words of four planes, is half of the chip's.
    """
    byte_mode = crt[Crt.MODE] >> 6 & 1
    if not crt[Crt.MODE] & 1:
        bit = 1 << 12 + byte_mode
        first = first & ~bit | np.where(row & 1, bit, 0)
    if not crt[Crt.MODE] & 2:
        bit = 1 << 13 + byte_mode
        first = first & ~bit | np.where(row & 2, bit, 0)
    return first


def _panning(att: bytes | bytearray, *, graphics: bool, dots: int) -> int:
    """Dots of the horizontal panning register (FreeVGA, "Panning")."""
    value = att[Att.PANNING]
    if graphics and att[Att.MODE] & AttMode.PIXELS_8:
        return (value >> 1 & 3) * 2
    if dots == 9:
        return (value + 1) % 9 if value <= 8 else 0
    return (value & 7) * (2 if dots == 16 else 1)
