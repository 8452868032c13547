"""Submission and completion queues: rings in guest memory (NVMe 1.4, 4.1)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from pytcg.hw.state import State, load, save


@dataclass
class CompletionQueue:
    """Where completions go; those without room wait."""

    number: int
    base: int
    size: int
    vector: int = 0
    interrupts: bool = True
    head: int = 0
    tail: int = 0
    phase: int = 1
    waiting: deque[bytes] = field(default_factory=deque)

    @property
    def full(self) -> bool:
        """No room: one entry stays empty."""
        return (self.tail + 1) % self.size == self.head

    def advance(self) -> None:
        """An entry was written."""
        self.tail = (self.tail + 1) % self.size
        if not self.tail:
            self.phase ^= 1

    def state(self) -> State:
        own = save(self, 1, ("number", "base", "size", "vector", "interrupts", "head", "tail",
                             "phase"))  # fmt: skip
        return own | {"waiting": [entry.hex() for entry in self.waiting]}

    @classmethod
    def restored(cls, state: State) -> CompletionQueue:
        queue = cls(0, 0, 2)
        load(queue, state, 1, tuple(queue.state())[2:-1])
        queue.waiting.extend(bytes.fromhex(entry) for entry in state["waiting"])
        return queue


@dataclass
class SubmissionQueue:
    """Where commands come from; ``under_way`` of them have not completed."""

    number: int
    base: int
    size: int
    completions: CompletionQueue
    head: int = 0
    tail: int = 0
    under_way: int = 0
    pumping: bool = False
    on_idle: Callable[[], None] | None = None  # it was deleted: called when nothing is under way

    @property
    def ready(self) -> bool:
        """Whether the next command may be fetched."""
        free = self.under_way < self.size and not self.completions.waiting
        return self.head != self.tail and free and self.on_idle is None

    def state(self) -> State:
        own = save(self, 1, ("number", "base", "size", "head", "tail"))
        return own | {"completions": self.completions.number}

    @classmethod
    def restored(cls, state: State, queues: Mapping[int, CompletionQueue]) -> SubmissionQueue:
        queue = cls(0, 0, 2, queues[state["completions"]])
        load(queue, state, 1, ("number", "base", "size", "head", "tail"))
        return queue
