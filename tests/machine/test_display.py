"""The display card on its board: ports, windows, the picture, the VGA BIOS's ROM."""

from __future__ import annotations

import random
import struct
import threading

import numpy as np
import pytest

from display.modes import Card
from machine.fakes import FakeVcpu, board_memory
from pytcg.hw.clock import FakeClock
from pytcg.hw.display.aperture import BUSY
from pytcg.hw.display.edid import edid
from pytcg.hw.display.registers import Reg
from pytcg.hw.display.vbe import Dispi, Enable
from pytcg.hw.display.vram import ALL_PAGES
from pytcg.machine import pc_map as at
from pytcg.machine.board.vga import Display
from pytcg.machine.pc import Pc, PcConfig

FRAME_BUFFER, REGISTERS, ROM = 0xE000_0000, 0xE100_0000, 0xE200_0000
BIOS_IMAGE = b"\x55\xaa" + bytes(range(254)) * 4


class Bench:
    """A board with a card; software has put its windows somewhere."""

    def __init__(self) -> None:
        self.memory = board_memory(16 << 20)
        config = PcConfig(16 << 20, epoch=0, vga=True, vga_rom=BIOS_IMAGE)
        self.board = Pc(config, FakeClock(), threading.RLock(), self.memory,
                        lambda bus: FakeVcpu(bus, FakeVcpu.wait))  # fmt: skip
        self.bus = self.board.cpu_bus
        self.board.boot = lambda vcpu: None
        self.board.start()
        assert self.board.display is not None
        self.display: Display = self.board.display
        for register, value in ((0x10, FRAME_BUFFER), (0x18, REGISTERS), (0x30, ROM | 1), (4, 3)):
            self.config(register, value)

    def config(self, register: int, value: int | None = None) -> int:
        self.bus.write_port(at.PCI_ADDRESS, 4, 1 << 31 | at.VGA_SLOT << 11 | register)
        if value is not None:
            self.bus.write_port(at.PCI_DATA, 4, value)
        return self.bus.read_port(at.PCI_DATA, 4)

    def dispi(self, index: int, value: int) -> None:
        self.bus.write_port(at.DISPI[0], 2, index)
        self.bus.write_port(at.DISPI[1], 2, value)

    def set_mode(self, width: int, height: int, bits: int) -> None:
        self.dispi(Dispi.ENABLE, 0)
        self.dispi(Dispi.XRES, width)
        self.dispi(Dispi.YRES, height)
        self.dispi(Dispi.BPP, bits)
        self.dispi(Dispi.ENABLE, Enable.ENABLED | Enable.LFB)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_the_card_says_what_it_is(bench: Bench) -> None:
    assert bench.config(0) == 0x1111_1234
    assert bench.config(8) >> 8 == 0x030000


def test_the_frame_buffer_is_memory_that_the_screen_shows(bench: Bench) -> None:
    bench.set_mode(640, 480, 32)
    assert bench.display.screen.refresh().tolist() == list(range(480))
    bench.memory.store(FRAME_BUFFER + (100 * 640 + 5) * 4, (0x123456).to_bytes(4, "little"))
    lines = bench.display.screen.refresh()
    assert 100 in lines and len(lines) <= 4  # a page has no more
    assert bench.display.screen.pixels[100, 5] == 0x123456
    assert len(bench.display.screen.refresh()) == 0


def test_the_frame_buffer_moves(bench: Bench) -> None:
    bench.set_mode(640, 480, 32)
    bench.config(0x10, 0xF000_0000)
    bench.memory.store(0xF000_0000, b"\x11\x22\x33\x00")
    bench.display.screen.refresh()
    assert bench.display.screen.pixels[0, 0] == 0x332211
    bench.config(4, 0)
    assert bench.memory.find(0xF000_0000) is None


def test_a_bank_is_memory_while_stores_need_no_help(bench: Bench) -> None:
    bench.set_mode(640, 480, 8)
    bench.bus.write_port(0x3C2, 1, 0x63)
    bench.dispi(Dispi.BANK, 1)
    region = bench.memory.find(0xA0000)
    assert region is not None and region.writable
    bench.memory.store(0xA0000, b"\x2a")
    assert bench.memory.read(FRAME_BUFFER + 0x10000, 1) == b"\x2a"
    bench.bus.write_port(0x3CE, 2, 0x0F08)  # a bit mask
    assert bench.memory.find(0xA0000) is None


def text_mode(bench: Bench) -> None:
    """80 x 25 characters at B8000h."""
    out = bench.bus.write_port
    out(0x3C2, 1, 0x67)
    for index, value in enumerate((3, 0, 3, 0, 2)):
        out(0x3C4, 2, index | value << 8)
    for index, value in ((5, 0x10), (6, 0x0E), (8, 0xFF)):
        out(0x3CE, 2, index | value << 8)
    crt = {0: 0x5F, 1: 0x4F, 6: 0xBF, 7: 0x1F, 9: 0x4F, 0x12: 0x8F, 0x13: 0x28, 0x17: 0xA3}
    for index, value in crt.items():
        out(0x3D4, 2, index | value << 8)
    bench.bus.read_port(0x3DA, 1)
    out(0x3C0, 1, 0x20)


def test_text_is_read_by_the_registers_of_now(bench: Bench) -> None:
    assert bench.display.screen.text() is not None
    text_mode(bench)
    bench.bus.write_mmio(0xB8000 + 2 * 80, 2, 0x0741)
    text = bench.display.screen.text()
    assert text is not None and text.lines() == ["", "A", *[""] * 23]


def test_characters_written_to_the_window_are_on_the_screen(bench: Bench) -> None:
    text_mode(bench)
    for number, character in enumerate(b"Hello"):
        bench.bus.write_mmio(0xB8000 + 2 * number, 2, 0x0700 | character)
    text = bench.display.screen.text()
    assert text is not None and text.lines()[0] == "Hello"
    assert bench.bus.read_mmio(0xB8000, 2) == 0x0748
    for number in range(2000):
        store(bench, 0xB8000 + 2 * number, 2, 0x1758)
    text = bench.display.screen.text()
    assert text is not None and text.lines() == ["X" * 80] * 25
    bench.display.screen.refresh()
    store(bench, 0xB8000 + 2 * 80 * 3, 2, 0x1759)
    assert set(bench.display.screen.refresh().tolist()) >= set(range(48, 64))


def load(bench: Bench, address: int, size: int) -> int:
    """As the processor does: from memory where there is some, else by a call."""
    if bench.memory.find(address) is not None:
        return int.from_bytes(bench.memory.read(address, size), "little")
    return bench.bus.read_mmio(address, size)


def store(bench: Bench, address: int, size: int, value: int) -> None:
    """The same for a store."""
    region = bench.memory.find(address)
    if region is not None and region.writable:
        bench.memory.store(address, value.to_bytes(size, "little"))
    else:
        bench.bus.write_mmio(address, size, value)


TEXT_SETTINGS = (("seq", 2, 3), ("seq", 4, 2), ("gfx", 1, 0), ("gfx", 3, 0), ("gfx", 4, 0),
                 ("gfx", 5, 0x10), ("gfx", 6, 0x0E), ("gfx", 8, 0xFF))  # fmt: skip
FONT_SETTINGS = (("seq", 2, 4), ("seq", 4, 6), ("gfx", 4, 2), ("gfx", 5, 0), ("gfx", 6, 4))
SETTINGS = (
    ("seq", 2, (3, 3, 4, 4, 8, 15)), ("seq", 4, (2, 2, 6, 6, 10)), ("gfx", 1, (0, 0, 0, 5)),
    ("gfx", 3, (0, 0, 0, 0x13)), ("gfx", 4, (0, 2, 2, 3)), ("gfx", 5, (0x10, 0x10, 0, 0, 0x11, 8)),
    ("gfx", 6, (0x0E, 0x0E, 0x0A, 4, 4, 0, 5)), ("gfx", 8, (0xFF, 0xFF, 0x3C)),
)  # fmt: skip


@pytest.mark.parametrize("seed", range(6))
def test_a_window_that_is_memory_is_the_window(bench: Bench, seed: int) -> None:
    """Text and fonts, whichever way the guest reads and writes them, are as one by one."""
    rng, plain, mapped = random.Random(seed), Card(), 0
    bench.bus.write_port(0x3C2, 1, 0x67)
    plain.vga.write(Reg.STATUS0, 0x67)
    for _ in range(20):
        some = [(*row[:2], rng.choice(row[2])) for row in rng.sample(SETTINGS, 2)]
        for which, index, value in rng.choice((TEXT_SETTINGS, FONT_SETTINGS, some)):
            bench.bus.write_port(0x3C4 if which == "seq" else 0x3CE, 2, index | value << 8)
            getattr(plain, which)(index, value)
        for window in (0, 0x10000, 0x18000):  # the latches, which no text mode loads
            load(bench, 0xA0000 + window, 1), plain.vga.aperture.read(window, 1)
        for _ in range(BUSY + 20):
            size = rng.choice((1, 2, 4))
            place = rng.randrange(0x20000) & -size
            value = rng.getrandbits(8 * size)
            store(bench, 0xA0000 + place, size, value)
            plain.vga.aperture.write(place, size, value)
            assert load(bench, 0xA0000 + place, size) == plain.vga.aperture.read(place, size)
        mapped += bench.memory.find(0xA0000) is not None or bench.memory.find(0xB8000) is not None
        if rng.random() < 0.3:  # the guest looks at display memory itself
            place = rng.randrange(0x40000) & ~3
            assert load(bench, FRAME_BUFFER + place, 4) == plain.vram.words[place >> 2]
            store(bench, FRAME_BUFFER + place, 4, 0x12345678)
            plain.vram.words[place >> 2] = 0x12345678
    assert mapped > 3
    bench.display.vga.vram.collect()
    assert bench.display.vga.vram.view[: plain.vram.size] == plain.vram.view


def test_a_mode_of_vbe_begins_with_a_window_that_is_memory(bench: Bench) -> None:
    text_mode(bench)
    for number in range(2 * BUSY):
        store(bench, 0xB8000 + 2 * number, 2, 0x0741)
    assert bench.memory.find(0xB8000) is not None
    saved = bench.display.vga.state()
    assert bench.display.vga.vram.words[BUSY + 1] == 0x0741
    bench.set_mode(640, 480, 32)
    assert bench.memory.find(0xB8000) is None
    assert not any(bench.display.vga.vram.view[: 1 << 16])
    bench.display.vga.restore(saved)
    assert bench.memory.find(0xB8000) is None


def test_the_registers_are_in_memory_too(bench: Bench) -> None:
    bench.bus.write_mmio(REGISTERS + 0x500 + 2 * Dispi.XRES, 2, 800)
    bench.bus.write_port(at.DISPI[0], 2, Dispi.XRES)
    assert bench.bus.read_port(at.DISPI[2], 2) == 800
    bench.bus.write_mmio(REGISTERS + 0x404, 2, 0x0F02)  # sequencer: map mask
    assert bench.bus.read_mmio(REGISTERS + 0x405, 1) == 0x0F


def test_the_monitor_says_what_it_likes(bench: Bench) -> None:
    block = b"".join(bench.bus.read_mmio(REGISTERS + at, 4).to_bytes(4, "little")
                     for at in range(0, 128, 4))  # fmt: skip
    assert block == edid() and block[:8] == b"\0\xff\xff\xff\xff\xff\xff\0"
    assert sum(block) % 256 == 0 and b"QEMU Monitor\n" in block
    clock, width, blank, high = struct.unpack("<HBBB", block[54:59])
    height, lines, top = block[59:62]
    assert (width | high >> 4 << 8, height | top >> 4 << 8) == (1280, 800)
    assert round(clock * 10_000 / (1280 + blank) / (800 + lines)) == 60
    assert bench.bus.read_mmio(REGISTERS + 0x80, 4) == 0  # no further block


def test_the_rom_holds_the_bios(bench: Bench) -> None:
    assert bench.bus.read_mmio(ROM, 2) == 0xAA55


def test_dirty_pages_of_the_chip_and_of_the_guest(bench: Bench) -> None:
    dirty = bench.display.vga.vram.dirty
    dirty.take(ALL_PAGES)
    dirty.mark(3, 4)
    bench.memory.store(FRAME_BUFFER + 0x9000, b"x")
    assert np.flatnonzero(dirty.take(slice(2, 9))).tolist() == [3, 4]
    assert np.flatnonzero(dirty.take(ALL_PAGES)).tolist() == [9]
    assert not dirty.take(ALL_PAGES).any()
