"""What a command is: its arguments and result with their types, and the function that does it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from pytcg.monitor.schema.check import Mismatch, check, check_members
from pytcg.monitor.schema.types import TYPES, Member, Struct, members

if TYPE_CHECKING:
    from pytcg.monitor.machine import Machine

CLASS_GENERIC: Final = "GenericError"
CLASS_NOT_FOUND: Final = "CommandNotFound"
CLASS_NO_DEVICE: Final = "DeviceNotFound"
CLASS_NOT_ACTIVE: Final = "DeviceNotActive"


class CommandError(Exception):
    """A command that fails: what QMP calls an error."""

    def __init__(self, text: str, kind: str = CLASS_GENERIC) -> None:
        super().__init__(text)
        self.kind = kind


def is_id(text: str) -> bool:
    """Whether it can be the id of a job or an export: QEMU's id_wellformed."""
    return re.fullmatch(r"[A-Za-z][A-Za-z0-9\-._]*", text, re.ASCII) is not None


def option_text(value: Any) -> str:
    """A value of JSON's as an option spells it; CommandError."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, str | int):
        return str(value)
    raise CommandError("Invalid parameter type, expected: string")


@dataclass(frozen=True)
class Command:
    """A row of the table: ``run(machine, **arguments)`` returns what goes to the client.

    ``takes`` declares the arguments (`schema.types`), or names a type whose members they are;
    these then come as one dict, ``options``. ``returns`` names the type of the result, None
    for nothing. ``oob``: it may be executed out of band. ``more``: there are arguments that only
    it can check, so that all come as one dict.
    """

    name: str
    run: Callable[..., Any]
    takes: str = ""
    returns: str | None = None
    oob: bool = False
    more: bool = False

    @cached_property
    def boxed(self) -> str | None:
        """The type that all arguments together have, if it has a name."""
        return self.takes if self.takes in TYPES else None

    @cached_property
    def members(self) -> tuple[Member, ...]:
        """The arguments."""
        if self.boxed is None:
            return members(self.takes)
        kind = TYPES[self.boxed]
        return kind.members if isinstance(kind, Struct) else ()

    def call(self, machine: Machine, given: dict[str, Any]) -> Any:
        """Check the arguments and run it; CommandError."""
        try:
            if self.boxed is None:
                check_members(given, self.members, more=self.more)
            else:
                check(given, self.boxed)
        except Mismatch as error:
            raise CommandError(str(error)) from None
        if self.boxed is not None or self.more:
            answer = self.run(machine, given)
        else:
            values = {name.replace("-", "_"): value for name, value in given.items()}
            answer = self.run(machine, **values)
        return {} if self.returns is None else answer
