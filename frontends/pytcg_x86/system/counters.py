"""Performance counters: RDPMC and the architectural fixed counters' MSRs (SDM vol. 3B, chapter 20).

Version 2 of the architecture with its three fixed counters and none for general use: instructions,
cycles and reference cycles (both the time stamp counter's). A counter that is enabled for any
level counts at all levels; none interrupts when it overflows. They are there with ``pmu=on`` only.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

from pytcg_native import cycles, native, u32, u64
from pytcg_x86.core.exceptions import raise_error
from pytcg_x86.core.state import Cr0, Cr4, Env, Vector
from pytcg_x86.decode.table import lower, rows
from pytcg_x86.system.features import COUNTER_BITS, FIXED_COUNTERS, Word

if TYPE_CHECKING:
    from pytcg_x86.core.translate import Translator

rows("""
0f.33  RDPMC  branch nosize
""")

_WIDTH_MASK = (1 << COUNTER_BITS) - 1
_FIXED = 1 << 30  # in ECX of RDPMC: the fixed counters
_PMU = 1 << 0  # in the word `Word.PRIVATE`
_GLOBAL_SHIFT = 32  # of the fixed counters in IA32_PERF_GLOBAL_CTRL
_CONTROL_MASK = 0xBBB  # IA32_FIXED_CTR_CTRL: OS, USR and PMI for each


class PerfMsr(IntEnum):
    """Indices (SDM vol. 4)."""

    FIXED_CTR0 = 0x309
    FIXED_CTR2 = 0x30B
    FIXED_CTR_CTRL = 0x38D
    GLOBAL_STATUS = 0x38E
    GLOBAL_CTRL = 0x38F
    GLOBAL_OVF_CTRL = 0x390


@native
def has_counters(env: Env) -> bool:
    return (env.cpuid_features[Word.PRIVATE] & _PMU) != 0


@native
def is_counter_msr(env: Env, index: u32) -> bool:
    """Whether an MSR is one of these."""
    if not has_counters(env):
        return False
    if PerfMsr.FIXED_CTR_CTRL <= index <= PerfMsr.GLOBAL_OVF_CTRL:
        return True
    return PerfMsr.FIXED_CTR0 <= index <= PerfMsr.FIXED_CTR2


@native
def events(env: Env, number: u64) -> u64:
    """What a counter would have counted since the processor's start."""
    if number == 0:
        return env.retired - u64(env.budget)
    return cycles()


@native
def is_counting(env: Env, number: u64) -> bool:
    """Whether a counter is enabled, by both of its control registers."""
    levels: u64 = (env.pmc_control >> (number * 4)) & 3
    return levels != 0 and ((env.pmc_global >> (number + _GLOBAL_SHIFT)) & 1) != 0


@native
def counter(env: Env, number: u64) -> u64:
    """A counter's value. What is kept is the value, less the events while it counts."""
    value: u64 = env.pmc[number]
    if is_counting(env, number):
        value += events(env, number)
    return value & _WIDTH_MASK


@native
def set_counter(env: Env, number: u64, value: u64) -> None:
    if is_counting(env, number):
        env.pmc[number] = value - events(env, number)
    else:
        env.pmc[number] = value


@native
def set_controls(env: Env, control: u64, enabled: u64) -> None:
    """Both control registers, with the counters' values as they are."""
    for i in range(u64(0), u64(FIXED_COUNTERS)):
        env.pmc[i] = counter(env, i)
    env.pmc_control = control
    env.pmc_global = enabled
    for k in range(u64(0), u64(FIXED_COUNTERS)):
        set_counter(env, k, env.pmc[k])


@native
def read_counter_msr(env: Env, index: u32) -> u64:
    if index <= PerfMsr.FIXED_CTR2:
        return counter(env, u64(index - PerfMsr.FIXED_CTR0))
    if index == PerfMsr.FIXED_CTR_CTRL:
        return env.pmc_control
    if index == PerfMsr.GLOBAL_CTRL:
        return env.pmc_global
    return 0  # no overflow is noted


@native
def write_counter_msr(env: Env, index: u32, value: u64) -> None:
    """#GP(0) for reserved bits, and for the status, which can only be read."""
    known: u64 = u64(7) << _GLOBAL_SHIFT
    if index <= PerfMsr.FIXED_CTR2:
        known = _WIDTH_MASK
    elif index == PerfMsr.FIXED_CTR_CTRL:
        known = _CONTROL_MASK
    elif index == PerfMsr.GLOBAL_OVF_CTRL:
        known = known | u64(3) << 62
    if index == PerfMsr.GLOBAL_STATUS or (value & ~known) != 0:
        raise_error(env, Vector.GP, 0)
    if index <= PerfMsr.FIXED_CTR2:
        set_counter(env, u64(index - PerfMsr.FIXED_CTR0), value)
    elif index == PerfMsr.FIXED_CTR_CTRL:
        set_controls(env, value, env.pmc_global)
    elif index == PerfMsr.GLOBAL_CTRL:
        set_controls(env, env.pmc_control, value)


@native
def read_performance_counter(env: Env) -> None:
    """RDPMC: EDX:EAX := the counter in ECX; above level 0 if CR4.PCE only."""
    number: u64 = (env.gpr[1] & 0xFFFF_FFFF) - _FIXED
    forbidden: bool = (env.cr4 & Cr4.PCE) == 0 and env.cpl != 0 and (env.cr0 & Cr0.PE) != 0
    if forbidden or not has_counters(env) or number >= FIXED_COUNTERS:
        raise_error(env, Vector.GP, 0)
    value: u64 = counter(env, number)
    env.gpr[0] = value & 0xFFFF_FFFF
    env.gpr[2] = value >> 32


@lower("RDPMC", dst="raw")
def rdpmc(t: Translator) -> None:
    """RDPMC. It ends its block: only then the budget tells how many instructions there were."""
    t.call(read_performance_counter, t.env)
    t.lookup(t.next_pc())
