"""Random bytes as code: the engines agree, and only what the architecture knows comes out.

`python -m x86.test_random_code ENGINES FIRST LAST`, with tests/ on the path, runs more by hand.
"""

from __future__ import annotations

import random
import sys
from dataclasses import dataclass

import pytest

from x86.protection import (
    BIG,
    CODE,
    CODE0,
    DATA,
    FREE,
    HANDLERS,
    IDT,
    INTERRUPT,
    RAM,
    STACK0,
    Machine,
    descriptor,
    gate,
)

KINDS = {"real": "real", "protected": "protected", "protected16": "protected", "vm86": "protected",
         "compatibility": "long", "long": "long"}  # fmt: skip
"""Kinds of code, and the mode that each begins in."""
CODE16, STACK16, CODE32 = FREE, FREE + 8, FREE + 16
VIRTUAL_ENTRY = 0x7800
VM, TF, NT = 1 << 17, 0x100, 0x4000
LENGTH, STEPS = 60, 12
REGISTERS = ("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
             "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15")  # fmt: skip
SEGMENTS = ("es", "cs", "ss", "ds", "fs", "gs")
EDGES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF,
         1 << 47, 1 << 63, (1 << 64) - 1, RAM - 2, DATA, CODE, STACK0)  # fmt: skip
PREFIXES = b"\x66\x67\xf2\xf3\xf0\x2e\x36\x26\x64\x65\x3e\x48\x41\x4f\x44"
TIME = (b"\x0f\x31", b"\x0f\x01\xf9", b"\x0f\xc7", b"\x0f\x32", b"\x0f\x33")
"""What has another answer each time: RDTSC, RDTSCP, RDRAND, and what may read a clock."""


def random_code(chance: random.Random) -> bytes:
    """Bytes, half of them shaped as instructions are: prefixes, a map, an opcode, operands."""
    code = bytearray()
    while len(code) < LENGTH // 2:
        if chance.random() < 0.25:
            code += chance.randbytes(chance.randrange(1, 12))
            continue
        code += bytes(chance.choices(PREFIXES, k=chance.choice((0, 0, 0, 1, 1, 2, 3))))
        code += chance.choice((b"", b"", b"\x0f", b"\x0f", b"\x0f\x38", b"\x0f\x3a", b"\x0f\x01",
                               b"\x0f\xae", b"\xc5" + chance.randbytes(1),
                               b"\xc4" + chance.randbytes(2)))  # fmt: skip
        code += chance.randbytes(2)
        code += chance.choice((b"", chance.randbytes(1), chance.randbytes(4), b"\x00\x90\x00\x00"))
    return bytes(code[:LENGTH])


@dataclass(frozen=True)
class Trial:
    """Code of one kind with the state it begins in, the same for each engine."""

    kind: str
    seed: int

    def on(self, engine: str) -> tuple[object, ...]:
        """What comes of it: why it stopped, and the state then."""
        chance = random.Random(self.seed)
        machine = self._machine(engine, user=chance.random() < 0.4)
        if self.seed % 3:
            self._handlers(machine)
        code = random_code(chance)
        flags = self._state(machine, chance)
        start, steps = chance.choice((CODE, CODE, CODE + 0xFED)), STEPS
        if self.kind == "vm86":
            machine.cpu.write(DATA + 0x800, code + b"\xf4" * 8)
            frame = (0, 0, 0, DATA >> 4, DATA >> 4, 0x100, flags & ~NT | VM, DATA >> 4, 0x800)
            machine.code("; ".join(f"push {value}" for value in frame) + "; iretd", VIRTUAL_ENTRY)
            machine.regs["rsp"], machine.regs["eflags"] = STACK0, 2
            start, steps = VIRTUAL_ENTRY, len(frame) + 1 + STEPS
        else:
            machine.cpu.write(start, code + b"\xf4" * 8)
        stop = machine.cpu.run(start, max_insns=steps)
        assert stop.kind in ("hlt", "exception", "limit", "shutdown"), (self, code.hex(), stop)
        if any(each in code for each in TIME):
            return (code.hex(),)
        names = (*REGISTERS, *SEGMENTS, "eflags", "cr0", "cr2", "cr4")
        return (code.hex(), stop.kind, stop.vector, stop.error_code, stop.rip,
                [f"{name}={machine.regs[name]:x}" for name in names],
                machine.cpu.read(0, RAM))  # fmt: skip

    def _machine(self, engine: str, *, user: bool) -> Machine:
        machine = Machine(KINDS[self.kind], engine)
        if machine.mode == "long":
            machine.map_long()
        if machine.mode != "real":
            machine.define(CODE16, descriptor(0, 0xFFFF, 0x9B))
            machine.define(STACK16, descriptor(0, 0xFFFF, 0x93))
            machine.define(CODE32, descriptor(0, 0xFFFFF, 0x9B, BIG))
        if self.kind == "protected16":
            machine.regs["cs"], machine.regs["ss"] = CODE16, STACK16
        elif self.kind == "compatibility":
            machine.regs["cs"] = CODE32
        elif user and self.kind in ("protected", "long"):
            machine.user()
        return machine

    def _handlers(self, machine: Machine) -> None:
        """All vectors halt."""
        machine.cpu.write(HANDLERS, b"\xf4")
        if machine.mode == "real":
            machine.cpu.write(0, HANDLERS.to_bytes(4, "little") * 32)
            return
        entry = gate(CODE0, HANDLERS, INTERRUPT).to_bytes(8, "little")
        table = (entry + bytes(8 if machine.mode == "long" else 0)) * 32
        machine.cpu.write(IDT, table)
        machine.regs["idtr.base"], machine.regs["idtr.limit"] = IDT, len(table) - 1

    def _state(self, machine: Machine, chance: random.Random) -> int:
        """Fill registers and data; returns the flags."""
        mask = (1 << 64) - 1 if self.kind == "long" else 0xFFFF_FFFF
        for name in REGISTERS:
            machine.regs[name] = mask & chance.choice((
                chance.choice(EDGES), chance.getrandbits(64), DATA + chance.randrange(0x800)))
        machine.regs["rsp"] = mask & chance.choice((STACK0, STACK0, STACK0 - 15,
                                                    chance.choice(EDGES)))  # fmt: skip
        flags = 2 | chance.getrandbits(12) & 0x8D5
        flags |= chance.choice((0, 0, 0x200, 0x3000, TF, 0x400, NT, 1 << 18))
        machine.regs["eflags"] = flags
        machine.regs["cr4"] |= 0x600 | chance.choice((0, 1 << 18))
        machine.regs["cr0"] |= chance.choice((0, 0, 0, 2, 4, 8, 0x20, 1 << 18))
        machine.cpu.write(DATA, chance.randbytes(0x400))
        return flags


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("first", [0, pytest.param(1000, marks=pytest.mark.slow)])
def test_engines_agree_on_random_bytes(kind: str, first: int) -> None:
    for seed in range(first, first + (6 if first == 0 else 100)):
        trial = Trial(kind, seed)
        assert trial.on("threaded") == trial.on("python"), trial


@pytest.mark.parametrize("kind", KINDS)
def test_regions_agree_on_random_bytes(kind: str) -> None:
    trial = Trial(kind, 7054)
    assert trial.on("threaded") == trial.on("jit"), trial


def main() -> None:
    """Compare the first engine with the others, for seeds from FIRST up to LAST."""
    first, *others = sys.argv[1].split(",")
    for seed in range(int(sys.argv[2]), int(sys.argv[3])):
        for kind in KINDS:
            trial = Trial(kind, seed)
            expected = trial.on(first)
            for engine in others:
                if (found := trial.on(engine)) != expected:
                    print(trial, engine, *zip(expected[:-1], found[:-1], strict=False))


if __name__ == "__main__":
    main()
