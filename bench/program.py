"""What a guest program is.

It behaves the same in every engine and on the host CPU: a function of the System V calling
convention. rdi points to DATA_SIZE bytes of zeroes on a page boundary, rsi is how often to do its
work (at least 1), the answer is returned in rax. It needs no symbol of others, no more stack than a
page and no more than SSE2. Beside each stands its answer in Python.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from bench.assembler import assemble

DATA_SIZE: Final = 0x20000
M64: Final = (1 << 64) - 1


@dataclass(frozen=True)
class Program:
    """A guest program and how often to do its work."""

    name: str
    what: str
    text: str
    answer: Callable[[int], int]
    count: int
    """So much that QEMU takes half a second or more: its start-up varies by hundredths."""
    python_count: int
    """A hundred thousand instructions or so, for the engine in Python."""

    @cached_property
    def code(self) -> bytes:
        """Position-independent machine code."""
        return assemble(self.text)
