"""Ready-made hooks: coverage, traces, calls, watchpoints, counters. All but calls run natively.

Each is made with a processor, collects until `remove` (or the end of a ``with``), and is read any
time the processor does not run.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from pytcg.errors import CpuError, HookError
from pytcg.exec.layout import ExecEnv
from pytcg.softmmu.ram import HostBuffer
from pytcg_native import load64, native, ptr, store64, u32, u64

if TYPE_CHECKING:
    import numpy.typing as npt

    from pytcg.cpu import Cpu
    from pytcg.library.hooks import Hook

_HEAD = 32
"""Bytes before the rows of a buffer: how many there are, room for how many, and one to spare."""
_TABLE_BITS = 18

ACCESS = np.dtype([("pc", "<u8"), ("address", "<u8"), ("value", "<u8"), ("size", "<u4"),
                   ("write", "<u4")])  # fmt: skip
"""A row of a `MemoryTrace`."""


@native
def note_address(env: ExecEnv, data: ptr, address: u64, size: u32) -> None:
    """Append an address; past the room only count."""
    count: u64 = load64(data)
    if count < load64(data, 8):
        store64(data, _HEAD + count * 8, address)
    store64(data, 0, count + 1)


@native
def note_access(env: ExecEnv, data: ptr, address: u64, size: u32, value: u64) -> None:
    """Append a row of `ACCESS`."""
    count: u64 = load64(data)
    if count < load64(data, 8):
        at: u64 = _HEAD + count * 32
        store64(data, at, env.pc)
        store64(data, at + 8, address)
        store64(data, at + 16, value)
        store64(data, at + 24, u64(size & 0xFF) | u64(size >> 8) << 32)
    store64(data, 0, count + 1)


@native
def note_count(env: ExecEnv, data: ptr, address: u64, size: u32) -> None:
    store64(data, 0, load64(data) + 1)


@native
def note_block(env: ExecEnv, data: ptr, address: u64, size: u32) -> None:
    """Enter a block in a hash table of (address + 1, size), open addressing."""
    slot: u64 = (address * 0x9E37_79B9_7F4A_7C15) >> (64 - _TABLE_BITS)
    while True:
        at: u64 = _HEAD + slot * 16
        key: u64 = load64(data, at)
        if key == address + 1:
            if load64(data, at + 8) < u64(size):
                store64(data, at + 8, u64(size))
            return
        if key == 0:
            count: u64 = load64(data)
            store64(data, 0, count + 1)
            if count < load64(data, 8):
                store64(data, at, address + 1)
                store64(data, at + 8, u64(size))
            return
        slot = (slot + 1) & ((1 << _TABLE_BITS) - 1)


class Collector:
    """A hook and the buffer it fills."""

    def __init__(self, cpu: Cpu, rows: int, row_size: int):
        if rows <= 0:
            raise CpuError(f"room for {rows} rows")
        size = _HEAD + rows * row_size
        self.rows = rows
        self._buffer = HostBuffer(-(-size // 4096) * 4096, huge=False)
        self._buffer.view[8:16] = rows.to_bytes(8, "little")
        self._hooks: list[Hook] = []
        cpu._cpu.engine.attach([self._buffer])

    @property
    def count(self) -> int:
        """How many there were, also those that found no room."""
        return int.from_bytes(self._buffer.view[:8], "little")

    def clear(self) -> None:
        """Begin anew."""
        self._buffer.view[:8] = bytes(8)

    def remove(self) -> None:
        """Stop collecting."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.remove()


class Counter(Collector):
    """Counts the instructions of a range that are run: `count`."""

    def __init__(self, cpu: Cpu, start: int = 0, end: int | None = None):
        super().__init__(cpu, 1, 8)
        self._hooks.append(cpu.hooks.code(note_count, start, end, data=self._buffer.address))


class InstructionTrace(Collector):
    """The addresses of the instructions run, the first ``room`` of them."""

    def __init__(self, cpu: Cpu, start: int = 0, end: int | None = None, *, room: int = 1 << 20):
        super().__init__(cpu, room, 8)
        self._hooks.append(cpu.hooks.code(note_address, start, end, data=self._buffer.address))

    @property
    def addresses(self) -> npt.NDArray[np.uint64]:
        """A copy, as numpy array of uint64."""
        count = min(self.count, self.rows)
        return np.frombuffer(self._buffer.view, np.uint64, count, _HEAD).copy()


class MemoryTrace(Collector):
    """The data accesses in a range, the first ``room`` of them, as rows of `ACCESS`."""

    def __init__(self, cpu: Cpu, start: int = 0, end: int | None = None, *, access: str = "rw",
                 room: int = 1 << 20):  # fmt: skip
        super().__init__(cpu, room, ACCESS.itemsize)
        self._hooks.append(cpu.hooks.memory(note_access, start, end, access=access,
                                            data=self._buffer.address))  # fmt: skip

    @property
    def accesses(self) -> npt.NDArray[Any]:
        """A copy, as numpy array of `ACCESS`."""
        count = min(self.count, self.rows)
        return np.frombuffer(self._buffer.view, ACCESS, count, _HEAD).copy()


@dataclass(frozen=True, slots=True)
class Module:
    """A file in memory, for coverage files: [start, end)."""

    path: str
    start: int
    end: int


class Coverage(Collector):
    """The blocks that were run: `blocks`, or a drcov file for Lighthouse and others."""

    def __init__(self, cpu: Cpu, start: int = 0, end: int | None = None):
        super().__init__(cpu, 3 << (_TABLE_BITS - 2), 64)  # the table is never full
        self._hooks.append(cpu.hooks.block(note_block, start, end, data=self._buffer.address))

    def clear(self) -> None:
        super().clear()
        self._buffer.view[_HEAD : _HEAD + (16 << _TABLE_BITS)] = bytes(16 << _TABLE_BITS)

    @property
    def blocks(self) -> list[tuple[int, int]]:
        """(address, bytes) of each, ascending; HookError if there were too many to note."""
        if self.count > self.rows:
            raise HookError(f"more than {self.rows} blocks: cover a range")
        table = np.frombuffer(self._buffer.view, np.uint64, 2 << _TABLE_BITS, _HEAD).reshape(-1, 2)
        used = table[table[:, 0] != 0]
        return sorted((int(address) - 1, int(size)) for address, size in used)

    def write_drcov(self, path: str | Path, modules: Iterable[Module]) -> int:
        """Write a drcov file (version 2); returns how many blocks lie in the modules."""
        known = list(modules)
        rows = b""
        for address, size in self.blocks:
            for number, module in enumerate(known):
                if module.start <= address < module.end:
                    rows += struct.pack("<IHH", address - module.start, size, number)
                    break
        count = len(rows) // 8
        lines = ["DRCOV VERSION: 2", "DRCOV FLAVOR: pytcg",
                 f"Module Table: version 2, count {len(known)}",
                 "Columns: id, base, end, entry, checksum, timestamp, path"]  # fmt: skip
        lines += [f"{n}, {m.start:#018x}, {m.end:#018x}, {0:#018x}, {0:#010x}, {0:#010x}, {m.path}"
                  for n, m in enumerate(known)]  # fmt: skip
        lines.append(f"BB Table: {count} bbs")
        Path(path).write_bytes("\n".join(lines).encode() + b"\n" + rows)
        return count


@dataclass(frozen=True, slots=True)
class Call:
    """A call that was made: by the instruction at ``source``, to ``target``, at some depth."""

    source: int
    target: int
    depth: int


class CallTrace:
    """The calls made, in order, by CALL instructions; `depth` is that of the present function."""

    def __init__(self, cpu: Cpu, start: int = 0, end: int | None = None):
        self.calls: list[Call] = []
        self.depth = 0
        self._source: int | None = None
        self._hooks = [
            cpu.hooks.instruction("call", self._call, start, end),
            cpu.hooks.instruction("ret", self._return, start, end),
            cpu.hooks.block(self._arrive),
        ]

    def _call(self, cpu: Cpu, address: int, size: int) -> None:
        self._source = address

    def _return(self, cpu: Cpu, address: int, size: int) -> None:
        self.depth = max(self.depth - 1, 0)

    def _arrive(self, cpu: Cpu, address: int, size: int) -> None:
        if self._source is not None:
            self.calls.append(Call(self._source, address, self.depth))
            self._source = None
            self.depth += 1

    def remove(self) -> None:
        """Stop collecting."""
        for hook in self._hooks:
            hook.remove()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.remove()

    def __str__(self) -> str:
        return "\n".join(f"{'  ' * c.depth}{c.source:#x} -> {c.target:#x}" for c in self.calls)


@dataclass(frozen=True, slots=True)
class Hit:
    """An access that a watchpoint saw."""

    rip: int
    access: str
    address: int
    size: int
    value: int


class Watchpoint:
    """Stops the run behind an instruction that accesses ``size`` bytes at ``address``."""

    def __init__(self, cpu: Cpu, address: int, size: int = 8, access: str = "w"):
        self.hits: list[Hit] = []
        self._hook = cpu.hooks.memory(self._access, address, address + size, access=access)

    def _access(self, cpu: Cpu, kind: str, address: int, size: int, value: int) -> None:
        self.hits.append(Hit(cpu.regs.rip, kind, address, size, value))
        cpu.stop()

    def remove(self) -> None:
        """Watch no more."""
        self._hook.remove()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.remove()
