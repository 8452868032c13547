"""The line editor, on a terminal of one line."""

from __future__ import annotations

import re

import pytest

from pytcg.monitor.human.expression import Expression
from pytcg.monitor.human.readline import Readline
from pytcg.monitor.human.table import UsageError


class Screen:
    """Draws what the editor sends, as a terminal would."""

    def __init__(self) -> None:
        self.lines = [""]
        self.column = 0
        self.entered: list[str] = []
        self.editor = Readline("> ", self.show, self.entered.append, self.complete)
        self.editor.start()

    def complete(self, text: str) -> list[str]:
        word = text.rpartition(" ")[2]
        return [name for name in ("stop", "status", "info") if name.startswith(word)]

    def show(self, text: str) -> None:
        for part in re.findall(r"\x1b\[\d*[A-Z]|.|\n|\r", text):
            line = self.lines[-1]
            if part.startswith("\x1b"):
                count = int(part[2:-1] or 1)
                match part[-1]:
                    case "C":
                        self.column += count
                    case "D":
                        self.column -= count
                    case "K":
                        self.lines[-1] = line[: self.column]
                assert 0 <= self.column <= len(self.lines[-1])
            elif part == "\r":
                self.column = 0
            elif part == "\n":
                self.lines.append("")
            else:
                self.lines[-1] = line[: self.column] + part + line[self.column + 1 :]
                self.column += 1


@pytest.mark.parametrize(("keys", "line", "column"), [
    ("stop", "stop", 4),
    ("sp\x02to", "stop", 3),
    ("top\x01s", "stop", 1),
    ("top\x1b[Hs\x1b[4~x", "stopx", 5),
    ("stxop\x1b[D\x1b[D\x7f", "stop", 2),
    ("stxop\x02\x02\x02\x04", "stop", 2),
    ("stop it now\x17\x17", "stop ", 5),
    ("abc\x02\x0b", "ab", 2),
    ("abc\x02\x15", "c", 0),
    ("in\t", "info ", 5),
    ("st\t", "st", 2),
    ("sto\t", "stop ", 5),
    ("\x1b[A\x1b[B\x06\x02\x7f\x04", "", 0),
    ("a\x1b[99xb\x1bOC", "ab", 2),
])  # fmt: skip
def test_keys(keys: str, line: str, column: int) -> None:
    screen = Screen()
    screen.editor.feed(keys.encode())
    assert screen.lines[-1] == "> " + line
    assert screen.column == 2 + column
    screen.editor.feed(b"\r")
    assert screen.entered == [line]


def test_several_choices_are_shown() -> None:
    screen = Screen()
    screen.editor.feed(b"st\t")
    assert screen.lines[1].split() == ["stop", "status"]


def test_history() -> None:
    screen = Screen()
    for word in (b"one", b"two", b"one"):
        screen.editor.feed(word + b"\r\n")
        screen.editor.start()
    assert screen.entered == ["one", "two", "one"]
    screen.editor.feed(b"\x10\x10\x10")
    assert screen.lines[-1] == "> two"
    screen.editor.feed(b"\x0e!\r")
    assert screen.entered[-1] == "one!"


def test_lines_typed_ahead() -> None:
    screen = Screen()
    screen.editor.feed(b"one\rtwo\r")
    assert screen.entered == ["one", "two"]


@pytest.mark.parametrize(("text", "value"), [
    ("1+2*3", 7), ("(1+2)*3", 9), ("0x10|1+1", 0x12), ("1-2", (1 << 64) - 1), ("~0", (1 << 64) - 1),
    ("7%4/2", 1), ("'a'", 97), ("-1", (1 << 64) - 1), ("$rip + 1", 0x101), ("010", 8),
])  # fmt: skip
def test_expressions(text: str, value: int) -> None:
    assert Expression(text, {"rip": 0x100}.__getitem__).value() == value


@pytest.mark.parametrize(
    "text", ["", "1+", "(1", "1)", "$none", "1/0", "x", "(" * 5000, "-" * 5000]
)
def test_what_is_no_expression(text: str) -> None:
    with pytest.raises(UsageError):
        Expression(text, {"rip": 0x100}.__getitem__).value()
