"""The human monitor's commands, as `human-monitor-command` runs them: a line in, text out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from pytcg.machine.runner import MachineError, Registers, RunState
from pytcg.monitor.command import CommandError
from pytcg.monitor.machine import Machine
from pytcg.softmmu.ram import RamError

MOST_UNITS: Final = 65536
_SIZES: Final = {"b": 1, "h": 2, "w": 4, "g": 8}
_ROWS: Final = (
    ("rax", "rbx", "rcx", "rdx"), ("rsi", "rdi", "rbp", "rsp"),
    ("r8", "r9", "r10", "r11"), ("r12", "r13", "r14", "r15"), ("rip", "rflags"),
)  # fmt: skip
_SEGMENTS: Final = ("es", "cs", "ss", "ds", "fs", "gs", "ldtr", "tr")

Qmp = Callable[[str, dict[str, Any]], Any]
"""Runs a command of QMP's table."""


def run_line(machine: Machine, line: str, qmp: Qmp) -> str:
    """What the monitor prints for a line; errors are text too."""
    name, *words = line.split() or [""]
    try:
        if name in _PLAIN and not words:
            qmp(_PLAIN[name], {})
            return ""
        if name == "help":
            return "".join(f"{entry}\r\n" for entry in sorted({*_PLAIN, "help", "info", "xp"}))
        if name == "info" and len(words) == 1 and words[0] in _INFO:
            return _INFO[words[0]](machine)
        if name == "xp" or name.startswith("xp/"):
            return _dump(machine, "".join((name, *words[:-1]))[2:], words)
    except (CommandError, MachineError) as error:
        return f"Error: {error}\r\n"
    return f"unknown command: '{line.strip()}'\r\n" if name else ""


def _status(machine: Machine) -> str:
    state = machine.runner.state
    if state is RunState.RUNNING:
        return "VM status: running\r\n"
    return f"VM status: paused{'' if state is RunState.PAUSED else f' ({state.value})'}\r\n"


def _registers(machine: Machine) -> str:
    with machine.runner.at_rest():
        return "\r\n".join(_register_lines(machine.board.vcpu.regs)) + "\r\n"


def _register_lines(regs: Registers) -> list[str]:
    lines = [" ".join(f"{name.upper()}={regs[name]:016x}" for name in row) for row in _ROWS]
    lines += [f"{name.upper():4}={regs[name]:04x} {regs[f'{name}.base']:016x}"
              f" {regs[f'{name}.limit']:08x}" for name in _SEGMENTS]  # fmt: skip
    lines += [f"{name.upper()}={regs[f'{name}.base']:016x} {regs[f'{name}.limit']:08x}"
              for name in ("gdtr", "idtr")]  # fmt: skip
    names = ("cr0", "cr2", "cr3", "cr4", "efer")
    return [*lines, " ".join(f"{name.upper()}={regs[name]:08x}" for name in names)]


def _dump(machine: Machine, form: str, words: list[str]) -> str:
    """``xp/COUNT[x][bhwg] ADDRESS``: physical memory in hexadecimal."""
    digits = form.lstrip("/").rstrip("xbhwg")
    letters = form.lstrip("/")[len(digits):].replace("x", "", 1) or "w"
    if not words or letters not in _SIZES or not (digits.isdecimal() or not digits):
        raise CommandError("xp takes /COUNT, x, a size of b, h, w or g, and an address")
    size, count = _SIZES[letters], int(digits or "1") if len(digits) < 9 else MOST_UNITS + 1
    if count > MOST_UNITS:
        raise CommandError(f"xp shows at most {MOST_UNITS} units")
    try:
        address = int(words[-1], 0)
        data = machine.board.memory.read(address, count * size)
    except (ValueError, RamError) as error:
        raise CommandError(f"Cannot access memory at '{words[-1]}'") from error
    lines = []
    for at in range(0, len(data), 16):
        units = [data[n : n + size] for n in range(at, min(at + 16, len(data)), size)]
        values = " ".join(f"{int.from_bytes(unit, 'little'):#0{2 * size + 2}x}" for unit in units)
        lines.append(f"{address + at:016x}: {values}\r\n")
    return "".join(lines)


_PLAIN: Final = {
    "stop": "stop", "cont": "cont", "c": "cont", "system_reset": "system_reset",
    "system_powerdown": "system_powerdown", "quit": "quit", "q": "quit", "nmi": "inject-nmi",
}  # fmt: skip
_INFO: Final[dict[str, Callable[[Machine], str]]] = {
    "status": _status,
    "registers": _registers,
    "name": lambda machine: f"{machine.name}\r\n" if machine.name else "",
    "uuid": lambda machine: f"{machine.uuid}\r\n",
}
