"""`Debugger`: breakpoints and watchpoints of one processor, and what it stopped for.

Only while the processor is at rest. Whoever runs it calls `prepare` before and `take` when it has
left with `Exit.DEBUG`; a watchpoint's instruction is then still to be run, by a step (`stepping`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from pytcg.exec.debug import DebugFlag, DebugReason
from pytcg.exec.hooks import NO_PC, HookFlag, Hooks
from pytcg.exec.hooktable import HookRow, hook_table
from pytcg.softmmu.ram import HostBuffer


class State(Protocol):
    """The processor's fields by name."""

    def get(self, name: str, index: int = 0) -> int: ...

    def set(self, name: str, value: int, index: int = 0) -> None: ...


class Engine(Protocol):
    """What calls natives."""

    def call(self, name: str, *args: int) -> int: ...

    def attach(self, buffers: Iterable[HostBuffer]) -> None: ...


class Processor(Protocol):
    """What a debugger needs of a processor."""

    @property
    def state(self) -> State: ...

    @property
    def engine(self) -> Engine: ...

    @property
    def address(self) -> int: ...


@dataclass(frozen=True)
class Hit:
    """What a run met: a breakpoint at rip (``access`` ""), or an access to something watched."""

    access: str = ""  # "read" or "write"
    address: int = 0


Point = tuple[str, int, int]
"""A kind ("break", "write", "read", "access"), a linear address, a length in bytes."""

_FLAGS = {"write": HookFlag.WRITE, "read": HookFlag.READ,
          "access": HookFlag.READ | HookFlag.WRITE}  # fmt: skip


class Debugger:
    """``publish`` is told when the rows have changed; by default they are the only hooks."""

    def __init__(self, processor: Processor, publish: Callable[[], None] | None = None):
        self._cpu = processor
        self._publish = publish or self._publish_alone
        self._points: dict[Point, int] = {}
        self._table: HostBuffer | None = None
        self._stopped_at = NO_PC
        self.hit: Hit | None = None
        """What the last run met, until the next begins."""

    # Points ------------------------------------------------------------------------------------

    def insert(self, point: Point) -> None:
        """Set a point; one that is set twice is removed by being removed twice."""
        self._points[point] = self._points.get(point, 0) + 1
        if self._points[point] == 1:
            self._changed([point])

    def remove(self, point: Point) -> bool:
        """Take a point away; whether there was one."""
        count = self._points.get(point, 0)
        if count > 1:
            self._points[point] = count - 1
        elif count:
            del self._points[point]
            self._changed([point])
        return count > 0

    def clear(self) -> None:
        """Take all away."""
        gone = list(self._points)
        self._points.clear()
        if gone:
            self._changed(gone)

    def rows(self, kind: Hooks) -> list[HookRow]:
        """The points as hooks of a kind."""
        if kind is Hooks.CODE:
            return [HookRow(at, at, HookFlag.DEBUG) for what, at, _ in self._points
                    if what == "break"]  # fmt: skip
        if kind is Hooks.MEMORY:
            return [HookRow(at, at + length - 1, HookFlag.DEBUG | _FLAGS[what])
                    for what, at, length in self._points if what != "break"]  # fmt: skip
        return []

    def _changed(self, points: list[Point]) -> None:
        self._publish()
        call, address = self._cpu.engine.call, self._cpu.address
        for kind, at, _ in points:
            if kind == "break":
                call("kill_linear", address, at)
        call("tlb_flush", address)

    def _publish_alone(self) -> None:
        self._table, heads = hook_table({kind: self.rows(kind) for kind in Hooks})
        self._cpu.engine.attach([self._table])
        for kind, head in heads.items():
            self._cpu.state.set("hooks", head, int(kind))

    def forget(self) -> None:
        """The processor's state is another one: it has not just stopped anywhere."""
        self._stopped_at = NO_PC

    @contextmanager
    def disarmed(self) -> Iterator[None]:
        """No point stops a run."""
        self._cpu.state.set("debug_flags", int(DebugFlag.NO_WATCH | DebugFlag.NO_BREAK))
        try:
            yield
        finally:
            self._cpu.state.set("debug_flags", 0)

    # Runs --------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """A run begins: a breakpoint that it has just stopped at doesn't stop it again."""
        state = self._cpu.state
        self.hit = None
        pc = state.get("pc") if state.get("pc") == self._stopped_at else NO_PC
        self._stopped_at = NO_PC
        state.set("hook_skip", pc)
        state.set("block_skip", pc)

    def take(self) -> bool:
        """Note what was met; whether an instruction must be run yet (`stepping`)."""
        state = self._cpu.state
        reason = DebugReason(state.get("debug_reason"))
        state.set("debug_reason", 0)
        if reason in (DebugReason.WATCH, DebugReason.WATCHED):
            access = "write" if state.get("debug_access") else "read"
            self.hit = Hit(access, state.get("debug_address"))
        else:
            self.hit = Hit()
            self._stopped_at = state.get("pc")
        if reason is DebugReason.WATCH:
            state.set("hook_skip", state.get("pc"))  # its hooks have been called
            state.set("block_skip", state.get("pc"))
        return reason is DebugReason.WATCH

    @contextmanager
    def stepping(self, *, watching: bool) -> Iterator[None]:
        """Interrupts wait; without ``watching`` so do watchpoints."""
        state = self._cpu.state
        flags = DebugFlag.NO_INTERRUPTS | (0 if watching else DebugFlag.NO_WATCH)
        state.set("debug_flags", int(flags))
        try:
            yield
        finally:
            state.set("debug_flags", 0)
            state.set("hook_skip", NO_PC)
