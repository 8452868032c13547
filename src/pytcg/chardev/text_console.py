"""A text console's screen: what a program writes to it, kept as cells, with a VT100's sequences.

Enough for monitors, shells and firmware on a serial line: cursor movement, erasing, scrolling; of
attributes there are colours, bold and reverse (ECMA-48, 8.3).
"""

from __future__ import annotations

import re
from codecs import getincrementaldecoder
from collections.abc import Callable
from typing import Final

COLUMNS: Final = 80
ROWS: Final = 24
PLAIN: Final = 0x07
BOLD: Final = 0x08
TAB: Final = 8
_LONGEST: Final = 64  # of an escape sequence
_SEQUENCE: Final = re.compile(r"\x1b(?:\[([?>]?)([0-9;]*)([@-~])|[()][0-9A-Za-z]|([^\[()]))")
_VGA_COLORS: Final = (0, 4, 2, 6, 1, 5, 3, 7)  # ANSI counts red first, a VGA blue


class TextConsole:
    """`cells`: rows of (character, VGA attribute); `cursor`: row and column."""

    def __init__(self) -> None:
        self.cells = [self._blank() for _ in range(ROWS)]
        self.cursor = (0, 0)
        self._attribute = PLAIN
        self._reverse = False
        self._decoder = getincrementaldecoder("utf-8")("replace")
        self._pending = ""
        self._controls: dict[str, Callable[[], None]] = {
            "\r": lambda: self._move(self.cursor[0], 0),
            "\n": self._line_feed, "\v": self._line_feed, "\f": self._line_feed,
            "\b": lambda: self._move(self.cursor[0], self.cursor[1] - 1),
            "\t": lambda: self._move(self.cursor[0], (self.cursor[1] // TAB + 1) * TAB),
        }  # fmt: skip

    @staticmethod
    def _blank() -> list[tuple[str, int]]:
        return [(" ", PLAIN)] * COLUMNS

    def feed(self, data: bytes) -> None:
        """Show this; sequences may be cut anywhere."""
        text, at = self._pending + self._decoder.decode(data), 0
        self._pending = ""
        while at < len(text):
            if text[at] != "\x1b":
                self._put(text[at])
                at += 1
            elif found := _SEQUENCE.match(text, at):
                self._obey(found)
                at = found.end()
            elif len(text) - at < _LONGEST:
                self._pending = text[at:]
                return
            else:
                at += 1

    def _put(self, character: str) -> None:
        if character in self._controls:
            self._controls[character]()
        elif character >= " " and character != "\x7f":
            row, column = self.cursor
            if column == COLUMNS:
                self._line_feed()
                row, column = self.cursor[0], 0
            attribute = self._attribute
            if self._reverse:
                attribute = attribute & 8 | attribute >> 4 & 7 | (attribute & 7) << 4
            self.cells[row][column] = (character, attribute)
            self.cursor = row, column + 1

    def _line_feed(self) -> None:
        row, column = self.cursor
        if row == ROWS - 1:
            self.cells = [*self.cells[1:], self._blank()]
        else:
            self.cursor = row + 1, column

    def _move(self, row: int, column: int) -> None:
        self.cursor = min(max(row, 0), ROWS - 1), min(max(column, 0), COLUMNS - 1)

    def _obey(self, found: re.Match[str]) -> None:
        private, words, final, single = found.groups()
        if single == "c":
            self.cells, self._attribute = [self._blank() for _ in range(ROWS)], PLAIN
            self.cursor = 0, 0
        if final is None or private:
            return
        numbers = [int(word[-4:] or 0) for word in words.split(";")]
        first, (row, column) = numbers[0], self.cursor
        match final:
            case "A":
                self._move(row - max(first, 1), column)
            case "B":
                self._move(row + max(first, 1), column)
            case "C":
                self._move(row, column + max(first, 1))
            case "D":
                self._move(row, column - max(first, 1))
            case "G":
                self._move(row, first - 1)
            case "H" | "f":
                self._move(first - 1, numbers[1] - 1 if len(numbers) > 1 else 0)
            case "J":
                self._erase(first, 0, ROWS * COLUMNS)
            case "K":
                self._erase(first, row * COLUMNS, (row + 1) * COLUMNS)
            case "P":
                cells = self.cells[row]
                del cells[column : column + max(first, 1)]
                cells += self._blank()[: COLUMNS - len(cells)]
            case "m":
                for number in numbers:
                    self._paint(number)

    def _erase(self, which: int, start: int, end: int) -> None:
        """From the cursor on (0), up to it (1), or all (2) of these cells."""
        here = self.cursor[0] * COLUMNS + self.cursor[1]
        first = start if which else here
        last = min(here + 1, end) if which == 1 else end
        for at in range(first, last):
            self.cells[at // COLUMNS][at % COLUMNS] = (" ", PLAIN)

    def _paint(self, number: int) -> None:
        if number == 0:
            self._attribute, self._reverse = PLAIN, False
        elif number in (1, 22):
            self._attribute = self._attribute & ~BOLD | (BOLD if number == 1 else 0)
        elif number in (7, 27):
            self._reverse = number == 7
        elif 30 <= number <= 37:
            self._attribute = self._attribute & 0x78 | _VGA_COLORS[number - 30]
        elif 40 <= number <= 47:
            self._attribute = self._attribute & 0x0F | _VGA_COLORS[number - 40] << 4
        elif number in (39, 49):
            self._attribute = self._attribute & (0x78 if number == 39 else 0x0F)
            self._attribute |= PLAIN if number == 39 else 0
