"""The ``-o`` options of a new image: their tables, and the values that a user gave."""

from __future__ import annotations

import errno

from pytcg.block.device import BlockError
from pytcg.block.options import SIZE_HINT, parse_bool, parse_size, split_commas
from pytcg.typed import Any, NamedTuple

_INT64 = 1 << 63


class Option(NamedTuple):
    """One create option: its type (str, size, num, bool), default and help."""

    kind: str
    help: str
    default: Any = None


SIZE = Option("size", "Virtual disk size")
# What the protocol below a format understands: the file, or an NBD export that is there already.
_PREALLOCATION = "Preallocation mode (allowed values: off"
FILE_OPTIONS = {
    "size": SIZE,
    "nocow": Option("bool", "Turn off copy-on-write (valid only on btrfs)"),
    "preallocation": Option("str", _PREALLOCATION + ", falloc, full)"),
    "extent_size_hint": Option("size", "Extent size hint for the image file, 0 to disable"),
}
NBD_OPTIONS = {"size": SIZE, "preallocation": Option("str", _PREALLOCATION + ")")}


def split_options(text: str) -> list[tuple[str, str | None]]:
    """``a=1,b`` as (name, value) pairs; None for a word alone."""
    pairs: list[tuple[str, str | None]] = []
    for piece in split_commas(text):
        name, equals, value = piece.partition("=")
        pairs.append((name, value if equals else None))
    return pairs


class CreateValues:
    """Values for the options of a table, as typed and with their meaning; defaults for the rest."""

    def __init__(self, known: dict[str, Option]) -> None:
        self._known = known
        self._texts: dict[str, str] = {}
        self._values: dict[str, Any] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def get(self, name: str) -> Any:
        """The value, the default, or None."""
        option = self._known.get(name)
        return self._values.get(name, option.default if option is not None else None)

    def parse(self, text: str) -> None:
        """Take ``name=value,...``; BlockError for what isn't known."""
        for name, value in split_options(text) if text else ():
            if value is None:  # a flag, by the old rule that "no" before the name turns it off
                name, value = (name[2:], "off") if name.startswith("no") else (name, "on")
            if name != "id":
                self.set(name, value)

    def set(self, name: str, text: str) -> None:
        """Give an option its value; the last one counts."""
        option = self._known.get(name)
        if option is None:
            raise BlockError(f"Invalid parameter '{name}'", errno.EINVAL)
        self._values[name] = _parse_value(name, text, option.kind)
        self._texts[name] = text

    def describe(self) -> str:
        """``name=value`` pairs as create prints them: what was given, and the defaults."""
        shown = []
        for name, option in self._known.items():
            value = self._shown(name, option)
            if value is not None:
                shown.append(f"{name}={value}")
        return " ".join(shown)

    def _shown(self, name: str, option: Option) -> str | None:
        given = self._texts.get(name)
        if option.kind in ("size", "num") and given is not None:
            value: int = self._values[name]
            return str(value - 2 * _INT64 if value >= _INT64 else value)  # as signed, like QEMU
        if given is not None:
            return given.replace(",", ",,") if option.kind == "str" else given
        if isinstance(option.default, bool):
            return "on" if option.default else "off"
        return None if option.default is None else str(option.default)

    def as_dict(self) -> dict[str, Any]:
        """All values, defaults filled in."""
        defaults = {name: option.default for name, option in self._known.items()
                    if option.default is not None}
        return defaults | self._values


def _parse_value(name: str, text: str, kind: str) -> Any:
    if kind == "bool":
        return parse_bool(name, text)
    if kind == "str":
        return text
    try:
        value = parse_size(text) if kind == "size" else _parse_number(text)
    except ValueError:
        what = "a non-negative number below 2^64" if kind == "size" else "a number"
        hint = SIZE_HINT if kind == "size" else ""
        raise BlockError(f"Parameter '{name}' expects {what}{hint}", errno.EINVAL) from None
    if value >= 1 << 64:
        what = "out of range" if kind == "size" else "too large"
        raise BlockError(f"Value '{text}' is {what} for parameter '{name}'", errno.ERANGE)
    return value


def _parse_number(text: str) -> int:
    """A 64-bit number as C's strtoull reads one: octal after a 0, negative ones wrap."""
    digits = text.lstrip(" \t\n\v\f\r")
    sign, digits = (digits[0], digits[1:]) if digits[:1] in ("-", "+") else ("", digits)
    if not digits[:1].isdigit() or "_" in digits or digits[-1].isspace():
        raise ValueError(text)
    octal = digits.isdigit() and digits.startswith("0")
    value = int(digits, 8 if octal else 0)
    return -value % (1 << 64) if sign == "-" and value <= 1 << 64 else value
