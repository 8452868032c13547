"""The cases of `fault_cases.py` on the host CPU: a process of its own, whose signals are caught.

It answers lines of a row's number, a first case and a step with pickles.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import subprocess
import sys
from dataclasses import dataclass
from itertools import islice

from pytcg.fuzz import hostcpu
from pytcg.fuzz.hostserver import receive, send
from pytcg.fuzz.state import fx_image, fx_registers
from x86 import fault_cases
from x86.fault_cases import PAGE, PAGES, FaultCase

NAMES = ("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
         *(f"r{n}" for n in range(8, 16)))  # fmt: skip
STATUS = 0x8D5 | 0x400
PROTECTIONS = {"w": mmap.PROT_READ | mmap.PROT_WRITE, "r": mmap.PROT_READ, "-": 0}
PF = 14


@dataclass(frozen=True, slots=True)
class Faulted:
    """How a case ended. Registers and memory are told of cases that faulted only."""

    vector: int | None
    error: int = 0
    address: int = 0
    registers: tuple[tuple[str, int], ...] = ()
    memory: bytes = b""  # if it changed


def start(case: FaultCase) -> dict[str, int]:
    """The registers a case begins with, but for the general ones."""
    found = {"mxcsr": 0x1F80, "fcw": 0x37F, "fsw": 0, "ftw": 0}
    found |= {f"ymm{n}": fault_cases.lanes(case.lanes, n) for n in range(16)}
    return found | {f"st{n}": 0x3FFF << 64 | 1 << 63 | n for n in range(8)}


def ended(vector: int, error: int, address: int, registers: dict[str, int],
          memory: bytes) -> Faulted:  # fmt: skip
    if vector != PF:
        error = address = 0
    if memory == writable(fault_cases.contents()):
        memory = b""
    return Faulted(vector, error, address, tuple(sorted(registers.items())), memory)


def writable(contents: bytes) -> bytes:
    """Those of the pages that can be written."""
    return b"".join(contents[n * PAGE : (n + 1) * PAGE] for n, kind in enumerate(PAGES)
                    if kind == "w")  # fmt: skip


# The process -----------------------------------------------------------------------------------


class _Host:
    def __init__(self) -> None:
        self.host = hostcpu.host_cpu()
        self.host.catch()
        self.libc = ctypes.CDLL(None)
        self.host.data[:] = fault_cases.contents()
        self.protect(PAGES)

    def protect(self, pages: str) -> None:
        for number, kind in enumerate(pages):
            where = ctypes.c_void_p(fault_cases.page(number))
            assert self.libc.mprotect(where, PAGE, PROTECTIONS[kind]) == 0

    def memory(self) -> bytes:
        """The pages that can be written, which then are what they were."""
        at = [number * PAGE for number, kind in enumerate(PAGES) if kind == "w"]
        found = b"".join(bytes(self.host.data[n : n + PAGE]) for n in at)
        self.reset()
        return found

    def reset(self) -> None:
        contents = fault_cases.contents()
        for number, kind in enumerate(PAGES):
            if kind == "w":
                here = slice(number * PAGE, (number + 1) * PAGE)
                self.host.data[here] = contents[here]

    def run(self, case: FaultCase) -> Faulted:
        values = start(case)
        low = {f"xmm{n}": values[f"ymm{n}"] & (1 << 128) - 1 for n in range(16)}
        high = b"".join((values[f"ymm{n}"] >> 128).to_bytes(16, "little") for n in range(16))
        before = hostcpu.HostState(list(case.regs), case.flags, fx_image({**values, **low}), high)
        after = self.host.run(case.code, before)
        fault = self.host.fault
        if fault is None:
            self.reset()
            return Faulted(None)
        assert fault.rip == hostcpu.CODE, (str(case), fault)
        registers = dict(zip(NAMES, after.regs, strict=True)) | fx_registers(after.fx)
        for n in range(16):
            upper = int.from_bytes(after.high[16 * n : 16 * n + 16], "little")
            registers[f"ymm{n}"] = registers.pop(f"xmm{n}") | upper << 128
        registers["eflags"] = after.flags & STATUS
        return ended(fault.vector, fault.error, fault.address, registers, self.memory())


def serve() -> None:
    host, rows = _Host(), fault_cases.rows()
    while line := sys.stdin.buffer.readline():
        row, first, step = map(int, line.split())
        chosen = islice(fault_cases.cases(rows[row]), first, None, step)
        send(sys.stdout.buffer, [host.run(case) for case in chosen])


# Asking it -------------------------------------------------------------------------------------


class Server:
    """The process's other end."""

    def __init__(self) -> None:
        command = [sys.executable, "-c", "from x86.fault_host import serve; serve()"]
        pipe = subprocess.PIPE
        path = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        self.child = subprocess.Popen(command, stdin=pipe, stdout=pipe, env=path)

    def outcomes(self, number: int, first: int = 0, step: int = 1) -> list[Faulted]:
        """Of cases of the row with that number: all, or every ``step``-th."""
        assert self.child.stdin is not None and self.child.stdout is not None
        self.child.stdin.write(b"%d %d %d\n" % (number, first, step))
        self.child.stdin.flush()
        found: list[Faulted] = receive(self.child.stdout)
        return found
