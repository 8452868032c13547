"""Device models as `-device` knows them: name, bus, typed properties, who builds them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pytcg.machine.drives import DeviceError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Values = dict[str, Any]
"""Properties by name, of their types: str, int, bool, or None where there is no default."""


class Property(NamedTuple):
    """One property: ``kind`` is a key of `KINDS`; a default of None means "not set"."""

    name: str
    kind: str
    default: Any = None
    help: str = ""


class Model(NamedTuple):
    """One model; ``build`` is "module:function" in this package, called with (rack, values)."""

    name: str
    bus: str
    help: str
    build: str
    properties: tuple[Property, ...] = ()


_SIZE: Final = re.compile(r"(0[xX][0-9a-fA-F]+|\d+)([kKmMgGtT]?)")
_IDENTIFIER: Final = re.compile(r"[A-Za-z][A-Za-z0-9._-]*")
_SLOT: Final = re.compile(r"([0-9a-fA-F]{1,2})(?:\.(?:0x)?([0-7]))?")
_SHIFT: Final = {"": 0, "k": 10, "m": 20, "g": 30, "t": 40}


def _boolean(text: str) -> bool:
    if text in ("on", "yes", "true", "y"):
        return True
    if text in ("off", "no", "false", "n"):
        return False
    raise ValueError("expects 'on' or 'off'")


def _tristate(text: str) -> bool | None:
    return None if text == "auto" else _boolean(text)


def _integer(text: str) -> int:
    try:
        return int(text, 0)
    except ValueError:
        raise ValueError("expects a number") from None


def _unsigned(bits: int, text: str) -> int:
    value = _integer(text)
    if not 0 <= value < 1 << bits:
        raise ValueError(f"expects a number from 0 to {(1 << bits) - 1}")
    return value


def _size(text: str) -> int:
    found = _SIZE.fullmatch(text)
    if found is None:
        raise ValueError("expects a size")
    return int(found[1], 0) << _SHIFT[found[2].lower()]


def _slot(text: str) -> tuple[int, int]:
    """`addr`: a slot in hexadecimal as QEMU reads it, and a function."""
    found = _SLOT.fullmatch(text.removeprefix("0x"))
    if found is None or int(found[1], 16) >= 32:
        raise ValueError("expects a slot and a function, such as 4 or 4.1")
    return int(found[1], 16), int(found[2] or 0)


KINDS: Final[dict[str, Callable[[str], object]]] = {
    "str": str,
    "bool": _boolean,
    "OnOffAuto": _tristate,
    "int32": _integer,
    "uint8": lambda text: _unsigned(8, text),
    "uint16": lambda text: _unsigned(16, text),
    "uint32": lambda text: _unsigned(32, text),
    "uint64": lambda text: _unsigned(64, text),
    "size": _size,
    "pci-address": _slot,
}

COMMON: Final = (Property("id", "str", help="the device's name"),
                 Property("bus", "str", help="the bus it goes on"))  # fmt: skip
PCI: Final = (
    Property("addr", "pci-address", help="slot and optional function, e.g. 6.0"),
    Property("multifunction", "bool", False),
)


def values_of(model: Model, given: Mapping[str, str]) -> Values:
    """The properties as the command line gives them, checked, with defaults; DeviceError."""
    known = {row.name: row for row in (*COMMON, *model.properties)}
    values: Values = {name: row.default for name, row in known.items()}
    if not _IDENTIFIER.fullmatch(given.get("id", "id")):
        raise DeviceError("Parameter 'id' expects an identifier")
    for name, text in given.items():
        row = known.get(name)
        if row is None:
            raise DeviceError(f"Property '{model.name}.{name}' not found")
        try:
            values[name] = KINDS[row.kind](text)
        except ValueError as error:
            raise DeviceError(f"Property '{model.name}.{name}' {error}, not '{text}'") from None
    return values


def describe(model: Model) -> str:
    """What `-device MODEL,help` prints."""
    lines = [f"{model.name} options:"]
    for row in sorted(model.properties):
        default = ""
        if row.default is not None:
            is_bool = isinstance(row.default, bool)
            default = f" (default: {str(row.default).lower() if is_bool else row.default})"
        text = f" - {row.help}" if row.help else ""
        lines.append(f"  {row.name}=<{row.kind}>".ljust(32) + text + default)
    return "\n".join(lines) + "\n"
