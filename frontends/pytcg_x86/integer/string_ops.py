"""REP MOVS, STOS and LODS, natively: many iterations a call, whole page runs where possible.

CMPS and SCAS are in `string_compare`, INS and OUTS in `string_io`. Each helper stops where a fault,
a request to leave (`env.exit_request`) or the end of the count makes it, with rCX, rSI and rDI
exactly as that many single iterations leave them. While both pages of a transfer are plain RAM in
the TLB, a run within them is done on host memory; overlapping operands get the result of going
element by element. A request to leave that is there already (TF is set, say) gets one iteration.
"""

from __future__ import annotations

from pytcg.exec.layout import PAGE_MASK, PAGE_SIZE, TlbEntry
from pytcg.softmmu.access import (
    host_load,
    load_sized,
    store_sized,
    tlb_entry,
)
from pytcg_native import (
    load8,
    load16,
    load32,
    load64,
    load128,
    native,
    ptr,
    store8,
    store16,
    store32,
    store64,
    store128,
    u8,
    u32,
    u64,
)
from pytcg_x86.core.modes import update_mode
from pytcg_x86.core.segment import accepted, check_read, check_write
from pytcg_x86.core.state import Env, Flag, Seg

RCX, RSI, RDI = 1, 6, 7
CHECKED = 8
"""``segment`` | CHECKED: accesses go through the segment checks; else they are flat."""

# What a helper returns.
NOTHING, DONE, AGAIN = 0, 1, 2
_OFFSET = PAGE_SIZE - 1


# Index registers -------------------------------------------------------------------------------


@native(inline=True)
def set_index(env: Env, number: u64, value: u64, mask: u64) -> None:
    """Write rCX, rSI or rDI at the address size; 32-bit writes clear the upper half."""
    if mask == 0xFFFF:
        env.gpr[number] = (env.gpr[number] & ~0xFFFF) | (value & 0xFFFF)
    else:
        env.gpr[number] = value & mask


@native(inline=True)
def step_of(env: Env, size: u64) -> u64:
    """What to add to an index after each element: ``size``, or its negative if DF is set."""
    if (env.eflags & Flag.DF) != 0:
        return -size
    return size


@native(inline=True)
def source_address(env: Env, where: u64, offset: u64, size: u64) -> u64:
    """Linear address of a source element; ``where`` is its segment, perhaps with CHECKED."""
    segment: u64 = where & 7
    if (where & CHECKED) != 0:
        return check_read(env, segment, offset, u32(size))
    base: u64 = 0
    if segment >= Seg.FS:
        base = env.seg_base[segment]
    return base + offset


@native(inline=True)
def destination_address(env: Env, where: u64, offset: u64, size: u64) -> u64:
    """Linear address of a destination element, always in ES."""
    if (where & CHECKED) != 0:
        return check_write(env, Seg.ES, offset, u32(size))
    return offset


@native
def set_resume(env: Env) -> None:
    """Between two iterations an interrupt's or trap's frame has RF set (SDM vol. 3B, 18.3.1.1)."""
    if (env.watch_mask | env.port_mask) != 0 and (env.step_pending | env.break_mask) == 0:
        return  # nothing looks at it, and while these are armed it would mean single iterations
    env.eflags |= Flag.RF
    update_mode(env)


# One element -----------------------------------------------------------------------------------


@native
def move_element(env: Env, target: u64, source: u64, size: u64) -> None:
    """One element between host addresses, given as offsets in the RAM window."""
    if size == 1:
        store8(ptr(env.ram), target, load8(ptr(env.ram), source))
    elif size == 2:
        store16(ptr(env.ram), target, load16(ptr(env.ram), source))
    elif size == 4:
        store32(ptr(env.ram), target, load32(ptr(env.ram), source))
    else:
        store64(ptr(env.ram), target, load64(ptr(env.ram), source))


# Runs within a page ----------------------------------------------------------------------------


@native(inline=True)
def run_length(address: u64, offset: u64, size: u64, step: u64, mask: u64) -> u64:
    """Elements from ``address`` on, in the direction of ``step``, that lie in its page whole.

    0 if not even the first does. Those by which the offset may wrap at the address size are none.
    """
    within: u64 = address & _OFFSET
    if within + size > PAGE_SIZE:
        return 0
    run: u64 = within // size + 1
    room: u64 = offset // size
    if step == size:
        run = (PAGE_SIZE - within) // size
        room = (mask - offset) // size
    return run if run < room else room


@native(inline=True)
def run_address(env: Env, where: u64, segment: u64, offset: u64) -> u64:
    """Linear address of a run's first element; `run_allowed` checks it."""
    if (where & CHECKED) != 0:
        return (env.seg_base[segment] + offset) & 0xFFFF_FFFF
    base: u64 = 0
    if segment >= Seg.FS:
        base = env.seg_base[segment]
    return base + offset


@native(inline=True)
def run_allowed(env: Env, where: u64, segment: u64, offset: u64, size: u64, step: u64, run: u64,
                write: u32) -> bool:  # fmt: skip
    """Whether the segment lets all of a run through; else element by element finds out."""
    if (where & CHECKED) == 0:
        return True
    lowest: u64 = offset
    if step != size:
        lowest = offset - (run - 1) * size
    return accepted(env, segment, lowest, run * size, write)


@native
def copy_run(env: Env, target: u64, source: u64, count: u64, size: u64, step: u64) -> None:
    """``count`` elements between offsets in the RAM window."""
    at: u64 = 0
    # Sixteen bytes at a time are the same as one by one unless the target begins within the
    # sixteen bytes after the source: then each element must see what the ones before it stored.
    if step == size and target - source >= 16:
        length: u64 = count * size
        while at + 16 <= length:
            store128(ptr(env.ram), target + at, load128(ptr(env.ram), source + at))
            at += 16
        while at < length:
            store8(ptr(env.ram), target + at, load8(ptr(env.ram), source + at))
            at += 1
        return
    for _i in range(count):
        move_element(env, target + at, source + at, size)
        at += step


@native
def fill_run(env: Env, target: u64, length: u64, pattern: u64) -> None:
    """Fill ``length`` bytes with a pattern of 8 bytes whose phase is that of ``target``."""
    at: u64 = 0
    while at + 8 <= length:
        store64(ptr(env.ram), target + at, pattern)
        at += 8
    while at < length:
        store8(ptr(env.ram), target + at, u8(pattern >> ((at & 7) * 8)))
        at += 1


@native
def repeated(value: u64, size: u64) -> u64:
    """An element repeated through 8 bytes."""
    if size == 1:
        return (value & 0xFF) * 0x0101_0101_0101_0101
    if size == 2:
        return (value & 0xFFFF) * 0x0001_0001_0001_0001
    if size == 4:
        return (value & 0xFFFF_FFFF) * 0x0000_0001_0000_0001
    return value


# REP MOVS, STOS, LODS --------------------------------------------------------------------------


@native
def movs_run(env: Env, where: u64, size: u64, mask: u64, count: u64) -> u64:
    """Move elements as long as both pages are at hand; returns how many were moved."""
    from_offset: u64 = env.gpr[RSI] & mask
    to_offset: u64 = env.gpr[RDI] & mask
    source: u64 = run_address(env, where, where & 7, from_offset)
    target: u64 = run_address(env, where, Seg.ES, to_offset)
    step: u64 = step_of(env, size)
    run: u64 = run_length(source, from_offset, size, step, mask)
    other: u64 = run_length(target, to_offset, size, step, mask)
    if other < run:
        run = other
    if count < run:
        run = count
    readable: TlbEntry = tlb_entry(env, source)
    writable: TlbEntry = tlb_entry(env, target)
    if run == 0 or readable.read != source & PAGE_MASK or writable.write != target & PAGE_MASK:
        return 0
    if not run_allowed(env, where, where & 7, from_offset, size, step, run, 0):
        return 0
    if not run_allowed(env, where, Seg.ES, to_offset, size, step, run, 1):
        return 0
    copy_run(env, target + writable.addend, source + readable.addend, run, size, step)
    set_index(env, RSI, from_offset + run * step, mask)
    set_index(env, RDI, to_offset + run * step, mask)
    return run


@native
def movs_element(env: Env, where: u64, size: u64, mask: u64) -> u64:
    """One iteration by way of the TLB, which then knows both pages."""
    from_offset: u64 = env.gpr[RSI] & mask
    to_offset: u64 = env.gpr[RDI] & mask
    value: u64 = load_sized(env, source_address(env, where, from_offset, size), u32(size))
    store_sized(env, destination_address(env, where, to_offset, size), u32(size), value)
    step: u64 = step_of(env, size)
    set_index(env, RSI, from_offset + step, mask)
    set_index(env, RDI, to_offset + step, mask)
    return 1


@native
def rep_movs(env: Env, where: u64, size: u64, mask: u64) -> u32:
    """REP MOVS."""
    count: u64 = env.gpr[RCX] & mask
    if count == 0:
        return NOTHING
    while True:
        moved: u64 = 0
        if env.exit_request == 0:
            moved = movs_run(env, where, size, mask, count)
        if moved == 0:
            moved = movs_element(env, where, size, mask)
        count -= moved
        set_index(env, RCX, count, mask)
        if count == 0:
            return DONE
        if env.exit_request != 0:
            return AGAIN


@native
def stos_run(env: Env, where: u64, size: u64, mask: u64, count: u64) -> u64:
    """Fill within the page at hand; returns how many elements were stored."""
    offset: u64 = env.gpr[RDI] & mask
    step: u64 = step_of(env, size)
    target: u64 = run_address(env, where, Seg.ES, offset)
    run: u64 = run_length(target, offset, size, step, mask)
    if count < run:
        run = count
    entry: TlbEntry = tlb_entry(env, target)
    if run == 0 or entry.write != target & PAGE_MASK:
        return 0
    if not run_allowed(env, where, Seg.ES, offset, size, step, run, 1):
        return 0
    lowest: u64 = target
    if step != size:
        lowest = target - (run - 1) * size
    fill_run(env, lowest + entry.addend, run * size, repeated(env.gpr[0], size))
    set_index(env, RDI, offset + run * step, mask)
    return run


@native
def stos_element(env: Env, where: u64, size: u64, mask: u64) -> u64:
    offset: u64 = env.gpr[RDI] & mask
    store_sized(env, destination_address(env, where, offset, size), u32(size), env.gpr[0])
    set_index(env, RDI, offset + step_of(env, size), mask)
    return 1


@native
def rep_stos(env: Env, where: u64, size: u64, mask: u64) -> u32:
    """REP STOS."""
    count: u64 = env.gpr[RCX] & mask
    if count == 0:
        return NOTHING
    while True:
        stored: u64 = 0
        if env.exit_request == 0:
            stored = stos_run(env, where, size, mask, count)
        if stored == 0:
            stored = stos_element(env, where, size, mask)
        count -= stored
        set_index(env, RCX, count, mask)
        if count == 0:
            return DONE
        if env.exit_request != 0:
            return AGAIN


@native
def set_accumulator(env: Env, size: u64, value: u64) -> None:
    """AL, AX, EAX (clearing the upper half) or RAX."""
    if size == 1:
        env.gpr[0] = (env.gpr[0] & ~0xFF) | value
    elif size == 2:
        env.gpr[0] = (env.gpr[0] & ~0xFFFF) | value
    else:
        env.gpr[0] = value


@native
def lods_run(env: Env, where: u64, size: u64, mask: u64, count: u64) -> u64:
    """Pass over elements in the page at hand that another one follows; the last one is seen."""
    offset: u64 = env.gpr[RSI] & mask
    source: u64 = run_address(env, where, where & 7, offset)
    step: u64 = step_of(env, size)
    run: u64 = run_length(source, offset, size, step, mask)
    if count - 1 < run:
        run = count - 1
    entry: TlbEntry = tlb_entry(env, source)
    if run == 0 or entry.read != source & PAGE_MASK:
        return 0
    if not run_allowed(env, where, where & 7, offset, size, step, run, 0):
        return 0
    last: u64 = source + (run - 1) * step
    set_accumulator(env, size, host_load(env, last + entry.addend, u32(size)))
    set_index(env, RSI, offset + run * step, mask)
    return run


@native
def rep_lods(env: Env, where: u64, size: u64, mask: u64) -> u32:
    """REP LODS."""
    count: u64 = env.gpr[RCX] & mask
    if count == 0:
        return NOTHING
    while True:
        if env.exit_request == 0:
            count -= lods_run(env, where, size, mask, count)
            set_index(env, RCX, count, mask)
        offset: u64 = env.gpr[RSI] & mask
        value: u64 = load_sized(env, source_address(env, where, offset, size), u32(size))
        set_accumulator(env, size, value)
        set_index(env, RSI, offset + step_of(env, size), mask)
        count -= 1
        set_index(env, RCX, count, mask)
        if count == 0:
            return DONE
        if env.exit_request != 0:
            return AGAIN
