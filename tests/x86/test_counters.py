"""RDPMC and the fixed performance counters (SDM vol. 3B, 20.2.2), with ``pmu=on``."""

from __future__ import annotations

import pytest

from pytcg.cpu import Cpu
from pytcg_x86.system.cpumodel import CpuModel
from x86.assemble import assemble

CODE, STACK = 0x1000, 0x8000
GP, PCE = 13, 1 << 8
ENGINES = ["threaded", "jit", "python"]
ENABLE = """mov ecx, 0x38d; mov eax, 0x333; xor edx, edx; wrmsr
    mov ecx, 0x38f; xor eax, eax; mov edx, 7; wrmsr; """
READ = "mov ecx, 0x40000000; rdpmc; "


def run(text: str, engine: str = "threaded", model: str = "max,pmu=on", **regs: int) -> Cpu:
    cpu = Cpu(engine=engine, model=model)
    cpu.map(0, 0x10000)
    cpu.write(CODE, assemble(f"{text}; hlt"))
    cpu.regs["rsp"] = STACK
    for name, value in regs.items():
        cpu.regs[name] = value
    stop = cpu.run(CODE, max_insns=100_000)
    cpu.regs["r15"] = stop.vector if stop.vector is not None else 0xFFFF
    return cpu


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("loops", [1, 7, 3000])
def test_instructions_are_counted_exactly(engine: str, loops: int) -> None:
    text = f"{ENABLE}{READ} mov esi, eax; mov ebx, {loops}; again: dec ebx; jnz again; {READ}"
    if engine == "python" and loops > 100:
        loops = 100
        text = text.replace("3000", "100")
    cpu = run(text, engine)
    # mov, mov, the loop, mov, and the second RDPMC itself
    assert cpu.regs["rax"] - cpu.regs["rsi"] == 2 * loops + 4
    assert cpu.regs["rdx"] == 0


def test_a_counter_that_is_off_stands_still_and_can_be_written() -> None:
    cpu = run("mov ecx, 0x309; mov eax, 77; mov edx, 0x1234; wrmsr; nop; " + READ)
    assert (cpu.regs["rax"], cpu.regs["rdx"]) == (77, 0x1234)
    cpu = run(ENABLE + "mov ecx, 0x309; mov eax, 1000; xor edx, edx; wrmsr; nop; nop; rdmsr")
    assert cpu.regs["rax"] == 1003  # two NOPs and RDMSR


def test_stopping_keeps_the_value() -> None:
    cpu = run(ENABLE + "mov ecx, 0x38f; xor edx, edx; wrmsr; nop; nop; " + READ)
    assert cpu.regs["rax"] == 3  # mov, xor, and the WRMSR that stops it


def test_cycles_are_the_time_stamp_counters() -> None:
    cpu = run(ENABLE + "mov ecx, 0x40000001; rdpmc; mov esi, eax; rdpmc")
    assert cpu.regs["rax"] >= cpu.regs["rsi"]


@pytest.mark.parametrize("text", [
    "mov ecx, 0; rdpmc", "mov ecx, 0x40000003; rdpmc", "mov ecx, 0xc0000000; rdpmc",
    "mov ecx, 0x38e; xor eax, eax; wrmsr", "mov ecx, 0x38d; mov eax, 4; wrmsr",
    "mov ecx, 0x30c; rdmsr", "mov ecx, 0xc1; rdmsr",
])  # fmt: skip
def test_what_is_not_there_is_gp(text: str) -> None:
    assert run(text + ";").regs["r15"] == GP


def test_without_the_feature_there_are_none() -> None:
    assert run(READ, model="max").regs["r15"] == GP
    assert run("mov ecx, 0x38f; rdmsr;", model="max").regs["r15"] == GP
    assert CpuModel.parse("max").cpuid(0xA, 0) == (0, 0, 0, 0)
    version, _, _, fixed = CpuModel.parse("max,pmu=on").cpuid(0xA, 0)
    assert (version & 0xFFFF, fixed) == (2, 3 | 48 << 5)


def test_cr4_pce_lets_level_3_read_them() -> None:
    for cr4, vector in ((0x600, GP), (0x600 | PCE, 0xFFFF)):
        cpu = Cpu(model="max,pmu=on")
        cpu.map(0, 0x10000)
        cpu.write(CODE, assemble(READ))
        cpu.regs["cr4"], cpu.regs["cpl"] = cr4, 3
        for name in ("cs", "ss"):
            cpu.regs[f"{name}.attr"] |= 0x60
        stop = cpu.run(CODE, max_insns=2)
        assert (stop.vector if stop.vector is not None else 0xFFFF) == vector
