"""The agent's end of the protocol: a stream of JSON texts, split as QEMU splits it.

Between texts anything may stand; a byte FFh (or any other that no JSON has) drops what was begun,
and is answered by an error. That is how a client finds the beginning of an answer again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

SENTINEL = 0xFF
MOST = 64 << 20  # bytes of one text
DEEPEST = 1024
WORD = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+-.")
PUNCTUATION = frozenset(b"{}[]:, \t\r\n'\"") | WORD


class ParseError(Exception):
    """Not JSON; the text is QEMU's."""


class Splitter:
    """Collects bytes; yields each whole text, or the error that stands for it."""

    def __init__(self) -> None:
        self._text = bytearray()
        self._open = bytearray()  # the brackets that are open
        self._quote = 0
        self._escaped = False

    def feed(self, data: bytes) -> Iterator[Any | ParseError]:
        """Values and errors, in their order."""
        for byte in data:
            if byte == SENTINEL or (not self._quote and byte not in PUNCTUATION):
                shown = "\\uFFFD" if byte >= 0x80 else chr(byte)
                self._reset()
                yield ParseError(f"JSON parse error, stray '{shown}'")
                continue
            self._text.append(byte)
            if self._quote:
                self._in_string(byte)
            elif self._ends(byte):
                text = bytes(self._text)
                self._reset()
                yield from parsed(text)
            if len(self._text) > MOST or len(self._open) > DEEPEST:
                deep = len(self._open) > DEEPEST
                what = "nesting depth" if deep else "token size"
                self._reset()
                yield ParseError(f"JSON {what} limit exceeded")

    def _reset(self) -> None:
        self._text.clear()
        self._open.clear()
        self._quote = 0
        self._escaped = False

    def _in_string(self, byte: int) -> None:
        if self._escaped:
            self._escaped = False
        elif byte == 0x5C:
            self._escaped = True
        elif byte == self._quote:
            self._quote = 0

    def _ends(self, byte: int) -> bool:
        """Whether a text is complete with this byte."""
        if byte in b"'\"":
            self._quote = byte
        elif byte in b"{[":
            self._open.append(byte)
        elif byte in b"}]":
            del self._open[-1:]
            return not self._open
        return byte == 0x0A and not self._open  # a word, a number or a string alone


def parsed(text: bytes) -> list[Any]:
    """Its value or an error in a list; empty for white space."""
    stripped = text.strip()
    if not stripped:
        return []
    try:
        source = stripped.decode()
    except UnicodeDecodeError:
        return [ParseError("JSON parse error, invalid UTF-8 sequence in string")]
    if "'" in source:
        source = double_quoted(source)
    try:
        return [json.loads(source, object_pairs_hook=_object)]
    except json.JSONDecodeError as error:
        return [ParseError(f"JSON parse error, {_reason(error)}")]
    except ParseError as error:
        return [error]
    except RecursionError:
        return [ParseError("JSON nesting depth limit exceeded")]


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ParseError("JSON parse error, duplicate key")
    return found


def double_quoted(source: str) -> str:
    """The text with its strings in single quotes, which QEMU takes too, in double ones."""
    out = []
    quote = ""
    rest = iter(source)
    for char in rest:
        if not quote and char in "'\"":
            quote = char
            out.append('"')
        elif quote and char == quote:
            quote = ""
            out.append('"')
        elif quote == "'" and char == '"':
            out.append('\\"')
        elif quote and char == "\\":
            following = next(rest, "")
            out.append(following if following == "'" else char + following)
        else:
            out.append(char)
    return "".join(out)


def _reason(error: json.JSONDecodeError) -> str:
    """What QEMU says to that."""
    at, source = error.pos, error.doc
    if error.msg.startswith("Expecting value"):
        word = ""
        while at < len(source) and source[at].isalpha():
            word += source[at]
            at += 1
        return f"invalid keyword '{word}'" if word else "expecting value"
    if error.msg.startswith("Expecting ':'"):
        return "missing : in object pair"
    if error.msg.startswith("Expecting ','"):
        return f"expected separator in {'list' if _in_list(source[:at]) else 'dict'}"
    if error.msg.startswith("Expecting property name"):
        ended = at >= len(source) or source[at] in "}]"
        return "expecting value" if ended else "key is not a string in object"
    if error.msg.startswith("Invalid \\"):
        return "invalid escape sequence in string"
    return "expecting value"


def _in_list(before: str) -> bool:
    depth = 0
    for char in reversed(before):
        if char in "]}":
            depth += 1
        elif char in "[{":
            if not depth:
                return char == "["
            depth -= 1
    return False
