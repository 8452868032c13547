"""What runs a guest program: pytcg's engines, and the host CPU itself."""

from __future__ import annotations

import ctypes
import mmap
import platform
import time
from dataclasses import dataclass
from typing import Final, Protocol

from bench.program import DATA_SIZE, Program
from pytcg import Cpu

PAGE: Final = 0x1000
CODE: Final = 0x10000
DATA: Final = 0x100000
STACK: Final = 0x20000  # its end; a page is enough for everybody
RETURN: Final = CODE + PAGE - 1
HLT: Final = b"\xf4"


class EngineError(Exception):
    """A program did not run to its end; the text says where and how."""


@dataclass(frozen=True)
class Outcome:
    """One run of a program."""

    answer: int
    seconds: float
    instructions: int | None = None  # None where nobody counts


class Engine(Protocol):
    """Something that runs guest programs."""

    @property
    def name(self) -> str:
        """As the table calls it."""
        ...

    def run(self, program: Program, count: int) -> Outcome:
        """Run the program with ``count`` in rsi; EngineError when it does not end well."""
        ...


class PytcgEngine:
    """A `Cpu` in this process; forms are compiled before the clock starts."""

    def __init__(self, tier: str) -> None:
        self.name = f"pytcg {tier}"
        self._tier = tier
        self._cpus: dict[str, Cpu] = {}

    def run(self, program: Program, count: int) -> Outcome:
        cpu = self._cpus.get(program.name)
        if cpu is None:
            cpu = self._cpus[program.name] = self._prepare(program)
            self._once(cpu, 1)
        return self._once(cpu, count)

    def _prepare(self, program: Program) -> Cpu:
        cpu = Cpu(mode="long", engine=self._tier)
        cpu.map(CODE, PAGE)
        cpu.map(STACK - PAGE, PAGE)
        cpu.map(DATA, DATA_SIZE)
        cpu.write(CODE, program.code)
        cpu.write(RETURN, HLT)
        return cpu

    def _once(self, cpu: Cpu, count: int) -> Outcome:
        cpu.write(DATA, bytes(DATA_SIZE))
        cpu.write(STACK - 8, RETURN.to_bytes(8, "little"))
        cpu.regs["rsp"], cpu.regs["rdi"], cpu.regs["rsi"] = STACK - 8, DATA, count
        before = cpu.instructions
        began = time.perf_counter()
        stop = cpu.run(CODE)
        seconds = time.perf_counter() - began
        if stop.kind != "hlt" or stop.rip != RETURN + 1:
            raise EngineError(f"{self.name}: stopped at {stop.rip:#x}: {stop}")
        return Outcome(cpu.regs["rax"], seconds, cpu.instructions - before)


class HostCpu:
    """The host's own processor runs the same bytes, where it is an x86-64 under Linux.

    ctypes: the only way to call bytes. The page is executable and holds nothing but the program,
    which is a C function of two arguments that keeps to its data.
    """

    name = "host CPU"

    @staticmethod
    def available() -> bool:
        return platform.machine() == "x86_64" and platform.system() == "Linux"

    def run(self, program: Program, count: int) -> Outcome:
        protection = mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC
        page = mmap.mmap(-1, PAGE, prot=protection)
        data = mmap.mmap(-1, DATA_SIZE)
        page.write(program.code)
        prototype = ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_void_p, ctypes.c_uint64)
        code_view, data_view = ctypes.c_char.from_buffer(page), ctypes.c_char.from_buffer(data)
        function = prototype(ctypes.addressof(code_view))
        began = time.perf_counter()
        answer = function(ctypes.addressof(data_view), count)
        seconds = time.perf_counter() - began
        del code_view, data_view, function  # the buffers can't be unmapped while they are lent
        page.close()
        data.close()
        return Outcome(answer, seconds)
