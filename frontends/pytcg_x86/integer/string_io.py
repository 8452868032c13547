"""INS and OUTS, natively; `string_ops` says how such helpers work."""

from __future__ import annotations

from pytcg.softmmu.access import load_sized, probe_write, store_sized
from pytcg_native import native, u32, u64
from pytcg_x86.core.state import Env
from pytcg_x86.integer.string_ops import (
    AGAIN,
    DONE,
    NOTHING,
    RCX,
    RDI,
    RSI,
    destination_address,
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
def rep_ins(env: Env, where: u64, size: u64, mask: u64) -> u32:
    """REP INS."""
    count: u64 = env.gpr[RCX] & mask
    if count == 0:
        return NOTHING
    while True:
        ins_element(env, where, size, mask)
        count -= 1
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
        outs_element(env, where, size, mask)
        count -= 1
        set_index(env, RCX, count, mask)
        if count == 0:
            return DONE
        if env.exit_request != 0:
            return AGAIN
