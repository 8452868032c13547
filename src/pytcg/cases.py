"""One-line cases: an instruction, what it starts from, what it must leave behind.

    adc al, bl | al=0xff bl=0 cf=1 => al=0 cf=1 zf=1 sf=0 of=0 af=1 pf=1
    mov [rbx], eax | rbx=0x20000 eax=7 => [0x20000]:4=7
    div ecx | ecx=0 => #DE

Before ``|`` is assembly (Intel syntax, statements parted by ``;``); then registers and memory
(``[address]:size=value``, size 8 if there is none); after ``=>`` the same, of which every one is
compared, or an exception. Registers that are not named begin as 0, the stack pointer as 0x30000
(0xF000 in real mode).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from pytcg.cpu import Cpu
from pytcg.errors import CpuError, RegisterError

ENGINES = ("threaded", "jit", "python")
CODE, STACK = 0x10000, 0x30000  # in real mode an offset has 16 bits: the other two
REAL_CODE, REAL_STACK = 0x1000, 0xF000
_PAGE = 0x1000
_VECTORS = ("DE", "DB", "NMI", "BP", "OF", "BR", "UD", "NM", "DF", "", "TS", "NP", "SS", "GP", "PF",
            "", "MF", "AC", "MC", "XM")  # fmt: skip
_MEMORY = re.compile(r"\[(0x[0-9a-fA-F]+|\d+)\](?::(\d+))?=(-?0x[0-9a-fA-F]+|-?\d+)")
_REGISTER = re.compile(r"([a-z][a-z0-9_.]*)=(-?0x[0-9a-fA-F]+|-?\d+)")
_MODES = {"real": "sp", "protected": "esp", "long": "rsp"}


class CaseError(CpuError):
    """A line that is no case."""


@dataclass
class State:
    """Registers by name, and memory as {(address, size): value}."""

    registers: dict[str, int] = field(default_factory=dict)
    memory: dict[tuple[int, int], int] = field(default_factory=dict)


@dataclass
class Case:
    """A parsed line."""

    text: str
    assembly: str
    before: State
    after: State
    vector: int | None = None
    mode: str = "long"


def parse(line: str, mode: str = "long") -> Case:
    """A case of a line; CaseError."""
    assembly, bar, rest = line.partition("|")
    begin, arrow, end = rest.partition("=>")
    if not bar or not arrow:
        raise CaseError(f"{line!r}: a case is `assembly | before => after`")
    if mode not in _MODES:
        raise CaseError(f"no mode {mode!r}: {', '.join(_MODES)} are there")
    vector, words = None, end.split()
    if words and words[0].startswith("#"):
        name = words.pop(0)[1:].upper()
        if not name or name not in _VECTORS:
            raise CaseError(f"{line!r}: no exception #{name}")
        vector = _VECTORS.index(name)
    return Case(line.strip(), assembly.strip(), _state(line, begin.split()), _state(line, words),
                vector, mode)  # fmt: skip


def _state(line: str, words: list[str]) -> State:
    state = State()
    for word in words:
        if match := _MEMORY.fullmatch(word):
            size = int(match[2] or 8)
            state.memory[int(match[1], 0), size] = int(match[3], 0) & (1 << 8 * size) - 1
        elif match := _REGISTER.fullmatch(word):
            state.registers[match[1]] = int(match[2], 0)
        else:
            raise CaseError(f"{line!r}: {word!r} is neither register=value nor [address]=value")
    return state


def parse_file(text: str) -> Iterator[tuple[int, Case | CaseError]]:
    """(line number, case) of each line; ``#`` begins a comment line, ``# mode: real`` counts."""
    mode = "long"
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if stripped.startswith("#"):
            found = re.fullmatch(r"#\s*mode:\s*(\w+)", stripped)
            mode = found[1] if found else mode
        elif stripped:
            try:
                yield number, parse(stripped, mode)
            except CaseError as error:
                yield number, error


def run(case: Case, engine: str = "threaded") -> list[str]:
    """What differs from what the case says, nothing if it holds. CpuError if it can't be run."""
    cpu = _processor(case.mode, engine)
    _begin(cpu, case)
    start, _ = _places(case.mode)
    code = cpu.asm(case.assembly, address=start)
    cpu.write(start, code)
    end = None if case.vector is not None else start + len(code)
    stop = cpu.run(start, end, max_insns=100_000)
    if case.vector is not None:
        if stop.vector != case.vector:
            return [f"ended by {stop}, not by #{_VECTORS[case.vector]}"]
    elif stop.kind != "until":
        return [f"ended by {stop}"]
    return [*_compare(cpu, case.after)]


def _places(mode: str) -> tuple[int, int]:
    """Where code and stack begin."""
    return (REAL_CODE, REAL_STACK) if mode == "real" else (CODE, STACK)


@functools.cache
def _processor(mode: str, engine: str) -> Cpu:
    code, stack = _places(mode)
    cpu = Cpu(mode, engine)
    cpu.map(code, 2 * _PAGE)
    cpu.map(stack - 4 * _PAGE, 4 * _PAGE)
    _blank[id(cpu)] = cpu.save_context()
    return cpu


_blank: dict[int, object] = {}


def _begin(cpu: Cpu, case: Case) -> None:
    """Everything as a case wants it."""
    cpu.restore_context(_blank[id(cpu)])  # type: ignore[arg-type]
    cpu.regs[_MODES[case.mode]] = _places(case.mode)[1]
    for address, size in (*case.before.memory, *case.after.memory):
        for page in range(address & -_PAGE, address + size, _PAGE):
            if cpu.memory.find(page) is None:
                cpu.map(page, _PAGE)
    for (address, size), value in case.before.memory.items():
        cpu.write_int(address, value, size)
    try:
        cpu.regs.write(dict(case.before.registers))
    except RegisterError as error:
        raise CaseError(f"{case.text!r}: {error}") from None


def _compare(cpu: Cpu, wanted: State) -> Iterator[str]:
    for name, value in wanted.registers.items():
        got = cpu.regs[name]
        if value != got and not (value < 0 and _wraps(value, got)):
            yield f"{name} is {got:#x}, not {value:#x}"
    for (address, size), value in wanted.memory.items():
        got = cpu.read_int(address, size)
        if got != value:
            yield f"[{address:#x}]:{size} is {got:#x}, not {value:#x}"


def _wraps(value: int, got: int) -> bool:
    """Whether a negative number is what a register holds, at one of its widths."""
    return any(value + (1 << bits) == got for bits in (8, 16, 32, 64, 128))
