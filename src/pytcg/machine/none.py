"""`-machine none`: no processor, no memory, no devices. Managers ask it what there is."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Final

from pytcg.exec.bus import ExitReason
from pytcg.exec.vcpu import ExecStats
from pytcg.machine.bus import PortBus
from pytcg.machine.runner import MachineError, PowerRequest
from pytcg.softmmu.address_map import AddressMap
from pytcg.softmmu.ram import RamWindow

LEAST_WINDOW: Final = 4096


class NoVcpu:
    """Where a processor would be: it waits to be told to stop waiting."""

    tsc_frequency = 0
    debug = None
    kernel_chips = None

    def __init__(self) -> None:
        self._asked = threading.Event()
        self.stats = ExecStats(0, 0.0, 0, 0, 0, 0, {}, "")

    @property
    def regs(self) -> Any:
        """There are none; MachineError."""
        raise MachineError("No CPU available")

    state = regs

    def run(self) -> ExitReason:
        """Wait."""
        self._asked.wait()
        self._asked.clear()
        return ExitReason.REQUESTED

    def request_exit(self) -> None:
        """Thread-safe."""
        self._asked.set()

    def _nothing(self, *given: object) -> None:
        """Pins that lead nowhere."""

    set_intr = set_a20 = raise_nmi = raise_smi = reset = set_segment = forget_code = _nothing

    def tsc(self) -> int:
        """It doesn't count."""
        return 0

    def save(self) -> dict[str, Any]:
        """MachineError."""
        raise MachineError("No CPU available")

    def restore(self, saved: dict[str, Any]) -> None:
        """MachineError."""
        raise MachineError("No CPU available")


class EmptyBoard:
    """What monitors look for on a board, all of it empty."""

    def __init__(self, ram_size: int, *, kvm: bool = False) -> None:
        self.vcpu = NoVcpu()
        self.kvm = kvm  # whether a machine of the same accelerators would run on it
        self.memory = AddressMap(RamWindow(LEAST_WINDOW))
        self.config = SimpleNamespace(ram_size=ram_size, q35=False)
        self.backplane = SimpleNamespace(ports=PortBus(), chips=[])
        self.pci = SimpleNamespace(devices={})
        self.inputs: list[Any] = []
        self.hotplug = self.display = self.ide = self.sata = self.fdc = None
        self._request: PowerRequest | None = None
        self.boot: Callable[[Any], None] | None = None

    def start(self) -> None:
        """Power-on or reset."""

    def take_request(self) -> PowerRequest | None:
        """What was asked for since the last call."""
        request, self._request = self._request, None
        return request

    def ask(self, request: PowerRequest) -> None:
        """Device lock held."""
        self._request = request
        self.vcpu.request_exit()

    def press_power_button(self) -> None:
        """There is none."""
