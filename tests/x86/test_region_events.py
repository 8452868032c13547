"""Random programs to which things happen: regions do what threaded code does, stretch by stretch.

They rewrite their own code, run into missing and read-only pages, and have their code, data and
mappings changed from outside; they are stopped every few instructions, and registers compared.
"""

from __future__ import annotations

import random

import pytest

from pytcg import Cpu
from x86.assemble import assemble
from x86.test_region_random import NAMES, Writer
from x86.two_engines import CODE, DATA, STACK

OTHER = DATA + 0x1_0000
"""A page that comes and goes."""
PORT = 0x40


class EventWriter(Writer):
    """Blocks that also store into code, reach for a page that may be missing, ask for an event."""

    def block(self) -> str:
        return "; ".join((super().block(), *(self.event() for _ in range(self.rng.randrange(2)))))

    def event(self) -> str:
        self.labels += 1
        label, kind = self.labels, self.rng.randrange(4)
        if kind == 0:  # the immediate of the next instruction, or of one a block away
            between = "nop; " * self.rng.randrange(3)
            return (f"mov byte ptr [rip + {label}f], {self.rng.randrange(128)}; {between}"
                    f".byte 0x83, 0xc0; {label}: .byte 1")  # fmt: skip
        if kind == 1:
            return f"mov r14, {OTHER + self.rng.randrange(0xFF0)}; {self.access()}"
        return f"out {PORT}, al"

    def access(self) -> str:
        register = self.register(0)
        return self.rng.choice((f"add qword ptr [r14], {register}", f"mov {register}, [r14]",
                                f"mov [r14], {register}"))  # fmt: skip


class Run:
    """One engine's run; what happens is up to the seed and to what ran before."""

    def __init__(self, engine: str, code: bytes, seed: int):
        self.rng, self.code = random.Random(seed), code
        self.cpu = cpu = Cpu(engine=engine)
        cpu.map(CODE, 0x1_0000)
        cpu.map(DATA, 0x1_0000)
        cpu.map(STACK - 0x1000, 0x1000)
        cpu.map(OTHER, 0x1000)
        self.there = "rw"
        cpu.write(CODE, code)
        cpu.write(DATA, self.rng.randbytes(0x2000))
        for name in NAMES:
            if name != "eflags":
                cpu.regs[name] = self.rng.getrandbits(128 if name.startswith("xmm") else 64)
        cpu.regs["rsp"], cpu.regs["eflags"], cpu.regs["rip"] = STACK, 0x202, CODE
        cpu.hooks.port_out(self.happen)

    def happen(self, cpu: Cpu, port: int, size: int, value: int) -> None:
        """An event that the program asked for."""
        kind = self.rng.randrange(4)
        if kind == 0:
            cpu.write(DATA + self.rng.randrange(0x1000), self.rng.randbytes(8))
        elif kind == 1:  # the same code once more: what was made of it is gone
            at = self.rng.randrange(len(self.code) - 8)
            cpu.write(CODE + at, cpu.read(CODE + at, 8))
        elif self.there:
            self.there = self.rng.choice(("", "r", "rw"))
            cpu.unmap(OTHER, 0x1000)
            if self.there:
                cpu.map(OTHER, 0x1000, self.there)
        else:
            self.there = "rw"
            cpu.map(OTHER, 0x1000)

    def stretch(self, count: int) -> list[object]:
        """Run so many instructions; a fault ends them, and its instruction is left out."""
        stop = self.cpu.run(max_insns=count)
        state = [stop.kind, stop.rip, *(self.cpu.regs[name] for name in NAMES)]
        if stop.kind not in ("limit", "hlt"):
            state.append(stop.vector)
            self.cpu.regs["r14"] = DATA  # where there is memory
        return state

    @property
    def memory(self) -> tuple[bytes, bytes]:
        return self.cpu.read(CODE, len(self.code)), self.cpu.read(DATA, 0x2000)


@pytest.mark.parametrize("seed", range(4))
def test_regions_do_what_threaded_code_does_whatever_happens(seed: int) -> None:
    code = assemble(EventWriter(1000 + seed).program())
    runs = [Run(engine, code, seed) for engine in ("threaded", "jit")]
    lengths = random.Random(seed)
    for number in range(100):
        count = lengths.choice((1, 2, 3, 7, 20, 100, 1000))
        expected, found = (run.stretch(count) for run in runs)
        assert found == expected, f"seed {seed}, stretch {number}"
        if expected[0] == "hlt":
            break
    assert runs[1].memory == runs[0].memory
    assert runs[1].cpu.instructions == runs[0].cpu.instructions
    assert runs[1].cpu._cpu.regions_run()[1] > 0
