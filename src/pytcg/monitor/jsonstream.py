"""JSON objects out of a stream of bytes that need no separators between them."""

from __future__ import annotations

import json
import re
from typing import Any, Final

MOST_BYTES: Final = 64 << 20
MOST_NESTING: Final = 1024
_QUOTE: Final = ord("\"")
_QUOTES: Final = frozenset(b"\"'")
_QUOTED: Final = re.compile(rb"""("(?:[^"\\]|\\.)*")|'((?:[^'\\]|\\.)*)'""", re.DOTALL)
_PART: Final = re.compile(rb"""\\.|["]""", re.DOTALL)
_ESCAPE: Final = ord("\\")
_SPACE: Final = frozenset(b" \t\r\n")


class JsonError(Exception):
    """What was sent is no JSON; the text says where it goes wrong."""


class JsonStream:
    """Feed it bytes; it gives values, and a `JsonError` for each piece that is none.

    A piece ends where its brackets close; what is outside of brackets ends with its line.
    """

    def __init__(self) -> None:
        self._piece = bytearray()
        self._depth = 0
        self._string = 0  # the quote that ends the one we are in
        self._escaped = self._single = False

    def feed(self, data: bytes) -> list[Any]:
        """The values (or errors) that these bytes complete."""
        found: list[Any] = []
        for byte in data:
            if self._take(byte):
                found.append(self._finish())
        return found

    def _take(self, byte: int) -> bool:
        """Whether the piece is complete with this byte."""
        if not self._piece and byte in _SPACE:
            return False
        self._piece.append(byte)
        if self._string:
            if self._escaped:
                self._escaped = False
            elif byte == _ESCAPE:
                self._escaped = True
            elif byte == self._string:
                self._string = 0
        elif byte in _QUOTES:
            self._string = byte
            self._single |= byte != _QUOTE
        elif byte in b"{[":
            self._depth += 1
        elif byte in b"}]":
            self._depth -= 1
            return self._depth <= 0
        elif self._depth == 0 and byte in b"\r\n":
            return True
        return len(self._piece) >= MOST_BYTES or self._depth > MOST_NESTING

    def _finish(self) -> Any:
        piece, self._piece, self._depth = bytes(self._piece), bytearray(), 0
        single, self._single, self._escaped, self._string = self._single, False, False, 0
        try:
            return json.loads(_double(piece) if single else piece)
        except (ValueError, RecursionError) as error:
            return JsonError(f"JSON parse error, {error}")


def _double(piece: bytes) -> bytes:
    """The same with all strings in double quotes: QEMU takes single ones, too."""
    return _QUOTED.sub(
        lambda found: found[1] if found[2] is None else b'"' + _PART.sub(_again, found[2]) + b'"',
        piece)


def _again(found: re.Match[bytes]) -> bytes:
    """What stands in a string in single quotes, as it must in double ones."""
    return {b'"': b'\\"', b"\\'": b"'"}.get(found[0], found[0])
