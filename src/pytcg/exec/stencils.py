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
    native,
    pointer_difference,
    ptr,
    resume,
    symbol,
    u32,
    unlikely,
)

_HEAD = TB.size


@native(threaded=True)
def stencil_head(env: ExecEnv, rec: ptr, ram: ptr) -> ptr:
    """`tb_head`, when nobody wants the loop and the block is not due to be reported."""
    tb: Tb = Tb(rec)
    hits: u32 = tb.hits + 1
    if unlikely((hits & ((1 << HOT_BITS) - 1)) == 0):
        return resume(symbol("hole_head"), rec)
    budget: i64 = env.budget - pointer_difference(symbol("hole_insns"), NULL)
    if unlikely(budget < 0) or unlikely(env.exit_request != 0):
        return resume(symbol("hole_head"), rec)
    env.budget = budget
    tb.hits = hits
    return resume(symbol("hole_next"), rec + _HEAD)


@native(threaded=True)
def stencil_hop(env: ExecEnv, rec: ptr, ram: ptr) -> ptr:
    """`tb_hop`, when it has been there and no mapping has changed since."""
    link: Link = Link(rec)
    if unlikely(link.stamp != env.map_stamp) or unlikely(Tb(link.tb).flags == DEAD):
        return resume(symbol("hole_hop"), rec)
    return ptr(link.tb)
