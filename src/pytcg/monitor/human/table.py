"""What a command of the human monitor is, and how a line finds it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from pytcg.monitor.machine import Machine

Qmp = Callable[..., Any]
"""Runs a command of QMP's table: ``qmp(name, **arguments)``; CommandError."""


class Shell(NamedTuple):
    """What a command works with."""

    machine: Machine
    qmp: Qmp


class UsageError(Exception):
    """Arguments that a command doesn't understand."""


class HumanCommand(NamedTuple):
    """A row: its names, the arguments as `help` shows them, what it does, and how.

    ``run(shell, words)`` returns what is printed. ``format`` is for x, xp, p, i and o, which take
    `/FORMAT` right behind the name. ``most`` is how many words it takes.
    """

    names: str  # several apart by |
    arguments: str
    help: str
    run: Callable[[Shell, list[str]], str]
    least: int = 0
    most: int = 0
    format: bool = False

    def line(self, prefix: str = "") -> str:
        """What `help` shows."""
        return f"{prefix}{self.names} {self.arguments} -- {self.help}\n"


def find(rows: Sequence[HumanCommand], name: str) -> HumanCommand | None:
    """By any of its names."""
    return next((row for row in rows if name in row.names.split("|")), None)


def number(text: str) -> int:
    """A number as C writes it; UsageError."""
    try:
        return int(text, 0)
    except ValueError:
        raise UsageError(f"invalid char '{text[:1]}' in expression") from None
