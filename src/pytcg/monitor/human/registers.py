"""`info registers`: the processor, as QEMU prints it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pytcg.monitor.human.memory import code_bits
from pytcg.monitor.human.table import Shell

if TYPE_CHECKING:
    from pytcg.machine.runner import Registers, Vcpu

WIDE: Final = (
    ("rax", "rbx", "rcx", "rdx"), ("rsi", "rdi", "rbp", "rsp"),
    ("r8", "r9", "r10", "r11"), ("r12", "r13", "r14", "r15"),
)  # fmt: skip
SEGMENTS: Final = ("es", "cs", "ss", "ds", "fs", "gs")
FLAGS: Final = ((10, "D"), (11, "O"), (7, "S"), (6, "Z"), (4, "A"), (2, "P"), (0, "C"))
_TYPES_32: Final = (
    "Reserved", "TSS16-avl", "LDT", "TSS16-busy", "CallGate16", "TaskGate", "IntGate16",
    "TrapGate16", "Reserved", "TSS32-avl", "Reserved", "TSS32-busy", "CallGate32", "Reserved",
    "IntGate32", "TrapGate32",
)  # fmt: skip
_TYPES_64: Final = (
    "<hiword>", "Reserved", "LDT", "Reserved", "Reserved", "Reserved", "Reserved", "Reserved",
    "Reserved", "TSS64-avl", "Reserved", "TSS64-busy", "CallGate64", "Reserved", "IntGate64",
    "TrapGate64",
)  # fmt: skip
_LONG: Final = 1 << 10  # EFER.LMA


def show(shell: Shell, words: list[str]) -> str:
    """info registers."""
    del words
    with shell.machine.runner.at_rest():
        vcpu = shell.machine.board.vcpu
        wide = code_bits(shell) == 64
        lines = ["", "CPU#0", *_general(vcpu.regs, wide=wide), _status(vcpu, wide=wide)]
        lines += _segments(vcpu.regs, wide=wide)
        lines += _control(vcpu.regs, wide=wide)
        lines += _floats(vcpu)
        lines += _vectors(vcpu.regs, 16 if wide else 8)
    return "\n".join(lines) + "\n"


def _general(regs: Registers, *, wide: bool) -> list[str]:
    if wide:
        return [" ".join(f"{name.upper():3}={regs[name]:016x}" for name in row) for row in WIDE]
    return [" ".join(f"E{name[1:].upper()}={regs['e' + name[1:]]:08x}" for name in row)
            for row in WIDE[:2]]  # fmt: skip


def _status(vcpu: Vcpu, *, wide: bool) -> str:
    regs, state = vcpu.regs, vcpu.state
    value = regs["rflags"]
    letters = "".join(letter if value & 1 << bit else "-" for bit, letter in FLAGS)
    place = f"RIP={regs['rip']:016x} RFL" if wide else f"EIP={regs['eip']:08x} EFL"
    return (f"{place}={value:08x} [{letters}] CPL={state.get('cpl')} II={state.get('inhibit')}"
            f" A20={state.get('a20_mask') >> 20 & 1} SMM={state.get('smm') & 1}"
            f" HLT={state.get('halted')}")  # fmt: skip


def _segments(regs: Registers, *, wide: bool) -> list[str]:
    rows = [(name.upper(), name) for name in SEGMENTS] + [("LDT", "ldtr"), ("TR", "tr")]
    return [_segment(regs, shown, name, wide=wide) for shown, name in rows]


def _segment(regs: Registers, shown: str, name: str, *, wide: bool) -> str:
    limit, attributes = regs[f"{name}.limit"], regs[f"{name}.attr"]
    raw = limit >> 12 if attributes & 1 << 15 else limit
    flags = (attributes & 0xFF) << 8 | (raw >> 16 & 15) << 16 | (attributes >> 12 & 15) << 20
    digits = 16 if wide else 8
    text = f"{shown:3}={regs[name]:04x} {regs[name + '.base']:0{digits}x} {limit:08x} {flags:08x}"
    if not regs["cr0"] & 1 or not attributes & 1 << 7:
        return text
    return f"{text} DPL={attributes >> 5 & 3} {_kind(attributes, long=bool(regs['efer'] & _LONG))}"


def _kind(attributes: int, *, long: bool) -> str:
    """What a descriptor describes."""
    kind = attributes & 15
    if not attributes & 1 << 4:
        return (_TYPES_64 if long else _TYPES_32)[kind]
    big = attributes & 1 << 14
    if kind & 8:
        name = "CS64" if attributes & 1 << 13 else "CS32" if big else "CS16"
        letters = ("C" if kind & 4 else "-") + ("R" if kind & 2 else "-")
    else:
        name = "DS  " if big or long else "DS16"
        letters = ("E" if kind & 4 else "-") + ("W" if kind & 2 else "-")
    return f"{name} [{letters}{'A' if kind & 1 else '-'}]"


def _control(regs: Registers, *, wide: bool) -> list[str]:
    digits = 16 if wide else 8
    lines = [f"{name.upper()}=     {regs[f'{name}r.base']:0{digits}x} {regs[f'{name}r.limit']:08x}"
             for name in ("gdt", "idt")]  # fmt: skip
    lines.append(f"CR0={regs['cr0']:08x} CR2={regs['cr2']:0{digits}x}"
                 f" CR3={regs['cr3']:0{digits}x} CR4={regs['cr4']:08x}")  # fmt: skip
    lines.append("".join(f"DR{n}={regs[f'dr{n}']:016x} " for n in range(4)))
    lines.append(f"DR6={regs['dr6']:016x} DR7={regs['dr7']:016x}")
    return [*lines, f"EFER={regs['efer']:016x}"]


def _floats(vcpu: Vcpu) -> list[str]:
    regs, state = vcpu.regs, vcpu.state
    tags = sum(1 << n for n in range(8) if not state.get("fp_tag", n))
    lines = [f"FCW={regs['fcw']:04x} FSW={regs['fsw']:04x} [ST={state.get('fp_top')}]"
             f" FTW={tags:02x} MXCSR={regs['mxcsr']:08x}"]  # fmt: skip
    values = [f"FPR{n}={state.get('fp_register', 2 * n):016x}"
              f" {state.get('fp_register', 2 * n + 1) & 0xFFFF:04x}" for n in range(8)]  # fmt: skip
    return lines + [f"{values[n]} {values[n + 1]}" for n in range(0, 8, 2)]


def _vectors(regs: Registers, count: int) -> list[str]:
    mask = (1 << 64) - 1
    values = [f"XMM{n:02}={regs[f'xmm{n}'] >> 64:016x} {regs[f'xmm{n}'] & mask:016x}"
              for n in range(count)]  # fmt: skip
    return [f"{values[n]} {values[n + 1]}" for n in range(0, count, 2)]
