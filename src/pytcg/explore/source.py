"""The code to be looked at: hex on the command line, a raw file, a function of a program."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from pytcg.cpu import Cpu
from pytcg.errors import CpuError, LoadError

MODES: Final = {"16": "real", "32": "protected", "64": "long"}
BASE: Final = 0x1000
_PAGE = 4096
_HEX = re.compile(r"(0x)?([0-9a-fA-F]{2}[ ,]*)+")
_PROGRAMS = (b"\x7fELF", b"MZ")


class SourceError(Exception):
    """What can't be looked at; the text says why."""


def open_code(words: list[str], bits: str, base: int | None) -> tuple[Cpu, int, str]:
    """A processor with the code in its memory, where it begins, and a name for it; SourceError."""
    cpu = Cpu(MODES[bits])
    try:
        if len(words) == 1 and not _is_hex(words):
            return cpu, *_open_file(cpu, words[0], base)
        if not _is_hex(words):
            raise SourceError(f"'{' '.join(words)}' is neither hex nor one file")
        code = b"".join(bytes.fromhex(word.removeprefix("0x").replace(",", " ")) for word in words)
        return cpu, _map(cpu, code, base), " ".join(words)
    except (CpuError, LoadError) as error:
        raise SourceError(str(error)) from None
    except OSError as error:
        raise SourceError(f"cannot read '{words[0]}': {error.strerror}") from None


def _is_hex(words: list[str]) -> bool:
    """Whether they are bytes: a file of such a name counts first."""
    whole = all(_HEX.fullmatch(word) for word in words)
    return whole and not (len(words) == 1 and Path(words[0]).is_file())


def _map(cpu: Cpu, code: bytes, base: int | None) -> int:
    if not code:
        raise SourceError("there is no code in it")
    start = BASE if base is None else base
    first = start & -_PAGE
    cpu.map(first, -(-(start + len(code) - first) // _PAGE) * _PAGE)
    cpu.write(start, code)
    return start


def _open_file(cpu: Cpu, name: str, base: int | None) -> tuple[int, str]:
    path, symbol = name, ""
    if not Path(path).exists():
        path, _, symbol = name.rpartition(":")
        if not path:
            raise SourceError(f"'{name}' is neither hex nor a file")
    data = Path(path).read_bytes()
    if not data.startswith(_PROGRAMS):
        if symbol:
            raise SourceError(f"'{path}' is no program: it has no symbol '{symbol}'")
        return _map(cpu, data, base), name
    image = cpu.load(path, base=base)
    if symbol and symbol not in image.symbols:
        raise SourceError(f"'{path}' has no symbol '{symbol}'")
    return image.symbols[symbol] if symbol else image.entry, name
