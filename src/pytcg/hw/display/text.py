"""Text modes: characters, attributes, fonts and the cursor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from pytcg.hw.display.raster import Raster
from pytcg.hw.display.registers import CURSOR_OFF, Att, AttMode, Crt, Seq
from pytcg.hw.display.vga import Vga

FONT_BYTES: Final = 32  # of a character
CP437_CONTROLS: Final = (
    " ☺☻♥♦♣♠•◘○◙♂♀♪♫☼►◄↕‼¶§▬↨↑↓→←∟↔▲▼"
)
CODE_PAGE: Final = CP437_CONTROLS + bytes(range(32, 127)).decode("ascii") + "⌂" + bytes(
    range(128, 256)
).decode("cp437")  # fmt: skip
_FONT_OFFSETS: Final = (0x0000, 0x4000, 0x8000, 0xC000, 0x2000, 0x6000, 0xA000, 0xE000)

Pixels = npt.NDArray[np.uint32]


@dataclass
class TextScreen:
    """The characters on the screen. `cells`: one uint16 each, character and attribute << 8."""

    cells: npt.NDArray[np.uint16]  # rows x columns
    cursor: tuple[int, int] | None  # row and column, where one is shown

    def rows(self) -> list[list[tuple[str, int]]]:
        """Each cell's character in code page 437, and its attribute."""
        rows = self.cells.tolist()
        return [[(CODE_PAGE[cell & 0xFF], cell >> 8) for cell in row] for row in rows]

    def lines(self) -> list[str]:
        """The rows as text in code page 437, without the blanks at their ends."""
        rows = (self.cells & 0xFF).tolist()
        return ["".join(CODE_PAGE[code] for code in row).rstrip() for row in rows]


def row_lines(raster: Raster) -> npt.NDArray[np.int64]:
    """The first screen line of each row of characters."""
    begins = np.ones(raster.height, np.bool_)
    begins[1:] = raster.start[1:] != raster.start[:-1]
    return np.flatnonzero(begins)


def cells_at(vga: Vga, start: npt.NDArray[np.int64], columns: int) -> npt.NDArray[np.uint16]:
    """Characters and attributes from these words on: one row for each."""
    words = (start[:, None] + np.arange(columns)) % len(vga.vram.planes)
    pairs = vga.vram.bytes.view(np.uint16).reshape(-1, 2)
    cells: npt.NDArray[np.uint16] = pairs[words, 0]
    return cells


def cursor_address(vga: Vga) -> int | None:
    """The word the cursor is on, unless it is off."""
    if vga.crt[Crt.CURSOR_START] & CURSOR_OFF:
        return None
    return vga.crt[Crt.CURSOR_HIGH] << 8 | vga.crt[Crt.CURSOR_LOW]


def text_screen(vga: Vga, raster: Raster) -> TextScreen:
    """What is written on the screen."""
    starts = raster.start[row_lines(raster)]
    cells = cells_at(vga, starts, raster.columns)
    address = cursor_address(vga)
    cursor = None
    for row, start in enumerate(starts.tolist()):
        if address is not None and 0 <= address - start < raster.columns:
            cursor = row, address - start
    return TextScreen(cells, cursor)


def fonts(vga: Vga) -> npt.NDArray[np.uint8]:
    """The two selected fonts, 512 characters of 32 bytes: attribute bit 3 selects the second."""
    select = vga.seq[Seq.FONT]
    b = (select & 3) | (select >> 4 & 1) << 2
    a = (select >> 2 & 3) | (select >> 5 & 1) << 2
    plane = vga.vram.planes[:, 2]
    size = 256 * FONT_BYTES
    parts = [plane[_FONT_OFFSETS[n] : _FONT_OFFSETS[n] + size] for n in (b, a)]
    return np.concatenate(parts).reshape(512, FONT_BYTES)


def draw_text(
    vga: Vga, raster: Raster, palette: Pixels, lines: npt.NDArray[np.int64], *,
    blink_off: bool, cursor_on: bool,
) -> Pixels:  # fmt: skip
    """The given screen lines as 00RRGGBBh; `palette` has the 16 attribute colours."""
    columns = raster.columns + bool(raster.pan.any())
    cells = cells_at(vga, raster.start[lines], columns)
    codes, attributes = (cells & 0xFF).astype(np.int32), (cells >> 8).astype(np.int32)
    glyphs = fonts(vga)
    rows = raster.row[lines]
    two_fonts = not np.array_equal(glyphs[:256], glyphs[256:])
    pick = codes + ((attributes & 8) << 5 if two_fonts else 0)
    bits = glyphs[pick, np.minimum(rows, FONT_BYTES - 1)[:, None]]
    fore, back = attributes & 15, attributes >> 4
    if vga.att[Att.MODE] & AttMode.BLINK:
        blinking = attributes >> 7 & 1
        back = back & 7
        if blink_off:
            bits = np.where(blinking, 0, bits)
    if vga.att[Att.MODE] & AttMode.MONO:
        under = (attributes & 7) == 1
        bits = np.where(under & (rows == vga.crt[Crt.UNDERLINE] & 0x1F)[:, None], 0xFF, bits)
    bits = bits.astype(np.uint8)
    ninth = _ninth_dot(vga, codes, bits)
    if cursor_on:
        ninth = _put_cursor(vga, raster, lines, columns, bits, ninth)
    dots = _expand(bits, ninth, raster.dots)
    picture = np.where(dots, palette[fore][:, :, None], palette[back][:, :, None])
    return _panned(picture.reshape(len(lines), -1), raster, lines)


def _ninth_dot(vga: Vga, codes: npt.NDArray[np.int32],
               bits: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:  # fmt: skip
    """Line-drawing characters C0h-DFh repeat their eighth dot; the others leave a gap."""
    if not vga.att[Att.MODE] & AttMode.LINE_GRAPHICS:
        return np.zeros_like(bits)
    return np.where((codes >= 0xC0) & (codes <= 0xDF), bits & 1, 0).astype(np.uint8)


def _put_cursor(
    vga: Vga, raster: Raster, lines: npt.NDArray[np.int64], columns: int,
    bits: npt.NDArray[np.uint8], ninth: npt.NDArray[np.uint8],
) -> npt.NDArray[np.uint8]:  # fmt: skip
    address = cursor_address(vga)
    if address is None:
        return ninth
    first, last = vga.crt[Crt.CURSOR_START] & 0x1F, vga.crt[Crt.CURSOR_END] & 0x1F
    column = address - raster.start[lines]
    rows = raster.row[lines]
    on = (column >= 0) & (column < columns) & (rows >= first) & (rows <= last)
    bits[on, column[on]] = 0xFF
    ninth[on, column[on]] = 1
    return ninth


def _expand(bits: npt.NDArray[np.uint8], ninth: npt.NDArray[np.uint8],
            dots: int) -> npt.NDArray[np.bool_]:  # fmt: skip
    """Bytes of a font line as dots: lines x columns x dots."""
    eight = np.unpackbits(bits[:, :, None], axis=2).astype(np.bool_)
    if dots == 9:
        return np.concatenate((eight, ninth[:, :, None].astype(np.bool_)), axis=2)
    return np.repeat(eight, 2, axis=2) if dots == 16 else eight


def _panned(picture: Pixels, raster: Raster, lines: npt.NDArray[np.int64]) -> Pixels:
    """Each line moved left by its panning."""
    if not raster.pan.any():
        return picture
    out = np.empty((len(lines), raster.width), np.uint32)
    for pan in np.unique(raster.pan[lines]).tolist():
        chosen = raster.pan[lines] == pan
        out[chosen] = picture[chosen, pan : pan + raster.width]
    return out
