"""What a sequence leaves behind: on an engine of ours, in Unicorn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from pytcg.cpu import Context, Cpu
from pytcg.errors import CpuError
from pytcg.fuzz.generate import CENTRE, DATA, DATA_SIZE, FLAGS, REGISTERS, Sequence

CODE = 0x10000
OURS = ("threaded", "jit", "python")
ENGINES = (*OURS, "unicorn")
_ARITHMETIC = sum(FLAGS.values())


@dataclass(frozen=True, slots=True)
class Outcome:
    """Registers, flags, XMM registers and data; or the vector of an exception."""

    registers: tuple[int, ...]
    flags: int
    xmm: tuple[int, ...]
    data: bytes
    vector: int | None = None

    def difference(self, other: Outcome, undefined: int) -> str:
        """What differs first, "" if nothing does."""
        if self.vector != other.vector:
            return f"exception {self.vector} and {other.vector}"
        for name, mine, theirs in zip(REGISTERS, self.registers, other.registers, strict=True):
            if mine != theirs:
                return f"{name} {mine:#x} and {theirs:#x}"
        if wrong := (self.flags ^ other.flags) & _ARITHMETIC & ~undefined:
            return "flags " + " ".join(name for name, bit in FLAGS.items() if wrong & bit)
        for number, (mine, theirs) in enumerate(zip(self.xmm, other.xmm, strict=True)):
            if mine != theirs:
                return f"xmm{number} {mine:#x} and {theirs:#x}"
        for at, (mine, theirs) in enumerate(zip(self.data, other.data, strict=True)):
            if mine != theirs:
                return f"[rbx{at + DATA - CENTRE:+#x}] {mine:#x} and {theirs:#x}"
        return ""


@cache
def runner(name: str) -> Callable[[Sequence], Outcome]:
    """What runs sequences on an engine; CpuError for one there is not."""
    if name in OURS:
        cpu = Cpu(engine=name)
        cpu.map(CODE, 0x1000)
        cpu.map(DATA, DATA_SIZE)
        context = cpu.save_context()
        return lambda sequence: _ours(cpu, context, sequence)
    if name != "unicorn":
        raise CpuError(f"no engine {name!r}: {', '.join(ENGINES)} are there")
    try:
        import unicorn
    except ImportError:
        raise CpuError("Unicorn is not installed (pip install unicorn)") from None
    return lambda sequence: _unicorn(unicorn, sequence)


def _ours(cpu: Cpu, context: Context, sequence: Sequence) -> Outcome:
    cpu.restore_context(context)
    code = b"".join(sequence.code)
    cpu.write(CODE, code)
    cpu.write(DATA, sequence.data)
    cpu.regs.write(list(zip(REGISTERS, sequence.registers, strict=True)))
    cpu.regs.rflags = sequence.flags
    stop = cpu.run(CODE, CODE + len(code), max_insns=1000)
    return Outcome(cpu.regs.read(REGISTERS), cpu.regs.rflags,
                   cpu.regs.read(f"xmm{n}" for n in range(16)), cpu.read(DATA, DATA_SIZE),
                   stop.vector)  # fmt: skip


def _unicorn(module: Any, sequence: Sequence) -> Outcome:
    from pytcg.unicorn import x86_const as const

    mu = module.Uc(module.UC_ARCH_X86, module.UC_MODE_64)
    mu.mem_map(CODE, 0x1000)
    mu.mem_map(DATA, DATA_SIZE)
    code = b"".join(sequence.code)
    mu.mem_write(CODE, code)
    mu.mem_write(DATA, sequence.data)
    numbers = [getattr(const, f"UC_X86_REG_{name.upper()}") for name in REGISTERS]
    for number, value in zip(numbers, sequence.registers, strict=True):
        mu.reg_write(number, value)
    mu.reg_write(const.UC_X86_REG_EFLAGS, sequence.flags)
    vector = None
    try:
        mu.emu_start(CODE, CODE + len(code), 0, 1000)
    except module.UcError as error:
        vector = {module.UC_ERR_INSN_INVALID: 6}.get(error.errno, -1)
    xmm = [mu.reg_read(const.UC_X86_REG_XMM0 + n) for n in range(16)]
    return Outcome(tuple(mu.reg_read(number) for number in numbers),
                   mu.reg_read(const.UC_X86_REG_EFLAGS), tuple(xmm),
                   bytes(mu.mem_read(DATA, DATA_SIZE)), vector)  # fmt: skip
