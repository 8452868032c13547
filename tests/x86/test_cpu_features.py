"""What CPUID denies is not there: #UD, or what the encoding meant before."""

from __future__ import annotations

import pytest

from pytcg.cpu import Cpu
from pytcg.errors import CpuError
from pytcg_x86.core.state import Vector
from x86.assemble import assemble

CODE = 0x1000


def run(model: str, code: bytes, mode: str = "long", **regs: int) -> tuple[int | None, Cpu]:
    """The exception of one instruction, if any."""
    cpu = Cpu(mode=mode, engine="threaded", model=model)
    cpu.map(0, 0x4000)
    cpu.write(CODE, code)
    for name, value in regs.items():
        cpu.regs[name] = value
    return cpu.run(CODE, max_insns=1).vector, cpu


@pytest.mark.parametrize(("model", "text"), [
    ("kvm64", "pshufb xmm0, xmm1"), ("kvm64", "popcnt eax, ecx"), ("kvm64", "crc32 eax, cl"),
    ("Nehalem", "aesenc xmm0, xmm1"), ("Haswell", "adcx eax, ecx"), ("kvm64", "movbe eax, [rbx]"),
    ("max,-sha-ni", "sha1msg1 xmm0, xmm1"), ("max,-cx16", "cmpxchg16b [rbx]"),
    ("max,-lahf-lm", "lahf"), ("max,-clflush", "clflush [rbx]"),
    ("max,-sse2", "paddd xmm0, xmm1"), ("max,-fxsr", "fxsave [rbx]"),
    ("max,-cmov", "cmovz eax, ecx"),
])  # fmt: skip
def test_instruction_is_undefined_without_its_feature(model: str, text: str) -> None:
    code = assemble(text)
    assert run(model, code, rbx=0x2000)[0] == Vector.UD
    assert run("max", code, rbx=0x2000)[0] is None


@pytest.mark.parametrize(("model", "text"), [
    ("486", "cmovz eax, ecx"), ("486", "rdtsc"), ("pentium", "fxsave [ebx]"),
    ("486", "cmpxchg8b [ebx]"),
    ("pentium2", "addps xmm0, xmm1"), ("pentium3", "addpd xmm0, xmm1"), ("486", "paddb mm0, mm1"),
    ("pentium2", "pavgb mm0, mm1"), ("pentium", "sysenter"),
])  # fmt: skip
def test_old_processors_lack_what_came_later(model: str, text: str) -> None:
    assert run(model, assemble(text, 32), "protected", ebx=0x2000)[0] == Vector.UD


def test_lzcnt_is_bsr_on_a_processor_without_it() -> None:
    code = assemble("lzcnt eax, ecx")
    assert run("max", code, rcx=0x100)[1].regs["rax"] == 23
    assert run("max,-abm", code, rcx=0x100)[1].regs["rax"] == 8


def test_control_register_bits_need_their_features() -> None:
    for model, wanted in (("486", Vector.GP), ("pentium2", None)):
        code = assemble("mov cr4, eax", 32)
        assert run(model, code, "protected", eax=0x20)[0] == wanted  # PAE


def test_long_mode_needs_lm() -> None:
    with pytest.raises(CpuError, match="has no long mode"):
        Cpu(mode="long", model="pentium3")
    code = assemble("wrmsr", 32)
    regs = {"ecx": 0xC000_0080, "eax": 0x100, "edx": 0}
    assert run("pentium3", code, "protected", **regs)[0] == Vector.GP
    assert run("qemu64", code, "protected", **regs)[0] is None
