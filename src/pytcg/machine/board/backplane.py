"""What every part of the board is soldered to: buses, interrupt lines, reset line, power switch."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from pytcg.exec.bus import CpuBus
from pytcg.hw.clock import Clock
from pytcg.hw.line import Line
from pytcg.hw.state import Chip
from pytcg.machine.bus import MmioBus, PortBus, PortHandlers
from pytcg.machine.cpu_bus import PcCpuBus
from pytcg.machine.runner import Event, PowerRequest, Vcpu
from pytcg.machine.wires import OrGate
from pytcg.softmmu.address_map import AddressMap

C = TypeVar("C", bound=Chip)
ISA_IRQS = 16


class Backplane:
    """The processor in its socket, the buses, and the lines that parts share."""

    def __init__(self, clock: Clock, lock: threading.RLock, memory: AddressMap,
                 make_vcpu: Callable[[CpuBus], Vcpu]) -> None:
        self.clock = clock
        self.memory = memory
        self.ports = PortBus()
        self.mmio = MmioBus()
        self.cpu_bus = PcCpuBus(self.ports, self.mmio, lock)
        self.vcpu = make_vcpu(self.cpu_bus)
        self.isa = [OrGate() for _ in range(ISA_IRQS)]
        self.chips: list[Chip] = []
        self._request: PowerRequest | None = None

    # --- wiring --------------------------------------------------------------------------------

    def add(self, chip: C) -> C:
        """Connect a chip to the reset line."""
        self.chips.append(chip)
        return chip

    def connect_irq(self, line: Line, irq: int) -> None:
        """Let a chip's output drive an ISA interrupt."""
        line.connect(self.isa[irq].input())

    def attach_wide(self, base: int, length: int, read: Callable[[int, int], int],
                    write: Callable[[int, int, int], None]) -> None:
        """Ports whose registers take accesses of 1, 2 and 4 bytes whole: read(offset, size)."""
        for size in (1, 2, 4):
            for offset in range(0, length - size + 1, size):
                handlers = PortHandlers(partial(read, offset, size), partial(write, offset, size))
                self.ports.attach_port(handlers, base + offset, size=size)

    # --- power and reset -----------------------------------------------------------------------

    def reset(self) -> None:
        """Every chip's reset pin, in the order of `add`; requests made before are forgotten."""
        for chip in self.chips:
            chip.reset()
        self._request = None

    def take_request(self) -> PowerRequest | None:
        """The event the guest asked for since the last call."""
        request, self._request = self._request, None
        return request

    def ask(self, request: PowerRequest) -> None:
        """The first request counts: the guest runs on for a moment."""
        if self._request is None:
            self._request = request
            self.vcpu.request_exit()

    def ask_reset(self) -> None:
        """Whatever pulls the reset line."""
        self.ask(PowerRequest(Event.RESET))
