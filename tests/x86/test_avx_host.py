"""AVX and what builds on it against the host CPU: every VEX row of vectors, on every engine."""

from __future__ import annotations

import random

import pytest

from pytcg.fuzz import hostcpu
from x86 import sse_cases, vex_cases
from x86.sse_cases import Variant
from x86.test_sse_host import ARITHMETIC, NAMES, Outcome, on_host, processor
from x86.vex_cases import AFTER, LOAD, MOVES, MXCSR, SAVE

pytestmark = pytest.mark.skipif(not hostcpu.has("avx"), reason="the oracle has no AVX")

APPROXIMATE = {"VRCPPS", "VRCPSS", "VRSQRTPS", "VRSQRTSS"}
INTELS = {"VDPPS", "VDPPD"}  # as `hostcpu.INTELS`
UNMASKS = {"VLDMXCSR"}  # what it loads may end the oracle's process; VLDMXCSR is in `LOAD` too
LEFT_OUT = APPROXIMATE | UNMASKS | (set() if hostcpu.is_intel() else INTELS)
ROWS = [row for row in vex_cases.rows() if "avx" in row.attrs and hostcpu.has_row(row)
        and row.mnemonic not in LEFT_OUT]  # fmt: skip
MNEMONICS = sorted({row.mnemonic for row in ROWS})
CHAIN = 24
LEFT = {"VMASKMOVDQU"}
"""What regions leave to threaded code, which they can't begin with."""


def on_engine(engine: str, code: bytes, regs: list[int], data: bytes, insns: int = 0) -> Outcome:
    """Run ``insns`` instructions, or to the HLT behind the code."""
    cpu = processor(engine)
    cpu.write(hostcpu.CODE, code + b"\xf4")
    cpu.write(hostcpu.DATA, data)
    for name, value in zip(NAMES, regs, strict=True):
        cpu.regs[name] = value
    cpu.regs["eflags"] = 0x202
    stop = cpu.run(hostcpu.CODE, max_insns=insns or None)
    assert stop.kind == ("limit" if insns else "hlt"), stop
    after = [cpu.regs[name] for name in NAMES]
    return after, cpu.regs["eflags"] & ARITHMETIC, cpu.read(hostcpu.DATA, len(data))


def check(found: Outcome, expected: Outcome, what: str, data: bytes) -> None:
    assert found[:2] == expected[:2], f"{what}: {found[:2]} not {expected[:2]}"
    wrong = []
    for at in range(0, len(data), 32):
        a, b = found[2][at:at + 32], expected[2][at:at + 32]
        if a != b:
            number = (at - (AFTER - hostcpu.DATA)) // 32
            where = f"ymm{number}" if 0 <= number < 16 else f"data+{at:#x}"
            where = "mxcsr" if number == 16 else where
            wrong.append(f"{where}: {a[::-1].hex()} not {b[::-1].hex()}")
    assert not wrong, f"{what}: {'; '.join(wrong)}; before {describe(data)}"


def describe(data: bytes) -> str:
    before = data[vex_cases.BEFORE - hostcpu.DATA:]
    registers = " ".join(f"ymm{i}={before[32 * i:32 * i + 32][::-1].hex()}" for i in range(16))
    mxcsr = before[MXCSR:MXCSR + 4][::-1].hex()
    operand = data[vex_cases.OPERAND - hostcpu.DATA:][:32][::-1].hex()
    return f"mem={operand} mxcsr={mxcsr} {registers}"


def state(rng: random.Random, variants: list[Variant]) -> tuple[list[int], bytes]:
    gathers = any("vsib" in v.row.attrs for v in variants)
    return sse_cases.general(rng), vex_cases.data(rng, indices=gathers)


@pytest.mark.parametrize("mnemonic", MNEMONICS)
def test_against_the_host(mnemonic: str) -> None:
    rng = random.Random(mnemonic)
    for row in ROWS:
        for variant in vex_cases.variants(row, rng) if row.mnemonic == mnemonic else ():
            code = LOAD + variant.code + SAVE
            for _ in range(6):
                regs, data = state(rng, [variant])
                expected = on_host(code, regs, data)
                found = on_engine("threaded", code, regs, data, 2 * MOVES + 1)
                check(found, expected, str(variant), data)


def chains() -> list[list[Variant]]:
    """Every variant of every row once, in random order; gathers by themselves."""
    rng = random.Random(1)
    found = [v for row in ROWS for v in vex_cases.variants(row, rng)]
    rng.shuffle(found)
    gathers = [[v] for v in found if "vsib" in v.row.attrs]
    others = [v for v in found if "vsib" not in v.row.attrs]
    return [others[at:at + CHAIN] for at in range(0, len(others), CHAIN)] + gathers


@pytest.mark.parametrize("number", range(len(chains())))
def test_chains_in_python_against_the_host(number: int) -> None:
    chain, rng = chains()[number], random.Random(number)
    code = LOAD + b"".join(variant.code for variant in chain) + SAVE
    regs, data = state(rng, chain)
    expected = on_host(code, regs, data)
    found = on_engine("python", code, regs, data, len(chain) + 2 * MOVES)
    check(found, expected, " ".join(map(str, chain)), data)


@pytest.mark.parametrize("number", range(len(chains())))
def test_chains_in_regions_against_the_host(number: int) -> None:
    """The jump lets the chain begin a block."""
    chain, rng = list(chains()[number]), random.Random(number)
    chain.sort(key=lambda v: v.row.mnemonic in LEFT)
    code = LOAD + b"\xeb\x00" + b"".join(variant.code for variant in chain) + SAVE
    for _ in range(3):
        regs, data = state(rng, chain)
        expected = on_host(code, regs, data)
        check(on_engine("jit", code, regs, data), expected, " ".join(map(str, chain)), data)
    assert processor("jit")._cpu.regions_run()[1] > 0
