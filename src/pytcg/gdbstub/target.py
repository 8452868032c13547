"""What a debugger's session works on: a machine's processor, or one of the library's."""

from __future__ import annotations

from collections.abc import MutableMapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

from pytcg.exec.debugger import Point


class TargetError(Exception):
    """Something can't be done: the session answers with an error."""


class Signal(IntEnum):
    """GDB's numbers of signals (its include/gdb/signals.def)."""

    INT = 2
    ILL = 4
    TRAP = 5
    ABRT = 6
    FPE = 8
    BUS = 10
    SEGV = 11
    USR1 = 30


@dataclass(frozen=True)
class StopReport:
    """Why the guest stands still; ``access`` is of a watchpoint: "write", "read" or "access"."""

    signal: Signal = Signal.TRAP
    access: str = ""
    address: int = 0
    history: str = ""  # "begin": the recording begins here


class Target(Protocol):
    """One processor. All but `interrupt` are called only while it stands still."""

    @property
    def registers(self) -> MutableMapping[str, int]:
        """By the SDM's names, with ``cr8``, ``ftw`` and ``ymm0``; KeyError."""
        ...

    @property
    def wide(self) -> bool:
        """Whether the debugger is told of a 64-bit processor."""
        ...

    @property
    def long_code(self) -> bool:
        """Whether 64-bit code runs now."""
        ...

    @property
    def has_ymm(self) -> bool:
        """Whether there is AVX state."""
        ...

    def read(self, address: int, size: int, *, physical: bool) -> bytes:
        """Memory; TargetError."""
        ...

    def write(self, address: int, data: bytes, *, physical: bool) -> None:
        """Put bytes into memory; TargetError."""
        ...

    def insert(self, point: Point) -> None:
        """Set a breakpoint or watchpoint."""
        ...

    def remove(self, point: Point) -> bool:
        """Take one away; whether there was one."""
        ...

    def clear(self) -> None:
        """Take all away."""
        ...

    @property
    def reversible(self) -> bool:
        """Whether `resume` can go ``back``."""
        ...

    def resume(self, *, step: bool, back: bool = False) -> None:
        """Run; the session's `Session.stopped` is called when it is over."""
        ...

    def interrupt(self) -> None:
        """Make it stop soon; while it runs."""
        ...

    def monitor(self, line: str) -> str:
        """What ``monitor LINE`` prints."""
        ...

    def kill(self) -> None:
        """End the guest."""
        ...

    def detached(self) -> None:
        """The debugger is going: let the guest run."""
        ...
