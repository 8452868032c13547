"""Standard VGA against the IBM VGA Technical Reference and FreeVGA."""

from __future__ import annotations

import io
import json
import random

import numpy as np
import pytest
from PIL import Image

from display.modes import MODES, Card
from pytcg.hw.display.picture import png, ppm
from pytcg.hw.display.registers import Reg

TEXT, PLANAR, CHAIN4, CGA = MODES
B8000 = 0x18000


def test_each_register_file_keeps_only_the_bits_that_exist() -> None:
    card = Card()
    card.seq(4, 0xFF)
    card.gfx(5, 0xFF)
    assert card.vga.read(Reg.SEQUENCER_DATA) == 0x0E
    assert card.vga.read(Reg.GRAPHICS_DATA) == 0x7B


def test_the_crtc_answers_where_the_misc_register_puts_it() -> None:
    card = Card()
    card.vga.write(Reg.STATUS0, 0)
    card.vga.write(Reg.CRTC_INDEX_MONO, 0x0F)
    card.vga.write(Reg.CRTC_DATA_MONO, 0x55)
    assert card.vga.read(Reg.CRTC_DATA_MONO) == 0x55
    assert card.vga.read(Reg.CRTC_DATA) == 0xFF
    card.vga.write(Reg.STATUS0, 1)
    assert card.vga.read(Reg.CRTC_DATA) == 0x55
    assert card.vga.read(Reg.CRTC_DATA_MONO) == 0xFF


def test_protected_crtc_registers_keep_all_but_the_line_compare_bit() -> None:
    card = Card(TEXT)
    card.crt(0x11, 0x8E)
    card.crt(0, 0x12)
    card.crt(7, 0)
    assert card.vga.crt[0] == 0x5F
    assert card.vga.crt[7] == 0x0F
    card.crt(0x13, 0x50)
    assert card.vga.crt[0x13] == 0x50


def test_reading_the_status_resets_the_attribute_flip_flop() -> None:
    card = Card(TEXT)
    card.vga.write(Reg.ATTRIBUTE, 0x33)
    card.vga.read(Reg.STATUS1)
    card.vga.write(Reg.ATTRIBUTE, 0x31)
    card.vga.write(Reg.ATTRIBUTE, 0x77)
    assert card.vga.att[0x11] == 0x77


def test_the_palette_is_read_only_while_the_display_uses_it() -> None:
    card = Card(TEXT)
    card.vga.read(Reg.STATUS1)
    card.vga.write(Reg.ATTRIBUTE, 0x21)
    card.vga.write(Reg.ATTRIBUTE, 0x3F)
    assert card.vga.att[1] == 1


def test_dac_components_are_six_bits_and_the_index_advances() -> None:
    card = Card()
    card.color(5, 0xFF, 0x01, 0x02)
    card.vga.write(Reg.DAC_READ_INDEX, 5)
    assert [card.vga.read(Reg.DAC_DATA) for _ in range(3)] == [0x3F, 1, 2]
    assert card.vga.read(Reg.DAC_READ_INDEX) == 3
    assert int(card.vga.dac.rgb()[5]) == 0xFF0408


def test_retrace_comes_once_a_frame_at_70_hertz() -> None:
    card = Card(TEXT)
    frame = card.vga.frame_time()
    assert 14_000_000 < frame < 14_500_000
    seen = 0
    level = False
    for _ in range(449 * 4):
        card.clock.advance(frame // (449 * 2))
        now = bool(card.vga.read(Reg.STATUS1) & 8)
        seen += now and not level
        level = now
    assert seen == 2


@pytest.mark.parametrize(
    ("rotate", "expected"), [(0x00, 0x5A), (0x08, 0x50), (0x10, 0x5F), (0x18, 0x55), (0x04, 0xA5)]
)
def test_write_mode_0_rotates_and_combines_with_the_latches(rotate: int, expected: int) -> None:
    card = Card(PLANAR)
    card.poke(0, b"\xf0" if rotate == 8 else b"\x0f")
    if rotate == 0x08:
        latch = 0xF0
    else:
        latch = 0x0F
    card.vga.aperture.read_byte(0)
    card.gfx(3, rotate)
    card.poke(1, b"\x5a")
    expected = {0x00: 0x5A, 0x08: 0x5A & latch, 0x10: 0x5A | latch, 0x18: 0x5A ^ latch, 4: 0xA5}[
        rotate
    ]
    assert list(card.vram.planes[1]) == [expected] * 4


def test_set_reset_bit_mask_and_map_mask_choose_what_changes() -> None:
    card = Card(PLANAR)
    card.poke(0, b"\x0f")
    card.vga.aperture.read_byte(0)
    card.gfx(0, 0b0101)
    card.gfx(1, 0b0011)
    card.gfx(8, 0xF0)
    card.seq(2, 0b0111)
    card.poke(0, b"\xa5")
    assert list(card.vram.planes[0]) == [0xFF, 0x0F, 0xAF, 0x0F]


def test_write_mode_1_copies_the_latches() -> None:
    card = Card(PLANAR)
    card.vram.planes[3] = (1, 2, 3, 4)
    card.vga.aperture.read_byte(3)
    card.gfx(5, 1)
    card.poke(9, b"\xff")
    assert list(card.vram.planes[9]) == [1, 2, 3, 4]


def test_write_mode_2_spreads_a_colour_over_the_planes() -> None:
    card = Card(PLANAR)
    card.gfx(5, 2)
    card.gfx(8, 0x81)
    card.poke(0, b"\x06")
    assert list(card.vram.planes[0]) == [0, 0x81, 0x81, 0]


def test_write_mode_3_uses_the_data_as_mask_of_set_reset() -> None:
    card = Card(PLANAR)
    card.gfx(0, 0b1001)
    card.gfx(5, 3)
    card.gfx(8, 0x3C)
    card.poke(0, b"\xf8")
    assert list(card.vram.planes[0]) == [0x38, 0, 0, 0x38]


def test_read_mode_0_reads_the_selected_plane_and_1_compares_colours() -> None:
    card = Card(PLANAR)
    card.vram.planes[0] = (0b1100, 0b1010, 0, 0)
    card.gfx(4, 1)
    assert card.vga.aperture.read_byte(0) == 0b1010
    card.gfx(5, 8)
    card.gfx(2, 0b0011)
    assert card.vga.aperture.read_byte(0) == 0b1000
    card.gfx(7, 0b0010)
    assert card.vga.aperture.read_byte(0) == 0b1010


def test_odd_even_puts_characters_and_attributes_side_by_side() -> None:
    card = Card(TEXT)
    card.poke(B8000, b"A\x07B\x1f")
    assert bytes(card.vram.bytes[:8]) == b"A\x07\0\0B\x1f\0\0"
    assert card.vga.aperture.read(B8000, 4) == int.from_bytes(b"A\x07B\x1f", "little")
    assert card.vga.aperture.read_byte(0) == 0xFF  # A0000h is not mapped


def test_chain_4_is_linear_and_can_be_mapped_as_memory() -> None:
    card = Card(CHAIN4)
    card.poke(100, bytes(range(8)))
    assert bytes(card.vram.bytes[100:108]) == bytes(range(8))
    assert card.vga.aperture.chained() == (0, 0x10000, 0)
    card.gfx(8, 0x0F)
    assert card.vga.aperture.chained() is None


def test_mode_x_writes_every_fourth_pixel() -> None:
    card = Card(CHAIN4)
    card.seq(4, 6)
    card.seq(2, 1 << 2)
    card.poke(0, b"\x11\x22")
    card.screen.refresh()
    assert card.screen.pixels.shape == (400, 640)
    row = card.screen.pixels[0, ::2] & 0x3F
    assert [i for i, v in enumerate(row.tolist()) if v] == [2, 6]


def draw(card: Card) -> np.ndarray:  # type: ignore[type-arg]
    card.screen.refresh()
    return card.screen.pixels


def test_planar_pixels_come_from_four_planes() -> None:
    card = Card(PLANAR)
    for plane, byte in enumerate((0x80, 0xC0, 0, 0x20)):
        card.seq(2, 1 << plane)
        card.poke(0, bytes([byte]))
    picture = draw(card)
    assert picture.shape == (480, 640)
    colors = card.vga.dac.rgb()
    assert picture[0, :4].tolist() == [colors[n] for n in (3, 2, 0x38, 0)]


def test_cga_pixels_interleave_lines_in_two_banks() -> None:
    card = Card(CGA)
    card.poke(B8000, b"\x1b")
    card.poke(B8000 + 0x2000, b"\xff")
    picture = draw(card)
    colors = card.vga.dac.rgb()
    assert picture.shape == (400, 640)
    assert picture[0, 0:8:2].tolist() == [colors[n] for n in (0, 0x13, 0x15, 0x17)]
    assert picture[2, 0:8:2].tolist() == [colors[0x17]] * 4


def load_font(card: Card, code: int, rows: bytes) -> None:
    card.vram.planes[code * 32 : code * 32 + len(rows), 2] = list(rows)
    card.vram.dirty.mark(0, 20)


def test_text_is_drawn_with_the_font_and_read_as_text() -> None:
    card = Card(TEXT)
    card.crt(0x0A, 0x20)
    load_font(card, ord("A"), b"\x81" + b"\xff" * 15)
    card.poke(B8000 + 160, b"A\x1eB\x07")
    picture = draw(card)
    colors = card.vga.dac.rgb()
    assert picture.shape == (400, 720)
    yellow, blue = colors[0x3E], colors[1]
    assert picture[16, :9].tolist() == [yellow, *[blue] * 6, yellow, blue]
    text = card.screen.text()
    assert text is not None
    assert text.lines()[1].strip("\0 ")[:2] == "AB"
    assert text.cells.shape == (25, 80)


def test_line_graphics_repeat_the_eighth_dot() -> None:
    card = Card(TEXT)
    card.crt(0x0A, 0x20)
    for code in (0xC4, 0x5F):
        load_font(card, code, b"\xff" * 16)
    card.poke(B8000, b"\xc4\x07\x5f\x07")
    picture = draw(card)
    assert picture[0, 8] == picture[0, 7] != picture[0, 17]


def test_the_cursor_blinks_and_shows_where_text_says() -> None:
    card = Card(TEXT)
    card.poke(B8000, b" \x07" * 2000)
    card.crt(0x0F, 81)
    draw(card)
    assert card.screen.pixels[16 + 13, 9:18].all()
    text = card.screen.text()
    assert text is not None and text.cursor == (1, 1)
    card.clock.advance(card.vga.frame_time() * 8)
    assert len(card.screen.refresh()) == 16
    assert not card.screen.pixels[16 + 13, 9:18].any()


def test_blinking_characters_vanish_for_half_of_the_time() -> None:
    card = Card(TEXT)
    card.crt(0x0A, 0x20)
    load_font(card, ord("A"), b"\xff" * 16)
    card.poke(B8000, b"A\x87")
    assert draw(card)[0, 0]
    card.clock.advance(card.vga.frame_time() * 16)
    assert not draw(card)[0, 0]


def test_a_split_screen_starts_again_at_address_0() -> None:
    card = Card(CHAIN4)
    card.vram.bytes[0:320] = 0x3F
    card.crt(0x0C, 0x10)
    card.crt(0x18, 0x2B)  # 299: bit 8 in register 7, bit 9 in register 9
    card.crt(0x07, 0x1F)
    card.crt(0x09, 0x01)
    picture = draw(card)
    assert not picture[0].any() and not picture[299].any()
    assert picture[300].all() and picture[301].all() and not picture[302].any()


def test_panning_moves_the_picture_by_dots() -> None:
    card = Card(PLANAR)
    card.poke(0, b"\x01\x80")
    assert np.flatnonzero(draw(card)[0]).tolist() == [7, 8]
    card.vga.read(Reg.STATUS1)
    card.vga.write(Reg.ATTRIBUTE, 0x33)
    card.vga.write(Reg.ATTRIBUTE, 5)
    assert np.flatnonzero(draw(card)[0]).tolist() == [2, 3]


def test_only_lines_that_were_written_are_drawn_again() -> None:
    card = Card()
    card.vbe(512, 256, 32)
    assert len(card.screen.refresh()) == 256
    assert len(card.screen.refresh()) == 0
    card.vram.store_word(512 * 100, 0xFFFFFF)
    assert 100 in card.screen.refresh()
    assert card.screen.pixels[100, 0] == 0xFFFFFF


@pytest.mark.parametrize(
    ("depth", "data", "color"),
    [
        (8, b"\x05", 0x040414), (15, b"\xff\x7f", 0xFFFFFF), (16, b"\x00\xf8", 0xFF0000),
        (24, b"\x01\x02\x03", 0x030201), (32, b"\x01\x02\x03\x00", 0x030201),
    ],
)  # fmt: skip
def test_vbe_modes_of_every_depth(depth: int, data: bytes, color: int) -> None:
    card = Card(TEXT)
    card.vbe(320, 200, depth)
    card.vram.bytes[: len(data)] = list(data)
    picture = draw(card)
    assert picture.shape == (200, 320)
    assert picture[0, 0] == color


def test_vbe_offsets_and_virtual_width_move_the_window() -> None:
    card = Card()
    card.vbe(64, 64, 32)
    card.dispi(6, 128)
    card.dispi(8, 3)
    card.dispi(9, 2)
    card.vram.words[2 * 128 + 3] = 0xABCDEF
    assert draw(card)[0, 0] == 0xABCDEF
    assert card.vga.read_dispi(7) == (1 << 20) // 512


def test_vbe_limits_and_nonsense_are_brought_into_the_memory() -> None:
    card = Card()
    card.dispi(4, 2)
    assert [card.vga.read_dispi(n) for n in (0, 1, 2, 3)] == [0xB0C5, 16000, 12000, 32]
    card.vbe(0xFFFF, 0xFFFF, 77)
    width, height = card.vga.vbe.size
    assert width * height <= 1 << 20 and card.vga.vbe.depth == 8
    draw(card)


def test_vbe_banks_reach_all_of_the_memory() -> None:
    card = Card()
    card.vga.write(Reg.STATUS0, 0x63)
    card.vbe(640, 400, 8, 1)
    card.dispi(5, 3)
    card.poke(1, b"\x55")
    assert card.vram.bytes[0x30001] == 0x55
    assert card.vga.aperture.chained() == (0, 0x10000, 0x30000)


def test_pictures_are_files_that_others_read() -> None:
    pixels = np.arange(12, dtype=np.uint32).reshape(3, 4) * 0x010305
    for encode in (png, ppm):
        image = np.asarray(Image.open(io.BytesIO(encode(pixels)))).astype(np.uint32)
        assert np.array_equal(image[..., 0] << 16 | image[..., 1] << 8 | image[..., 2], pixels)


def test_any_register_values_show_something() -> None:
    """Junk in every register never raises, and the state survives a round trip through JSON."""
    random.seed(8)
    card = Card(TEXT)
    for _ in range(150):
        for _ in range(20):
            card.vga.write(random.randrange(0x30), random.randrange(256))
        card.dispi(random.randrange(12), random.choice((0, 1, 4, 8, 63, 640, 0x7FFF)))
        card.vga.aperture.write(random.randrange(0x20000), 4, random.getrandbits(32))
        card.vga.read(random.randrange(0x30))
        card.screen.refresh()
        card.screen.text()
    saved = json.loads(json.dumps(card.vga.state()))
    other = Card()
    other.vga.restore(saved)
    assert other.vga.state() == card.vga.state()


@pytest.mark.parametrize("seed", range(6))
def test_an_access_of_a_word_is_two_of_bytes(seed: int) -> None:
    """Whatever the registers say, those of text modes among them."""
    rng = random.Random(seed)
    cards = Card(TEXT), Card(TEXT)
    for _ in range(300):
        if rng.random() < 0.1:
            which, index, value = rng.choice([
                ("seq", 2, rng.choice([3, 3, 1, 15])), ("seq", 4, rng.choice([2, 2, 6, 10])),
                ("gfx", 1, rng.choice([0, 0, 5])), ("gfx", 3, rng.choice([0, 0, 0x13])),
                ("gfx", 4, rng.randrange(4)), ("gfx", 5, rng.choice([0x10, 0x10, 0, 0x11, 0x18])),
                ("gfx", 6, rng.choice([0x0E, 0x0E, 0x0A, 0x04])),
                ("gfx", 8, rng.choice([0xFF, 0x3C])),
            ])
            for card in cards:
                getattr(card, which)(index, value)
        offset = B8000 + rng.randrange(16)
        if rng.random() < 0.3:
            offset = rng.randrange(0x20000 - 1)
        words, single = (card.vga.aperture for card in cards)
        if rng.random() < 0.5:
            value = rng.getrandbits(16)
            words.write(offset, 2, value)
            single.write_byte(offset, value & 0xFF)
            single.write_byte(offset + 1, value >> 8)
        else:
            expected = single.read_byte(offset) | single.read_byte(offset + 1) << 8
            assert words.read(offset, 2) == expected
        assert words.latch == single.latch
    assert cards[0].vga.vram.view == cards[1].vga.vram.view
