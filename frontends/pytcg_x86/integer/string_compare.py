"""REPE and REPNE CMPS and SCAS, natively; `string_ops` says how such helpers work."""

from __future__ import annotations

from pytcg.exec.layout import PAGE_MASK, TlbEntry
from pytcg.softmmu.access import load_sized, tlb_entry
from pytcg_native import load64, load128, native, ptr, u32, u64, u128
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
    run_address,
    run_allowed,
    run_length,
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


# Runs within a page ----------------------------------------------------------------------------


@native(inline=True)
def lane_ones(size: u64) -> u64:
    """1 in each lane of ``size`` bytes."""
    return repeated(1, size)


@native(inline=True)
def any_lane_zero(x: u64, ones: u64, highs: u64) -> bool:
    """Whether one of the lanes is 0: only then a borrow turns a top bit on that was off."""
    return ((x - ones) & ~x & highs) != 0


@native
def same_length(env: Env, left: u64, right: u64, length: u64) -> u64:
    """Bytes that are surely the same at two places in the RAM window, at most ``length``."""
    at: u64 = 0
    while at + 16 <= length:
        if load128(ptr(env.ram), left + at) != load128(ptr(env.ram), right + at):
            break
        at += 16
    return at


@native
def differing_length(env: Env, left: u64, right: u64, length: u64, size: u64) -> u64:
    """Bytes in which surely no two elements are the same."""
    ones: u64 = lane_ones(size)
    highs: u64 = ones << (8 * size - 1)
    at: u64 = 0
    while at + 8 <= length:
        x: u64 = load64(ptr(env.ram), left + at) ^ load64(ptr(env.ram), right + at)
        if any_lane_zero(x, ones, highs):
            break
        at += 8
    return at


@native
def filled_length(env: Env, place: u64, length: u64, pattern: u64) -> u64:
    """Bytes that surely repeat an 8-byte pattern."""
    wide: u128 = u128(pattern) << 64 | u128(pattern)
    at: u64 = 0
    while at + 16 <= length:
        if load128(ptr(env.ram), place + at) != wide:
            break
        at += 16
    return at


@native
def free_length(env: Env, place: u64, length: u64, pattern: u64, size: u64) -> u64:
    """Bytes in which surely no element is that of the pattern."""
    ones: u64 = lane_ones(size)
    highs: u64 = ones << (8 * size - 1)
    at: u64 = 0
    while at + 16 <= length:
        low: u64 = load64(ptr(env.ram), place + at) ^ pattern
        high: u64 = load64(ptr(env.ram), place + at + 8) ^ pattern
        if any_lane_zero(low, ones, highs) or any_lane_zero(high, ones, highs):
            break
        at += 16
    return at


@native
def cmps_run(env: Env, where: u64, size: u64, mask: u64, count: u64, equal: u32) -> u64:
    """Pass over pairs at hand, forward, that neither end the repetition nor are its last."""
    from_offset: u64 = env.gpr[RSI] & mask
    to_offset: u64 = env.gpr[RDI] & mask
    source: u64 = run_address(env, where, where & 7, from_offset)
    target: u64 = run_address(env, where, Seg.ES, to_offset)
    run: u64 = run_length(source, from_offset, size, size, mask)
    other: u64 = run_length(target, to_offset, size, size, mask)
    if other < run:
        run = other
    if count - 1 < run:
        run = count - 1
    one: TlbEntry = tlb_entry(env, source)
    two: TlbEntry = tlb_entry(env, target)
    if run == 0 or one.read != source & PAGE_MASK or two.read != target & PAGE_MASK:
        return 0
    if not run_allowed(env, where, where & 7, from_offset, size, size, run, 0):
        return 0
    if not run_allowed(env, where, Seg.ES, to_offset, size, size, run, 0):
        return 0
    left: u64 = source + one.addend
    right: u64 = target + two.addend
    passed: u64 = 0
    if equal != 0:
        passed = same_length(env, left, right, run * size)
    else:
        passed = differing_length(env, left, right, run * size, size)
    set_index(env, RSI, from_offset + passed, mask)
    set_index(env, RDI, to_offset + passed, mask)
    return passed // size


@native
def scas_run(env: Env, where: u64, size: u64, mask: u64, count: u64, equal: u32) -> u64:
    """The same for elements compared with the accumulator."""
    offset: u64 = env.gpr[RDI] & mask
    target: u64 = run_address(env, where, Seg.ES, offset)
    run: u64 = run_length(target, offset, size, size, mask)
    if count - 1 < run:
        run = count - 1
    entry: TlbEntry = tlb_entry(env, target)
    if run == 0 or entry.read != target & PAGE_MASK:
        return 0
    if not run_allowed(env, where, Seg.ES, offset, size, size, run, 0):
        return 0
    place: u64 = target + entry.addend
    pattern: u64 = repeated(env.gpr[0], size)
    passed: u64 = 0
    if equal != 0:
        passed = filled_length(env, place, run * size, pattern)
    else:
        passed = free_length(env, place, run * size, pattern, size)
    set_index(env, RDI, offset + passed, mask)
    return passed // size


# REP CMPS, SCAS --------------------------------------------------------------------------------


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
        if env.exit_request == 0 and step == size:
            count -= cmps_run(env, where, size, mask, count, equal)
            set_index(env, RCX, count, mask)
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
        if env.exit_request == 0 and step == size:
            count -= scas_run(env, where, size, mask, count, equal)
            set_index(env, RCX, count, mask)
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
