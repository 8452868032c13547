"""PCMPESTRI and its like: every immediate, on strings that match in parts, against the host CPU."""

from __future__ import annotations

import functools
import random

import pytest

from pytcg.cpu import Cpu
from pytcg.fuzz import hostcpu
from pytcg.ir.meaning import evaluate
from pytcg.ir.ops import OPS, Type
from pytcg_llvm.strings import COMPARISONS
from pytcg_native.compiler import Program
from pytcg_python.compiler import PythonHost
from pytcg_x86.vector import soft_strings
from x86.assemble import assemble

ENGINES = ["threaded", "jit", "python"]
SLOTS = hostcpu.DATA + 0x100
MODES_A_RUN = 32
SLOT = 32
"""Bytes of a result: index or mask, then EFLAGS."""


def string(rng: random.Random) -> bytes:
    """Few characters, some at the edges of their signs, mostly with an end."""
    text = bytearray(rng.choices(b"abc\x80\xff", k=16))
    if rng.random() < 0.7:
        text[rng.randrange(16)] = 0
        if rng.random() < 0.5:
            at = rng.randrange(8) * 2
            text[at:at + 2] = bytes(2)
    return bytes(text)


def strings(rng: random.Random) -> bytes:
    """Two strings; often the second repeats a piece of the first."""
    first, second = string(rng), bytearray(string(rng))
    if rng.random() < 0.6:
        at, size = rng.randrange(16), rng.randrange(1, 17)
        second[at:] = (first[:size] + bytes(second[at:]))[:16 - at]
    return first + bytes(second)


@functools.cache
def processor(engine: str) -> Cpu:
    cpu = Cpu(mode="long", engine=engine)
    cpu.map(hostcpu.BASE, 2 * hostcpu.PAGE + hostcpu.DATA_SIZE)
    return cpu


def program(mnemonic: str, first: int) -> bytes:
    """All immediates of a run, in turn of registers and of unaligned memory; some with REX.W."""
    code = assemble("movups xmm1, [rbx]; movups xmm2, [rbx+16]")
    for i in range(MODES_A_RUN):
        source = "xmm2" if i % 2 else "xmmword ptr [rbx+16]"
        insn = assemble(f"{mnemonic} xmm1, {source}, {first + i}")
        result = "movups [rdi+{}], xmm0" if mnemonic[-1] == "m" else "mov [rdi+{}], rcx"
        code += insn[:1] + b"\x48" + insn[1:] if i % 4 > 1 else insn
        code += assemble(f"{result.format(i * SLOT)}; pushfq; pop [rdi+{i * SLOT + 16}]")
    return code


NAMES = ("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi")


def on_engine(engine: str, code: bytes, regs: list[int], data: bytes) -> bytes:
    cpu = processor(engine)
    cpu.write(hostcpu.CODE, code + b"\xf4")
    cpu.write(hostcpu.DATA, data)
    for name, value in zip(NAMES, regs, strict=False):
        cpu.regs[name] = value
    cpu.regs["eflags"] = 0x202
    assert cpu.run(hostcpu.CODE).kind == "hlt"
    return cpu.read(SLOTS, MODES_A_RUN * SLOT)


def on_host(code: bytes, regs: list[int], data: bytes) -> bytes:
    host = hostcpu.host_cpu()
    host.data[:len(data)] = data
    host.run(code, hostcpu.HostState(list(regs), 0x202))
    at = SLOTS - hostcpu.DATA
    return bytes(host.data[at : at + MODES_A_RUN * SLOT])


LENGTHS = (0, 1, 3, 7, 8, 12, 15, 16, 17, (1 << 64) - 5, (1 << 64) - 16, 1 << 63, 1 << 32,
           (1 << 32) + 3, (1 << 31), (1 << 32) - 2)  # fmt: skip


@pytest.mark.skipif(not hostcpu.available(), reason="the oracle is an x86-64 host")
@pytest.mark.parametrize("first", [*range(0, 128, MODES_A_RUN), 224])
@pytest.mark.parametrize("mnemonic", ["pcmpistri", "pcmpistrm", "pcmpestri", "pcmpestrm"])
def test_every_immediate_against_the_host(mnemonic: str, first: int) -> None:
    rng, code = random.Random(f"{mnemonic} {first}"), program(mnemonic, first)
    for trial in range(6):
        data = strings(rng).ljust(SLOTS - hostcpu.DATA + MODES_A_RUN * SLOT, b"\xcc")
        regs = [rng.choice(LENGTHS), rng.getrandbits(64), rng.choice(LENGTHS), hostcpu.DATA,
                hostcpu.STACK, 0, 0, SLOTS] + [0] * 8  # fmt: skip
        expected = on_host(code, regs, data)
        for engine in ENGINES if trial < 1 else ENGINES[:2]:
            found = on_engine(engine, code, regs, data)
            for at in range(0, len(found), SLOT):
                what = f"{engine}: {mnemonic} {first + at // SLOT} of {data[:32].hex()} {regs[:3]}"
                assert found[at : at + SLOT] == expected[at : at + SLOT], what


@pytest.mark.parametrize("op", sorted(COMPARISONS))
def test_soft_function_agrees_with_its_op(op: str) -> None:
    compiler, host, rng = Program(), PythonHost(), random.Random(op)
    compiler.add([getattr(soft_strings, "soft_" + op)])
    for function in compiler.compile_all():
        host.define(function)
    result = Type.I128 if OPS[op].result == "V" else Type.I32
    for mode in range(128):
        for _ in range(3):
            text = strings(rng)
            args = [int.from_bytes(text[at:at + 16], "little") for at in (0, 16)]
            if "i32" in OPS[op].args:
                args = [x for v in args for x in (v, rng.choice(LENGTHS) & 0xFFFF_FFFF)]
            wanted = evaluate(op, args, Type.I128, result, {"mode": mode})
            assert host.call("soft_" + op, *args, mode) == wanted, (mode, [hex(a) for a in args])
