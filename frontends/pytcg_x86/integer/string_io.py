"""INS and OUTS, natively; `string_ops` says how such helpers work."""

from __future__ import annotations

from pytcg.exec.layout import PAGE_MASK, TlbEntry
from pytcg.softmmu.access import load_sized, probe_write, store_sized, tlb_entry
from pytcg_native import NULL, call_host, native, ptr, u32, u64
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
def port_run(env: Env, where: u64, size: u64, mask: u64, count: u64, index: u64, segment: u64,
             write: u32, callback: ptr) -> u64:  # fmt: skip
    """Upwards within the page at hand, by one call; returns how many elements were moved.

    ``index`` is the register that points into ``segment``; ``write`` is 1 where memory is stored.
    """
    if callback == NULL:
        return 0
    offset: u64 = env.gpr[index] & mask
    step: u64 = step_of(env, size)
    place: u64 = run_address(env, where, segment, offset)
    run: u64 = run_length(place, offset, size, step, mask)
    if count < run:
        run = count
    entry: TlbEntry = tlb_entry(env, place)
    tag: u64 = entry.write if write != 0 else entry.read
    if run < 2 or step != size or tag != place & PAGE_MASK:
        return 0
    if not run_allowed(env, where, segment, offset, size, step, run, write):
        return 0
    port: u32 = u32(env.gpr[2] & 0xFFFF)
    check_io(env, port, u32(size))
    run = call_host(callback, "u64", port, u32(size), run, place + entry.addend)
    set_index(env, index, offset + run * step, mask)
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
            moved = port_run(env, where, size, mask, count, RDI, Seg.ES, 1,
                             ptr(env.host[Host.READ_PORTS]))  # fmt: skip
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
            moved = port_run(env, where, size, mask, count, RSI, where & 7, 0,
                             ptr(env.host[Host.WRITE_PORTS]))  # fmt: skip
        if moved == 0:
            outs_element(env, where, size, mask)
            moved = 1
        count -= moved
        set_index(env, RCX, count, mask)
        if count == 0:
            return DONE
        if env.exit_request != 0:
            return AGAIN
