"""What a command is: its arguments with their types, and the function that does it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from pytcg.monitor.machine import Machine

CLASS_GENERIC: Final = "GenericError"
CLASS_NOT_FOUND: Final = "CommandNotFound"


class CommandError(Exception):
    """A command that fails: what QMP calls an error."""

    def __init__(self, text: str, kind: str = CLASS_GENERIC) -> None:
        super().__init__(text)
        self.kind = kind


@dataclass(frozen=True)
class Argument:
    """A member of a command's arguments."""

    type: str  # str, int, bool, array
    optional: bool = False


_TYPES: Final[dict[str, tuple[type, str]]] = {
    "str": (str, "string"), "int": (int, "integer"), "bool": (bool, "boolean"),
    "array": (list, "array"),
}  # fmt: skip


@dataclass(frozen=True)
class Command:
    """A row of the table: ``run(machine, **arguments)`` returns what goes to the client."""

    name: str
    run: Callable[..., Any]
    arguments: Mapping[str, Argument] = field(default_factory=dict)

    def call(self, machine: Machine, given: dict[str, Any]) -> Any:
        """Check the arguments and run it; CommandError."""
        for name in given:
            if name not in self.arguments:
                raise CommandError(f"Parameter '{name}' is unexpected")
        for name, argument in self.arguments.items():
            if name not in given:
                if not argument.optional:
                    raise CommandError(f"Parameter '{name}' is missing")
                continue
            kind, called = _TYPES[argument.type]
            value = given[name]
            if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
                raise CommandError(f"Invalid parameter type for '{name}', expected: {called}")
        values = {name.replace("-", "_"): value for name, value in given.items()}
        return self.run(machine, **values)
