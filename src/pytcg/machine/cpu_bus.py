"""The board as its processor sees it: pins and bus cycles, each under the device lock."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

from pytcg.hw.core.apic import LocalApic
from pytcg.machine.bus import MmioBus, PortBus


class OnSmm(Protocol):
    """What is told that the processor enters or leaves system management mode."""

    def __call__(self, *, active: bool) -> None: ...


Work = Callable[[], None]


class PcCpuBus:
    """CpuBus of a PC. Made before the chips: the vCPU comes first, the local APIC needs its TSC."""

    def __init__(self, ports: PortBus, mmio: MmioBus, lock: threading.RLock) -> None:
        self._ports = ports
        self._mmio = mmio
        self._lock = lock
        self._lapic: LocalApic | None = None
        self._acknowledge: Callable[[], int] = lambda: -1
        self._later: list[Work] | None = None  # while a store is under way
        self.on_fpu_error: Callable[[], None] = lambda: None
        self.on_smm: OnSmm = lambda *, active: None

    def attach_lapic(self, lapic: LocalApic) -> None:
        """Complete the bus: interrupts, CR8 and the APIC's MSRs."""
        self._lapic = lapic
        self._acknowledge = lapic.acknowledge

    def acknowledge_by(self, acknowledge: Callable[[], int]) -> None:
        """Where INTA goes if the local APIC is not the board's."""
        self._acknowledge = acknowledge

    @property
    def lapic(self) -> LocalApic:
        """The processor's local APIC."""
        assert self._lapic is not None, "no guest code runs before the board is complete"
        return self._lapic

    def read_port(self, port: int, size: int) -> int:
        with self._lock:
            return self._ports.read(port, size)

    def write_port(self, port: int, size: int, value: int) -> None:
        self._store(self._ports.write, port, size, value)

    def read_port_run(self, port: int, size: int, count: int) -> bytes:
        with self._lock:
            return self._ports.read_run(port, size, count)

    def write_port_run(self, port: int, size: int, data: bytes) -> None:
        with self._lock:
            self._ports.write_run(port, size, data)

    def read_mmio(self, address: int, size: int) -> int:
        with self._lock:
            return self._mmio.read(address, size)

    def write_mmio(self, address: int, size: int, value: int) -> None:
        self._store(self._mmio.write, address, size, value)

    def _store(self, write: Callable[[int, int, int], None], place: int, size: int, value: int
               ) -> None:  # fmt: skip
        with self._lock:
            self._later = later = list[Work]()
            try:
                write(place, size, value)
            finally:
                self._later = None
        for work in later:
            work()

    def after_store(self, work: Work) -> bool:
        """Have the processor's thread work once its store is done, without the device lock.

        With the lock held. False: nobody's store is under way.
        """
        if self._later is None:
            return False
        self._later.append(work)
        return True

    def acknowledge_interrupt(self) -> int:
        with self._lock:
            return self._acknowledge()

    def locked(self, work: Callable[[int], None], value: int) -> None:
        """Do something for the processor."""
        with self._lock:
            work(value)

    def read_msr(self, index: int) -> int:
        with self._lock:
            return self.lapic.read_msr(index)

    def write_msr(self, index: int, value: int) -> None:
        with self._lock:
            self.lapic.write_msr(index, value)

    def fpu_error(self) -> None:
        with self._lock:
            self.on_fpu_error()

    def set_smm(self, active: int) -> None:
        with self._lock:
            self.on_smm(active=bool(active))

    def read_cr8(self) -> int:
        with self._lock:
            return self.lapic.read_cr8()

    def write_cr8(self, value: int) -> None:
        with self._lock:
            self.lapic.write_cr8(value)
