"""INS and OUTS, natively; `string_ops` says how such helpers work."""

from __future__ import annotations

from pytcg.exec.layout import PAGE_MASK, TlbEntry
from pytcg.softmmu.access import load_sized, probe_write, store_sized, tlb_entry
from pytcg_native import call_host, native, ptr, u32, u64
from pytcg_x86.core.state import Env, Host, Seg
from pytcg_x86.integer.string_ops import (
    AGAIN,
    DONE,
    NOTHING,
    RCX,
    RDI,
    RSI,
    destination_address,
    run_address,
    run_allowed,
    run_length,
    set_index,
    source_address,
    step_of,
)
from pytcg_x86.system.io import check_io, in_port, out_port


@native
def ins_element(env: Env, where: u64, size: u64, mask: u64) -> None:
    """One INS: the destination must be writable before the port, which may forget, is read."""
    port: u32 = u32(env.gpr[2] & 0xFFFF)
    check_io(env, port, u32(size))
    offset: u64 = env.gpr[RDI] & mask
    address: u64 = destination_address(env, where, offset, size)
    probe_write(env, address, size)
    store_sized(env, address, u32(size), u64(in_port(env, port, u32(size))))
    set_index(env, RDI, offset + step_of(env, size), mask)


@native
def outs_element(env: Env, where: u64, size: u64, mask: u64) -> None:
    """One OUTS."""
    port: u32 = u32(env.gpr[2] & 0xFFFF)
    check_io(env, port, u32(size))
    offset: u64 = env.gpr[RSI] & mask
    value: u64 = load_sized(env, source_address(env, where, offset, size), u32(size))
    out_port(env, port, u32(size), u32(value))
    set_index(env, RSI, offset + step_of(env, size), mask)


@native
def ins_run(env: Env, where: u64, size: u64, mask: u64, count: u64) -> u64:
    """Upwards within the page at hand, by one call; returns how many elements were read."""
    if env.host[Host.READ_PORTS] == 0:
        return 0
    offset: u64 = env.gpr[RDI] & mask
    step: u64 = step_of(env, size)
    target: u64 = run_address(env, where, Seg.ES, offset)
    run: u64 = run_length(target, offset, size, step, mask)
    if count < run:
        run = count
    entry: TlbEntry = tlb_entry(env, target)
    if run < 2 or step != size or entry.write != target & PAGE_MASK:
        return 0
    if not run_allowed(env, where, Seg.ES, offset, size, step, run, 1):
        return 0
    port: u32 = u32(env.gpr[2] & 0xFFFF)
    check_io(env, port, u32(size))
    run = call_host(ptr(env.host[Host.READ_PORTS]), "u64", port, u32(size), run,
                    target + entry.addend)  # fmt: skip
    set_index(env, RDI, offset + run * step, mask)
    return run


@native
def outs_run(env: Env, where: u64, size: u64, mask: u64, count: u64) -> u64:
    """The same for OUTS."""
    if env.host[Host.WRITE_PORTS] == 0:
        return 0
    offset: u64 = env.gpr[RSI] & mask
    step: u64 = step_of(env, size)
    source: u64 = run_address(env, where, where & 7, offset)
    run: u64 = run_length(source, offset, size, step, mask)
    if count < run:
        run = count
    entry: TlbEntry = tlb_entry(env, source)
    if run < 2 or step != size or entry.read != source & PAGE_MASK:
        return 0
    if not run_allowed(env, where, where & 7, offset, size, step, run, 0):
        return 0
    port: u32 = u32(env.gpr[2] & 0xFFFF)
    check_io(env, port, u32(size))
    run = call_host(ptr(env.host[Host.WRITE_PORTS]), "u64", port, u32(size), run,
                    source + entry.addend)  # fmt: skip
    set_index(env, RSI, offset + run * step, mask)
    return run


@native
def rep_ins(env: Env, where: u64, size: u64, mask: u64) -> u32:
    """REP INS."""
    count: u64 = env.gpr[RCX] & mask
    if count == 0:
        return NOTHING
    while True:
        moved: u64 = 0
        if env.exit_request == 0:
            moved = ins_run(env, where, size, mask, count)
        if moved == 0:
            ins_element(env, where, size, mask)
            moved = 1
        count -= moved
        set_index(env, RCX, count, mask)
        if count == 0:
            return DONE
        if env.exit_request != 0:
            return AGAIN


@native
def rep_outs(env: Env, where: u64, size: u64, mask: u64) -> u32:
    """REP OUTS."""
    count: u64 = env.gpr[RCX] & mask
    if count == 0:
        return NOTHING
    while True:
        moved: u64 = 0
        if env.exit_request == 0:
            moved = outs_run(env, where, size, mask, count)
        if moved == 0:
            outs_element(env, where, size, mask)
            moved = 1
        count -= moved
        set_index(env, RCX, count, mask)
        if count == 0:
            return DONE
        if env.exit_request != 0:
            return AGAIN
