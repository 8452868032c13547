"""The bytes of the instruction being decoded: env.fetch, filled from one page or two."""

from __future__ import annotations

from pytcg.exec.dispatch import fetch_offset
from pytcg.exec.layout import PAGE_SIZE
from pytcg.softmmu.access import NO_PAGE
from pytcg_native import load8, native, ptr, u64
from pytcg_x86.core.state import Env

MAX_LENGTH = 15
"""Bytes an instruction may have (SDM vol. 2, 2.3.11)."""


@native
def more_code(env: Env, linear: u64) -> u64:
    """RAM offset of the code's second page; raises its fetch fault."""
    return fetch_offset(env, (linear | (PAGE_SIZE - 1)) + 1)


@native
def fill_fetch(env: Env, linear: u64, offset: u64, physical2: u64) -> None:
    """Copy the 15 bytes that an instruction may have to env.fetch, over a page's end if need be."""
    left: u64 = PAGE_SIZE - (offset & (PAGE_SIZE - 1))
    for i in range(u64(0), u64(MAX_LENGTH)):
        if i < left:
            env.fetch[i] = load8(ptr(env.ram), offset + i)
        elif physical2 != NO_PAGE:
            env.fetch[i] = load8(ptr(env.ram), physical2 + (i - left))
        else:
            env.fetch[i] = 0


@native(inline=True)
def fetch16(env: Env, at: u64) -> u64:
    return u64(env.fetch[at]) | u64(env.fetch[at + 1]) << 8


@native(inline=True)
def fetch32(env: Env, at: u64) -> u64:
    return fetch16(env, at) | fetch16(env, at + 2) << 16


@native(inline=True)
def fetch64(env: Env, at: u64) -> u64:
    return fetch32(env, at) | fetch32(env, at + 4) << 32
