"""Random sequences of harmless instructions: random bytes that capstone knows and a filter passes.

Harmless: no control transfer, port, privileged or system instruction; memory only near rBX, which
points into scratch memory; rBX and rSP stay. Flags that an instruction leaves undefined are known
from capstone; an instruction that would read one is not taken.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cache
from typing import Any

import capstone
from capstone import x86

DATA, DATA_SIZE = 0x20000, 0x1000
CENTRE = DATA + DATA_SIZE // 2
REGISTERS = ("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
             *(f"r{n}" for n in range(8, 16)))  # fmt: skip
FLAGS = {"cf": 0x1, "pf": 0x4, "af": 0x10, "zf": 0x40, "sf": 0x80, "of": 0x800}
_BAD_GROUPS = {x86.X86_GRP_JUMP, x86.X86_GRP_CALL, x86.X86_GRP_RET, x86.X86_GRP_INT,
               x86.X86_GRP_IRET, x86.X86_GRP_PRIVILEGE, x86.X86_GRP_BRANCH_RELATIVE,
               x86.X86_GRP_VM, x86.X86_GRP_FPU, x86.X86_GRP_MMX}  # fmt: skip
_UNFIT = """
cpuid rdtsc rdtscp rdpmc xgetbv syscall sysenter sysret sysexit hlt in out insb insd outsb
outsd cli sti popf popfq popfw pushf pushfq leave enter wait fwait ud0 ud1 ud2 int1 int3
into lsl lar verr verw sldt str sgdt sidt smsw rdrand rdseed rdfsbase rdgsbase wrfsbase
wrgsbase swapgs monitor mwait xlatb ldmxcsr stmxcsr vldmxcsr vstmxcsr xabort xbegin xend
prefetch prefetchw clflush clflushopt clwb bsf bsr bound emms loop loope loopne rcpps rcpss
rsqrtps rsqrtss rdpid ptwrite endbr64 endbr32 xsave xrstor fxsave fxrstor clac stac lds les
lfs lgs lss movnti maskmovq maskmovdqu rdmsr wrmsr
"""
_WRONG_IN_UNICORN = """
cmpxchg lahf sahf
"""
# cmpxchg clears the upper half of a register that it leaves alone, unlike the host CPU; the other
# two are not there in 64-bit code on its default CPU model.
_BAD_NAMES = frozenset(_UNFIT.split() + _WRONG_IN_UNICORN.split())
_PRODUCTS = {"imul": 0xD4, "mul": 0xD4}
"""Flags that the manual leaves undefined and capstone does not say so."""
_POINTERS = {"rbx", "ebx", "bx", "bl", "bh", "rsp", "esp", "sp", "spl"}
_UNDEFINED = {name: getattr(x86, f"X86_EFLAGS_UNDEFINED_{name.upper()}") for name in FLAGS}
_TESTED = {name: getattr(x86, f"X86_EFLAGS_TEST_{name.upper()}") for name in FLAGS}
_DEFINED = {name: sum(getattr(x86, f"X86_EFLAGS_{kind}_{name.upper()}", 0)
                      for kind in ("MODIFY", "RESET", "SET")) for name in FLAGS}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Sequence:
    """Instructions, and the registers, flags and data they start from."""

    code: tuple[bytes, ...]
    text: tuple[str, ...]
    registers: tuple[int, ...]
    flags: int
    data: bytes
    undefined: int  # flags that need not match afterwards

    def without(self, number: int) -> Sequence:
        """The sequence less one instruction."""
        code = (*self.code[:number], *self.code[number + 1 :])
        return describe(code, self) or self


@cache
def _decoder() -> Any:
    engine = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    engine.detail = True
    return engine


def generate(seed: int, most: int) -> Sequence:
    """The sequence of a seed, of up to ``most`` instructions."""
    rng = random.Random(seed)
    registers = [_number(rng) for _ in REGISTERS]
    registers[3], registers[4] = CENTRE, CENTRE
    flags = 0x202 | sum(bit for bit in FLAGS.values() if rng.random() < 0.5)
    start = Sequence((), (), tuple(registers), flags, rng.randbytes(DATA_SIZE), 0)
    code: tuple[bytes, ...] = ()
    wanted = rng.randrange(1, most + 1)
    while len(code) < wanted:
        longer = describe((*code, _instruction(rng)), start)
        if longer is not None:
            code = longer.code
    return describe(code, start) or start


def _number(rng: random.Random) -> int:
    edges = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0x7FFF_FFFF, 0x8000_0000, (1 << 63) - 1,
             1 << 63)  # fmt: skip
    value = rng.choice(edges) if rng.random() < 0.4 else rng.getrandbits(rng.choice((8, 32, 64)))
    return (-value if rng.random() < 0.3 else value) & (1 << 64) - 1


def _instruction(rng: random.Random) -> bytes:
    """Bytes that may be an instruction, with a bias to what is one."""
    prefixes = bytes(rng.choice(b"\x66\xf2\xf3") for _ in range(rng.random() < 0.2))
    rex = bytes([0x40 | rng.getrandbits(4)]) if rng.random() < 0.5 else b""
    escape = b"\x0f" if rng.random() < 0.4 else b""
    return prefixes + rex + escape + rng.randbytes(10)


def describe(code: tuple[bytes, ...], like: Sequence) -> Sequence | None:
    """A sequence of these instructions with the start of ``like``; None if one is not allowed."""
    undefined, found, texts = 0, [], []
    for raw in code:
        insn = next(_decoder().disasm(raw, 0x10000, 1), None)
        if insn is None or not _harmless(insn):
            return None
        flags = 0 if insn.group(x86.X86_GRP_FPU) else insn.eflags
        if any(undefined & bit and flags & _TESTED[name] for name, bit in FLAGS.items()):
            return None
        for name, bit in FLAGS.items():
            if flags & _UNDEFINED[name] or _shifts_far(insn):
                undefined |= bit
            elif flags & _DEFINED[name]:
                undefined &= ~bit
        undefined |= _PRODUCTS.get(insn.mnemonic, 0)
        found.append(bytes(insn.bytes))
        texts.append(f"{insn.mnemonic} {insn.op_str}".strip())
    return Sequence(tuple(found), tuple(texts), like.registers, like.flags, like.data, undefined)


def _shifts_far(insn: Any) -> bool:
    """Shifts and rotates leave flags as they are, or undefined, by their count."""
    return insn.mnemonic.split()[-1] in ("rol", "ror", "rcl", "rcr", "shl", "sal", "shr", "sar",
                                         "shld", "shrd")  # fmt: skip


def _harmless(insn: Any) -> bool:
    names = insn.mnemonic.split()
    if names[-1] in _BAD_NAMES or "lock" in names or "rep" in names[0]:
        return False
    if any(insn.group(group) for group in _BAD_GROUPS) or names[-1].startswith(("xsave", "xrstor")):
        return False
    if names[-1] in ("div", "idiv", "push", "pop", "shld", "shrd") or (names[-1].startswith(
            ("movs", "cmps", "stos", "lods", "scas")) and insn.operands[0].type != x86.X86_OP_REG):
        return False
    for operand in insn.operands:
        if operand.type == x86.X86_OP_MEM and not _near(insn, operand.mem):
            return False
        if operand.type == x86.X86_OP_REG and insn.reg_name(operand.reg) in (
                "cs", "ds", "es", "fs", "gs", "ss"):
            return False
    _, written = insn.regs_access()
    return not any(insn.reg_name(reg) in _POINTERS for reg in written)


def _near(insn: Any, memory: Any) -> bool:
    """[rbx + small], whatever an instruction makes of it, stays in the scratch memory."""
    bit_string = insn.mnemonic.split()[-1] in ("bt", "bts", "btr", "btc")
    return (insn.reg_name(memory.base) == "rbx" and memory.index == 0 and memory.segment == 0
            and abs(memory.disp) < DATA_SIZE // 4 and not bit_string
            and insn.addr_size == 8)  # fmt: skip
