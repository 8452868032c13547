"""VEX instructions that this repository's hosts lack or answer in their own way, by the manual."""

from __future__ import annotations

import functools
import random
import struct

import pytest

from pytcg.cpu import Cpu
from x86.assemble import assemble

CODE, DATA = 0x10000, 0x20000
ENGINES = ["threaded", "jit", "python"]


@functools.cache
def processor(engine: str) -> Cpu:
    cpu = Cpu(mode="long", engine=engine)
    cpu.map(CODE, 0x1000)
    cpu.map(DATA, 0x1000)
    return cpu


def run(engine: str, text: str, **registers: bytes) -> bytes:
    """YMM1 after ``text``; registers are given as their bytes."""
    cpu = processor(engine)
    code = assemble(text)
    cpu.write(CODE, code + b"\xf4")
    for name, value in registers.items():
        cpu.regs[name] = int.from_bytes(value, "little")
    cpu.regs["mxcsr"] = 0x1F80
    assert cpu.run(CODE).kind == "hlt"
    value: int = cpu.regs["ymm1"]
    return value.to_bytes(32, "little")


def saturated(value: int) -> int:
    return max(-(1 << 31), min((1 << 31) - 1, value))


def wrapped(value: int) -> int:
    return (value + (1 << 31)) % (1 << 32) - (1 << 31)


def dot(total: bytes, a: bytes, b: bytes, kinds: tuple[str, str], *, saturate: bool) -> bytes:
    """VPDPBUSD and its like (SDM vol. 2C): products of a doubleword's parts, added to it."""
    count = 32 // struct.calcsize(kinds[0])
    sums = list(struct.unpack("<8i", total))
    pairs = zip(struct.unpack(f"<{count}{kinds[0]}", a), struct.unpack(f"<{count}{kinds[1]}", b),
                strict=True)  # fmt: skip
    for at, (x, y) in enumerate(pairs):
        sums[at * 8 // count] += x * y
    return struct.pack("<8i", *map(saturated if saturate else wrapped, sums))


EDGES = {"B": (0, 1, 127, 128, 255), "b": (0, 1, -1, 127, -128), "h": (0, 1, -1, 32767, -32768),
         "i": (0, -1, 1, (1 << 31) - 1, -(1 << 31))}  # fmt: skip


def vector(rng: random.Random, kind: str) -> bytes:
    count = 32 // struct.calcsize(kind)
    return struct.pack(f"<{count}{kind}", *(rng.choice(EDGES[kind]) for _ in range(count)))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("name", "kinds"), [("vpdpbusd", "Bb"), ("vpdpwssd", "hh")])
@pytest.mark.parametrize("suffix", ["", "s"])
def test_dot_products(engine: str, name: str, kinds: str, suffix: str) -> None:
    rng = random.Random(name + suffix)
    a, b = kinds
    for _ in range(40 if engine == "threaded" else 6):
        values = {"ymm1": vector(rng, "i"), "ymm2": vector(rng, a), "ymm3": vector(rng, b)}
        found = run(engine, f"{{vex}} {name}{suffix} ymm1, ymm2, ymm3", **values)
        assert found == dot(*values.values(), (a, b), saturate=suffix == "s")


@pytest.mark.parametrize("text", ["vrcpps ymm1, ymm2", "vrsqrtps ymm1, ymm2",
                                  "vrcpss xmm1, xmm3, xmm2",
                                  "vrsqrtss xmm1, xmm3, xmm2"])  # fmt: skip
def test_approximations_are_close(text: str) -> None:
    """Within the manual's 1.5 * 2**-12 of the truth."""
    values = [0.1, 3.0, 1e30, 7.5, 2.0, 1e-20, 123.456, 1.0]
    source, other = struct.pack("<8f", *values), struct.pack("<8f", *range(8))
    found = struct.unpack("<8f", run("threaded", text, ymm2=source, ymm3=other, ymm1=other))
    count = 8 if "ps " in text else 1
    for value, result in zip(values[:count], found[:count], strict=True):
        truth = 1 / value if "rcp" in text else value**-0.5
        assert abs(result - truth) <= truth * 3 * 2**-12
    if count == 1:
        assert found[1:] == (1.0, 2.0, 3.0, 0.0, 0.0, 0.0, 0.0)


@pytest.mark.parametrize("engine", ENGINES)
def test_dot_product_of_each_half(engine: str) -> None:
    a, b = struct.pack("<8f", *range(1, 9)), struct.pack("<8f", *range(8, 0, -1))
    found = struct.unpack("<8f", run(engine, "vdpps ymm1, ymm2, ymm3, 0xf1", ymm2=a, ymm3=b))
    assert found == (60.0, 0.0, 0.0, 0.0, 60.0, 0.0, 0.0, 0.0)
    found = struct.unpack("<4d", run(engine, "vdppd xmm1, xmm2, xmm3, 0x33",
                                     ymm2=struct.pack("<4d", 2, 3, 9, 9),
                                     ymm3=struct.pack("<4d", 5, 7, 9, 9)))  # fmt: skip
    assert found == (31.0, 31.0, 0.0, 0.0)


@pytest.mark.parametrize("engine", ENGINES)
def test_halves_of_a_finite_field_are_multiplied(engine: str) -> None:
    legacy = bytes(range(7, 39)), bytes(range(200, 232))
    wide = run(engine, "vgf2p8mulb ymm1, ymm2, ymm3", ymm2=legacy[0], ymm3=legacy[1])
    for at in (0, 16):
        half = run(engine, "gf2p8mulb xmm1, xmm3", ymm1=legacy[0][at:at + 16].ljust(32, b"\0"),
                   ymm3=legacy[1][at:at + 16].ljust(32, b"\0"))  # fmt: skip
        assert half[:16] == wide[at:at + 16]
