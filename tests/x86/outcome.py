"""What an instruction leaves behind on an engine, on the host CPU, in Unicorn; and comparing it."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import unicorn
from unicorn import x86_const as uc

from pytcg.cpu import Cpu, Stop
from pytcg.fuzz import hostcpu
from x86.encoder import ARITHMETIC, DF, Layout
from x86.integer_cases import Case

PAGE = 0x1000
HLT = b"\xf4"  # after the instruction, so that what else lies there is not decoded and compiled
NAMES = ("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
         "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15")  # fmt: skip
_UNICORN_NAMES = ("EAX", "ECX", "EDX", "EBX", "ESP", "EBP", "ESI", "EDI")
MODES = {16: "real", 32: "protected", 64: "long"}

LONG = Layout(64, hostcpu.CODE, hostcpu.DATA, hostcpu.DATA_SIZE, hostcpu.STACK)
PROTECTED = Layout(32, 0x1000, 0x4000, 0x8000, 0xB800)
REAL = Layout(16, 0x1000, 0x4000, 0x8000, 0xB800)


@dataclass(frozen=True, slots=True)
class Outcome:
    """Registers, flags and data after an instruction, or the exception it raised."""

    regs: tuple[int, ...]
    flags: int
    data: bytes
    vector: int | None = None


@functools.cache
def processor(layout: Layout, engine: str) -> Cpu:
    """One CPU a mode and engine, its memory mapped."""
    cpu = Cpu(mode=MODES[layout.mode], engine=engine)
    start = layout.code & ~(PAGE - 1)
    cpu.map(start, layout.data + layout.size - start)
    return cpu


def on_engine(case: Case, engine: str, *, whole: bool = False) -> Outcome:
    """Run a case on pytcg: one instruction, or ``whole``, to the HLT after the code."""
    layout = case.layout
    cpu = processor(layout, engine)
    cpu.write(layout.code, case.code + HLT)
    cpu.write(layout.data, case.data)
    for name, value in zip(NAMES, case.regs, strict=True):
        cpu.regs[name] = value
    cpu.regs["eflags"] = case.flags
    stop = cpu.run(layout.code, max_insns=1000 if whole else 1)
    regs = tuple(cpu.regs[name] for name in NAMES)
    data = cpu.read(layout.data, layout.size)
    if whole:
        assert stop.kind == "hlt", (str(case), stop)
    else:
        _check_stop(case, stop)
    return Outcome(regs, cpu.regs["eflags"], data, stop.vector)


def _check_stop(case: Case, stop: Stop) -> None:
    """rIP is after the instruction, or at the one that faulted."""
    expected = case.layout.code + (len(case.code) if stop.kind == "limit" else 0)
    assert stop.kind in ("limit", "exception") and stop.rip == expected, (str(case), stop)


def on_host(case: Case) -> Outcome:
    """Run a case on the host CPU; one that faults is known to leave everything alone."""
    if case.faults:
        return Outcome(tuple(case.regs), case.flags, case.data, 0)
    host = hostcpu.host_cpu()
    host.data[:] = case.data
    after = host.run(case.code, hostcpu.HostState(list(case.regs), case.flags))
    return Outcome(tuple(after.regs), after.flags, bytes(host.data))


@functools.cache
def _unicorn(layout: Layout) -> unicorn.Uc:
    mode = unicorn.UC_MODE_16 if layout.mode == 16 else unicorn.UC_MODE_32
    machine = unicorn.Uc(unicorn.UC_ARCH_X86, mode)
    machine.ctl_set_cpu_model(uc.UC_CPU_X86_HASWELL)
    machine.mem_map(0, 0x10000)
    return machine


def on_unicorn(case: Case) -> Outcome:
    """Run a case of 16- or 32-bit code in Unicorn."""
    if case.faults:
        return Outcome(tuple(case.regs), case.flags, case.data, 0)
    layout = case.layout
    machine = _unicorn(layout)
    # A code address that is used twice would be run from a stale translation.
    machine.ctl_remove_cache(layout.code, layout.code + 16)
    machine.mem_write(layout.code, case.code)
    machine.mem_write(layout.data, case.data)
    for name, value in zip(_UNICORN_NAMES, case.regs, strict=False):
        machine.reg_write(getattr(uc, f"UC_X86_REG_{name}"), value)
    machine.reg_write(uc.UC_X86_REG_EFLAGS, case.flags)
    machine.emu_start(layout.code, layout.code + len(case.code))
    regs = [int(machine.reg_read(getattr(uc, f"UC_X86_REG_{name}"))) for name in _UNICORN_NAMES]
    flags = int(machine.reg_read(uc.UC_X86_REG_EFLAGS))
    data = bytes(machine.mem_read(layout.data, layout.size))
    return Outcome((*regs, *[0] * 8), flags, data)


def differences(case: Case, want: Outcome, got: Outcome) -> list[str]:
    """What differs, in words."""
    found = []
    if want.vector != got.vector:
        found.append(f"exception {got.vector}, not {want.vector}")
    for name, right, wrong in zip(NAMES, want.regs, got.regs, strict=True):
        if right != wrong:
            found.append(f"{name} {wrong:#x}, not {right:#x}")
    compared = (ARITHMETIC | DF) & ~case.undefined
    if (want.flags ^ got.flags) & compared:
        found.append(f"flags {got.flags & compared:#x}, not {want.flags & compared:#x}")
    if want.data != got.data:
        at = next(i for i, (a, b) in enumerate(zip(want.data, got.data, strict=True)) if a != b)
        found.append(f"data at {case.layout.data + at:#x}: {got.data[at : at + 8].hex()}, not "
                     f"{want.data[at : at + 8].hex()}")  # fmt: skip
    return [f"{case}: {'; '.join(found)}\n  regs {[hex(r) for r in case.regs]} "
            f"flags {case.flags:#x}"] if found else []  # fmt: skip
