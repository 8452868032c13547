"""A processor and a memory that only remember what the board did to them."""

from __future__ import annotations

import threading
from collections.abc import Callable

from pytcg.exec.bus import CpuBus, ExitReason


class FakeMemory:
    """Guest memory as the list of stores."""

    def __init__(self) -> None:
        self.stores: dict[int, bytes] = {}

    def write(self, physical: int, data: bytes) -> None:
        self.stores[physical] = data

    def read(self, physical: int, length: int) -> bytes:
        return self.stores[physical][:length]


class FakeVcpu:
    """A vCPU whose guest program is a Python function: it returns to leave `run`."""

    tsc_frequency = 1_000_000_000

    def __init__(self, bus: CpuBus, program: Callable[[FakeVcpu], ExitReason]) -> None:
        self.bus = bus
        self.program = program
        self.regs: dict[str, int] = {}
        self.segments: dict[str, tuple[int, int, int, int]] = {}
        self.intr = False
        self.nmis = 0
        self.resets = 0
        self.exit = threading.Event()

    def run(self) -> ExitReason:
        reason = self.program(self)
        self.exit.clear()
        return reason

    def wait(self) -> ExitReason:
        """What a halted guest does."""
        assert self.exit.wait(10)
        return ExitReason.REQUESTED

    def request_exit(self) -> None:
        self.exit.set()

    def set_intr(self, level: bool) -> None:
        self.intr = level

    def raise_nmi(self) -> None:
        self.nmis += 1

    def reset(self) -> None:
        self.resets += 1
        self.regs.clear()

    def set_segment(self, name: str, selector: int, base: int, limit: int, attributes: int) -> None:
        self.segments[name] = (selector, base, limit, attributes)

    def tsc(self) -> int:
        return 0
