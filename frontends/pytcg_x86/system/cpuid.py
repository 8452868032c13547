"""CPUID: the model's answers, completed by what CR4 says (SDM vol. 2A)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytcg_native import call_host, native, ptr, u32, u64
from pytcg_x86.core.state import Cr4, Env, Host
from pytcg_x86.decode.table import lower, rows
from pytcg_x86.system.cpumodel import CpuModel, cpu_models
from pytcg_x86.system.features import FEATURES, Word
from pytcg_x86.system.msr import Msr
from pytcg_x86.system.xsave import area_end

if TYPE_CHECKING:
    from pytcg_x86.core.translate import Translator

rows("""
0f.a2  CPUID  nosize
""")

_OSXSAVE = 1 << 27  # leaf 1, ECX
_APIC = 1 << 9  # leaves 1 and 80000001H, EDX
_EN = 1 << 11  # IA32_APIC_BASE
_OSPKE = 1 << 4  # leaf 7, ECX


@native
def apic_enabled(env: Env, leaf: u32) -> bool:
    """Whether a leaf may tell of a local APIC: its enable bit is the board's (SDM 11.4.3)."""
    if leaf != 1 and leaf != 0x8000_0001:
        return True
    base: u64 = call_host(ptr(env.host[Host.READ_MSR]), "u64", u32(Msr.APIC_BASE))
    return env.scratch[0] != 0 or (base & _EN) != 0


@native
def cpuid(env: Env) -> None:
    """EAX, EBX, ECX, EDX := what there is at leaf EAX, subleaf ECX."""
    leaf: u32 = u32(env.gpr[0])
    enabled: bool = apic_enabled(env, leaf)
    call_host(ptr(env.host[Host.CPUID]), "void", leaf, u32(env.gpr[1]))
    if not enabled:
        env.scratch[3] = env.scratch[3] & ~u64(_APIC)
    if leaf == 1 and (env.cr4 & Cr4.OSXSAVE) != 0:
        env.scratch[2] = env.scratch[2] | _OSXSAVE
    if leaf == 0xD and u32(env.gpr[1]) < 2 and env.scratch[1] != 0:
        env.scratch[1] = area_end(env.xcr0, u32(env.gpr[1]) == 1)
    if leaf == 7 and (env.cr4 & Cr4.PKE) != 0 and u32(env.gpr[1]) == 0:
        env.scratch[2] = env.scratch[2] | _OSPKE
    env.gpr[0] = env.scratch[0] & 0xFFFF_FFFF
    env.gpr[3] = env.scratch[1] & 0xFFFF_FFFF
    env.gpr[1] = env.scratch[2] & 0xFFFF_FFFF
    env.gpr[2] = env.scratch[3] & 0xFFFF_FFFF


@lower("CPUID", dst="raw")
def cpuid_(t: Translator) -> None:
    """CPUID."""
    t.call(cpuid, t.env)


__all__ = ["FEATURES", "CpuModel", "Word", "cpu_models", "cpuid"]
