"""What viewers may ask for besides pixels: copies, sizes, keys, fences, colour maps."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from pytcg.ui.keys import NUMBERS, SCAN_CODES
from pytcg.ui.vnc.encodings.tight import _compact
from pytcg.ui.vnc.updates import find_moved
from ui.show import Show, painted
from ui.test_vnc import ENCODINGS, RAW, TIGHT, ZRLE

COPY_RECT = 1
FORMATS = {
    "bgr": ((32, 24, 0, 255, 255, 255, 0, 8, 16), "<u4"),
    "big": ((32, 24, 1, 255, 255, 255, 16, 8, 0), ">u4"),
    "high": ((32, 24, 0, 255, 255, 255, 24, 16, 8), "<u4"),
    "deep": ((32, 30, 0, 1023, 1023, 1023, 20, 10, 0), "<u4"),
    "555": ((16, 15, 1, 31, 31, 31, 10, 5, 0), ">u2"),
    "332": ((8, 8, 0, 7, 7, 3, 0, 3, 6), "u1"),
}


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("name", FORMATS)
def test_any_format_exactly(show: Show, encoding: int, name: str) -> None:
    values, pixel = FORMATS[name]
    show.screen.paint(slice(0, 100), painted(1, 900)[:100])
    show.screen.paint(slice(100, 200), painted(2, 2)[:100])
    viewer = show.viewer(encoding)
    bits, depth, big, *rest = values
    viewer.set_format(struct.pack(">BBBBHHHBBB3x", bits, depth, big, 1, *rest), pixel)
    viewer.update()
    expected = np.zeros((200, 320), np.uint32)
    for place, maximum, shift in zip((16, 8, 0), rest[:3], rest[3:], strict=True):
        colour = show.screen.pixels >> place & 0xFF
        expected |= (colour * maximum + 127) // 255 << shift
    assert np.array_equal(viewer.picture, expected)


def test_a_colour_map_means_what_the_pixels_need(show: Show) -> None:
    show.screen.paint(slice(0, 200), 0xFF8000)
    viewer = show.viewer(RAW)
    viewer.set_format(struct.pack(">BBBBHHHBBB3x", 8, 8, 0, 0, 0, 0, 0, 0, 0, 0), "u1")
    viewer.update()
    (kind, colours), = viewer.messages
    red, green, blue = np.frombuffer(colours, ">u2").reshape(256, 3)[viewer.picture[0, 0]]
    assert kind == 1 and red == 0xFFFF and abs(int(green) - 0x8000) < 0x2000 and blue == 0


def test_lines_that_moved_are_copied(show: Show) -> None:
    text = np.where(np.random.default_rng(5).random((216, 320)) < 0.3, 0xAAAAAA, 0)
    show.screen.paint(slice(0, 200), text[:200].astype(np.uint32))
    viewer = show.viewer(ZRLE, more=(COPY_RECT,))
    viewer.update()
    with show.lock:
        show.screen.paint(slice(0, 200), text[16:].astype(np.uint32))
    places = viewer.update()
    assert places == [(0, 0, 320, 184), (0, 184, 320, 16)]
    assert np.array_equal(viewer.picture, show.screen.pixels)


def test_what_moved_is_found_whatever_moved() -> None:
    rng = np.random.default_rng(1)
    for _ in range(50):
        old = rng.integers(0, 3, (100, 4), np.uint32)
        distance = int(rng.integers(-40, 40)) or 1
        new = np.roll(old, -distance, axis=0)
        new[rng.integers(0, 100)] = 7
        found = find_moved(old, new, np.flatnonzero((old != new).any(axis=1)))
        if found is not None:
            first, last, moved = found
            assert np.array_equal(new[first:last], old[first + moved : last + moved])


def test_only_a_part_is_sent_when_a_part_is_asked_for(show: Show) -> None:
    viewer = show.viewer(RAW)
    viewer.update()
    show.screen.paint(slice(0, 200), 9)
    viewer.send(struct.pack(">BBHHHH", 3, 1, 10, 20, 30, 40))
    assert viewer.take_update() == [(10, 20, 30, 40)]
    viewer.update()
    assert np.array_equal(viewer.picture, show.screen.pixels)


def test_sizes_with_screens(show: Show) -> None:
    viewer = show.viewer(RAW, resizes=False, more=(-308,))
    viewer.update()
    assert viewer.notes[0][:2] == (-308, (0, 0, 320, 200))
    viewer.send(struct.pack(">BxHHBxIHHHHI", 251, 640, 480, 1, 0, 0, 0, 640, 480, 0))
    viewer.update()
    assert viewer.notes[1][:2] == (-308, (1, 1, 320, 200))  # it may not
    with show.lock:
        show.screen.resize(300, 400)
    viewer.update()
    assert viewer.notes[2][:2] == (-308, (0, 0, 400, 300))
    viewer.update()
    assert np.array_equal(viewer.picture, show.screen.pixels)


def test_keys_by_their_numbers(show: Show) -> None:
    viewer = show.viewer(RAW, more=(-258, -261, -307))
    viewer.update()
    assert [(number, data) for number, _, data in viewer.notes] == [
        (-258, b""), (-261, b"\0"), (-307, b"a machine")]
    for down in (1, 0):
        viewer.send(struct.pack(">BBHII", 255, 0, down, ord("y"), 0x2C))  # a German z
    show.wait_for(lambda: len(show.keyboard.codes) == 2)
    assert show.keyboard.codes == [b"\x1a", b"\xf0\x1a"]
    show.keyboard.leds = 4
    viewer.update()
    assert viewer.notes[-1][::2] == (-261, b"\4")


def test_every_key_has_a_number() -> None:
    assert set(NUMBERS.values()) == {*SCAN_CODES, "print", "pause"}
    assert NUMBERS[0x1E] == "a" and NUMBERS[0xC8] == "up" and NUMBERS[0x56] == "less"


def test_a_relative_pointer_moves_the_mouse(show: Show) -> None:
    viewer = show.viewer(RAW, more=(-257, -239))
    viewer.update()
    assert (-257, (0, 0, 320, 200), b"") in viewer.notes
    assert (-239, (0, 0, 0, 0), b"") in viewer.notes  # the guest draws its own
    viewer.send(struct.pack(">BBHH", 5, 1, 0x7FFF + 3, 0x7FFF - 2))
    viewer.send(struct.pack(">BBHH", 5, 0, 0x7FFF, 0x7FFF))
    show.wait_for(lambda: len(show.mouse.moves) >= 3)
    assert show.mouse.moves == [("move", 3, -2, 0), ("press", 1), ("press", 0)]


def test_a_viewer_that_leaves_lets_go_of_buttons(show: Show) -> None:
    viewer = show.viewer(RAW)
    viewer.send(struct.pack(">BBHH", 5, 4, 10, 10))
    show.wait_for(lambda: show.mouse.moves == [("press", 2)])
    viewer.close()
    show.wait_for(lambda: show.mouse.moves == [("press", 2), ("press", 0)])


def test_fences_come_back(show: Show) -> None:
    viewer = show.viewer(RAW, more=(-312,))
    viewer.send(struct.pack(">B3xIB", 248, 1 << 31 | 5, 3) + b"abc")
    viewer.update()
    assert viewer.messages == [(248, struct.pack(">I", 1 << 31)),
                               (248, struct.pack(">I", 5) + b"abc")]  # fmt: skip


def test_updates_come_by_themselves(show: Show) -> None:
    viewer = show.viewer(TIGHT, more=(-313, -312))
    viewer.send(struct.pack(">BBHHHH", 150, 1, 0, 0, 320, 200))
    viewer.take_update()
    for colour in (1, 2, 3):
        with show.lock:
            show.screen.paint(slice(0, 200), colour)
        viewer.take_update()
        assert np.array_equal(viewer.picture, show.screen.pixels)
    viewer.send(struct.pack(">BBHHHH", 150, 0, 0, 0, 0, 0))
    viewer.update(incremental=False)
    assert [kind for kind, _ in viewer.messages] == [150, 248, 150]


def test_another_level_of_compression_is_another_stream(show: Show) -> None:
    show.screen.paint(slice(0, 200), painted(3, 4000))
    viewer = show.viewer(TIGHT, more=(-255,))
    for level in (1, 9, 9, 0):
        viewer.set_encodings(TIGHT, level - 256)
        viewer.update(incremental=False)
        assert np.array_equal(viewer.picture, show.screen.pixels)


@pytest.mark.parametrize("length", [0, 127, 128, 16383, 16384, 4194303])
def test_compact_lengths(length: int) -> None:
    data = _compact(length)
    value = sum((byte if at == 2 else byte & 0x7F) << 7 * at for at, byte in enumerate(data))
    assert value == length and all(byte & 0x80 for byte in data[:-1])
