"""Run a board: the vCPU in its own thread, the main loop in this one, until the guest is done."""

from __future__ import annotations

import sys
import threading
from enum import Enum, auto
from typing import Final, NamedTuple, Protocol

from pytcg.exec.bus import ExitReason
from pytcg.machine.loop import MainLoop

JOIN_TIMEOUT: Final = 5.0  # seconds a vCPU may take to notice request_exit
SWITCH_INTERVAL: Final = 0.0005  # the main loop holds the GIL no longer than this against the vCPU


class Registers(Protocol):
    """Registers by name: rip, rsi, cr0, efer, gdtr.base, …."""

    def __getitem__(self, name: str) -> int: ...

    def __setitem__(self, name: str, value: int) -> None: ...


class Vcpu(Protocol):
    """What a board needs of a virtual processor."""

    @property
    def regs(self) -> Registers:
        """The architectural registers; only while not running."""
        ...

    @property
    def tsc_frequency(self) -> int:
        """Hertz."""
        ...

    def run(self) -> ExitReason:
        """Run guest code in the calling thread until `request_exit`."""
        ...

    def request_exit(self) -> None:
        """Make `run` return soon; thread-safe."""
        ...

    def set_intr(self, level: bool) -> None:
        """The INTR pin; thread-safe; wakes a halted processor."""
        ...

    def set_a20(self, level: bool) -> None:
        """The A20M# pin: False masks bit 20 of physical addresses."""
        ...

    def raise_nmi(self) -> None:
        """An edge on the NMI pin; thread-safe."""
        ...

    def reset(self) -> None:
        """The state after RESET; only while not running."""
        ...

    def set_segment(self, name: str, selector: int, base: int, limit: int, attributes: int) -> None:
        """Load a segment register with its hidden part."""
        ...

    def tsc(self) -> int:
        """The time-stamp counter."""
        ...


class Event(Enum):
    """What a guest can ask of the machine as a whole."""

    RESET = auto()
    POWER_OFF = auto()
    DEBUG_EXIT = auto()


class PowerRequest(NamedTuple):
    """An event, with the exit status that it brings."""

    event: Event
    status: int = 0


class MachineError(Exception):
    """The machine can't go on; the text says why."""


class Board(Protocol):
    """A machine that can be started over."""

    @property
    def vcpu(self) -> Vcpu:
        """The processor, once it is plugged in."""
        ...

    def start(self) -> None:
        """Power-on or reset: all chips, memory contents to boot from, the processor's state."""
        ...

    def take_request(self) -> PowerRequest | None:
        """The event the guest asked for since the last call."""
        ...


class Runner:
    """The vCPU thread of one board: runs, resets, ends; its exit status and its errors."""

    def __init__(self, board: Board, loop: MainLoop, *, no_reboot: bool = False) -> None:
        self._board = board
        self._loop = loop
        self._no_reboot = no_reboot
        self._quitting = False
        self.status = 0

    def run(self) -> int:
        """Boot and serve until the end; the process's exit status. Raises what a device raised."""
        self._board.start()
        thread = threading.Thread(target=self._vcpu_main, name="vcpu0", daemon=True)
        interval = sys.getswitchinterval()
        sys.setswitchinterval(SWITCH_INTERVAL)
        try:
            self._loop.run(thread.start)
        finally:
            self._quitting = True
            self._board.vcpu.request_exit()
            if thread.ident is not None:
                thread.join(JOIN_TIMEOUT)
            sys.setswitchinterval(interval)
        return self.status

    def _vcpu_main(self) -> None:
        try:
            while not self._quitting and self._run_once():
                pass
        except BaseException as error:
            self._loop.fail(error)
        else:
            self._loop.stop()

    def _run_once(self) -> bool:
        """One stretch of guest time and what it ended with; False when all is over."""
        reason = self._board.vcpu.run()
        with self._loop.lock:
            request = self._board.take_request()
        if reason is ExitReason.TRIPLE_FAULT:
            request = PowerRequest(Event.RESET)
        elif reason is not ExitReason.REQUESTED:
            raise MachineError(f"the vCPU stopped: {reason.name.lower()}")
        return True if request is None else self._serve(request)

    def _serve(self, request: PowerRequest) -> bool:
        if request.event is Event.RESET and not self._no_reboot:
            with self._loop.lock:
                self._board.start()
            return True
        self.status = request.status
        return False
