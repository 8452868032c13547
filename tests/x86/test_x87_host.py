"""The x87 against the host CPU: every row of the table, all roundings, precisions and masks."""

from __future__ import annotations

import functools
import random
import struct

import pytest

from pytcg.cpu import Cpu
from x86.x87_cases import IMAGES, TRANSCENDENTAL, encoding, number, operand, state, x87_rows
from x86.x87_host import AVAILABLE, X87, HostX87

pytestmark = pytest.mark.skipif(not AVAILABLE, reason="the oracle is an x86-64 host")

BASE, IMAGE, OPERAND = 0x10000, 0x11000, 0x12000
FRSTOR, FNSAVE = bytes.fromhex("dd27"), bytes.fromhex("dd37")  # [rdi]
JMP, HLT = bytes.fromhex("eb00"), b"\xf4"
TRIALS = 30
TOPS = {"threaded": range(8), "jit": range(7, 8)}  # a region is made for one
C1 = 0x200
# Intel's manual has these clear C1; AMD's processors leave it.
C1_VARIES = {"FCOMI", "FCOMIP", "FUCOMI", "FUCOMIP"}
# Left to the instruction's own tests: images, and FNSTSW, which writes another register.
PLAIN = sorted({row.mnemonic for row in x87_rows()} - IMAGES - TRANSCENDENTAL - {"FNSTSW"})


@functools.cache
def processor(engine: str) -> Cpu:
    cpu = Cpu(mode="long", engine=engine)
    cpu.map(BASE, 0x4000)
    return cpu


@functools.cache
def host() -> HostX87:
    return HostX87()


def on_engine(engine: str, code: bytes, before: X87) -> X87:
    cpu = processor(engine)
    whole = FRSTOR + JMP + code + FNSAVE + HLT  # what is tested begins a block, for regions
    cpu.write(BASE, whole)
    cpu.write(IMAGE, before.image())
    cpu.write(OPERAND, before.memory)
    cpu.regs["rdi"], cpu.regs["rsi"], cpu.regs["eflags"] = IMAGE, OPERAND, before.eflags
    # A region runs only where the budget has room for more than there is.
    stop = cpu.run(BASE, max_insns=1000)
    assert (stop.kind, stop.rip) == ("hlt", BASE + len(whole)), stop
    image = cpu.read(IMAGE, 108)
    control, status, tags = (word & 0xFFFF for word in struct.unpack_from("<3I", image))
    st = [int.from_bytes(image[28 + 10 * i:38 + 10 * i], "little") for i in range(8)]
    memory = cpu.read(OPERAND, len(before.memory))
    return X87(control, status, tags, st, cpu.regs["eflags"], memory)


def check(engine: str, mnemonic: str, code: bytes, before: X87) -> None:
    expected, found = host().run(code, before), on_engine(engine, code, before)
    if mnemonic in C1_VARIES:
        expected.status |= C1
        found.status |= C1
    assert found.shown() == expected.shown(), f"{mnemonic} {code.hex()} from {before.shown()}"


@pytest.mark.parametrize("mnemonic", PLAIN)
def test_against_the_host(mnemonic: str) -> None:
    rng = random.Random(mnemonic)
    for row in (row for row in x87_rows() if row.mnemonic == mnemonic):
        for _ in range(TRIALS):
            check("threaded", mnemonic, encoding(row, rng.randrange(8)), state(rng, mnemonic))


@pytest.mark.parametrize("engine", ["threaded", "jit"])
@pytest.mark.parametrize("mnemonic", PLAIN)
def test_against_the_host_where_its_unit_computes(mnemonic: str, engine: str) -> None:
    """Control word 37Fh; often with every flag up, as only then no instruction raises a new one."""
    rng = random.Random(mnemonic)
    for row in (row for row in x87_rows() if row.mnemonic == mnemonic):
        for _ in range(TRIALS):
            before = state(rng, mnemonic, TOPS[engine])
            before.control = 0x37F
            before.status = before.status & 0x7F7F | rng.choice((0, 0x20, 0x3F, 0x3F))
            check(engine, mnemonic, encoding(row, rng.randrange(8)), before)


def test_python_engine_agrees() -> None:
    rng = random.Random(2)
    for row in x87_rows():
        if row.mnemonic in PLAIN:
            code = encoding(row, rng.randrange(8))
            check("python", row.mnemonic, code, state(rng, row.mnemonic))


# Transcendentals -------------------------------------------------------------------------------


def _value(x: int) -> int:
    """Order-preserving: neighbours in the format differ by one."""
    magnitude = x & ((1 << 79) - 1)
    exponent, mantissa = magnitude >> 64, magnitude & ((1 << 64) - 1)
    linear = (exponent << 63) + (mantissa & ((1 << 63) - 1))
    return -linear if x >> 79 else linear


def _near(a: int, b: int) -> bool:
    return abs(_value(a) - _value(b)) <= 1


def _angle(rng: random.Random) -> int:
    exponent = rng.choice((rng.randrange(1, 0x3FFF), rng.randrange(0x3FE0, 0x403E)))
    return rng.getrandbits(1) << 79 | exponent << 64 | 1 << 63 | rng.getrandbits(63)


def _fraction(rng: random.Random, limit: int) -> int:
    """At most ``limit`` / 2**64 in magnitude."""
    exponent = 0x3FFF - rng.choice((2, 3, 10, rng.randrange(2, 300)))
    mantissa = 1 << 63 | rng.getrandbits(63)
    if exponent == 0x3FFD:
        mantissa = min(mantissa, limit)
    return rng.getrandbits(1) << 79 | exponent << 64 | mantissa


def _arguments(mnemonic: str, rng: random.Random) -> list[int]:
    if mnemonic in ("FSIN", "FCOS", "FSINCOS", "FPTAN"):
        return [_angle(rng), number(rng)]
    if mnemonic == "F2XM1":
        return [_fraction(rng, (1 << 64) - 1), number(rng)]
    y = _angle(rng)
    if mnemonic == "FYL2XP1":  # the manual's range ends at 1 - sqrt(1/2)
        return [_fraction(rng, 0x95F6_1998_0C43_36F7), y]
    return [_angle(rng) & ((1 << 79) - 1) if mnemonic == "FYL2X" else _angle(rng), y]


@pytest.mark.parametrize("mnemonic", sorted(TRANSCENDENTAL))
def test_transcendentals_are_within_one_ulp_of_the_host(mnemonic: str) -> None:
    rng = random.Random(mnemonic)
    row = next(row for row in x87_rows() if row.mnemonic == mnemonic)
    code = encoding(row, 0)
    for _ in range(100):
        st = [*_arguments(mnemonic, rng), *[0] * 6]
        before = X87(tags=0xFFF0, st=st, memory=operand(rng, mnemonic))
        expected, found = host().run(code, before), on_engine("threaded", code, before)
        for i in range(2):
            assert expected.empty(i) == found.empty(i)
            assert expected.empty(i) or _near(expected.st[i], found.st[i]), before.shown()


@pytest.mark.parametrize("mnemonic", sorted(TRANSCENDENTAL - {"FYL2XP1", "F2XM1"}))
def test_special_operands_of_transcendentals(mnemonic: str) -> None:
    """Zeros, infinities and NaNs in pairs, masked."""
    specials = [sign | x for sign in (0, 1 << 79) for x in (
        0, 0x7FFF << 64 | 1 << 63, 0x7FFF << 64 | 3 << 62, 0x7FFF << 64 | 5 << 61,
        0x3FFF << 64 | 1 << 63, 0x3FFD << 64 | 7 << 61, 1 << 64)]  # fmt: skip
    row = next(row for row in x87_rows() if row.mnemonic == mnemonic)
    rounding_flags = 0x220  # PE, and C1's rounding direction, of approximate results
    for a in specials:
        for b in specials:
            before = X87(tags=0xFFF0, st=[a, b, *[0] * 6])
            expected, found = (run(encoding(row, 0), before) for run in (
                host().run, functools.partial(on_engine, "threaded")))  # fmt: skip
            expected.status |= rounding_flags
            found.status |= rounding_flags
            pairs = zip(expected.st, found.st, strict=True)
            found.st = [e if _near(e, f) else f for e, f in pairs]
            assert found.shown() == expected.shown(), f"{mnemonic} from {before.shown()}"
