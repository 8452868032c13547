"""REPE and REPNE CMPS and SCAS, natively; `string_ops` says how such helpers work."""

from __future__ import annotations

from pytcg.softmmu.access import load_sized
from pytcg_native import native, u32, u64
from pytcg_x86.core.segment import check_read
from pytcg_x86.core.state import Env, Seg
from pytcg_x86.integer.string_ops import (
    AGAIN,
    CHECKED,
    DONE,
    NOTHING,
    RCX,
    RDI,
    RSI,
    repeated,
    set_index,
    source_address,
    step_of,
)


@native(inline=True)
def compared_address(env: Env, where: u64, offset: u64, size: u64) -> u64:
    """Linear address of an element in ES that is only read."""
    if (where & CHECKED) != 0:
        return check_read(env, Seg.ES, offset, u32(size))
    return offset


@native
def rep_cmps(env: Env, where: u64, size: u64, mask: u64, equal: u32) -> u32:
    """CMPS while the elements are equal (``equal`` 1) or differ (0).

    The last pair compared is left in env.scratch[0] and [1]: the flags come of them.
    """
    count: u64 = env.gpr[RCX] & mask
    if count == 0:
        return NOTHING
    step: u64 = step_of(env, size)
    while True:
        from_offset: u64 = env.gpr[RSI] & mask
        to_offset: u64 = env.gpr[RDI] & mask
        left: u64 = load_sized(env, source_address(env, where, from_offset, size), u32(size))
        right: u64 = load_sized(env, compared_address(env, where, to_offset, size), u32(size))
        set_index(env, RSI, from_offset + step, mask)
        set_index(env, RDI, to_offset + step, mask)
        count -= 1
        set_index(env, RCX, count, mask)
        env.scratch[0] = left
        env.scratch[1] = right
        if count == 0 or u32(left == right) != equal:
            return DONE
        if env.exit_request != 0:
            return AGAIN


@native
def rep_scas(env: Env, where: u64, size: u64, mask: u64, equal: u32) -> u32:
    """SCAS while the elements equal the accumulator (``equal`` 1) or differ from it (0).

    The last element is left in env.scratch[0].
    """
    count: u64 = env.gpr[RCX] & mask
    if count == 0:
        return NOTHING
    step: u64 = step_of(env, size)
    wanted: u64 = repeated(env.gpr[0], size)
    while True:
        offset: u64 = env.gpr[RDI] & mask
        value: u64 = load_sized(env, compared_address(env, where, offset, size), u32(size))
        set_index(env, RDI, offset + step, mask)
        count -= 1
        set_index(env, RCX, count, mask)
        env.scratch[0] = value
        if count == 0 or u32(repeated(value, size) == wanted) != equal:
            return DONE
        if env.exit_request != 0:
            return AGAIN
