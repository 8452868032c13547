"""Floating point against MPFR: every operation, rounding mode and precision; results and flags.

The host is no part of it: SSE, AVX, FMA and F16C, and the x87 with all of its precisions.
"""

from __future__ import annotations

import functools
import random
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gmpy2
import pytest

from pytcg.cpu import Cpu
from x86.assemble import assemble
from x86.float_reference import (
    DE,
    DOUBLE,
    EXTENDED,
    HALF,
    IE,
    PE,
    SINGLE,
    UE,
    ZE,
    Format,
    integer,
    rounded,
)

CODE, DATA = 0x10000, 0x20000
MXCSR, RESULT = 96, 128
ENGINES = {"threaded": 12, "jit": 2}
"""Operands an engine gets, for each operation, rounding mode and setting."""
FTZ_DAZ = 0x8040
C1 = 0x200
Operation = Callable[..., Any]


@functools.cache
def processor(engine: str) -> Cpu:
    cpu = Cpu(mode="long", engine=engine)
    cpu.map(CODE, 0x1000)
    cpu.map(DATA, 0x1000)
    return cpu


def run(engine: str, code: bytes, data: bytes) -> bytes:
    cpu = processor(engine)
    cpu.write(CODE, code)
    cpu.write(DATA, data)
    cpu.regs["rbx"] = DATA
    assert cpu.run(CODE, max_insns=1000).kind == "hlt"
    return cpu.read(DATA, RESULT + 32)


# SSE, AVX, FMA, F16C ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Vector:
    """An instruction on lanes: sources, result, how many; ``text`` with the operands' registers."""

    text: str
    source: Format
    target: Format | int  # a format, or an integer's width
    lanes: int
    operation: Operation
    arity: int = 2
    truncates: bool = False
    rounding: int | None = None  # the immediate's
    ignores_ftz: bool = False

    def __str__(self) -> str:
        return self.text.replace(" ", "_")


def _identity(x: Any) -> Any:
    """Rounded as everything is."""
    return +x


def _fma(order: str, sign: int, product: int) -> Operation:
    """``order`` says which of the three operands are multiplied by and added to which."""
    a, b, c = (int(n) - 1 for n in order)

    def operation(*x: Any) -> Any:
        left = x[a] if product > 0 else -x[a]
        addend = x[c] if sign > 0 else -x[c]
        return gmpy2.fma(left, x[b], addend)

    return operation


_ARITHMETIC = {"add": gmpy2.add, "sub": gmpy2.sub, "mul": gmpy2.mul, "div": gmpy2.div,
               "sqrt": gmpy2.sqrt}  # fmt: skip


def _arithmetic() -> list[Vector]:
    found = []
    for name, operation in _ARITHMETIC.items():
        arity = 1 if name == "sqrt" else 2
        for letter, source in (("s", SINGLE), ("d", DOUBLE)):
            many = 128 // source.bits
            two = "xmm0, xmm1" if arity == 2 else "xmm0, xmm0"
            found += [Vector(f"{name}s{letter} {two}", source, source, 1, operation, arity),
                      Vector(f"{name}p{letter} {two}", source, source, many, operation, arity)]
            wide = "ymm0, ymm0, ymm1" if arity == 2 else "ymm0, ymm0"
            found.append(Vector(f"v{name}p{letter} {wide}", source, source, 2 * many, operation,
                                arity))  # fmt: skip
    return found


def _fused() -> list[Vector]:
    found = []
    for name, product, sign in (("fmadd", 1, 1), ("fmsub", 1, -1), ("fnmadd", -1, 1),
                                ("fnmsub", -1, -1)):  # fmt: skip
        for order in ("132", "213", "231"):
            operation = _fma(order, sign, product)
            for letter, source in (("s", SINGLE), ("d", DOUBLE)):
                many = 256 // source.bits
                found += [Vector(f"v{name}{order}s{letter} xmm0, xmm1, xmm2", source, source, 1,
                                 operation, 3),
                          Vector(f"v{name}{order}p{letter} ymm0, ymm1, ymm2", source, source, many,
                                 operation, 3)]  # fmt: skip
    return found


def _conversions() -> list[Vector]:
    found = [Vector("cvtss2sd xmm0, xmm0", SINGLE, DOUBLE, 1, _identity, 1),
             Vector("cvtsd2ss xmm0, xmm0", DOUBLE, SINGLE, 1, _identity, 1),
             Vector("cvtps2pd xmm0, xmm0", SINGLE, DOUBLE, 2, _identity, 1),
             Vector("cvtpd2ps xmm0, xmm0", DOUBLE, SINGLE, 2, _identity, 1),
             Vector("vcvtpd2ps xmm0, ymm0", DOUBLE, SINGLE, 4, _identity, 1),
             Vector("vcvtps2pd ymm0, xmm0", SINGLE, DOUBLE, 4, _identity, 1),
             Vector("vcvtph2ps ymm0, xmm0", HALF, SINGLE, 8, _identity, 1),
             Vector("cvtps2dq xmm0, xmm0", SINGLE, 32, 4, _identity, 1),
             Vector("cvttps2dq xmm0, xmm0", SINGLE, 32, 4, _identity, 1, truncates=True),
             Vector("cvtpd2dq xmm0, xmm0", DOUBLE, 32, 2, _identity, 1),
             Vector("cvttpd2dq xmm0, xmm0", DOUBLE, 32, 2, _identity, 1, truncates=True),
             Vector("vcvttpd2dq xmm0, ymm0", DOUBLE, 32, 4, _identity, 1, truncates=True)]
    for rounding in range(4):
        found.append(Vector(f"vcvtps2ph xmm0, ymm0, {rounding}", SINGLE, HALF, 8, _identity, 1,
                            rounding=rounding, ignores_ftz=True))  # fmt: skip
    for letter, source in (("s", SINGLE), ("d", DOUBLE)):
        for register, bits in (("eax", 32), ("rax", 64)):
            for t in ("", "t"):
                found.append(Vector(f"cvt{t}s{letter}2si {register}, xmm0", source, bits, 1,
                                    _identity, 1, truncates=bool(t)))  # fmt: skip
    return found


VECTORS = [*_arithmetic(), *_fused(), *_conversions()]


def vector_code(spec: Vector) -> bytes:
    stored = "mov [rbx + 128], rax" if " eax" in spec.text or " rax" in spec.text else (
        "vmovups [rbx + 128], ymm0")  # fmt: skip
    return assemble(f"""jmp next; next: xor eax, eax; vmovups ymm0, [rbx]; vmovups ymm1, [rbx + 32]
        vmovups ymm2, [rbx + 64]; ldmxcsr [rbx + 96]; {spec.text}; stmxcsr [rbx + 100]
        {stored}; hlt""")


def wanted_lane(spec: Vector, images: list[int], mxcsr: int) -> tuple[int, int]:
    """The result's image and the flags of one lane."""
    rounding = mxcsr >> 13 & 3 if spec.rounding is None else spec.rounding
    denormal = [spec.source.is_denormal(image) for image in images]
    flags = DE if any(denormal) and not isinstance(spec.target, int) else 0
    if mxcsr & 0x40:  # DAZ; half precision takes no notice
        flags = 0
        sign = 1 << (spec.source.bits - 1)
        if spec.source is not HALF:
            images = [image & sign if tiny else image
                      for image, tiny in zip(images, denormal, strict=True)]  # fmt: skip
    if spec.source is HALF:
        flags = 0
    numbers = tuple(spec.source.decode(image) for image in images)
    if isinstance(spec.target, int):
        found, raised = integer(numbers[0], spec.target, 3 if spec.truncates else rounding)
        return found, raised
    result = rounded(spec.operation, numbers, spec.target, rounding)
    if result.flags & (IE | ZE):
        return spec.target.encode(result.value), result.flags
    image = spec.target.encode(result.value)
    if mxcsr & 0x8000 and result.tiny and not spec.ignores_ftz:
        return image & 1 << (spec.target.bits - 1), flags | UE | PE
    return image, flags | result.flags


def check_vector(spec: Vector, engine: str, rng: random.Random, mxcsr: int) -> None:
    size = spec.source.bits
    columns = [[spec.source.random(rng) for _ in range(spec.lanes)] for _ in range(spec.arity)]
    if rng.random() < 0.3 and spec.arity > 1:  # cancellation
        columns[1] = [image ^ rng.choice((0, 1, 1 << (size - 1))) for image in columns[0]]
        limit = 0x7FF << 52 if size == 64 else 0xFF << 23
        columns[1] = [a if b & limit == limit else b
                      for a, b in zip(columns[0], columns[1], strict=True)]  # fmt: skip
    operands = b""
    for column in columns:
        packed = sum(image << size * n for n, image in enumerate(column))
        operands += packed.to_bytes(32, "little")
    data = operands.ljust(MXCSR, b"\0") + struct.pack("<I", mxcsr)
    after = run(engine, vector_code(spec), data.ljust(RESULT + 32, b"\0"))
    flags = struct.unpack_from("<I", after, MXCSR + 4)[0] & 0x3F
    width = spec.target if isinstance(spec.target, int) else spec.target.bits
    result = int.from_bytes(after[RESULT:], "little")
    wanted_flags = 0
    for lane in range(spec.lanes):
        images = [column[lane] for column in columns]
        wanted, raised = wanted_lane(spec, images, mxcsr)
        found = result >> width * lane & ((1 << width) - 1)
        assert found == wanted, (f"{spec.text} of {[hex(i) for i in images]} with MXCSR {mxcsr:#x}:"
                                 f" {found:#x}, not {wanted:#x}")  # fmt: skip
        wanted_flags |= raised
    assert flags == wanted_flags, (f"{spec.text} of {[[hex(i) for i in c] for c in columns]} with "
                                   f"MXCSR {mxcsr:#x}: flags {flags:#x}, not {wanted_flags:#x}")


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("spec", VECTORS, ids=str)
def test_vectors(spec: Vector, engine: str) -> None:
    if (spec.text.startswith("vf") and not processor(engine).has("fma")) or (
            HALF in (spec.source, spec.target) and not processor(engine).has("f16c")):
        pytest.skip("the processor has no such instruction: its host has none")
    rng = random.Random(spec.text)
    for rounding in range(4):
        for zeroes in (0, 0x40, 0x8000, FTZ_DAZ)[:: 1 if engine == "threaded" else 3]:
            for _ in range(ENGINES[engine] // (1 if zeroes == 0 else 3) or 1):
                check_vector(spec, engine, rng, 0x1F80 | rounding << 13 | zeroes)


# x87 -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class X87:
    """An instruction on ST(0) and ST(1); ``target`` is what it stores to memory, if it does."""

    text: str
    operation: Operation
    target: Format | int | None = None
    arity: int = 2
    whole: bool = False  # rounds to an integer
    truncates: bool = False

    def __str__(self) -> str:
        return self.text.replace(" ", "_")


STACK = [
    X87("fadd st, st(1)", gmpy2.add), X87("fsub st, st(1)", gmpy2.sub),
    X87("fsubr st, st(1)", lambda a, b: gmpy2.sub(b, a)), X87("fmul st, st(1)", gmpy2.mul),
    X87("fdiv st, st(1)", gmpy2.div), X87("fdivr st, st(1)", lambda a, b: gmpy2.div(b, a)),
    X87("fsqrt", gmpy2.sqrt, arity=1), X87("frndint", _identity, arity=1, whole=True),
    X87("fstp dword ptr [rbx + 128]", _identity, SINGLE, 1),
    X87("fstp qword ptr [rbx + 128]", _identity, DOUBLE, 1),
    X87("fistp word ptr [rbx + 128]", _identity, 16, 1),
    X87("fistp dword ptr [rbx + 128]", _identity, 32, 1),
    X87("fistp qword ptr [rbx + 128]", _identity, 64, 1),
    X87("fisttp dword ptr [rbx + 128]", _identity, 32, 1, truncates=True),
    X87("fisttp qword ptr [rbx + 128]", _identity, 64, 1, truncates=True),
]  # fmt: skip
PRECISIONS = {0: 24, 2: 53, 3: 64}
"""By the control word's PC."""


def x87_code(spec: X87) -> bytes:
    store = "" if spec.target is not None else "fstp tbyte ptr [rbx + 128];"
    return assemble(f"""jmp next; next: fninit; fld tbyte ptr [rbx + 32]; fld tbyte ptr [rbx]
        fldcw [rbx + 96]; fnclex; {spec.text}; fnstsw [rbx + 100]; {store} hlt""")


def wanted_x87(spec: X87, images: list[int], control: int) -> tuple[int, int, bool | None]:
    """Result, flags, and C1 where it is defined."""
    rounding, precision = control >> 10 & 3, PRECISIONS[control >> 8 & 3]
    numbers = tuple(EXTENDED.decode(image) for image in images[: spec.arity])
    denormal = any(EXTENDED.is_denormal(image) for image in images[: spec.arity])
    if isinstance(spec.target, int):
        number, flags = integer(numbers[0], spec.target, 3 if spec.truncates else rounding)
        return number, flags, None
    if spec.whole:
        if gmpy2.is_infinite(numbers[0]) or gmpy2.is_zero(numbers[0]):
            return images[0], 0, None
        with gmpy2.context(precision=20000, emax=1 << 40, emin=-(1 << 40)):
            operation = (gmpy2.rint, gmpy2.floor, gmpy2.ceil, gmpy2.trunc)[rounding]
            value = gmpy2.mpfr(operation(numbers[0]))
        sign = images[0] & 1 << 79
        flags = (PE if value != numbers[0] else 0) | (DE if denormal else 0)
        return EXTENDED.encode(value) | sign, flags, None
    stored = spec.target is not None
    target = EXTENDED if spec.target is None else spec.target
    result = rounded(spec.operation, numbers, target, rounding, 0 if stored else precision)
    flags = result.flags
    if denormal and not flags & (IE | ZE) and not stored:
        flags |= DE
    return target.encode(result.value), flags, result.up if result.flags & PE else None


def check_x87(spec: X87, engine: str, rng: random.Random, control: int) -> None:
    images = [EXTENDED.random(rng) for _ in range(2)]
    if isinstance(spec.target, int) or spec.whole or rng.random() < 0.2:
        exponent = EXTENDED.bias + rng.randrange(-2, 66)
        images[0] = images[0] & 1 << 79 | exponent << 64 | 1 << 63 | (
            rng.getrandbits(63) >> rng.randrange(63) << rng.randrange(63) & (1 << 63) - 1)
    elif isinstance(spec.target, Format):
        exponent = EXTENDED.bias + rng.choice((1, -1)) * (spec.target.bias + rng.randrange(-60, 3))
        images[0] = images[0] & 1 << 79 | exponent << 64 | 1 << 63 | rng.getrandbits(63)
    data = b"".join(image.to_bytes(32, "little") for image in images)
    data = data.ljust(MXCSR, b"\0") + struct.pack("<H", control)
    after = run(engine, x87_code(spec), data.ljust(RESULT + 32, b"\0"))
    status = struct.unpack_from("<H", after, MXCSR + 4)[0]
    wanted, flags, up = wanted_x87(spec, images, control)
    width = spec.target if isinstance(spec.target, int) else (spec.target or EXTENDED).bits
    found = int.from_bytes(after[RESULT:], "little") & ((1 << width) - 1)
    what = f"{spec.text} of {[hex(i) for i in images]} with control word {control:#x}"
    assert found == wanted, f"{what}: {found:#x}, not {wanted:#x}"
    assert status & 0x3F == flags, f"{what}: flags {status & 0x3F:#x}, not {flags:#x}"
    assert up is None or bool(status & C1) == up, f"{what}: C1 is {not up}"


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("spec", STACK, ids=str)
def test_x87(spec: X87, engine: str) -> None:
    rng = random.Random(spec.text)
    for rounding in range(4):
        for precision in PRECISIONS:
            for _ in range(ENGINES[engine]):
                check_x87(spec, engine, rng, 0x3F | rounding << 10 | precision << 8)
