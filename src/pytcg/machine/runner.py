"""Run a board: the vCPU in its own thread, the main loop in this one, until the guest is done."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from pytcg.exec.bus import ExitReason
from pytcg.exec.debugger import Debugger
from pytcg.exec.vcpu import ExecStats, ProcessorState
from pytcg.machine.loop import MainLoop

if TYPE_CHECKING:
    from pytcg.accel.kvm.irqchip.chips import KernelChips

JOIN_TIMEOUT: Final = 5.0  # seconds a vCPU may take to notice request_exit
SWITCH_INTERVAL: Final = 0.0005  # the main loop holds the GIL no longer than this against the vCPU


class Registers(Protocol):
    """Registers by name: rip, rsi, cr0, efer, gdtr.base, …."""

    def __getitem__(self, name: str) -> int: ...

    def __setitem__(self, name: str, value: int) -> None: ...


class Debuggable(Protocol):
    """What debuggers need of a virtual processor; all only while it is not running."""

    def step(self) -> ExitReason:
        """Run one instruction in the calling thread, without interrupts."""
        ...

    @property
    def debugger(self) -> Debugger:
        """Breakpoints and watchpoints."""
        ...

    def has(self, feature: str) -> bool:
        """Whether the CPU model has a feature: lm, avx, …."""
        ...


class Vcpu(Protocol):
    """What a board needs of a virtual processor."""

    @property
    def regs(self) -> Registers:
        """The architectural registers; only while not running."""
        ...

    @property
    def state(self) -> ProcessorState:
        """The state's fields by name; only while not running."""
        ...

    @property
    def stats(self) -> ExecStats:
        """The account so far; only while not running."""
        ...

    @property
    def tsc_frequency(self) -> int:
        """Hertz."""
        ...

    @property
    def kernel_chips(self) -> KernelChips | None:
        """Interrupt controllers that the accelerator has in the kernel."""
        ...

    def run(self) -> ExitReason:
        """Run guest code in the calling thread until `request_exit`."""
        ...

    @property
    def debug(self) -> Debuggable | None:
        """Breakpoints and steps, where the accelerator has them."""
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

    def raise_smi(self) -> None:
        """An edge on the SMI# pin; thread-safe."""
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

    def save(self) -> dict[str, Any]:
        """The architecture's state as plain values; only while not running."""
        ...

    def restore(self, saved: dict[str, Any]) -> None:
        """Be as `save` found it; ValueError."""
        ...

    def forget_code(self) -> None:
        """Memory has other contents."""
        ...


class Event(Enum):
    """What a guest can ask of the machine as a whole."""

    RESET = auto()
    POWER_OFF = auto()
    DEBUG_EXIT = auto()


class PowerRequest(NamedTuple):
    """An event, with the exit status that it brings; ``guest`` unless a monitor asked for it."""

    event: Event
    status: int = 0
    guest: bool = True


class RunState(Enum):
    """What the machine is doing, in QMP's words."""

    PRELAUNCH = "prelaunch"
    INMIGRATE = "inmigrate"
    POSTMIGRATE = "postmigrate"
    RUNNING = "running"
    PAUSED = "paused"
    IO_ERROR = "io-error"
    DEBUG = "debug"
    SHUTDOWN = "shutdown"


_STANDING: Final = (RunState.PRELAUNCH, RunState.INMIGRATE, RunState.POSTMIGRATE, RunState.PAUSED,
                    RunState.IO_ERROR, RunState.DEBUG, RunState.SHUTDOWN)  # fmt: skip


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

    def ask(self, request: PowerRequest) -> None:
        """Make a request for the guest; device lock held."""
        ...

    def press_power_button(self) -> None:
        """Device lock held."""
        ...


class Runner:
    """The vCPU thread of one board: runs, resets, ends; its exit status and its errors."""

    def __init__(self, board: Board, loop: MainLoop, *, no_reboot: bool = False,
                 no_shutdown: bool = False, paused: bool = False, incoming: bool = False
                 ) -> None:  # fmt: skip
        self._board = board
        self._loop = loop
        self._no_reboot = no_reboot
        self._no_shutdown = no_shutdown
        self._quitting = False
        self._wake = threading.Condition()
        self._holding = 0  # `at_rest`s that are on
        self._resting = False  # the processor's thread waits
        self._thread: threading.Thread | None = None
        self._stepping = False  # the next stretch is one instruction
        self.state = RunState.PRELAUNCH if paused else RunState.RUNNING
        if incoming:
            self.state = RunState.INMIGRATE
        self._autostart = not paused
        self.before_first_run: Callable[[], None] = lambda: None
        """Called once the board has been powered on, before the processor runs; lock held."""
        self.before_resume: Callable[[], None] = lambda: None
        """Called before a processor that stood goes on."""
        self.status = 0
        self.on_event: list[Callable[[str, dict[str, Any]], None]] = []
        """Called in the main loop with an event of QMP's and its data."""

    def run(self) -> int:
        """Boot and serve until the end; the process's exit status. Raises what a device raised."""
        self._board.start()
        with self._loop.lock:
            self.before_first_run()
        self._thread = thread = threading.Thread(
            target=self._vcpu_main, name="vcpu0", daemon=True)  # fmt: skip
        interval = sys.getswitchinterval()
        sys.setswitchinterval(SWITCH_INTERVAL)
        try:
            self._loop.run(thread.start)
        finally:
            with self._wake:
                self._quitting = True
                self._wake.notify_all()
            self._board.vcpu.request_exit()
            if thread.ident is not None:
                thread.join(JOIN_TIMEOUT)
            sys.setswitchinterval(interval)
        return self.status

    @property
    def thread_id(self) -> int:
        """The processor's thread, as the host knows it; 0 before it starts."""
        return (self._thread and self._thread.native_id) or 0

    # --- from the main loop --------------------------------------------------------------------

    def pause(self, state: RunState = RunState.PAUSED) -> None:
        """Stop the processor, soon; `resume` lets it go on. From any thread."""
        if self.state is RunState.RUNNING:
            self.state = state
            self._board.vcpu.request_exit()
            self.tell("STOP")

    def resume(self) -> None:
        """Let a paused processor go on; MachineError if the guest has powered off."""
        if self.state is RunState.SHUTDOWN:
            raise MachineError("Resetting the Virtual Machine is required")
        if self.state is RunState.INMIGRATE:
            self._autostart = True
        elif self.state in _STANDING:
            self.before_resume()
            with self._wake:
                self.state = RunState.RUNNING
                self._wake.notify_all()
            self.tell("RESUME")

    def step(self) -> None:
        """Let a paused processor run one instruction."""
        self._stepping = True
        self.resume()

    @contextmanager
    def at_rest(self) -> Iterator[None]:
        """The processor does not run inside of this; its registers may be read. MachineError.

        Called without the device lock, which the processor may need before it can stop.
        """
        with self._wake:
            self._holding += 1
        try:
            if self.state is RunState.RUNNING:
                self._board.vcpu.request_exit()
            with self._wake:
                if not self._wake.wait_for(lambda: self._resting, JOIN_TIMEOUT):
                    raise MachineError("the processor does not stop")
            yield
        finally:
            with self._wake:
                self._holding -= 1
                self._wake.notify_all()

    def arrived(self) -> None:
        """An incoming machine is whole: it runs, unless it was to be stopped."""
        with self._wake:
            self.state = RunState.RUNNING if self._autostart else RunState.PAUSED
            self._wake.notify_all()
        if self._autostart:
            self.tell("RESUME")

    def reset(self) -> None:
        """Press the reset button."""
        with self._loop.lock:
            self._board.ask(PowerRequest(Event.RESET, guest=False))
        with self._wake:
            self._wake.notify_all()

    def power_down(self) -> None:
        """Press the power button: the guest may shut down."""
        with self._loop.lock:
            self._board.press_power_button()
        self.tell("POWERDOWN")

    def quit(self) -> None:
        """End the emulator."""
        self.state = RunState.SHUTDOWN
        self.tell("SHUTDOWN", guest=False, reason="host-qmp-quit")
        self._loop.stop()

    def later(self, seconds: float, callback: Callable[[], None]) -> None:
        """Call back in the main loop after a while."""
        self._loop.asyncio.call_later(seconds, callback)

    def tell(self, name: str, **data: Any) -> None:
        """An event, from any thread."""
        for listener in self.on_event:
            self._loop.asyncio.call_soon_threadsafe(listener, name, data)

    # --- the processor's thread ----------------------------------------------------------------

    def _wait_while_paused(self) -> None:
        """Requests are served meanwhile: a stopped machine can be reset."""
        with self._wake:
            while self._must_rest() and not self._quitting:
                self._resting = True
                self._wake.notify_all()
                self._wake.wait()
                if self._holding:
                    continue
                self._resting = False
                with self._loop.lock:
                    request = self._board.take_request()
                if request is not None:
                    self._serve(request)
            self._resting = False

    def _must_rest(self) -> bool:
        return self._holding > 0 or self.state in _STANDING

    def _vcpu_main(self) -> None:
        try:
            self._wait_while_paused()
            while not self._quitting and self._run_once():
                self._wait_while_paused()
        except BaseException as error:
            self._loop.fail(error)
        else:
            self._loop.stop()

    def _run_once(self) -> bool:
        """One stretch of guest time and what it ended with; False when all is over."""
        stepping, self._stepping = self._stepping, False
        vcpu = self._board.vcpu
        reason = vcpu.debug.step() if stepping and vcpu.debug is not None else vcpu.run()
        with self._loop.lock:
            request = self._board.take_request()
        if reason is ExitReason.TRIPLE_FAULT:
            request = PowerRequest(Event.RESET)
        elif reason is ExitReason.DEBUG:
            self._debugged()
        elif reason is not ExitReason.REQUESTED:
            raise MachineError(f"the vCPU stopped: {reason.name.lower()}")
        return True if request is None else self._serve(request)

    def _debugged(self) -> None:
        """A debugger's stop, unless somebody has just paused the machine."""
        with self._wake:
            if self.state is not RunState.RUNNING:
                return
            self.state = RunState.DEBUG
        self.tell("STOP")

    def _serve(self, request: PowerRequest) -> bool:
        if request.event is Event.RESET and not self._no_reboot:
            with self._loop.lock:
                self._board.start()
            if self.state is RunState.SHUTDOWN:  # -no-shutdown
                self.state = RunState.PRELAUNCH
            reason = "guest-reset" if request.guest else "host-qmp-system-reset"
            self.tell("RESET", guest=request.guest, reason=reason)
            return True
        self.status = request.status
        with self._wake:
            self.state = RunState.SHUTDOWN
        reason = "guest-reset" if request.event is Event.RESET else "guest-shutdown"
        self.tell("SHUTDOWN", guest=True, reason=reason)
        if not self._no_shutdown or request.event is Event.DEBUG_EXIT:
            return False
        self.tell("STOP")
        return True
