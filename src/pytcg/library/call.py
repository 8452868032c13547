"""Calling guest functions: arguments and results by calling convention."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from pytcg.errors import CpuError, GuestFault, MapError
from pytcg.library.checks import whole

if TYPE_CHECKING:
    from pytcg.cpu import Cpu

Argument = int | float | bytes | str

_SYSV = ("rdi", "rsi", "rdx", "rcx", "r8", "r9")
_WIN64 = ("rcx", "rdx", "r8", "r9")
_FASTCALL = ("ecx", "edx")
ABIS = {"sysv64": "long", "win64": "long", "cdecl": "protected", "stdcall": "protected",
        "fastcall": "protected"}  # fmt: skip
STACK_SIZE = 1 << 20
_STACKS = {"long": 0x7FFF_0000_0000, "protected": 0x7FF0_0000}
_ALL = (1 << 64) - 1


def default_abi(cpu: Cpu) -> str:
    return "sysv64" if cpu.mode == "long" else "cdecl"


def call(cpu: Cpu, address: int, arguments: tuple[Argument, ...], abi: str, *, floating: bool,
         max_insns: int | None, timeout: float | None) -> int | float:  # fmt: skip
    """See `Cpu.call`."""
    if ABIS.get(abi) != cpu.mode:
        fitting = ", ".join(name for name, mode in ABIS.items() if mode == cpu.mode) or "none"
        raise CpuError(f"no calling convention {abi!r} in {cpu.mode} mode: {fitting} there")
    stack, size = _stack(cpu), 8 if cpu.mode == "long" else 4
    pointer = "rsp" if size == 8 else "esp"
    before = cpu.regs[pointer], cpu.regs.rip
    frame = _Frame(cpu, stack, size)
    values = [frame.pointer_to(a) if isinstance(a, (bytes, str)) else
              a if isinstance(a, float) else whole(a, "an argument") for a in arguments]
    frame.place(values, abi)
    trap = stack - STACK_SIZE  # the stack's first page: not code, and never reached by a push
    frame.push_return(trap)
    cpu.regs[pointer] = frame.top
    try:
        stop = cpu.run(address, trap, max_insns=max_insns, timeout=timeout)
        if stop.kind != "until":
            raise GuestFault(stop)
        if floating:
            return _float_result(cpu)
        return cpu.regs.rax if size == 8 else cpu.regs.eax
    finally:
        cpu.regs[pointer] = before[0]
        if not cpu.running:
            cpu.regs.rip = before[1]


def _stack(cpu: Cpu) -> int:
    """Where to begin: rSP if it is a stack, else the end of one that is mapped for it."""
    pointer = cpu.regs.rsp if cpu.mode == "long" else cpu.regs.esp
    region = cpu.memory.find(pointer - 1) if pointer else None
    if region is not None and pointer - region.address >= STACK_SIZE:
        return pointer & ~0xF
    top = _STACKS[cpu.mode]
    if cpu.memory.find(top - 1) is None:
        try:
            cpu.map(top - STACK_SIZE, STACK_SIZE, "rw")
        except MapError as error:
            raise CpuError(f"no room for a stack: {error}") from None
    return top


class _Frame:
    """A stack frame under construction, from high addresses to low ones."""

    def __init__(self, cpu: Cpu, top: int, size: int):
        self.cpu = cpu
        self.top = top
        self.size = size

    def pointer_to(self, data: bytes | str) -> int:
        """Bytes on the stack, a string with a zero behind it."""
        raw = data.encode() + b"\0" if isinstance(data, str) else bytes(data)
        self.top = (self.top - len(raw)) & ~0xF
        self.cpu.write(self.top, raw)
        return self.top

    def place(self, values: list[int | float], abi: str) -> None:
        """Registers, then the stack, aligned to 16 bytes at the call."""
        rest = {"sysv64": self._sysv, "win64": self._win64, "fastcall": self._fastcall}.get(
            abi, self._words)(values)  # fmt: skip
        room = len(rest) + (32 if abi == "win64" else 0)
        self.top = (self.top - room) & ~0xF
        self.cpu.write(self.top + room - len(rest), rest)

    def push_return(self, address: int) -> None:
        self.top -= self.size
        self.cpu.write_int(self.top, address, self.size)

    def _sysv(self, values: list[int | float]) -> bytes:
        integers, floats, rest = list(_SYSV), 0, []
        for value in values:
            if isinstance(value, float) and floats < 8:
                self.cpu.regs[f"xmm{floats}"] = _double(value)
                floats += 1
            elif isinstance(value, int) and integers:
                self.cpu.regs[integers.pop(0)] = value & _ALL
            else:
                rest.append(value)
        self.cpu.regs.rax = floats
        return self._words(rest)

    def _win64(self, values: list[int | float]) -> bytes:
        for number, value in enumerate(values[:4]):
            if isinstance(value, float):
                self.cpu.regs[f"xmm{number}"] = _double(value)
                self.cpu.regs[_WIN64[number]] = _double(value)
            else:
                self.cpu.regs[_WIN64[number]] = value & _ALL
        return self._words(values[4:])

    def _fastcall(self, values: list[int | float]) -> bytes:
        registers, rest = list(_FASTCALL), []
        for value in values:
            if isinstance(value, int) and registers:
                self.cpu.regs[registers.pop(0)] = value & 0xFFFF_FFFF
            else:
                rest.append(value)
        return self._words(rest)

    def _words(self, values: list[int | float]) -> bytes:
        mask = (1 << 8 * self.size) - 1
        return b"".join(struct.pack("<d", v) if isinstance(v, float) else
                        (v & mask).to_bytes(self.size, "little") for v in values)  # fmt: skip


def _double(value: float) -> int:
    return int.from_bytes(struct.pack("<d", value), "little")


def _float_result(cpu: Cpu) -> float:
    """XMM0's double in 64-bit code, ST0 else."""
    if cpu.mode == "long":
        return float(struct.unpack("<d", (cpu.regs.xmm0 & _ALL).to_bytes(8, "little"))[0])
    value = cpu.regs.st0
    mantissa, exponent = value & _ALL, value >> 64 & 0x7FFF
    if exponent == 0x7FFF:
        return float("nan") if mantissa << 1 & _ALL else float("-inf" if value >> 79 else "inf")
    return (-1.0 if value >> 79 else 1.0) * float(mantissa) * 2.0 ** (exponent - 16383 - 63)
