"""`UC_HOOK_TCG_OPCODE`: the operands of SUB and CMP, which fuzzers look at; and blocks' lengths."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from pytcg.errors import CpuError
from pytcg.unicorn import unicorn_const as uc

if TYPE_CHECKING:
    from pytcg.cpu import Cpu

_MNEMONICS = {0: ("sub", "cmp"), uc.UC_TCG_OP_FLAG_CMP: ("cmp",),
              uc.UC_TCG_OP_FLAG_DIRECT: ("sub",)}  # fmt: skip
_ALL = (1 << 64) - 1


class UcTb(NamedTuple):
    """A block: its address, and how many instructions and bytes it has."""

    pc: int
    icount: int
    size: int


def mnemonics(opcode: int, flags: int) -> tuple[str, ...] | None:
    """The instructions that a hook is for; None if there is no such hook."""
    return _MNEMONICS.get(flags) if opcode == uc.UC_TCG_OP_SUB else None


def _engine(cpu: Cpu) -> Any:
    import capstone

    modes = {16: capstone.CS_MODE_16, 32: capstone.CS_MODE_32, 64: capstone.CS_MODE_64}
    engine = capstone.Cs(capstone.CS_ARCH_X86, modes[cpu.code_bits])
    engine.detail = True
    return engine


def count(cpu: Cpu, address: int, size: int) -> UcTb:
    """The block at a linear address."""
    code = cpu.read(address, size)
    return UcTb(address, sum(1 for _ in _engine(cpu).disasm_lite(code, address)), size)


def operands(cpu: Cpu, address: int, size: int) -> tuple[int, int, int] | None:
    """Both operands of the instruction at a linear address, and their width in bits.

    None if they can't be read.
    """
    for found in _engine(cpu).disasm(cpu.read(address, size), cpu.regs["rip"], 1):
        width = found.operands[0].size
        values = [_value(cpu, found, operand, width) for operand in found.operands[:2]]
        if None not in values:
            return values[0] or 0, values[1] or 0, 8 * width
    return None


def _value(cpu: Cpu, instruction: Any, operand: Any, width: int) -> int | None:
    from capstone import x86

    mask = (1 << 8 * width) - 1
    if operand.type == x86.X86_OP_IMM:
        return int(operand.imm) & mask
    if operand.type == x86.X86_OP_REG:
        return int(cpu.regs[instruction.reg_name(operand.reg)]) & mask
    linear = cpu.translate(_address(cpu, instruction, operand.mem))
    try:
        return None if linear is None else cpu.read_int(linear, width)
    except CpuError:
        return None  # it will fault


def _address(cpu: Cpu, instruction: Any, memory: Any) -> int:
    """The linear address of a memory operand."""
    regs, name = cpu.regs, instruction.reg_name
    at: int = memory.disp
    for register, scale in ((memory.base, 1), (memory.index, memory.scale)):
        if register and name(register) not in ("riz", "eiz"):
            at += regs[name(register)] * scale
            at += instruction.size if name(register) in ("rip", "eip", "ip") else 0
    at = int(at) & (1 << 8 * instruction.addr_size) - 1
    base = name(memory.base) if memory.base else ""
    segment = name(memory.segment) if memory.segment else "ss" if base[1:] in ("sp", "bp") else "ds"
    if cpu.code_bits == 64 and segment not in ("fs", "gs"):
        return at
    return (at + regs[f"{segment}.base"]) & (_ALL if cpu.code_bits == 64 else 0xFFFF_FFFF)
