"""RDRAND, RDPID, direct stores, cache lines, SSE4a: by the manuals, on both engines."""

from __future__ import annotations

import pytest

from pytcg.cpu import Cpu
from pytcg_x86.core.state import Vector
from x86.assemble import assemble

CODE, DATA = 0x1000, 0x2000
ENGINES = ("threaded", "python")


def machine(engine: str, text: str, **regs: int) -> Cpu:
    cpu = Cpu(engine=engine)
    cpu.map(0, 0x4000)
    cpu.write(CODE, assemble(text))
    cpu.write(DATA, bytes(range(256)))
    for name, value in regs.items():
        cpu.regs[name] = value
    return cpu


def run(engine: str, text: str, **regs: int) -> Cpu:
    """One instruction, without a fault."""
    cpu = machine(engine, text, **regs)
    assert cpu.run(CODE, max_insns=1).vector is None
    return cpu


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", ["rdrand", "rdseed"])
def test_random_numbers_differ_and_set_cf_alone(engine: str, name: str) -> None:
    seen = set()
    for _ in range(4):
        cpu = run(engine, f"{name} rax", eflags=0x8D7)
        assert cpu.regs["eflags"] & 0x8D5 == 1
        seen.add(cpu.regs["rax"])
    assert len(seen) == 4
    cpu = run(engine, f"{name} ax", rax=0x1234_5678_0000_0000)
    assert cpu.regs["rax"] >> 16 == 0x1234_5678_0000
    assert run(engine, f"{name} eax", rax=1 << 63).regs["rax"] >> 32 == 0


@pytest.mark.parametrize("engine", ENGINES)
def test_direct_stores(engine: str) -> None:
    cpu = run(engine, "movdiri [rbx], rax", rbx=DATA + 1, rax=0x1122_3344_5566_7788)
    assert cpu.read(DATA, 9) == bytes.fromhex("00 8877665544332211")
    cpu = run(engine, "movdir64b rax, [rbx]", rax=DATA + 0x80, rbx=DATA + 3)
    assert cpu.read(DATA + 0x80, 65) == bytes(range(3, 67)) + b"\xc0"
    cpu = machine(engine, "movdir64b rax, [rbx]", rax=DATA + 8, rbx=DATA)
    assert cpu.run(CODE, max_insns=1).vector == Vector.GP


@pytest.mark.parametrize("engine", ENGINES)
def test_lines(engine: str) -> None:
    cpu = run(engine, "clzero", rax=DATA + 0x7F)
    assert cpu.read(DATA + 0x3F, 66) == b"\x3f" + bytes(64) + b"\x80"
    run(engine, "clwb [rbx]", rbx=DATA)
    cpu = machine(engine, "clwb [rbx]", rbx=0x9000)
    assert cpu.run(CODE, max_insns=1).vector == Vector.PF
    run(engine, "wbnoinvd")
    run(engine, "serialize")


@pytest.mark.parametrize("engine", ENGINES)
def test_rdpid_is_tsc_aux(engine: str) -> None:
    cpu = machine(engine, "mov ecx, 0xc0000103; mov eax, 77; xor edx, edx; wrmsr; rdpid rbx")
    cpu.run(CODE, max_insns=5)
    assert cpu.regs["rbx"] == 77


@pytest.mark.parametrize("engine", ENGINES)
def test_sse4a(engine: str) -> None:
    value = 0x0123_4567_89AB_CDEF
    cases = {
        "extrq xmm1, 8, 12": 0xBC, "extrq xmm1, 0, 0": value,
        "insertq xmm1, xmm2, 8, 4": value & ~0xFF0 | 0x550,
        "extrq xmm1, xmm3": value >> 4 & 0xFFF,
        "insertq xmm1, xmm4": value & ~0xFFF0 | 0x6660,
    }
    for text, wanted in cases.items():
        cpu = machine(engine, text)
        cpu.regs["xmm1"] = value
        cpu.regs["xmm2"] = 0x5555
        cpu.regs["xmm3"] = 0x40C
        cpu.regs["xmm4"] = 0x40C << 64 | 0x0666
        assert cpu.run(CODE, max_insns=1).vector is None
        assert int(cpu.regs["xmm1"]) & ((1 << 64) - 1) == wanted, text
    cpu = machine(engine, "movntss [rbx], xmm1", rbx=DATA)
    cpu.regs["xmm1"] = value
    cpu.run(CODE, max_insns=1)
    assert cpu.read(DATA, 5) == bytes.fromhex("efcdab8904")
