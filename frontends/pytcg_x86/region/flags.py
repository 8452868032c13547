"""Flags that a region hands over as an operation and its operands, and what they come to."""

from __future__ import annotations

from enum import IntEnum

from pytcg.exec.dispatch import tb_find
from pytcg.exec.invalidate import enters_region, jump_slot
from pytcg.exec.layout import Jump, Tb
from pytcg_native import i64, likely, native, ptr, u8, u32, u64
from pytcg_x86.core.state import Env

KIND_SIZE = 4
"""Where `env.cc_kind` has the size code (8 << code bits), above the operation."""


class Operation(IntEnum):
    """What made the flags."""

    SLOTS = 0   # nothing: they are in their slots
    INC = 1     # the carry is in its slot, the rest is that of a + b
    DEC = 2
    ADD = 3
    SUB = 4
    LOGIC = 5   # of the result a


@native(threaded=True)
def region_leave(env: Env, rec: ptr, ram: ptr) -> ptr:
    """Go on at env.pc. Another region takes the flags as they are, all others settled."""
    slot: Jump = jump_slot(env, env.pc)
    tb: Tb = Tb(slot.tb)
    if likely(slot.tag == env.pc ^ env.jump_salt) and likely(tb.cs_base == env.code_base):
        if not enters_region(tb):
            flags_settle(env)
        return ptr(tb)
    flags_settle(env)
    return tb_find(env)


@native(cold=True)
def flags_settle(env: Env) -> None:
    """Put the flags of env.cc_kind's operation into their slots (`pytcg_x86.core.state`)."""
    operation: u32 = env.cc_kind & 15
    if operation == Operation.SLOTS:
        return
    shift: u64 = 64 - (u64(8) << (env.cc_kind >> KIND_SIZE))
    # At the top of 64 bits, carries and signs are those of any size.
    a: u64 = env.cc_a << shift
    b: u64 = env.cc_b << shift
    env.cc_kind = 0
    result: u64 = a
    carry: bool = False
    overflow: u64 = 0
    if operation == Operation.ADD or operation == Operation.INC:
        result = a + b
        carry = result < a
        overflow = ~(a ^ b) & (a ^ result)
    elif operation != Operation.LOGIC:
        result = a - b
        carry = a < b
        overflow = (a ^ b) & (a ^ result)
    if operation != Operation.INC and operation != Operation.DEC:
        env.flag_c = u8(carry)
    env.flag_o = u8(overflow >> 63)
    env.flag_x = u8(env.cc_a ^ env.cc_b)
    env.flag_s = u64(i64(result) >> shift)
    env.flag_z = env.flag_s
