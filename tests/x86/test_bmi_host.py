"""BMI1 and BMI2 against the host CPU on every engine; the prefixes and fields that raise #UD."""

from __future__ import annotations

import functools
import random

import pytest

from pytcg.cpu import Cpu
from pytcg.fuzz import hostcpu
from pytcg_x86.integer import bmi
from x86 import sse_cases, vex_cases
from x86.integer_cases import LETTERS

pytestmark = pytest.mark.skipif(not hostcpu.has("bmi1", "bmi2"), reason="the oracle has no BMI")

NAMES = ("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
         "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15")  # fmt: skip
ROWS = [row for row in vex_cases.rows() if {"bmi1", "bmi2"} & set(row.features)]
ARITHMETIC = 0x8D5
TRIALS = {"threaded": 40, "jit": 12, "python": 4}


@functools.cache
def processor(engine: str) -> Cpu:
    cpu = Cpu(mode="long", engine=engine)
    cpu.map(hostcpu.BASE, 2 * hostcpu.PAGE + hostcpu.DATA_SIZE)
    return cpu


def general(rng: random.Random) -> list[int]:
    """Registers, many of them small, as counts and bit fields are."""
    regs = sse_cases.general(rng)
    for number in sse_cases.GENERAL:
        if rng.random() < 0.4:
            regs[number] = rng.choice((rng.randrange(300), rng.getrandbits(16), (1 << 64) - 1))
    return regs


@pytest.mark.parametrize("engine", TRIALS)
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.mnemonic)
def test_against_the_host(engine: str, row: vex_cases.Row) -> None:
    rng, host, cpu = random.Random(row.mnemonic), hostcpu.host_cpu(), processor(engine)
    undefined = sum(LETTERS[letter] for letter in bmi.UNDEFINED.get(row.mnemonic, ""))
    for _ in range(TRIALS[engine]):
        for variant in vex_cases.variants(row, rng):
            regs, data = general(rng), rng.randbytes(0x200)
            flags = 0x202 | rng.choice((0, ARITHMETIC))
            host.data[:len(data)] = data
            expected = host.run(variant.code, hostcpu.HostState(list(regs), flags))
            cpu.write(hostcpu.CODE, variant.code + b"\xf4")
            cpu.write(hostcpu.DATA, data)
            for name, value in zip(NAMES, regs, strict=True):
                cpu.regs[name] = value
            cpu.regs["eflags"] = flags
            assert cpu.run(hostcpu.CODE).kind == "hlt", str(variant)
            assert [cpu.regs[name] for name in NAMES] == expected.regs, str(variant)
            difference = (cpu.regs["eflags"] ^ expected.flags) & ARITHMETIC & ~undefined
            assert not difference, f"{variant}: {difference:#x}"


@pytest.mark.parametrize("code", [
    "66c4e270f2c3", "f2c4e270f2c3", "f3c4e270f2c3", "f0c4e270f2c3", "48c4e270f2c3",
    "c4e274f2c3",      # VEX.L set
    "c4e373f0c305",    # vvvv used up by nothing
    "c4e270f3c3",      # group 17 /0
    "c4e070f2c3", "c4e470f2c3",  # maps 0 and 4
])  # fmt: skip
def test_undefined_encodings(code: str) -> None:
    cpu = processor("threaded")
    cpu.write(hostcpu.CODE, bytes.fromhex(code))
    stop = cpu.run(hostcpu.CODE)
    assert (stop.kind, stop.vector, stop.rip) == ("exception", 6, hostcpu.CODE)


def test_without_the_feature_it_is_undefined() -> None:
    cpu = Cpu(mode="long", engine="threaded", model="max,-bmi1")
    cpu.map(0x1000, 0x1000)
    cpu.write(0x1000, bytes.fromhex("c4e270f2c3"))
    assert cpu.run(0x1000).vector == 6
