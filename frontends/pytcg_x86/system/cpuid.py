"""CPUID: the model's answers, completed by what CR4 says (SDM vol. 2A)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytcg_native import call_host, native, ptr, u32
from pytcg_x86.core.state import Cr4, Env, Host
from pytcg_x86.decode.table import lower, rows
from pytcg_x86.system.cpumodel import CpuModel, cpu_models
from pytcg_x86.system.features import FEATURES, Word
from pytcg_x86.system.xsave import area_end

if TYPE_CHECKING:
    from pytcg_x86.core.translate import Translator

rows("""
0f.a2  CPUID  nosize
""")

_OSXSAVE = 1 << 27  # leaf 1, ECX
_OSPKE = 1 << 4  # leaf 7, ECX


@native
def cpuid(env: Env) -> None:
    """EAX, EBX, ECX, EDX := what there is at leaf EAX, subleaf ECX."""
    leaf: u32 = u32(env.gpr[0])
    call_host(ptr(env.host[Host.CPUID]), "void", leaf, u32(env.gpr[1]))
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
