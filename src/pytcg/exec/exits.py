"""Why native code returned to Python."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """env.exit_reason."""

    NONE = 0
    REQUEST = 1        # another thread asked
    HALT = 2           # the guest waits for an interrupt
    BUDGET = 3         # the instruction budget is used up
    MISSING_FORMS = 4  # a block met instruction forms that are not compiled yet
    TRIPLE_FAULT = 5
    UNHANDLED = 6      # an exception without a guest handler, in library mode
    ERROR = 7          # a Python callback raised
    HOT = 10           # a new block, to be compiled before it runs (tier=jit)
    NOT_RAM = 9        # the guest jumped to memory that is no RAM
    SLICE = 11         # the budget ends within the next block (env.budget_soft)
    UNTIL = 8          # the stop address was reached
    DEBUG = 12         # a debugger's breakpoint or watchpoint (env.debug_reason)
