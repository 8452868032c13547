"""Types of arguments, results and events; declared as text in QAPI's words.

Members are written `name: type, *optional: type`, arrays `[type]`. Types refer to each other by
name, so that a declaration may come before what it names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple


class Member(NamedTuple):
    """One member of an object; ``type`` is a type's name, `[name]` for an array."""

    name: str
    type: str
    optional: bool = False


@dataclass(frozen=True)
class Builtin:
    """A value of JSON's own; ``json_type`` as the schema calls it, ``bits`` of sized integers."""

    name: str
    json_type: str
    shown: str = ""
    """As the schema names it: every integer is an `int` there."""
    low: int | None = None
    high: int | None = None


@dataclass(frozen=True)
class Enum:
    """One of a few words."""

    name: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class Struct:
    """An object. ``variants`` brings a further struct's members for a value of ``tag``."""

    name: str
    members: tuple[Member, ...] = ()
    tag: str | None = None
    variants: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Alternate:
    """A value of one of several types that JSON tells apart."""

    name: str
    branches: tuple[str, ...]


Type = Builtin | Enum | Struct | Alternate


def members(text: str) -> tuple[Member, ...]:
    """`name: type, *optional: type` as members."""
    found = []
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        name, colon, kind = part.partition(":")
        if not colon:
            raise ValueError(f"a member without a type: {part}")
        found.append(Member(name.strip().lstrip("*"), kind.strip(), name.startswith("*")))
    return tuple(found)


def _integer(name: str, low: int, high: int) -> Builtin:
    return Builtin(name, "int", "int", low, high)


TYPES: Final[dict[str, Type]] = {each.name: each for each in (
    Builtin("str", "string"), Builtin("bool", "boolean"), Builtin("number", "number"),
    Builtin("null", "null"), Builtin("any", "value"),
    Builtin("int", "int", "", -(1 << 63), (1 << 64) - 1),
    Builtin("size", "int", "int", -(1 << 63), (1 << 64) - 1),
    *(_integer(f"int{bits}", -(1 << bits - 1), (1 << bits - 1) - 1) for bits in (8, 16, 32)),
    *(_integer(f"uint{bits}", 0, (1 << bits) - 1) for bits in (8, 16, 32)),
    _integer("int64", -(1 << 63), (1 << 63) - 1),
    _integer("uint64", -(1 << 63), (1 << 64) - 1),  # negative numbers wrap
)}  # fmt: skip
"""Every type by name; the modules beside this one add theirs when they are imported."""


def _add(made: Type) -> None:
    if made.name in TYPES:
        raise ValueError(f"type {made.name} is declared twice")
    TYPES[made.name] = made


def enum(name: str, values: str) -> None:
    """Declare words, apart by spaces."""
    _add(Enum(name, tuple(values.split())))


def struct(name: str, text: str = "", *, base: str | None = None) -> None:
    """Declare an object; ``base``'s members come first."""
    before = TYPES[base] if base is not None else None
    inherited = before.members if isinstance(before, Struct) else ()
    _add(Struct(name, (*inherited, *members(text))))


def union(name: str, text: str, tag: str, variants: Mapping[str, str]) -> None:
    """Declare an object whose further members depend on one of them."""
    _add(Struct(name, members(text), tag, dict(variants)))


def alternate(name: str, *branches: str) -> None:
    """Declare a value of one of several types."""
    _add(Alternate(name, branches))
