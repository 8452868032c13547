"""Stencils of threaded code that is no instruction: a block's head, the hop to another page.

These are natives for the stencil compiler alone (`pytcg_threaded.stencils`), since where they go on
are holes. What is rare they leave to the functions of `dispatch` that they are made after.
"""

from __future__ import annotations

from pytcg.exec.invalidate import DEAD
from pytcg.exec.layout import TB, ExecEnv, Link, Tb
from pytcg.exec.regions import HOT_BITS
from pytcg_native import (
    NULL,
    i64,
    load16,
    native,
    pointer_difference,
    ptr,
    resume,
    store16,
    symbol,
    u16,
    unlikely,
)

_HEAD = TB.size
assert HOT_BITS == 16, "a count is an u16"


@native(threaded=True)
def stencil_head(env: ExecEnv, rec: ptr, ram: ptr) -> ptr:
    """`tb_head`, when nobody wants the loop and the block is not due to be reported.

    It counts first and asks then, which is short: `tb_head_unpaid` takes it back. Its first four
    bytes come and go (`close_head`, `open_head`), so no hole may be among them.
    """
    if unlikely(env.exit_request != 0):
        return resume(symbol("hole_head"), rec)
    budget: i64 = env.budget - pointer_difference(symbol("hole_insns"), NULL)
    env.budget = budget
    if unlikely(budget < 0):
        return resume(symbol("hole_unpaid"), rec)
    at: i64 = pointer_difference(symbol("hole_count"), NULL)
    count: u16 = load16(ptr(env), at) + u16(1)
    store16(ptr(env), at, count)
    if unlikely(count == 0):
        return resume(symbol("hole_unpaid"), rec)
    return resume(symbol("hole_next"), rec + _HEAD)


@native(threaded=True)
def stencil_hop(env: ExecEnv, rec: ptr, ram: ptr) -> ptr:
    """`tb_hop`, when it has been there and no mapping has changed since."""
    link: Link = Link(rec)
    if unlikely(link.stamp != env.map_stamp) or unlikely(Tb(link.tb).flags == DEAD):
        return resume(symbol("hole_hop"), rec)
    return ptr(link.tb)
