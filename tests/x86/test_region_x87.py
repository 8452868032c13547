"""Random x87 programs of several blocks: regions, which know TOP, do what threaded code does.

Values stay on the stack across loops, branches and calls; now and then it is not what it was the
time before, is full or empty, or rounding and masks are others.
"""

from __future__ import annotations

import random
import struct

import pytest

from pytcg import Cpu
from x86.two_engines import CODE, DATA, STACK, End, check, run_to_end

STATE = DATA + 0x8000
NUMBERS = (0.0, 1.0, -1.0, 1.5, 3.25e7, -7e-9, 1e300, -3e-300, 0.1, float("inf"), 5e-324)
REGISTER = ("fadd", "fmul", "fsub", "fsubr", "fdiv", "fdivr", "fcom", "fucom", "fxch")
POPPING = ("faddp", "fmulp", "fsubp", "fsubrp", "fstp", "fcomp", "fucomip", "fdivp")
ALONE = ("fchs", "fabs", "fsqrt", "frndint", "fxam", "ftst", "fincstp; fdecstp", "fscale")
PUSHING = ("fld1", "fldz", "fldpi", "fld st(0)", "fxtract")
SETTINGS = (0x37F, 0x37F, 0x37F, 0x27F, 0xF7F, 0x77F, 0x37F)
NAMES = ("rax", "rcx", "rdx", "rbp", "rsp", "eflags", "fsw", "fcw", "ftw")


class Writer:
    """Writes programs; ``depth`` is how many values are on the stack where it writes."""

    def __init__(self, seed: int):
        self.rng = random.Random(seed)
        self.depth = 4
        self.labels = 100

    def place(self, size: str) -> str:
        offset = self.rng.choice((self.rng.randrange(0, 40) * 8, 0xFF0 + self.rng.randrange(16)))
        return f"{size} ptr [rbx + {offset}]"

    def simple(self) -> str:
        rng = self.rng
        kind = rng.randrange(14)
        if kind < 2 and self.depth < 7:
            self.depth += 1
            size = rng.choice(("dword", "qword", "tbyte"))
            return f"fld {self.place(size)}" if kind else rng.choice(PUSHING)
        if kind < 4 and self.depth > 3:
            self.depth -= 1
            if kind == 2:
                size = rng.choice(("dword", "qword", "tbyte"))
                return f"fstp {self.place(size)}"
            op = rng.choice(POPPING)
            return f"{op} st, st(1)" if op == "fucomip" else f"{op} st(1)"
        if kind == 4:
            return f"fist {self.place('dword')}"
        if kind == 5:
            return f"{rng.choice(('fadd', 'fmul', 'fsub', 'fdivr'))} {self.place('qword')}"
        if kind == 6:
            return rng.choice(("fnstsw ax", "fcomi st, st(1)", "fcmovb st, st(1)", "fnclex",
                               f"fild {self.place('word')}; fstp st(1)", "fnop",
                               f"fldcw word ptr [rbx + {0x1800 + 2 * rng.randrange(7)}]"))
        if kind == 7:
            return rng.choice(ALONE)
        op = rng.choice(REGISTER)
        return f"{op} st({rng.randrange(self.depth)})"

    def block(self) -> str:
        return "; ".join(self.simple() for _ in range(self.rng.randrange(1, 6)))

    def balanced(self) -> str:
        """A block that leaves as many values as there were."""
        before = self.depth
        text = [self.block()]
        while self.depth > before:
            self.depth -= 1
            text.append("fstp st(0)")
        while self.depth < before:
            self.depth += 1
            text.append("fld1")
        return "; ".join(text)

    def program(self) -> str:
        rng, parts, functions = self.rng, ["1: nop"], []
        for _ in range(rng.randrange(3, 6)):
            kind, a = rng.randrange(6), self.labels
            b, self.labels = self.labels + 1, self.labels + 2
            condition = rng.choice(("b", "ae", "e", "ne", "be", "a", "p", "np"))
            if kind == 0:
                parts.append(f"{self.balanced()}; fcomi st, st(2); j{condition} {a}f; "
                             f"{self.balanced()}; {a}: nop")  # fmt: skip
            elif kind == 1:
                parts.append(f"mov ecx, 3; {a}: {self.balanced()}; dec ecx; jnz {a}b")
            elif kind == 2:
                parts.append(f"call {b}f; {self.balanced()}")
                functions.append(f"{b}: {self.balanced()}; ret")
            elif kind == 3:  # the stack turns
                parts.append(f"fcomi st, st(1); j{condition} {a}f; fincstp; {a}: nop")
            else:
                parts.append(self.balanced())
        return "; ".join([*parts, "dec rbp; jnz 1b", f"fnsave [{STATE}]", "hlt", *functions])


def run(engine: str, code: bytes, seed: int) -> End:
    rng = random.Random(seed)
    cpu = Cpu(engine=engine)
    cpu.map(CODE, 0x4_0000)
    cpu.write(CODE, code)
    for at in range(0, 0x1800, 8):
        cpu.write(DATA + at, struct.pack("<d", rng.choice(NUMBERS)))
    cpu.write(DATA + 0x1800, struct.pack("<7H", *SETTINGS))
    for number in range(rng.choice((4, 4, 8))):
        exponent = rng.randrange(0x3FE0, 0x4020)
        cpu.regs[f"st{number}"] = exponent << 64 | 1 << 63 | rng.getrandbits(63)
    cpu.regs.fsw = rng.randrange(8) << 11 | rng.choice((0, 0x20, 0x3F))
    cpu.regs.ftw = rng.choice((0, 0xFF00))
    cpu.regs.rbx, cpu.regs.rbp = DATA, rng.randrange(20, 60)
    cpu.regs.rsp, cpu.regs.eflags = STACK, 0x202
    return run_to_end(cpu, engine, NAMES, 0x9000, 200_000)


@pytest.mark.parametrize("seed", range(16))
def test_random_x87_programs_in_regions(seed: int) -> None:
    text = Writer(seed).program()
    check(run, text, seed, NAMES)
