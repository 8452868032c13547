"""A processor that only remembers what the board did to it, and memory for boards."""

from __future__ import annotations

import threading
from collections.abc import Callable

from pytcg.exec.bus import CpuBus, ExitReason
from pytcg.machine.layout import DEVICE_MEMORY, ram_blocks
from pytcg.softmmu.address_map import AddressMap
from pytcg.softmmu.ram import RamWindow


def board_memory(ram_size: int) -> AddressMap:
    """Memory as the command line's machine has it."""
    memory = AddressMap(RamWindow(ram_size + DEVICE_MEMORY))
    for block in ram_blocks(ram_size):
        memory.add_ram(block.physical, block.length, block.offset)
    return memory


class FakeVcpu:
    """A vCPU whose guest program is a Python function: it returns to leave `run`."""

    tsc_frequency = 1_000_000_000
    debug = None
    kernel_chips = None

    def __init__(self, bus: CpuBus, program: Callable[[FakeVcpu], ExitReason]) -> None:
        self.bus = bus
        self.program = program
        self.regs: dict[str, int] = {}
        self.segments: dict[str, tuple[int, int, int, int]] = {}
        self.intr = False
        self.a20 = True
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

    def set_a20(self, level: bool) -> None:
        self.a20 = level

    def raise_smi(self) -> None:
        pass

    def raise_nmi(self) -> None:
        self.nmis += 1

    def reset(self) -> None:
        self.resets += 1
        self.regs.clear()

    def set_segment(self, name: str, selector: int, base: int, limit: int, attributes: int) -> None:
        self.segments[name] = (selector, base, limit, attributes)

    def tsc(self) -> int:
        return 0

    def save(self) -> dict[str, int]:
        return dict(self.regs)

    def restore(self, saved: dict[str, int]) -> None:
        self.regs = dict(saved)

    def forget_code(self) -> None:
        pass
