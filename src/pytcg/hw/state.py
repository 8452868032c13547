"""Saved state of chips: a dict of plain JSON values, named after the chip and versioned."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from enum import Enum
from typing import Any, Protocol

State = dict[str, Any]


class StateError(ValueError):
    """A saved state that this chip cannot take."""


class Chip(Protocol):
    """What every chip offers besides its registers."""

    def reset(self) -> None: ...

    def state(self) -> State: ...

    def restore(self, state: State) -> None: ...


def kind(chip: object) -> str:
    """A chip's name in saved states: one in the kernel goes by that of its `model`."""
    return type(getattr(chip, "model", chip)).__name__


def save(chip: object, version: int, fields: Iterable[str]) -> State:
    """The named attributes of a chip as JSON values."""
    values = {field: _plain(getattr(chip, field)) for field in fields}
    return {"chip": type(chip).__name__, "version": version} | values


def load(chip: object, state: State, version: int, fields: Iterable[str]) -> None:
    """Set the attributes that `save` wrote; StateError before the first one changes."""
    name = type(chip).__name__
    if state.get("chip") != name:
        raise StateError(f"state of {state.get('chip')!r} given to {name}")
    if state.get("version") != version:
        raise StateError(f"{name}: state version {state.get('version')!r}, expected {version}")
    try:
        values = {field: _typed(getattr(chip, field), state[field]) for field in fields}
    except KeyError as error:
        raise StateError(f"{name}: state lacks {error.args[0]!r}") from None
    except (TypeError, ValueError) as error:
        raise StateError(f"{name}: {error}") from None
    for field, value in values.items():
        setattr(chip, field, value)


def _plain(value: object) -> object:
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, bytes | bytearray):
        return value.hex()
    if isinstance(value, list | deque | tuple):
        return [_plain(item) for item in value]
    return value


def _typed(present: object, value: Any) -> object:
    """Give a saved value the type of the attribute it replaces."""
    if isinstance(present, Enum):
        return type(present)(value)
    if isinstance(present, bytes | bytearray):
        return type(present).fromhex(value)
    if isinstance(present, list | deque):
        return type(present)(value)
    return value
