"""What a VGA shows, as pixels: drawn anew only where memory or registers have changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from pytcg.hw.display.graphics import attribute_colors, draw_graphics, draw_vbe
from pytcg.hw.display.raster import Raster, vga_raster
from pytcg.hw.display.registers import (
    ATT_VIDEO_ON,
    CLOCKING_SCREEN_OFF,
    MISC_GRAPHICS,
    Att,
    AttMode,
    Gfx,
    Seq,
)
from pytcg.hw.display.text import (
    TextScreen,
    cells_at,
    cursor_address,
    draw_text,
    fonts,
    row_lines,
    text_screen,
)
from pytcg.hw.display.vga import Vga
from pytcg.hw.display.vram import ALL_PAGES, PAGE_BITS

CURSOR_BLINK: Final = 16  # frames of a cursor's cycle
TEXT_BLINK: Final = 32
PLANES_SIZE: Final = 1 << 18  # of a VGA's own modes: four planes of 64 KiB
BLANK_SIZE: Final = (400, 640)

Pixels = npt.NDArray[np.uint32]
LineNumbers = npt.NDArray[np.int64]
NO_LINES: Final = np.zeros(0, np.int64)


@dataclass
class _Seen:
    """What the picture was drawn from."""

    version: int = -1
    palette: int = -1
    blink: tuple[bool, bool] = (False, False)
    cursor: int | None = None
    cells: npt.NDArray[np.uint16] | None = None
    fonts: npt.NDArray[np.uint8] | None = None


class VgaScreen:
    """`pixels`: height x width of 00RRGGBBh; `refresh` brings it up to date."""

    def __init__(self, vga: Vga) -> None:
        self._vga = vga
        self.pixels: Pixels = np.zeros(BLANK_SIZE, np.uint32)
        self._seen = _Seen()
        self._raster: tuple[int, Raster] | None = None  # and the version it is of

    def text(self) -> TextScreen | None:
        """The characters of a text mode; None in graphics modes."""
        vga = self._vga
        if vga.vbe.enabled or vga.gfx[Gfx.MISC] & MISC_GRAPHICS:
            return None
        vga.vram.collect()
        return text_screen(vga, self._vga_raster())

    def refresh(self) -> LineNumbers:
        """Draw what has changed; the lines that were drawn. A new size is a new array."""
        vga, seen = self._vga, self._seen
        vga.vram.collect()
        dirty = vga.vram.dirty.take(self._shown())
        everything = seen.version != vga.version or seen.palette != vga.dac.version
        if everything:
            seen.version, seen.palette = vga.version, vga.dac.version
        if not vga.vbe.enabled and self._blank():
            return self._draw_blank() if everything else NO_LINES
        if vga.vbe.enabled and vga.vbe.depth != 4:
            return self._refresh_vbe(dirty, everything=everything)
        if vga.vbe.enabled or vga.gfx[Gfx.MISC] & MISC_GRAPHICS:
            return self._refresh_graphics(dirty, everything=everything)
        return self._refresh_text(dirty, everything=everything)

    def _shown(self) -> slice:
        """The pages that the picture is made of; another start draws everything anyhow."""
        vbe = self._vga.vbe
        if not vbe.enabled:
            return slice(0, PLANES_SIZE >> PAGE_BITS)
        end = vbe.start + vbe.size[1] * vbe.pitch
        if vbe.depth == 4 or end > self._vga.vram.size:
            return ALL_PAGES
        return slice(vbe.start >> PAGE_BITS, (end - 1 >> PAGE_BITS) + 1)

    def _blank(self) -> bool:
        off = self._vga.seq[Seq.CLOCKING] & CLOCKING_SCREEN_OFF
        return bool(off) or not self._vga.att_index & ATT_VIDEO_ON

    def _draw_blank(self) -> LineNumbers:
        self._seen.cells = None
        self.pixels[:] = 0
        return np.arange(len(self.pixels))

    def _vga_raster(self) -> Raster:
        vga = self._vga
        if self._raster is None or self._raster[0] != vga.version:
            self._raster = vga.version, vga_raster(vga.crt, vga.seq, vga.gfx, vga.att)
        return self._raster[1]

    def _resize(self, width: int, height: int) -> None:
        if self.pixels.shape != (height, width):
            self.pixels = np.zeros((height, width), np.uint32)

    def _refresh_vbe(self, dirty: npt.NDArray[np.bool_], *, everything: bool) -> LineNumbers:
        vbe = self._vga.vbe
        width, height = vbe.size
        self._resize(width, height)
        begins = vbe.start + np.arange(height) * vbe.pitch
        lines = self._dirty_lines(begins, vbe.line_bytes(width), dirty, everything=everything)
        if len(lines):
            self.pixels[lines] = draw_vbe(self._vga, lines)
        return lines

    def _refresh_graphics(self, dirty: npt.NDArray[np.bool_], *, everything: bool) -> LineNumbers:
        raster = self._planar_vbe() if self._vga.vbe.enabled else self._vga_raster()
        self._resize(raster.width, raster.height)
        length = (raster.columns + 1) * 4
        lines = self._dirty_lines(raster.start * 4, length, dirty, everything=everything)
        if len(lines):
            self.pixels[lines] = draw_graphics(self._vga, raster, lines)
        return lines

    def _planar_vbe(self) -> Raster:
        """The frame of a VBE mode with four planes."""
        vbe = self._vga.vbe
        width, height = vbe.size
        zeroes = np.zeros(height, np.int64)
        start = (vbe.start + np.arange(height) * vbe.pitch) >> 2
        return Raster(width >> 3, 8, start, zeroes, zeroes, double_dots=False)

    def _dirty_lines(
        self, begins: LineNumbers, length: int, dirty: npt.NDArray[np.bool_], *, everything: bool
    ) -> LineNumbers:
        """The lines whose `length` bytes from `begins` on touch a dirty page."""
        if everything:
            return np.arange(len(begins))
        if not dirty.any():
            return NO_LINES
        count = np.concatenate(([0], np.cumsum(dirty)))
        first = begins % self._vga.vram.size >> PAGE_BITS
        last = np.minimum(first + (length + 2 * ((1 << PAGE_BITS) - 1) >> PAGE_BITS), len(dirty))
        return np.flatnonzero(count[last] > count[first])

    def _refresh_text(self, dirty: npt.NDArray[np.bool_], *, everything: bool) -> LineNumbers:
        """Rows whose characters differ from those drawn last."""
        vga, seen = self._vga, self._seen
        frame = vga.frame_number
        blink = frame % CURSOR_BLINK < CURSOR_BLINK // 2, frame % TEXT_BLINK >= TEXT_BLINK // 2
        if not (everything or dirty.any() or blink != seen.blink):
            return NO_LINES
        raster = self._vga_raster()
        rows = row_lines(raster)
        starts = raster.start[rows]
        cells, glyphs = cells_at(vga, starts, raster.columns + 1), fonts(vga)
        cursor = cursor_address(vga)
        same_font = seen.fonts is not None and np.array_equal(glyphs, seen.fonts)
        if same_font and seen.cells is not None and not everything:
            heights = np.diff(rows, append=raster.height)
            changed = np.repeat(self._changed_rows(raster, starts, cells, blink, cursor), heights)
        else:
            changed = np.ones(raster.height, np.bool_)
        seen.cells, seen.fonts, seen.blink, seen.cursor = cells, glyphs, blink, cursor
        self._resize(raster.width, raster.height)
        lines = np.flatnonzero(changed)
        if len(lines):
            self.pixels[lines] = draw_text(
                vga, raster, attribute_colors(vga), lines, blink_off=blink[1], cursor_on=blink[0]
            )
        return lines

    def _changed_rows(
        self, raster: Raster, starts: LineNumbers, cells: npt.NDArray[np.uint16],
        blink: tuple[bool, bool], cursor: int | None,
    ) -> npt.NDArray[np.bool_]:  # fmt: skip
        """Rows of characters that look otherwise now; ``starts`` are their first words."""
        seen = self._seen
        assert seen.cells is not None
        changed: npt.NDArray[np.bool_] = (cells != seen.cells).any(axis=1)
        if blink[0] != seen.blink[0]:
            for address in (cursor, seen.cursor):
                if address is None:
                    continue
                distance = address - starts
                changed |= (distance >= 0) & (distance <= raster.columns)
        if blink[1] != seen.blink[1] and self._vga.att[Att.MODE] & AttMode.BLINK:
            changed |= (cells & 0x8000).any(axis=1)
        return changed
