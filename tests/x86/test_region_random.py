"""Random programs of several blocks: compiled regions do what threaded code does.

Loops with memory operands, flags that cross blocks, calls, accesses over a page's end.
"""

from __future__ import annotations

import random

import pytest

from pytcg import Cpu
from x86.two_engines import CODE, DATA, STACK, End, check, run_to_end

REGISTERS = ("rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12")
NARROW = {"rax": ("eax", "ax", "al"), "rcx": ("ecx", "cx", "cl"), "rdx": ("edx", "dx", "dl"),
          "rsi": ("esi", "si", "sil"), "rdi": ("edi", "di", "dil"),
          **{f"r{n}": (f"r{n}d", f"r{n}w", f"r{n}b") for n in range(8, 13)}}  # fmt: skip
WORDS = {0: "qword", 1: "dword", 2: "word", 3: "byte"}
CONDITIONS = ("o", "no", "b", "ae", "e", "ne", "be", "a", "s", "ns", "p", "np", "l", "ge", "le",
              "g")  # fmt: skip
TWO = ("add", "adc", "sub", "sbb", "and", "or", "xor", "cmp", "test", "mov")
ONE = ("inc", "dec", "neg", "not")
SHIFTS = ("shl", "shr", "sar", "rol", "ror", "rcl", "rcr")
NAMES = (*REGISTERS, "rbx", "rbp", "rsp", "r13", "eflags", "xmm0", "xmm1", "xmm2", "xmm3")


class Writer:
    """Writes a program of random instructions."""

    def __init__(self, seed: int):
        self.rng = random.Random(seed)
        self.labels = 100

    def register(self, size: int) -> str:
        name = self.rng.choice(REGISTERS)
        return name if size == 0 else NARROW[name][size - 1]

    def place(self, size: int) -> str:
        """A memory operand; some lie over the end of a page, some are reached by an index."""
        offset = self.rng.choice((self.rng.randrange(0, 256), 0xFF8 + self.rng.randrange(16)))
        index = self.rng.choice(("", "", f" + {self.rng.choice((1, 2, 4, 8))}*r13"))
        if self.rng.random() < 0.2:  # no base
            return f"{WORDS[size]} ptr [{index.removeprefix(' + ') or 'r13'} + {DATA + offset}]"
        return f"{WORDS[size]} ptr [rbx{index} + {offset}]"

    def simple(self) -> str:
        rng, size = self.rng, self.rng.randrange(4)
        kind = rng.randrange(12)
        target = self.place(size) if rng.random() < 0.4 else self.register(size)
        if kind < 4:
            source = self.register(size)
            if "[" not in target and rng.random() < 0.4:
                source = self.place(size)
            elif rng.random() < 0.3:
                source = str(rng.randrange(128))
            op = rng.choice(TWO)
            if op == "test" and "[" in source:
                target, source = source, target
            return f"{op} {target}, {source}"
        if kind == 4:
            return f"{rng.choice(ONE)} {target}"
        if kind == 5:
            count = rng.choice(("cl", "1", str(rng.randrange(1, 32))))
            return f"{rng.choice(SHIFTS)} {target}, {count}"
        if kind == 6:
            return f"set{rng.choice(CONDITIONS)} {self.register(3)}"
        if kind == 7:
            wide = rng.choice((0, 1))
            return f"cmov{rng.choice(CONDITIONS)} {self.register(wide)}, {self.register(wide)}"
        if kind == 8:
            return f"imul {self.register(0)}, {self.register(0)}"
        if kind == 9:
            return f"push {self.register(0)}; xor {self.register(1)}, 5; pop {self.register(0)}"
        if kind == 10:
            xmm = [f"xmm{rng.randrange(4)}" for _ in range(2)]
            op = rng.choice(("paddd", "pxor", "movdqa", "punpcklbw", "pcmpeqb", "psubw", "movd",
                             "movups"))  # fmt: skip
            if op == "movd":
                return f"movd {xmm[0]}, {self.register(1)}"
            if op == "movups":
                return f"movups {xmm[0]}, {self.place(0)[10:]}"
            return f"{op} {xmm[0]}, {xmm[1]}"
        return f"lea {self.register(0)}, [rbx + 4*r13 + 3]"

    def block(self) -> str:
        return "; ".join(self.simple() for _ in range(self.rng.randrange(2, 9)))

    def program(self) -> str:
        """An outer loop over blocks, with branches, inner loops and calls."""
        parts = [f"mov rbx, {DATA}; mov rbp, 40; 1: mov r13, rbp; and r13, 7"]
        functions = []
        for _ in range(self.rng.randrange(2, 6)):
            self.labels += 2
            a, b = self.labels, self.labels + 1
            kind = self.rng.randrange(4)
            if kind == 0:
                condition = self.rng.choice(CONDITIONS)
                parts.append(f"{self.block()}; j{condition} {a}f; {self.block()}; {a}: nop")
            elif kind == 1:
                parts.append(f"push rbp; mov ebp, 3; {a}: {self.block()}; dec ebp; jnz {a}b; "
                             "pop rbp")  # fmt: skip
            elif kind == 2:
                parts.append(f"call {b}f; {self.block()}")
                functions.append(f"{b}: {self.block()}; ret")
            else:
                parts.append(self.block())
        return "; ".join([*parts, "dec rbp; jnz 1b; hlt", *functions])


def run(engine: str, code: bytes, seed: int) -> End:
    """Registers, data and instructions at the end."""
    rng = random.Random(seed)
    cpu = Cpu(engine=engine)
    cpu.map(CODE, 0x4_0000)
    cpu.write(CODE, code)
    cpu.write(DATA, rng.randbytes(0x2000))
    for name in NAMES:
        bits = 128 if name.startswith("xmm") else 64
        if name != "eflags":
            cpu.regs[name] = rng.getrandbits(bits)
    cpu.regs["rsp"], cpu.regs["eflags"] = STACK, 0x202
    return run_to_end(cpu, engine, NAMES, 0x2000, 1_000_000)


@pytest.mark.parametrize("seed", range(24))
def test_random_programs_in_regions(seed: int) -> None:
    text = Writer(seed).program()
    check(run, text, seed, NAMES)
