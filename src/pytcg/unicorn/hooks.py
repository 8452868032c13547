"""Unicorn's hooks on pytcg's."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytcg.library.hooks import SKIP, Hook, RawCallback, Skip
from pytcg.library.stop import Stop
from pytcg.unicorn import opcodes
from pytcg.unicorn import unicorn_const as uc
from pytcg.unicorn import x86_const as x86
from pytcg.unicorn.error import UcError

if TYPE_CHECKING:
    from pytcg.cpu import Cpu
    from pytcg.unicorn.engine import Uc

_ALL = (1 << 64) - 1
_FAULTS = {
    ("read", False): (uc.UC_HOOK_MEM_READ_UNMAPPED, uc.UC_MEM_READ_UNMAPPED),
    ("read", True): (uc.UC_HOOK_MEM_READ_PROT, uc.UC_MEM_READ_PROT),
    ("write", False): (uc.UC_HOOK_MEM_WRITE_UNMAPPED, uc.UC_MEM_WRITE_UNMAPPED),
    ("write", True): (uc.UC_HOOK_MEM_WRITE_PROT, uc.UC_MEM_WRITE_PROT),
    ("fetch", False): (uc.UC_HOOK_MEM_FETCH_UNMAPPED, uc.UC_MEM_FETCH_UNMAPPED),
    ("fetch", True): (uc.UC_HOOK_MEM_FETCH_PROT, uc.UC_MEM_FETCH_PROT),
}
_GROUPS = (uc.UC_HOOK_INTR, uc.UC_HOOK_INSN, uc.UC_HOOK_CODE | uc.UC_HOOK_BLOCK,
           uc.UC_HOOK_MEM_INVALID, uc.UC_HOOK_MEM_VALID, uc.UC_HOOK_INSN_INVALID,
           uc.UC_HOOK_EDGE_GENERATED, uc.UC_HOOK_TCG_OPCODE)  # fmt: skip
"""Kinds that one callback can serve together."""
_REPLACED = {x86.UC_X86_INS_CPUID: "cpuid", x86.UC_X86_INS_RDTSC: "rdtsc",
             x86.UC_X86_INS_RDTSCP: "rdtscp"}  # fmt: skip
"""Instructions whose hook may do their work."""
_CALLS = {"syscall": x86.UC_X86_INS_SYSCALL, "sysenter": x86.UC_X86_INS_SYSENTER}


@dataclass(slots=True)
class _Entry:
    kind: int
    callback: Callable[..., Any]
    data: Any
    first: int
    last: int
    hooks: list[Hook]
    instruction: int = 0


class UcHooks:
    """The hooks of one `Uc`, by handle."""

    def __init__(self, engine: Uc, cpu: Cpu):
        self._uc = engine
        self._cpu = cpu
        self._entries: dict[int, _Entry] = {}
        self._next = 1
        self._exits: list[Hook] = []
        self._before: tuple[int, int] | None = None
        self.error = 0
        cpu.hooks.fault(self._fault)
        cpu.hooks.interrupt(self._interrupt)
        for name, number in _CALLS.items():
            cpu.hooks.instruction(name, self._system_call(number), late=True)

    def add(self, kind: int, callback: Callable[..., Any], data: Any, begin: int, end: int,
            instruction: int, flags: int = 0) -> int:  # fmt: skip
        """UcError for a kind, or a mix of kinds, that there is not."""
        if not any(kind & group and not kind & ~group for group in _GROUPS):
            raise UcError(uc.UC_ERR_ARG)
        first, last = begin & _ALL, end & _ALL
        if first > last:
            first, last = 0, _ALL
        entry = _Entry(kind, callback, data, first, last, [])
        handle, self._next = self._next, self._next + 1
        hooks = self._cpu.hooks
        limit = last + 1
        if kind & uc.UC_HOOK_CODE:
            entry.hooks.append(hooks.code(self._code(entry), first, limit))
        if kind & uc.UC_HOOK_BLOCK:
            entry.hooks.append(hooks.block(self._code(entry), first, limit))
        accesses = "r" * bool(kind & uc.UC_HOOK_MEM_READ) + "w" * bool(kind & uc.UC_HOOK_MEM_WRITE)
        if accesses:
            entry.hooks.append(hooks.memory(self._memory(entry), first, limit, access=accesses))
        if kind & uc.UC_HOOK_INSN:
            entry.hooks += self._instruction(entry, instruction)
        if kind & uc.UC_HOOK_EDGE_GENERATED:
            entry.hooks.append(hooks.block(self._edge(entry)))
        if kind & uc.UC_HOOK_TCG_OPCODE:
            entry.hooks.append(self._opcode(entry, instruction, flags))
        self._entries[handle] = entry
        return handle

    def remove(self, handle: int) -> None:
        """UcError if there is none."""
        entry = self._entries.pop(handle, None)
        if entry is None:
            raise UcError(uc.UC_ERR_ARG)
        for hook in entry.hooks:
            hook.remove()

    def set_exits(self, exits: Iterable[int]) -> None:
        for hook in self._exits:
            hook.remove()
        self._exits = [self._cpu.hooks.address(address, lambda cpu, _at, _size: cpu.stop())
                       for address in exits]  # fmt: skip

    # Code and memory: as few calls as can be -----------------------------------------------------

    def _code(self, entry: _Entry) -> RawCallback:
        engine, cpu, callback, data = self._uc, self._cpu, entry.callback, entry.data

        def call(address: int, size: int) -> int:
            try:
                callback(engine, address, size, data)
            except BaseException as error:
                cpu.raise_in_run(error)
            return 0

        return RawCallback(call)

    def _memory(self, entry: _Entry) -> RawCallback:
        engine, cpu, callback, data = self._uc, self._cpu, entry.callback, entry.data
        read, write = uc.UC_MEM_READ, uc.UC_MEM_WRITE

        def call(address: int, size: int, value: int) -> int:
            try:
                if size > 0xFF:
                    callback(engine, write, address, size & 0xFF, value, data)
                else:
                    callback(engine, read, address, size, 0, data)
            except BaseException as error:
                cpu.raise_in_run(error)
            return 0

        return RawCallback(call)

    def begin(self) -> None:
        """A run begins: what it comes from is no block of it."""
        self._before = None

    def _edge(self, entry: _Entry) -> Callable[[Cpu, int, int], None]:
        """Called for a block that is entered for the first time, and after another one."""
        known: set[int] = set()

        def call(cpu: Cpu, address: int, size: int) -> None:
            before, self._before = self._before, (address, size)
            if address in known:
                return
            known.add(address)
            if before is not None and entry.first <= address <= entry.last:
                entry.callback(self._uc, opcodes.count(cpu, address, size),
                               opcodes.count(cpu, *before), entry.data)  # fmt: skip

        return call

    def _opcode(self, entry: _Entry, opcode: int, flags: int) -> Hook:
        names = opcodes.mnemonics(opcode, flags)
        if names is None:
            raise UcError(uc.UC_ERR_HOOK)

        def call(cpu: Cpu, address: int, size: int) -> None:
            found = opcodes.operands(cpu, address, size)
            if found is not None:
                entry.callback(self._uc, address, *found, entry.data)

        return self._cpu.hooks.instruction(names, call, entry.first, entry.last + 1)

    # Instructions ------------------------------------------------------------------------------

    def _instruction(self, entry: _Entry, number: int) -> list[Hook]:
        hooks = self._cpu.hooks
        if number == x86.UC_X86_INS_IN:
            return [hooks.port_in(lambda cpu, port, size: self._in(entry, port, size))]
        if number == x86.UC_X86_INS_OUT:
            return [hooks.port_out(lambda cpu, *what: entry.callback(self._uc, *what, entry.data))]
        limit = entry.last + 1
        if number in _CALLS.values():
            entry.instruction = number
            return []
        if number in _REPLACED:
            return [hooks.instruction(_REPLACED[number], self._perhaps(entry), entry.first, limit)]
        raise UcError(uc.UC_ERR_ARG)

    def _in(self, entry: _Entry, port: int, size: int) -> int:
        return int(entry.callback(self._uc, port, size, entry.data) or 0)

    def _system_call(self, number: int) -> Callable[[Cpu, int, int], Skip]:
        """SYSCALL and SYSENTER do nothing but call their hooks."""
        def call(cpu: Cpu, address: int, size: int) -> Skip:
            for entry in self._of_kind(uc.UC_HOOK_INSN):
                if entry.instruction == number and entry.first <= address <= entry.last:
                    entry.callback(self._uc, entry.data)
            return SKIP

        return call

    def _perhaps(self, entry: _Entry) -> Callable[[Cpu, int, int], Skip | None]:
        def call(cpu: Cpu, address: int, size: int) -> Skip | None:
            return SKIP if entry.callback(self._uc, entry.data) else None

        return call

    # Faults ------------------------------------------------------------------------------------

    def _of_kind(self, kind: int) -> list[_Entry]:
        return [entry for entry in self._entries.values() if entry.kind & kind]

    def _interrupt(self, cpu: Cpu, vector: int) -> bool:
        """INT n: rip is behind it."""
        entries = self._of_kind(uc.UC_HOOK_INTR)
        for entry in entries:
            entry.callback(self._uc, vector, entry.data)
        return bool(entries)

    def _fault(self, cpu: Cpu, stop: Stop) -> bool:
        if stop.unmapped:
            return self._memory_fault(stop)
        if stop.vector == 6:
            return any(entry.callback(self._uc, entry.data)
                       for entry in self._of_kind(uc.UC_HOOK_INSN_INVALID))  # fmt: skip
        return self._interrupt(cpu, stop.vector or 0)

    def _memory_fault(self, stop: Stop) -> bool:
        assert stop.access is not None and stop.error_code is not None
        assert stop.address is not None
        kind, access = _FAULTS[seen_access(stop), bool(stop.error_code & 1)]
        value = _signed(stop.value or 0)
        for entry in self._of_kind(kind):
            if not entry.first <= stop.address <= entry.last:
                continue
            size = stop.size or 1
            if entry.callback(self._uc, access, stop.address, size, value, entry.data):
                return self._mended(stop)
            if self._cpu.stopping:
                return True
        return False

    def _mended(self, stop: Stop) -> bool:
        """Whether the memory is there now: a hook that says so without mapping it is an error."""
        assert stop.address is not None
        region = self._cpu.memory.find(stop.address)
        if self._cpu.jumping or self._cpu.stopping:
            return True
        if region is None:
            self.error = uc.UC_ERR_MAP
            return False
        return True


def seen_access(stop: Stop) -> str:
    """The access of a page fault in Unicorn's eyes, which reads before it modifies."""
    assert stop.access is not None and stop.error_code is not None
    return "read" if stop.modifies and not stop.error_code & 1 else stop.access


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value
