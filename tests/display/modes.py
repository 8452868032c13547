"""Register values of the standard modes, as a VGA BIOS sets them, and a chip to set them on."""

from __future__ import annotations

from typing import NamedTuple

from pytcg.hw.clock import FakeClock
from pytcg.hw.display.registers import Reg
from pytcg.hw.display.screen import VgaScreen
from pytcg.hw.display.vga import Vga
from pytcg.hw.display.vram import Vram


class Mode(NamedTuple):
    """The register files in order."""

    misc: int
    seq: str
    crt: str
    att: str
    gfx: str


MODES = {
    "text 80x25": Mode(
        0x67, "0300030002", "5f4f50825581bf1f004f0d0e00000000 9c8e8f281f96b9a3ff",
        "000102030405140738393a3b3c3d3e3f0c000f0800", "0000000000100e0fff",
    ),
    "planar 640x480": Mode(
        0xE3, "03010f0006", "5f4f50825480 0b3e00400000 00000000 ea8cdf2800e704e3ff",
        "000102030405140738393a3b3c3d3e3f01000f0000", "000000000000050fff",
    ),
    "256 320x200": Mode(
        0x63, "03010f000e", "5f4f50825480bf1f00410000 00000000 9c8e8f284096b9a3ff",
        "000102030405060708090a0b0c0d0e0f41000f0000", "000000000040050fff",
    ),
    "cga 320x200": Mode(
        0x63, "0309030002", "2d2728902b80bf1f00c10000 00000000 9c8e8f140096b9a2ff",
        "001315170204060710111213141516170100030000", "0000000000300f0fff",
    ),
}  # fmt: skip


class Card:
    """A chip with 1 MiB of memory on a clock that stands still."""

    def __init__(self, mode: str | None = None) -> None:
        self.clock = FakeClock()
        self.vram = Vram(bytearray(1 << 20))
        self.vga = Vga(self.clock, self.vram)
        self.screen = VgaScreen(self.vga)
        if mode is not None:
            self.set_mode(MODES[mode])

    def set_mode(self, mode: Mode) -> None:
        write = self.vga.write
        write(Reg.STATUS0, mode.misc)
        self.indexed(Reg.SEQUENCER_INDEX, mode.seq)
        self.crt(0x11, 0)
        self.indexed(Reg.CRTC_INDEX, mode.crt)
        self.indexed(Reg.GRAPHICS_INDEX, mode.gfx)
        self.vga.read(Reg.STATUS1)
        for index, value in enumerate(bytes.fromhex(mode.att)):
            write(Reg.ATTRIBUTE, index)
            write(Reg.ATTRIBUTE, value)
        write(Reg.ATTRIBUTE, 0x20)
        for number in range(256):  # colour n is n in all three components
            self.color(number, number >> 2, number >> 2, number & 0x3F)

    def indexed(self, register: int, values: str) -> None:
        for index, value in enumerate(bytes.fromhex(values)):
            self.vga.write(register, index)
            self.vga.write(register + 1, value)

    def put(self, register: int, index: int, value: int) -> None:
        self.vga.write(register, index)
        self.vga.write(register + 1, value)

    def seq(self, index: int, value: int) -> None:
        self.put(Reg.SEQUENCER_INDEX, index, value)

    def gfx(self, index: int, value: int) -> None:
        self.put(Reg.GRAPHICS_INDEX, index, value)

    def crt(self, index: int, value: int) -> None:
        self.put(Reg.CRTC_INDEX, index, value)

    def color(self, number: int, red: int, green: int, blue: int) -> None:
        self.vga.write(Reg.DAC_WRITE_INDEX, number)
        for part in (red, green, blue):
            self.vga.write(Reg.DAC_DATA, part)

    def poke(self, offset: int, data: bytes) -> None:
        for index, value in enumerate(data):
            self.vga.aperture.write_byte(offset + index, value)

    def dispi(self, index: int, value: int) -> None:
        self.vga.write_dispi(index, value)

    def vbe(self, width: int, height: int, depth: int, flags: int = 0x41) -> None:
        for index, value in ((4, 0), (1, width), (2, height), (3, depth), (4, flags)):
            self.dispi(index, value)
