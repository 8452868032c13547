"""The guest's MXCSR and the host's: while guest code runs, the host's FPU is the guest's.

The host holds the guest's rounding mode, FTZ and DAZ, with every exception masked (an unmasked one
would be a signal to this process), and collects sticky flags. `env.mxcsr` holds what the guest
loaded. The guest's MXCSR is therefore `env.mxcsr` | the host's flags.

An unmasked exception is found after the operation, before its result is written: `xm_check` in a
float lowering tests the masks, and only if one is clear looks at the flags. Before that the host's
flags are always empty, since every change of MXCSR and every such check empties them.

Callbacks into Python run with the host's default MXCSR (`call_host` sees to that): neither does
the guest's rounding reach a device model, nor Python's sticky flags the guest.
"""

from __future__ import annotations

from enum import IntFlag

from pytcg.exec.dispatch import cpu_exec
from pytcg.exec.layout import ExecEnv
from pytcg_native import get_mxcsr, native, set_mxcsr, u32
from pytcg_x86.core.exceptions import raise_exception
from pytcg_x86.core.state import Cr4, Env, Vector


class Mxcsr(IntFlag):
    """Mode bits of MXCSR (SDM vol. 1, 10.2.3)."""

    DAZ = 1 << 6
    FTZ = 1 << 15


FLAGS = 0x3F
BEFORE = 0x7
"""IE, DE, ZE: exceptions that operands alone raise."""
MASKS = 0x1F80
UM = 1 << 11
VALID = 0xFFFF
"""MXCSR_MASK: DAZ is there, bits 16-31 are reserved."""


@native
def mxcsr_value(env: Env) -> u32:
    """MXCSR as the guest sees it."""
    value: u32 = env.mxcsr | (get_mxcsr() & FLAGS)
    return value


@native(inline=True)
def host_value(value: u32) -> u32:
    """The host's MXCSR for a guest's: everything masked, and FTZ if underflow is not masked.

    An unmasked underflow is an exception even if the result is exact (SDM vol. 1, 4.9.1.5), which
    one that is masked doesn't tell; flushing to zero does, and the result is not used then.
    """
    host: u32 = (value & (VALID ^ FLAGS)) | MASKS
    return host if (value & UM) != 0 else host | u32(Mxcsr.FTZ)


@native
def mxcsr_load(env: Env, value: u32) -> None:
    """Make ``value``, already checked, the guest's MXCSR."""
    env.mxcsr = value
    set_mxcsr(host_value(value))


@native
def guest_run(env: Env) -> u32:
    """`cpu_exec` with the guest's MXCSR in the host's place."""
    saved: u32 = get_mxcsr()
    set_mxcsr(host_value(env.mxcsr))
    reason: u32 = cpu_exec(ExecEnv(env))
    env.mxcsr = mxcsr_value(env)
    set_mxcsr(saved)
    return reason


@native
def mxcsr_unmasked(env: Env) -> None:
    """Some exception is unmasked: #XM (or #UD without CR4.OSXMMEXCPT) if it has just occurred."""
    raised: u32 = get_mxcsr() & FLAGS
    if raised == 0:
        return
    if (raised & BEFORE & ~(env.mxcsr >> 7)) != 0:
        raised = raised & BEFORE  # no lane's result is computed (SDM vol. 1, 11.5.2)
    mxcsr_load(env, env.mxcsr | raised)
    if (raised & ~(env.mxcsr >> 7)) != 0:
        if (env.cr4 & Cr4.OSXMMEXCPT) != 0:
            raise_exception(env, Vector.XM)
        raise_exception(env, Vector.UD)
