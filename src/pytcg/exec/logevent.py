"""What native code reports to the debug log."""

from __future__ import annotations

from enum import IntFlag


class LogEvent(IntFlag):
    """An event of env.log_event, and the bit of env.log that asks for it."""

    BLOCK = 1 << 0      # a block was translated
    ENTER = 1 << 1      # a block is entered
    EXCEPTION = 1 << 2  # an exception is about to be delivered: vector
    INTERRUPT = 1 << 3  # an interrupt is: vector, cause
    MISS = 1 << 4       # a TLB miss: address, access
    FILL = 1 << 5       # what was found for it: address, access, physical address | permissions
