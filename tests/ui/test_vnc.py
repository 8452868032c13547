"""The VNC server with viewers of every kind, and with what is none."""

from __future__ import annotations

import random
import socket
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pytcg.ui.keys import KEYSYMS, SCAN_CODES, key_bytes
from ui.rfb_client import RfbClient
from ui.show import Show, painted

RAW, HEXTILE, ZLIB, TIGHT, ZRLE = ENCODINGS = 0, 5, 6, 7, 16


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("colours", [1, 2, 3, 16, 17, 5000])
def test_a_viewer_sees_the_picture(show: Show, encoding: int, colours: int) -> None:
    show.screen.paint(slice(0, 200), painted(colours, colours))
    viewer = show.viewer(encoding)
    assert viewer.name == "a machine"
    viewer.update()
    assert np.array_equal(viewer.picture, show.screen.pixels)


def test_only_what_changed_is_sent(show: Show) -> None:
    viewer = show.viewer(ZRLE)
    viewer.update()
    with show.lock:
        show.screen.paint(slice(10, 12), 0xFF0000)
        show.screen.paint(slice(50, 53), 0x00FF00)
    assert viewer.update() == [(0, 10, 320, 2), (0, 50, 320, 3)]
    assert np.array_equal(viewer.picture, show.screen.pixels)


def test_two_viewers_each_see_all(show: Show) -> None:
    first = show.viewer(ZLIB)
    first.update()
    show.screen.paint(slice(0, 5), 7)
    first.update()
    second = show.viewer(RAW)
    second.update()
    for viewer in (first, second):
        assert np.array_equal(viewer.picture, show.screen.pixels)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_sixteen_bits_a_pixel(show: Show, encoding: int) -> None:
    show.screen.paint(slice(0, 200), painted(1, 900))
    viewer = show.viewer(encoding)
    viewer.set_format(struct.pack(">BBBBHHHBBB3x", 16, 16, 0, 1, 31, 63, 31, 11, 5, 0), "<u2")
    viewer.update()
    red, green, blue = (show.screen.pixels >> shift & 0xFF for shift in (16, 8, 0))
    expected = (red * 31 + 127) // 255 << 11 | (green * 63 + 127) // 255 << 5
    assert np.array_equal(viewer.picture, expected | (blue * 31 + 127) // 255)


def test_a_new_size_is_told(show: Show) -> None:
    viewer = show.viewer(ZRLE)
    viewer.update()
    with show.lock:
        show.screen.resize(300, 400)
    assert viewer.update() == [(0, 0, 400, 300)]
    viewer.update()
    assert np.array_equal(viewer.picture, show.screen.pixels)


def test_a_viewer_that_cant_change_size_sees_what_fits(show: Show) -> None:
    viewer = show.viewer(RAW, resizes=False)
    viewer.update()
    with show.lock:
        show.screen.resize(100, 400)
    viewer.update()
    assert (viewer.picture[:100] == 0x102030).all() and not viewer.picture[100:].any()


@pytest.mark.parametrize("version", [b"RFB 003.003\n", b"RFB 003.007\n", b"RFB 003.889\n"])
def test_other_versions_shake_hands(show: Show, version: bytes) -> None:
    sent = b"RFB 003.008\n" if b"889" in version else version
    viewer = RfbClient(show.connect(), RAW, sent)
    viewer.update()
    assert np.array_equal(viewer.picture, show.screen.pixels)


def test_keys_reach_the_keyboard_and_are_let_go_when_the_viewer_leaves(show: Show) -> None:
    sock = show.connect()
    viewer = RfbClient(sock, RAW)
    viewer.key(ord("a"), down=True)
    viewer.key(ord("a"), down=False)
    viewer.key(0xFF52, down=True)
    viewer.key(0x1234567, down=True)  # no such key
    viewer.update()
    show.wait_for(lambda: len(show.keyboard.codes) == 3)
    assert show.keyboard.codes == [b"\x1c", b"\xf0\x1c", b"\xe0\x75"]
    sock.shutdown(socket.SHUT_RDWR)
    show.wait_for(lambda: len(show.keyboard.codes) == 4)
    assert show.keyboard.codes[3] == b"\xe0\xf0\x75"


def test_junk_ends_its_connection_and_no_other(show: Show) -> None:
    good = show.viewer(ZRLE)
    rng = random.Random(1)
    hello = b"RFB 003.008\n\x01\x01"
    for number in range(120):
        sock = show.connect()
        sock.settimeout(5)
        junk = rng.randbytes(rng.randrange(1, 300))
        kinds = bytes(rng.choice((0, 2, 3, 4, 5, 6, 150, 248, 251, 255)) for _ in range(3))
        sock.sendall((junk, hello + junk, hello + kinds + junk)[number % 3])
        sock.close()
    good.update()
    assert np.array_equal(good.picture, show.screen.pixels)


def test_vncdotool_captures_the_picture_and_types(tmp_path: Path) -> None:
    show = Show(tmp_path, "127.0.0.1:0", to=99, password=True)
    show.server.guard.password.set(b"secret")
    show.screen.paint(slice(0, 200), painted(3, 300))
    shot = tmp_path / "shot.png"
    command = [sys.executable, "-m", "vncdotool.command", "-s", f"127.0.0.1::{show.server.port}",
               "-p", "secret", "capture", str(shot), "key", "enter"]  # fmt: skip
    subprocess.run(command, check=True, timeout=60)
    rgb = np.asarray(Image.open(shot).convert("RGB")).astype(np.uint32)
    seen = rgb[:, :, 0] << 16 | rgb[:, :, 1] << 8 | rgb[:, :, 2]
    assert np.array_equal(seen, show.screen.pixels)
    show.wait_for(lambda: len(show.keyboard.codes) == 2)
    assert show.keyboard.codes[:2] == [b"\x5a", b"\xf0\x5a"]
    show.close()
    assert show.errors == []


def test_every_key_has_its_code() -> None:
    assert len({code for code in SCAN_CODES.values()}) == len(SCAN_CODES)
    for character in map(chr, range(32, 127)):
        assert ord(character) in KEYSYMS, character
    assert key_bytes("delete", down=False) == b"\xe0\xf0\x71"
    assert key_bytes("print", down=True) == b"\xe0\x12\xe0\x7c"
