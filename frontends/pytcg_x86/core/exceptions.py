"""Raising exceptions from native code: note what happened and leave.

A `NoReturn` native only fills in the pending exception; its callers then return one by one until
`cpu_exec` delivers it (`pytcg_x86.system.interrupt`), so nothing may change state before a raise.
"""

from __future__ import annotations

from typing import NoReturn

from pytcg_native import native, u32, u64
from pytcg_x86.core.state import Env, Vector

WILD = 2
"""env.exception_has_error: it has one, and who made the access is still to be looked at."""

# mypy can't know that the compiler ends a NoReturn function by leaving its callers.


@native
def raise_exception(env: Env, vector: u32) -> NoReturn:  # type: ignore[misc]
    """An exception without an error code."""
    env.exception_vector = vector
    env.exception_error = 0
    env.exception_has_error = 0
    env.exception_pending = 1


@native
def raise_error(env: Env, vector: u32, error: u32) -> NoReturn:  # type: ignore[misc]
    """An exception that pushes ``error``."""
    env.exception_vector = vector
    env.exception_error = error
    env.exception_has_error = 1
    env.exception_pending = 1


@native
def raise_wild(env: Env) -> NoReturn:  # type: ignore[misc]
    """#GP(0) for a non-canonical address; if it is the stack's, delivery makes it #SS(0)."""
    env.exception_vector = Vector.GP
    env.exception_error = 0
    env.exception_has_error = WILD
    env.exception_pending = 1


@native
def raise_page_fault(env: Env, address: u64, error: u32) -> NoReturn:  # type: ignore[misc]
    """#PF; CR2 becomes ``address`` when it is delivered."""
    env.exception_vector = Vector.PF
    env.exception_error = error
    env.exception_has_error = 1
    env.exception_address = address
    env.exception_pending = 1


@native
def external_event(env: Env) -> u32:
    """The EXT bit: a segment or gate was looked at to deliver something not the program's own.

    That is an exception or an external interrupt (SDM vol. 3A, 6.13); INT n leaves
    `env.delivering` 0.
    """
    if env.delivering != 0:
        return 1
    return 0


@native
def raise_selector(env: Env, vector: u32, selector: u32) -> NoReturn:
    """An exception about a segment: its selector without the RPL, and the EXT bit."""
    raise_error(env, vector, (selector & 0xFFFC) | external_event(env))


@native
def raise_gate(env: Env, vector: u32, interrupt: u32) -> NoReturn:
    """An exception about the IDT's gate of ``interrupt``: IDT bit, index, EXT bit."""
    raise_error(env, vector, interrupt * 8 + 2 + external_event(env))
