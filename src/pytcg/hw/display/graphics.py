"""Graphics modes: planar, CGA-interleaved, 256 colours, and VBE's packed pixels."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pytcg.hw.display.raster import Raster
from pytcg.hw.display.registers import MODE_256, MODE_INTERLEAVE, Att, AttMode, Gfx
from pytcg.hw.display.vga import Vga

Pixels = npt.NDArray[np.uint32]
LineNumbers = npt.NDArray[np.int64]


def attribute_colors(vga: Vga) -> Pixels:
    """The 16 attribute colours as 00RRGGBBh: palette, colour select, colour plane enable, DAC."""
    att, select = vga.att, vga.att[Att.COLOR_SELECT]
    numbers = [att[n & att[Att.PLANES] & 15] & 0x3F | (select & 0x0C) << 4 for n in range(16)]
    if att[Att.MODE] & AttMode.PALETTE_5_4:
        numbers = [number & ~0x30 | (select & 3) << 4 for number in numbers]
    colors: Pixels = vga.dac.rgb()[numbers]
    return colors


def draw_graphics(vga: Vga, raster: Raster, lines: LineNumbers) -> Pixels:
    """The given screen lines of a VGA graphics mode as 00RRGGBBh."""
    words = raster.start[lines, None] + np.arange(raster.columns + 1)
    data = vga.vram.planes[words % len(vga.vram.planes)]  # lines x columns x 4 planes
    mode = vga.gfx[Gfx.MODE]
    if mode & MODE_256:
        # Four pixels in the time of eight dots.
        picture = np.repeat(vga.dac.rgb()[data.reshape(len(lines), -1)], 2, axis=1)
    else:
        numbers = _interleaved(data) if mode & MODE_INTERLEAVE else _planar(data)
        picture = attribute_colors(vga)[numbers]
    if raster.double_dots:
        picture = np.repeat(picture, 2, axis=1)
    return _cut(picture, raster, lines)


def _planar(data: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """A pixel's four bits are at the same place in the four planes."""
    bits = np.unpackbits(data, axis=2).reshape(*data.shape, 8)
    numbers = bits[:, :, 0] | bits[:, :, 1] << 1 | bits[:, :, 2] << 2 | bits[:, :, 3] << 3
    return numbers.reshape(len(data), -1).astype(np.uint8)


def _interleaved(data: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """CGA: two bits a pixel, from planes 0 and 1 in turn, with planes 2 and 3 above them."""
    shifts = np.array([6, 4, 2, 0], np.uint8)
    low = data[:, :, :2, None] >> shifts & 3
    high = data[:, :, 2:, None] >> shifts & 3
    return (low | high << 2).reshape(len(data), -1).astype(np.uint8)


def _cut(picture: Pixels, raster: Raster, lines: LineNumbers) -> Pixels:
    """Each line moved left by its panning and cut to the screen's width."""
    pans = raster.pan[lines]
    if not pans.any():
        return picture[:, : raster.width]
    out = np.empty((len(lines), raster.width), np.uint32)
    for pan in np.unique(pans).tolist():
        chosen = pans == pan
        out[chosen] = picture[chosen, pan : pan + raster.width]
    return out


def draw_vbe(vga: Vga, lines: LineNumbers) -> Pixels:
    """The given lines of a VBE mode of 8 to 32 bits a pixel as 00RRGGBBh."""
    width, depth = vga.vbe.size[0], vga.vbe.depth
    size = depth + 7 >> 3
    begins = vga.vbe.start + lines * vga.vbe.pitch
    memory = vga.vram.bytes
    if depth == 32 and not (vga.vbe.start | vga.vbe.pitch) & 3:
        whole = memory.view(np.uint32)
        rows = np.lib.stride_tricks.as_strided(
            whole[vga.vbe.start >> 2 :],
            (vga.vbe.size[1], width),
            (vga.vbe.pitch, 4),
            writeable=False,
        )
        return (rows[lines] & np.uint32(0xFFFFFF)).astype(np.uint32, copy=False)
    data = memory[(begins[:, None] + np.arange(width * size)) % len(memory)]
    if depth == 8:
        indexed: Pixels = vga.dac.rgb()[data]
        return indexed
    parts: Pixels = data.reshape(len(lines), width, size).astype(np.uint32)
    if size >= 3:
        return (parts[:, :, 0] | parts[:, :, 1] << 8 | parts[:, :, 2] << 16).astype(np.uint32)
    words = (parts[:, :, 0] | parts[:, :, 1] << 8).astype(np.uint32)
    return _high_color(words, green=6 if depth == 16 else 5)


def _high_color(pixels: Pixels, *, green: int) -> Pixels:
    """5:6:5 or 5:5:5 bits; the high bits are repeated below, so that white is white."""
    red, middle, blue = pixels >> 5 + green & 31, pixels >> 5 & (1 << green) - 1, pixels & 31
    red, blue = red << 3 | red >> 2, blue << 3 | blue >> 2
    middle = middle << 8 - green | middle >> 2 * green - 8
    return (red << 16 | middle << 8 | blue).astype(np.uint32)
