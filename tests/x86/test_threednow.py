"""3DNow! by AMD's manuals (21928, 22466), on both engines."""

from __future__ import annotations

import struct

import pytest

from pytcg.cpu import Cpu
from pytcg_x86.core.state import Vector

CODE, DATA = 0x1000, 0x2000
BIG = struct.unpack("<f", b"\xff\xff\x7f\x7f")[0]
ENGINES = ("threaded", "python")


def run(engine: str, operation: int, a: bytes, b: bytes, model: str = "max") -> bytes | int:
    """movq mm1, [rbx]; op mm1, [rbx + 8]; movq [rbx + 16], mm1: the result, or the exception."""
    cpu = Cpu(engine=engine, model=model)
    cpu.map(0, 0x4000)
    cpu.write(CODE, bytes.fromhex("0f6f0b 0f0f4b08") + bytes([operation])
              + bytes.fromhex("0f7f4b10 0f0e"))  # fmt: skip
    cpu.write(DATA, a + b)
    cpu.regs["rbx"] = DATA
    cpu.regs["mxcsr"] = 0x7F80  # neither the mode nor the flags are 3DNow!'s business
    stop = cpu.run(CODE, max_insns=4)
    if stop.vector is not None:
        return stop.vector
    assert cpu.regs["mxcsr"] == 0x7F80
    return bytes(cpu.read(DATA + 16, 8))


def floats(*numbers: float) -> bytes:
    return struct.pack("<2f", *numbers)


def ints(*numbers: int) -> bytes:
    return struct.pack("<2i", *numbers)


FLOATS = [
    (0x9E, (1.5, -2.0), (0.25, 8.0), (1.75, 6.0)), (0x9A, (1.5, -2.0), (0.25, 8.0), (1.25, -10.0)),
    (0xAA, (1.5, -2.0), (0.25, 8.0), (-1.25, 10.0)), (0xB4, (1.5, -2.0), (4.0, 8.0), (6.0, -16.0)),
    (0xB4, (BIG, -BIG), (2.0, 2.0), (BIG, -BIG)), (0x9E, (1e-40, 0.0), (0.0, 3.0), (0.0, 3.0)),
    (0x94, (1.0, -2.0), (0.5, 8.0), (0.5, -2.0)), (0xA4, (1.0, -2.0), (0.5, 8.0), (1.0, 8.0)),
    (0xAE, (1.0, 2.0), (3.0, 4.5), (3.0, 7.5)), (0x8A, (1.0, 2.0), (3.0, 4.5), (-1.0, -1.5)),
    (0x8E, (1.0, 2.0), (3.0, 4.5), (-1.0, 7.5)), (0x96, (9.0, 9.0), (4.0, 7.0), (0.25, 0.25)),
    (0x97, (9.0, 9.0), (-4.0, 7.0), (-0.5, -0.5)), (0xA6, (9.0, 9.0), (4.0, 7.0), (4.0, 7.0)),
    (0x96, (9.0, 9.0), (0.0, 7.0), (BIG, BIG)),
]  # fmt: skip


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("operation", "a", "b", "wanted"), FLOATS)
def test_floats(engine: str, operation: int, a: tuple[float, float], b: tuple[float, float],
                wanted: tuple[float, float]) -> None:  # fmt: skip
    assert run(engine, operation, floats(*a), floats(*b)) == floats(*wanted)


@pytest.mark.parametrize("engine", ENGINES)
def test_comparisons_conversions_integers(engine: str) -> None:
    pair = floats(1.0, -2.0), floats(1.0, 3.0)
    assert run(engine, 0xB0, *pair) == ints(-1, 0)
    assert run(engine, 0x90, *pair) == ints(-1, 0)
    assert run(engine, 0xA0, *reversed(pair)) == ints(0, -1)
    assert run(engine, 0x1D, bytes(8), floats(-1.9, 3e9)) == ints(-1, 0x7FFF_FFFF)
    assert run(engine, 0x1D, bytes(8), floats(2.5, -3e9)) == ints(2, -(1 << 31))
    assert run(engine, 0x1C, bytes(8), floats(40000.0, -40000.0)) == ints(32767, -32768)
    assert run(engine, 0x0D, bytes(8), ints(-5, 0x7FFF_FFFF)) == floats(-5.0, 2147483520.0)
    assert run(engine, 0x0C, bytes(8), ints(0x7_FFFF, 3)) == floats(-1.0, 3.0)
    assert run(engine, 0xBB, bytes(8), ints(1, 2)) == ints(2, 1)
    average = bytes((i + 10) >> 1 for i in range(8))
    assert run(engine, 0xBF, bytes(range(8)), bytes([9] * 8)) == average
    words = struct.pack("<4h", 300, -300, 32767, 1), struct.pack("<4h", 300, 300, 32767, 1)
    assert run(engine, 0xB7, *words) == struct.pack("<4h", 1, -1, 16384 - 1, 0)


def test_what_is_not_there() -> None:
    assert run("threaded", 0x55, bytes(8), bytes(8)) == Vector.UD
    assert run("threaded", 0x9E, bytes(8), bytes(8), "max,-3dnow") == Vector.UD
    assert run("threaded", 0xBB, bytes(8), bytes(8), "max,-3dnowext") == Vector.UD
    assert run("threaded", 0x9E, bytes(8), bytes(8), "max,-3dnowext") == bytes(8)
