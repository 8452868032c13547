"""LLVM text and host assembly as rows that know of which line (`Op.line`) they are."""

from __future__ import annotations

import re
from collections.abc import Iterator

Row = tuple[int, str]
"""A line, 0 if that isn't known, and a piece of text."""

_LOCATION = re.compile(r"^!(\d+) = !DILocation\(line: (\d+)", re.MULTILINE)
_USE = re.compile(r", !dbg !(\d+)")
_LOC = re.compile(r"\s+\.loc\s+\d+ (\d+)")
_DEBUG = re.compile(r"\s+\.section\s+\.debug_")
_LABEL = re.compile(r"[\w.$]+:")
_COMMENT = re.compile(r"\s*#.*")
_NOT_SHOWN = re.compile(r"\.L(func|tmp|sec|info|debug|str|line)")


def llvm_rows(text: str) -> Iterator[Row]:
    """The functions of a located module (`emit_located`), before passes or after."""
    lines = {number: int(line) for number, line in _LOCATION.findall(text)}
    inside = False
    for piece in text.splitlines():
        inside = inside or piece.startswith("define ")
        if not inside:
            continue
        used = _USE.search(piece)
        if piece.startswith("define "):
            piece = re.sub(r" !dbg !\d+ \{", " {", piece)
        yield lines.get(used[1], 0) if used else 0, _USE.sub("", piece)
        inside = piece != "}"


def host_rows(text: str) -> Iterator[Row]:
    """The instructions and labels of LLVM's assembly of it."""
    line = 0
    for piece in text.splitlines():
        if _DEBUG.match(piece):
            return  # no code follows
        located = _LOC.match(piece)
        if located:
            line = int(located[1])
            continue
        shown = _COMMENT.sub("", piece).expandtabs(8).rstrip()
        if _LABEL.fullmatch(shown):
            if not _NOT_SHOWN.match(shown):
                yield 0, shown
        elif shown and not shown.lstrip().startswith("."):
            yield line, "  " + shown.strip()
