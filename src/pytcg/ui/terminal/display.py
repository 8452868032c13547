"""The display: one of the machine's consoles at a time, drawn by curses; Alt-1, Alt-2, … choose.

The first is the VGA's text screen; behind it come the text consoles (`-chardev vc`). A screen that
is larger than the terminal shows its part around the cursor.
"""

from __future__ import annotations

import asyncio
import curses
import locale
import os
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple

from pytcg.chardev.vc import VcChardev
from pytcg.ui.terminal.keys import ESCAPE, SEQUENCES, pc_keys

if TYPE_CHECKING:
    from pytcg.ui.console import Console

FRAME_SECONDS: Final = 1 / 30
ESCAPE_MILLISECONDS: Final = 25
_VGA_TO_CURSES: Final = (0, 4, 2, 6, 1, 5, 3, 7)

Cell = tuple[str, int]


class Picture(NamedTuple):
    """Rows of (character, VGA attribute), and where the cursor is."""

    rows: Sequence[Sequence[Cell]]
    cursor: tuple[int, int] | None


class CursesDisplay:
    """`start` takes the terminal, `close` gives it back as it was."""

    def __init__(self, loop: asyncio.AbstractEventLoop, console: Console,
                 texts: Sequence[VcChardev]) -> None:  # fmt: skip
        self._loop = loop
        self._console = console
        self._texts = texts
        self._shown = 0
        self._drawn: Picture | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._window: curses.window | None = None
        self._encoding = "ascii"

    def start(self) -> None:
        """Take the terminal; curses.error where it can't be."""
        locale.setlocale(locale.LC_CTYPE, "")
        self._encoding = locale.nl_langinfo(locale.CODESET)
        curses.setupterm(fd=1)  # of an unknown terminal initscr would end the process
        self._window = window = curses.initscr()
        curses.set_escdelay(ESCAPE_MILLISECONDS)
        curses.raw()
        curses.noecho()
        curses.nonl()
        window.keypad(True)
        window.nodelay(True)
        self._start_colors()
        self._loop.add_reader(0, self._keys_came)
        self._tick()

    @staticmethod
    def _start_colors() -> None:
        if not curses.has_colors():
            return
        curses.start_color()
        if curses.COLOR_PAIRS > 64:
            for pair in range(64):
                curses.init_pair(pair + 1, _VGA_TO_CURSES[pair & 7], _VGA_TO_CURSES[pair >> 3])

    def close(self) -> None:
        """The terminal as it was."""
        if self._window is None:
            return
        self._window = None
        if self._timer is not None:
            self._timer.cancel()
        if not self._loop.is_closed():
            self._loop.remove_reader(0)
        curses.endwin()

    # --- the screen ----------------------------------------------------------------------------

    def _tick(self) -> None:
        self._draw(self._picture())
        self._timer = self._loop.call_later(FRAME_SECONDS, self._tick)

    def _picture(self) -> Picture:
        if self._shown == 0:
            return Picture(*self._console.cells())
        with self._console.lock:
            text = self._texts[self._shown - 1].console
            return Picture([list(row) for row in text.cells], text.cursor)

    def _draw(self, picture: Picture) -> None:
        window = self._window
        if window is None or picture == self._drawn:
            return
        self._drawn = picture
        height, width = window.getmaxyx()
        row, column = picture.cursor or (0, 0)
        top, left = max(row - height + 1, 0), max(column - width + 1, 0)
        window.erase()
        for y, cells in enumerate(picture.rows[top : top + height]):
            self._draw_row(window, y, cells[left : left + width], last=width - 1)
        _show_cursor(shown=picture.cursor is not None)
        if row - top < height and column - left < width:
            window.move(row - top, column - left)
        window.refresh()

    def _draw_row(self, window: curses.window, y: int, cells: Sequence[Cell], *, last: int) -> None:
        start = 0
        while start < len(cells):
            end, attribute = start, cells[start][1]
            while end < len(cells) and cells[end][1] == attribute:
                end += 1
            text = "".join(character for character, _ in cells[start:end])
            text = text.encode(self._encoding, "replace").decode(self._encoding)
            corner = end > last and y == window.getmaxyx()[0] - 1
            if corner:  # whatever is written there scrolls, but what is inserted
                window.insstr(y, start, text, _attribute(attribute))
            else:
                window.addstr(y, start, text, _attribute(attribute))
            start = end

    # --- the keyboard --------------------------------------------------------------------------

    def _keys_came(self) -> None:
        if self._window is None:
            return
        if not _has_terminal():
            self._loop.remove_reader(0)
            return
        while (code := self._window.getch()) != curses.ERR:
            if code == curses.KEY_RESIZE:
                self._drawn = None
            elif code == ESCAPE and (after := self._window.getch()) != curses.ERR:
                self._alt(after)
            else:
                self._key(code)

    def _alt(self, code: int) -> None:
        number = code - ord("1")
        if 0 <= number <= len(self._texts):
            self._shown, self._drawn = number, None
        elif self._shown:
            self._type(b"\x1b" + _bytes(code))
        elif keys := pc_keys(code):
            self._press(("alt", *keys))

    def _key(self, code: int) -> None:
        if self._shown:
            self._type(_bytes(code))
        elif keys := pc_keys(code):
            self._press(keys)

    def _type(self, data: bytes) -> None:
        with self._console.lock:
            self._texts[self._shown - 1].type(data)

    def _press(self, keys: Sequence[str]) -> None:
        for key in keys:
            self._console.key(key, down=True)
        for key in reversed(keys):
            self._console.key(key, down=False)


def _bytes(code: int) -> bytes:
    """What a text console sends for a code of curses."""
    return SEQUENCES.get(code, bytes((code,)) if code < 0x100 else b"")


def _attribute(attribute: int) -> int:
    """Curses' for a VGA's."""
    fore, back = attribute & 7, attribute >> 4 & 7
    bold = curses.A_BOLD if attribute & 8 else 0
    if curses.has_colors() and curses.COLOR_PAIRS > 64:
        return curses.color_pair(1 + fore + 8 * back) | bold
    return bold | (curses.A_REVERSE if back > fore else 0)


def _show_cursor(*, shown: bool) -> None:
    with suppress(curses.error):  # a terminal whose cursor can't be hidden
        curses.curs_set(int(shown))


def _has_terminal() -> bool:
    """Whether standard input is still one: a terminal that was closed reads as its end for ever."""
    try:
        os.tcgetpgrp(0)
    except OSError:
        return False
    return True
