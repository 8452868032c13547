"""Hooks of a library processor: `cpu.hooks.code(…)`, `.memory(…)`, `.fault(…)`, …

The filters (addresses, mnemonics, kinds of access) are native: a function is called for what it
asked for only. What a hook raises ends the run and surfaces from it. A hook may change registers
(rip too), memory, mappings and hooks, and call `Cpu.stop`: that takes effect before the next
instruction, or, from a code hook, before the one it was called for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from pytcg.errors import HookError
from pytcg.exec.hooks import HookFlag
from pytcg.exec.hooks import Hooks as Lists
from pytcg.exec.hooktable import LAST, HookRow, hook_table
from pytcg.library.checks import whole
from pytcg.softmmu.ram import HostBuffer

if TYPE_CHECKING:
    from pytcg.cpu import Cpu
    from pytcg.library.stop import Stop
    from pytcg_native.types import NativeFunction


class Skip:
    """The one value `SKIP`."""

    def __repr__(self) -> str:
        return "SKIP"


SKIP = Skip()
"""What a code hook returns for the instruction to be left out: rip goes on behind it."""

class RawCallback:
    """A function that is called with the native numbers alone, and raises nothing.

    (address, size) or (address, size | `WRITES`, value, signed); 1 skips, or takes
    ``env.hook_value``.
    """

    def __init__(self, call: Callable[..., int]):
        self.call = call


CodeFunction = Callable[["Cpu", int, int], Any]
"""(cpu, address, size)"""
MemoryFunction = Callable[["Cpu", str, int, int, int], "int | None"]
"""(cpu, "read" or "write", address, size, value) -> another value, or None"""
FaultFunction = Callable[["Cpu", "Stop"], Any]
"""(cpu, what it would stop by) -> whether to go on at rip"""


class Hook:
    """One hook; `remove` takes it away, as does the end of a ``with``."""

    def __init__(self, owner: Hooks, where: Lists | None, function: Any,
                 first: int = 0, last: int = LAST, flags: int = 0):  # fmt: skip
        self._owner: Hooks | None = owner
        self.where = where
        self.function = function
        self.first = first
        self.last = last
        self.flags = flags
        self.code = 0
        self.data = 0
        self.rows: HostBuffer | None = None
        self.keep: object = None
        self.late = False

    def row(self) -> HookRow:
        """What native code knows of it."""
        rows = self.rows.address if self.rows is not None else 0
        return HookRow(self.first, self.last, self.flags, self.code, self.data, rows)

    def remove(self) -> None:
        """No more calls; removing it twice does nothing."""
        if self._owner is not None:
            self._owner.remove(self)
            self._owner = None

    def __enter__(self) -> Hook:
        return self

    def __exit__(self, *error: object) -> None:
        self.remove()


class Hooks:
    """The hooks of one processor."""

    def __init__(self, cpu: Cpu):
        self._cpu = cpu
        self._lists: dict[Lists, list[Hook]] = {kind: [] for kind in Lists}
        self._faults: list[Hook] = []
        self._interrupts: list[Hook] = []
        self._ports: dict[str, list[Hook]] = {"in": [], "out": []}
        self._table: HostBuffer | None = None
        self._old: list[object] = []

    # Code --------------------------------------------------------------------------------------

    def code(self, function: CodeFunction | RawCallback | NativeFunction[Any, Any], start: int = 0,
             end: int | None = None, *, data: int = 0) -> Hook:  # fmt: skip
        """Before each instruction at ``start`` ≤ address < ``end``: (cpu, address, size).

        Returns it `SKIP`, the instruction is left out. A ``@native`` function gets (env, data,
        address, size), all numbers, and returns 1 to skip.
        """
        return self._add(Lists.CODE, function, start, end, data=data)

    def address(self, address: int, function: CodeFunction | NativeFunction[Any, Any], *,
                data: int = 0) -> Hook:  # fmt: skip
        """Before the instruction at one address."""
        at = whole(address, "a hook's address")
        return self._add(Lists.CODE, function, at, at + 1, data=data)

    def block(self, function: CodeFunction | RawCallback | NativeFunction[Any, Any], start: int = 0,
              end: int | None = None, *, data: int = 0) -> Hook:  # fmt: skip
        """When a basic block is entered: (cpu, address, size)."""
        return self._add(Lists.BLOCK, function, start, end, data=data)

    def instruction(self, mnemonics: str | Iterable[str],
                    function: CodeFunction | NativeFunction[Any, Any], start: int = 0,
                    end: int | None = None, *, data: int = 0,
                    late: bool = False) -> Hook:  # fmt: skip
        """Before instructions by the manual's name: "cpuid", or several: ("in", "out").

        ``late`` ones are called when the instruction's other hooks have been.
        """
        if not isinstance(mnemonics, Iterable):
            raise HookError(f"no instruction {mnemonics!r}")
        names = [mnemonics] if isinstance(mnemonics, str) else list(mnemonics)
        return self._add(Lists.CODE, function, start, end, data=data, rows=_rows_of(names),
                         late=late)  # fmt: skip

    # Memory ------------------------------------------------------------------------------------

    def memory(self, function: MemoryFunction | RawCallback | NativeFunction[Any, Any],
               start: int = 0, end: int | None = None, *, access: str = "rw",
               data: int = 0) -> Hook:  # fmt: skip
        """Before data accesses that touch a range of linear addresses; ``access`` r, w or rw.

        (cpu, "read" or "write", address, size, value); what it returns, unless None, is the value
        that is read or written instead. 16-byte accesses come as two of 8. A ``@native`` function
        gets (env, data, address, size | 0x100 for writes, value); to change the value it sets
        ``env.hook_value`` and returns 1.
        """
        if not isinstance(access, str) or not access or set(access) - set("rw"):
            raise HookError(f"no access {access!r}: r, w and rw are there")
        flags = HookFlag.READ * ("r" in access) | HookFlag.WRITE * ("w" in access)
        return self._add(Lists.MEMORY, function, start, end, data=data, flags=flags)

    def read(self, function: MemoryFunction, start: int = 0, end: int | None = None) -> Hook:
        """`memory` for reads."""
        return self.memory(function, start, end, access="r")

    def write(self, function: MemoryFunction, start: int = 0, end: int | None = None) -> Hook:
        """`memory` for writes."""
        return self.memory(function, start, end, access="w")

    # Rare events: these are Python's -------------------------------------------------------------

    def fault(self, function: FaultFunction) -> Hook:
        """Exceptions that would stop the run: (cpu, stop); true goes on at rip (by itself: retry).

        The newest is asked first.
        """
        return self._rare(self._faults, function)

    def interrupt(self, function: Callable[[Cpu, int], Any]) -> Hook:
        """INT n, INT3, INTO and INT1 without a handler: (cpu, vector), rip is behind them.

        One that returns False leaves it to the others; if none takes it, it is a fault.
        """
        return self._rare(self._interrupts, function)

    def port_in(self, function: Callable[[Cpu, int, int], int | None]) -> Hook:
        """IN and INS: (cpu, port, size) -> what is read; None leaves it to others."""
        return self._rare(self._ports["in"], function)

    def port_out(self, function: Callable[[Cpu, int, int, int], Any]) -> Hook:
        """OUT and OUTS: (cpu, port, size, value)."""
        return self._rare(self._ports["out"], function)

    def _rare(self, where: list[Hook], function: Callable[..., Any]) -> Hook:
        if not callable(function):
            raise HookError(f"a hook is a function, not {function!r}")
        hook = Hook(self, None, function)
        where.append(hook)
        self._cpu._hooks_changed(code=False)
        return hook

    # Calls from the processor ------------------------------------------------------------------

    def handle_fault(self, stop: Stop) -> bool:
        """Whether some hook wants to go on."""
        return any(hook.function(self._cpu, stop) for hook in reversed(self._faults))

    @property
    def has_interrupts(self) -> bool:
        return bool(self._interrupts)

    def handle_interrupt(self, vector: int) -> bool:
        """Whether some hook did not say False to it."""
        answers = [hook.function(self._cpu, vector) for hook in list(self._interrupts)]
        return any(answer is not False for answer in answers)

    def read_port(self, port: int, size: int) -> int | None:
        """What the newest hook with an answer says."""
        for hook in reversed(self._ports["in"]):
            value = hook.function(self._cpu, port, size)
            if value is not None:
                return int(value) & (1 << 8 * size) - 1
        return None

    def write_port(self, port: int, size: int, value: int) -> None:
        for hook in list(self._ports["out"]):
            hook.function(self._cpu, port, size, value)

    # The native lists --------------------------------------------------------------------------

    def _add(self, where: Lists, function: Any, start: int, end: int | None, *,
             data: int = 0, flags: int = 0, rows: bytes | None = None,
             late: bool = False) -> Hook:  # fmt: skip
        start = whole(start, "a hook's start")
        last = LAST if end is None else whole(end, "a hook's end") - 1
        if not 0 <= start <= last <= LAST:
            raise HookError(f"a hook's range {start:#x} to {last + 1:#x} is empty or too large")
        hook = Hook(self, where, function, start, last, int(flags))
        hook.data, hook.late = data, late
        if rows is not None:
            hook.rows = HostBuffer(4096)
            hook.rows.view[: len(rows)] = rows
        self._cpu._bind_hook(hook)
        self._lists[where].append(hook)
        self._lists[where].sort(key=lambda hook: hook.late)
        self.publish(code=where is not Lists.MEMORY)
        return hook

    def remove(self, hook: Hook) -> None:
        """What `Hook.remove` does."""
        lists = [self._faults, self._interrupts, *self._ports.values(), *self._lists.values()]
        for some in lists:
            if hook in some:
                some.remove(hook)
        self._old.append(hook)  # native code may be in it
        if hook.where is not None:
            self.publish(code=hook.where is not Lists.MEMORY)

    def publish(self, *, code: bool) -> None:
        """Write the lists anew, a debugger's points included."""
        self._old.append(self._table)
        debugger = self._cpu.debugger
        self._table, heads = hook_table({
            kind: [*(hook.row() for hook in hooks), *(debugger.rows(kind) if debugger else ())]
            for kind, hooks in self._lists.items()
        })  # fmt: skip
        self._cpu._set_hooks(self._table, heads)
        self._cpu._hooks_changed(code=code)

    @property
    def need_pc(self) -> bool:
        """Whether some hook is called amid an instruction."""
        return bool(self._lists[Lists.MEMORY] or self._ports["in"] or self._ports["out"])

    def forget_old(self) -> None:
        """Nothing runs: what was replaced may go."""
        if self._old:
            self._old.clear()


def _rows_of(names: list[str]) -> bytes:
    """The opcode rows of mnemonics as a bitmap; HookError for a name there is not."""
    from pytcg_x86.decode.opcodes import opcodes

    bitmap = bytearray(512)
    for name in names:
        wanted = name.upper() if isinstance(name, str) else name
        found = [n for n, row in enumerate(opcodes().rows) if row.mnemonic == wanted]
        if not found:
            raise HookError(f"no instruction {name!r}")
        for number in found:
            bitmap[number >> 3] |= 1 << (number & 7)
    return bytes(bitmap)
