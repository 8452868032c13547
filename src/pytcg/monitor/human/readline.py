"""A line editor for terminals: Emacs' keys, history, completion (QEMU's `readline`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

MOST_HISTORY: Final = 64
LONGEST: Final = 4095
_ESCAPES: Final = {"A": "up", "B": "down", "C": "right", "D": "left", "H": "home", "F": "end",
                   "1~": "home", "4~": "end", "3~": "delete", "7~": "home", "8~": "end",
                   "OH": "home", "OF": "end"}  # fmt: skip
_CONTROLS: Final = {0x01: "home", 0x02: "left", 0x04: "delete", 0x05: "end", 0x06: "right",
                    0x08: "backspace", 0x09: "tab", 0x0A: "enter", 0x0B: "kill",
                    0x0D: "enter", 0x0E: "down", 0x10: "up", 0x15: "clear", 0x17: "word",
                    0x7F: "backspace"}  # fmt: skip


def shared(words: list[str]) -> str:
    """What all of them begin with."""
    first, last = min(words), max(words)
    length = next((at for at, (a, b) in enumerate(zip(first, last, strict=False)) if a != b),
                  min(len(first), len(last)))  # fmt: skip
    return first[:length]


class Readline:
    """Feed it keys; it draws by ``show`` and gives whole lines to ``done``."""

    def __init__(self, prompt: str, show: Callable[[str], None], done: Callable[[str], None],
                 complete: Callable[[str], list[str]]) -> None:  # fmt: skip
        self.prompt = prompt
        self.history: list[str] = []
        self._show, self._done, self._complete = show, done, complete
        self._text, self._cursor = "", 0
        self._drawn = 0  # the cursor's column behind the prompt, as the terminal has it
        self._place = 0  # in the history
        self._escape: str | None = None
        self._last_was_return = False

    def start(self) -> None:
        """A new line, with its prompt."""
        self._text, self._cursor, self._drawn = "", 0, 0
        self._place = len(self.history)
        self._escape = None
        self._show(self.prompt)

    def feed(self, data: bytes) -> None:
        """Keys as they come."""
        for byte in data:
            if self._escape is not None:
                self._take_escape(chr(byte))
            elif byte == 0x1B:
                self._escape = ""
            elif byte == 0x0A and self._last_was_return:
                self._last_was_return = False
            elif byte in _CONTROLS:
                self._last_was_return = byte == 0x0D
                getattr(self, f"_{_CONTROLS[byte]}")()
            elif byte >= 0x20 and len(self._text) < LONGEST:
                self._insert(chr(byte))

    def _take_escape(self, letter: str) -> None:
        """A byte of ESC [ … or ESC O …; it ends at a letter or a tilde."""
        assert self._escape is not None
        self._escape += letter
        if self._escape in ("[", "O") or (letter.isdigit() and len(self._escape) < 8):
            return
        key, self._escape = self._escape.lstrip("["), None
        if key in _ESCAPES:
            getattr(self, f"_{_ESCAPES[key]}")()
        elif key in ("OA", "OB", "OC", "OD"):
            getattr(self, f"_{_ESCAPES[key[1]]}")()

    # Keys --------------------------------------------------------------------------------------

    def _insert(self, text: str) -> None:
        before, after = self._text[: self._cursor], self._text[self._cursor :]
        self._replace(before + text + after, self._cursor + len(text))

    def _home(self) -> None:
        self._move(0)

    def _end(self) -> None:
        self._move(len(self._text))

    def _left(self) -> None:
        self._move(max(self._cursor - 1, 0))

    def _right(self) -> None:
        self._move(min(self._cursor + 1, len(self._text)))

    def _delete(self) -> None:
        self._replace(self._text[: self._cursor] + self._text[self._cursor + 1 :], self._cursor)

    def _backspace(self) -> None:
        if self._cursor:
            at = self._cursor - 1
            self._replace(self._text[:at] + self._text[at + 1 :], at)

    def _kill(self) -> None:
        self._replace(self._text[: self._cursor], self._cursor)

    def _clear(self) -> None:
        self._replace(self._text[self._cursor :], 0)

    def _word(self) -> None:
        kept = self._text[: self._cursor].rstrip(" ")
        at = kept.rfind(" ") + 1
        self._replace(self._text[:at] + self._text[self._cursor :], at)

    def _up(self) -> None:
        self._recall(self._place - 1)

    def _down(self) -> None:
        self._recall(self._place + 1)

    def _recall(self, place: int) -> None:
        if 0 <= place <= len(self.history):
            self._place = place
            text = self.history[place] if place < len(self.history) else ""
            self._replace(text, len(text))

    def _enter(self) -> None:
        self._end()
        line = self._text
        self._show("\r\n")
        if line.strip():
            if line in self.history:
                self.history.remove(line)
            self.history.append(line)
            del self.history[:-MOST_HISTORY]
        self._text, self._cursor, self._drawn = "", 0, 0  # more may come before the next prompt
        self._done(line)

    def _complete_with(self, words: list[str], typed: str) -> None:
        more = shared(words)[len(typed) :]
        self._insert(more + (" " if len(words) == 1 else ""))

    def _tab(self) -> None:
        """Tab: as much as is certain, or the choices."""
        before = self._text[: self._cursor]
        words, typed = self._complete(before), before.rpartition(" ")[2]
        if not words:
            return
        if len(words) == 1 or shared(words) != typed:
            self._complete_with(words, typed)
            return
        rows = [words[at : at + 4] for at in range(0, len(words), 4)]
        listed = "\r\n".join("".join(f"{word:<20}" for word in row).rstrip() for row in rows)
        text, cursor = self._text, self._cursor
        self._show(f"\r\n{listed}\r\n{self.prompt}")
        self._text, self._cursor, self._drawn = "", 0, 0
        self._replace(text, cursor)

    # Drawing -----------------------------------------------------------------------------------

    def _move(self, cursor: int) -> None:
        distance = cursor - self._cursor
        self._cursor = self._drawn = cursor
        if distance:
            self._show(f"\x1b[{abs(distance)}{'C' if distance > 0 else 'D'}")

    def _replace(self, text: str, cursor: int) -> None:
        """Draw from the first character that is another."""
        same = min(len(shared([text, self._text])), self._drawn)
        back = self._drawn - same
        tail = "\x1b[K" if len(text) < len(self._text) or text[same:] != text[same : cursor] else ""
        rest = len(text) - cursor
        self._text, self._cursor, self._drawn = text, cursor, cursor
        self._show((f"\x1b[{back}D" if back else "") + tail + text[same:]
                   + (f"\x1b[{rest}D" if rest else ""))  # fmt: skip
