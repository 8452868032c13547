"""Keys of terminals, and text consoles, which an emulator of terminals is compared with."""

from __future__ import annotations

import asyncio
import curses
import random
import threading

import pyte
import pytest

from pytcg.chardev.base import Context
from pytcg.chardev.text_console import COLUMNS, PLAIN, ROWS, TextConsole
from pytcg.chardev.vc import VcChardev
from pytcg.ui.keys import is_key
from pytcg.ui.terminal.keys import pc_keys


@pytest.mark.parametrize(("code", "keys"), [
    (ord("a"), ("a",)), (ord("A"), ("shift", "a")), (ord("!"), ("shift", "1")),
    (ord(" "), ("spc",)), (13, ("ret",)), (3, ("ctrl", "c")), (127, ("backspace",)),
    (curses.KEY_F1 + 11, ("f12",)), (curses.KEY_F1 + 12, ("shift", "f1")),
    (curses.KEY_UP, ("up",)), (0xE9, None), (curses.KEY_RESIZE, None),
])  # fmt: skip
def test_a_terminal_s_keys_are_a_keyboard_s(code: int, keys: tuple[str, ...] | None) -> None:
    assert pc_keys(code) == keys


def test_every_key_has_a_place_on_the_keyboard() -> None:
    keys = [pc_keys(code) for code in range(0x200)]
    assert all(is_key(name) for each in keys if each for name in each)
    assert all(pc_keys(code) for code in range(0x7F))


def text(console: TextConsole) -> list[str]:
    return ["".join(character for character, _ in row) for row in console.cells]


PIECES = ("hello", "\r", "\n", "\r\n", "\b", "\x1b[2J", "\x1b[H", "\x1b[5;7H", "\x1b[3A", "\x1b[B",
          "\x1b[12C", "\x1b[4D", "\x1b[K", "\x1b[1K", "\x1b[2K", "\x1b[J", "\x1b[1;31m", "\x1b[m",
          "\x1b[7m", "\x1b[2P", "\x1b[9G", "\x1b(B", "w\u00f6rds", "x" * 70,
          "\x1b[?25l")  # fmt: skip


@pytest.mark.parametrize("seed", range(20))
def test_a_text_console_is_a_terminal(seed: int) -> None:
    """As pyte has it; between writes cut anywhere, the same."""
    rng = random.Random(seed)
    console, screen = TextConsole(), pyte.Screen(COLUMNS, ROWS)
    stream = pyte.Stream(screen)
    for _ in range(60):
        piece = rng.choice(PIECES)
        if piece == "\b" or piece[-1] in "DCKJP":  # at the edge terminals differ
            console.feed(b"\r")
            stream.feed("\r")
        data, cut = piece.encode(), rng.randrange(len(piece) + 1)
        console.feed(data[:cut])
        console.feed(data[cut:])
        stream.feed(piece)
        assert text(console) == screen.display
    assert console.cursor[0] == screen.cursor.y and console.cursor[1] == screen.cursor.x


def test_attributes_are_a_vga_s() -> None:
    console = TextConsole()
    console.feed(b"a\x1b[1;31mb\x1b[44mc\x1b[0;7md\x1b[27;39;49me")
    assert [attribute for _, attribute in console.cells[0][:5]] == [PLAIN, 0x0C, 0x1C, 0x70, PLAIN]


def test_noise_does_no_harm() -> None:
    rng, console = random.Random(1), TextConsole()
    for _ in range(2000):
        console.feed(bytes(rng.choice(b"\x1b[;0123456789mHJKABCDP?\r\n\bx\xc3") for _ in range(9)))
    assert len(console.cells) == ROWS and all(len(row) == COLUMNS for row in console.cells)


class Slow:
    """A front-end with room for two bytes now and then."""

    def __init__(self) -> None:
        self.got = b""
        self.room = 2

    def can_receive(self) -> int:
        return self.room

    def receive(self, data: bytes) -> int:
        self.got += data
        self.room -= len(data)
        return len(data)

    def receive_break(self) -> None:
        raise AssertionError


def test_keys_wait_for_room() -> None:
    async def run() -> bytes:
        loop = asyncio.get_running_loop()
        chardev, guest = VcChardev("vc"), Slow()
        chardev.frontend = guest
        chardev.start(Context(loop, threading.RLock(), lambda: None), guest)
        chardev.type(b"hello")
        assert guest.got == b"he"
        guest.room = 9
        chardev.accept_input()
        while len(guest.got) < 5:
            await asyncio.sleep(0)
        return guest.got

    assert asyncio.run(asyncio.wait_for(run(), 60)) == b"hello"
