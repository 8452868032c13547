"""MMX, SSE and SSE2 against the host CPU: every row, register and memory, on every engine."""

from __future__ import annotations

import functools
import random
import struct

import pytest

from pytcg.cpu import Cpu
from pytcg.fuzz import hostcpu
from x86 import sse_cases
from x86.sse_cases import AFTER, APPROXIMATE, LOAD, SAVE, Variant, family_rows, variants

pytestmark = pytest.mark.skipif(not hostcpu.available(), reason="the oracle is an x86-64 host")

NAMES = ("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
         "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15")  # fmt: skip
MNEMONICS = sorted({row.mnemonic for row in family_rows()})
ARITHMETIC = 0x8D5
TRIALS = 24
LEFT = {"MASKMOVDQU"}
"""What regions leave to threaded code, which they can't begin with."""
CHAIN = 40
"""Instructions run in a row on the slow engine."""

Outcome = tuple[list[int], int, bytes]


@functools.cache
def processor(engine: str) -> Cpu:
    cpu = Cpu(mode="long", engine=engine)
    cpu.map(hostcpu.BASE, 2 * hostcpu.PAGE + hostcpu.DATA_SIZE)
    return cpu


def on_engine(engine: str, code: bytes, regs: list[int], data: bytes, insns: int = 3) -> Outcome:
    cpu = processor(engine)
    cpu.write(hostcpu.DATA, data)
    for name, value in zip(NAMES, regs, strict=True):
        cpu.regs[name] = value
    cpu.regs["eflags"] = 0x202
    stop = cpu.run(hostcpu.CODE, max_insns=insns)
    assert (stop.kind, stop.rip) == ("limit", hostcpu.CODE + len(code)), stop
    after = [cpu.regs[name] for name in NAMES]
    return after, cpu.regs["eflags"] & ARITHMETIC, cpu.read(hostcpu.DATA, len(data))


def on_host(code: bytes, regs: list[int], data: bytes) -> Outcome:
    host = hostcpu.host_cpu()
    host.data[:len(data)] = data
    after = host.run(code, hostcpu.HostState(list(regs), 0x202))
    return list(after.regs), after.flags & ARITHMETIC, bytes(host.data[:len(data)])


def trials(mnemonic: str, count: int) -> list[tuple[Variant, random.Random]]:
    rng = random.Random(mnemonic)
    found = [v for row in family_rows() if row.mnemonic == mnemonic for v in variants(row, rng)]
    return [(v, rng) for v in found for _ in range(max(1, count // 8))]


@pytest.mark.parametrize("mnemonic", [m for m in MNEMONICS if m not in APPROXIMATE])
def test_against_the_host(mnemonic: str) -> None:
    for variant, rng in trials(mnemonic, TRIALS):
        code = LOAD + variant.code + SAVE
        processor("threaded").write(hostcpu.CODE, code)
        for _ in range(8):
            regs, data = sse_cases.general(rng), sse_cases.data(rng)
            expected = on_host(code, regs, data)
            check(on_engine("threaded", code, regs, data), expected, str(variant), data)


def check(found: Outcome, expected: Outcome, what: str, data: bytes) -> None:
    assert found[:2] == expected[:2], f"{what}: {found[:2]} not {expected[:2]}"
    difference = differing(found[2], expected[2])
    assert not difference, f"{what}: {difference}; before {describe(data)}"


def chains() -> list[list[Variant]]:
    """Every variant of every row once, in random order."""
    rng = random.Random(1)
    found = [v for row in family_rows() if row.mnemonic not in APPROXIMATE
             for v in variants(row, rng)]  # fmt: skip
    rng.shuffle(found)
    return [found[at:at + CHAIN] for at in range(0, len(found), CHAIN)]


@pytest.mark.parametrize("number", range(len(chains())))
def test_chains_in_python_against_the_host(number: int) -> None:
    chain, rng = chains()[number], random.Random(number)
    code = LOAD + b"".join(variant.code for variant in chain) + SAVE
    processor("python").write(hostcpu.CODE, code)
    for _ in range(2):
        regs, data = sse_cases.general(rng), sse_cases.data(rng)
        expected = on_host(code, regs, data)
        found = on_engine("python", code, regs, data, len(chain) + 2)
        check(found, expected, " ".join(map(str, chain)), data)


@pytest.mark.parametrize("number", range(len(chains())))
def test_chains_in_regions_against_the_host(number: int) -> None:
    """The jump lets the chain begin a block: a region can't begin with FXRSTOR, nor with MMX."""
    chain, rng = [v for v in chains()[number] if "mmx" not in v.row.attrs], random.Random(number)
    chain.sort(key=lambda v: v.row.mnemonic in LEFT)
    code = LOAD + b"\xeb\x00" + b"".join(variant.code for variant in chain) + SAVE
    cpu = processor("jit")
    cpu.write(hostcpu.CODE, code + b"\xf4")
    for _ in range(4):
        regs, data = sse_cases.general(rng), sse_cases.data(rng)
        expected = on_host(code, regs, data)
        cpu.write(hostcpu.DATA, data)
        for name, value in zip(NAMES, regs, strict=True):
            cpu.regs[name] = value
        cpu.regs["eflags"] = 0x202
        assert cpu.run(hostcpu.CODE).kind == "hlt"
        found = [cpu.regs[name] for name in NAMES], cpu.regs["eflags"] & ARITHMETIC, cpu.read(
            hostcpu.DATA, len(data))  # fmt: skip
        check(found, expected, " ".join(map(str, chain)), data)
    assert cpu._cpu.regions_run()[1] > 0


def differing(found: bytes, expected: bytes) -> str:
    """Where two data areas differ, in words of the image."""
    found, expected = sse_cases.comparable(found), sse_cases.comparable(expected)
    parts = []
    for at in range(0, len(found), 16):
        a, b = found[at:at + 16], expected[at:at + 16]
        if a != b:
            parts.append(f"{place(at)}: {a[::-1].hex()} not {b[::-1].hex()}")
    return "; ".join(parts)


def place(at: int) -> str:
    offset = at - (AFTER - hostcpu.DATA)
    if 160 <= offset < 416:
        return f"xmm{(offset - 160) // 16}"
    if 32 <= offset < 160:
        return f"st{(offset - 32) // 16}"
    return f"data+{at:#x}"


def describe(data: bytes) -> str:
    image = data[sse_cases.BEFORE - hostcpu.DATA:]
    operand = data[sse_cases.OPERAND - hostcpu.DATA:][:16]
    registers = " ".join(f"xmm{i}={image[160 + 16 * i:176 + 16 * i][::-1].hex()}"
                         for i in range(16))  # fmt: skip
    return f"mem={operand[::-1].hex()} mxcsr={image[24:28][::-1].hex()} {registers}"


@pytest.mark.parametrize("mnemonic", sorted(APPROXIMATE))
def test_approximations_are_close(mnemonic: str) -> None:
    """Within the manual's 1.5 * 2**-12 of the truth, and like the host where there is none."""
    rng = random.Random(mnemonic)
    for variant, _ in trials(mnemonic, 24):
        code = LOAD + variant.code + SAVE
        processor("threaded").write(hostcpu.CODE, code)
        regs, data = sse_cases.general(rng), sse_cases.data(rng)
        expected, found = on_host(code, regs, data), on_engine("threaded", code, regs, data)
        at = AFTER - hostcpu.DATA
        assert found[2][at + 24:at + 28] == expected[2][at + 24:at + 28]  # no flags raised
        pairs = (struct.unpack_from("<64f", o[2], at + 160) for o in (found, expected))
        for a, b in zip(*pairs, strict=True):
            same = a == b or (a != a and b != b)
            assert same or abs(a - b) <= abs(b) * 3 * 2**-12, (str(variant), a, b)
