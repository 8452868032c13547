"""Why regions are left."""

from __future__ import annotations

from enum import IntEnum


class Leave(IntEnum):
    """Counted for `-d stats`."""

    BRANCH = 0       # a direct transfer to what is not in it
    COMPUTED = 1     # a computed one
    WANTED = 2       # an interrupt, a request, the budget: at a loop's head
    CHANGED = 3      # behind an instruction that may have changed its code, or the mode
    ACCESS = 4       # before an access that is no plain one: a device, a fault, a page with code
    INSTRUCTION = 5  # before one that is left to threaded code
