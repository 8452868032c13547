"""`Vcpu`: a processor in its thread: runs, sleeps while halted, is woken by its pins."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from pytcg.exec.bus import ExitReason
from pytcg.exec.debugger import Debugger, Engine
from pytcg.exec.exits import Exit
from pytcg.exec.leave import Leave

_FOREVER = 1 << 62
_REASONS = {
    Exit.REQUEST: ExitReason.REQUESTED,
    Exit.TRIPLE_FAULT: ExitReason.TRIPLE_FAULT,
    Exit.UNHANDLED: ExitReason.EXCEPTION,
    Exit.BUDGET: ExitReason.LIMIT,
}
_ENDS = (Exit.TRIPLE_FAULT, Exit.UNHANDLED)


class GuestError(Exception):
    """The guest did what this machine can't do; the text says what and where."""


class ProcessorState(Protocol):
    """The fields of the state by name."""

    def get(self, name: str, index: int = 0) -> int: ...

    def set(self, name: str, value: int, index: int = 0) -> None: ...


class Processor(Protocol):
    """What a front-end's processor offers a `Vcpu`."""

    @property
    def regs(self) -> MutableMapping[str, int]: ...

    @property
    def state(self) -> ProcessorState: ...

    @property
    def engine(self) -> Engine: ...

    @property
    def address(self) -> int: ...

    def has(self, feature: str) -> bool: ...

    def execute(self) -> Exit: ...

    def settle(self, *, flush: bool = False) -> None: ...

    def poke(self, *, stop: bool = False) -> None: ...

    def wakes(self) -> bool: ...

    def set_a20(self, level: bool) -> None: ...

    def region_account(self) -> str: ...

    def regions_run(self) -> tuple[int, int]: ...

    def reset(self) -> None: ...

    def set_segment(self, name: str, selector: int, base: int, limit: int,
                    attributes: int) -> None: ...  # fmt: skip

    def tsc(self) -> int: ...

    def save(self) -> dict[str, Any]: ...

    def restore(self, saved: dict[str, Any]) -> None: ...

    @property
    def tsc_frequency(self) -> int: ...


@dataclass(frozen=True)
class ExecStats:
    """What a processor has done: `-d stats`."""

    instructions: int  # one with a REP prefix counts once
    seconds: float  # of running, sleep in HLT left out
    blocks: int  # translated since the last flush
    flushes: int
    region_insns: int  # run in regions
    region_entries: int
    region_exits: dict[str, int]  # how often they were left, by why
    regions: str  # what their service says of them

    def text(self) -> str:
        """A line, and more about regions."""
        mips = self.instructions / self.seconds / 1e6 if self.seconds else 0.0
        head = (f"instructions {self.instructions} seconds {self.seconds:.3f} MIPS {mips:.1f}"
                f" blocks {self.blocks} flushes {self.flushes}")  # fmt: skip
        lines = self._region_lines() if self.region_entries else ()
        return "\n".join((head, *lines, self.regions)).rstrip()

    def _region_lines(self) -> Iterator[str]:
        each = self.region_insns // max(self.region_entries, 1)
        yield (f"in regions {_percent(self.region_insns, self.instructions)} of instructions,"
               f" entered {self.region_entries} times for {each} each")  # fmt: skip
        total = sum(self.region_exits.values())
        counts = sorted(self.region_exits.items(), key=lambda row: -row[1])
        yield "left for " + ", ".join(f"{why} {_percent(count, total)}" for why, count in counts)


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / max(whole, 1):.1f}%"


class Vcpu:
    """Runs a processor in the calling thread; the pins and `request_exit` are thread-safe."""

    kernel_chips: Final = None  # the board has its own interrupt controllers

    def __init__(self, processor: Processor):
        self._cpu = processor
        self.debugger = Debugger(processor)
        self._wake = threading.Condition()
        self._stop = False
        self._instructions = 0
        self._seconds = 0.0

    @property
    def stats(self) -> ExecStats:
        """The account so far; only while not running."""
        state = self._cpu.state
        entries, insns = self._cpu.regions_run()
        exits = {why.name.lower(): state.get("region_exits", why) for why in Leave}
        return ExecStats(self._instructions, self._seconds, state.get("tb_count"),
                         state.get("tb_flushes"), insns, entries, exits,
                         self._cpu.region_account())  # fmt: skip

    @property
    def regs(self) -> MutableMapping[str, int]:
        return self._cpu.regs

    @property
    def state(self) -> ProcessorState:
        """The state's fields by name; only while not running."""
        return self._cpu.state

    @property
    def tsc_frequency(self) -> int:
        """Hertz."""
        return self._cpu.tsc_frequency

    def tsc(self) -> int:
        return self._cpu.tsc()

    def set_segment(self, name: str, selector: int, base: int, limit: int, attributes: int) -> None:
        self._cpu.set_segment(name, selector, base, limit, attributes)

    def reset(self) -> None:
        self._cpu.reset()

    def save(self) -> dict[str, Any]:
        """The architecture's state as plain values; not while running."""
        return self._cpu.save()

    def restore(self, saved: dict[str, Any]) -> None:
        """Be as `save` found it; ValueError."""
        self._cpu.restore(saved)

    def forget_code(self) -> None:
        """Memory has other contents: no block that was translated counts any more."""
        self._cpu.settle(flush=True)

    def run(self) -> ExitReason:
        """Run guest code until `request_exit` or something ends it; sleeps while halted."""
        state = self._cpu.state
        self.debugger.prepare()
        while True:
            self._cpu.settle()  # memory may have been written meanwhile
            reason = self._execute(_FOREVER)
            if reason is Exit.DEBUG:
                if self.debugger.take():
                    self._step(watching=False)
                return ExitReason.DEBUG
            if reason is Exit.HALT:
                self._sleep()
            if reason in (Exit.HALT, Exit.REQUEST):
                if self._take_stop():
                    return ExitReason.REQUESTED
            elif reason is Exit.NOT_RAM:
                raise GuestError(f"the guest jumped to {state.get('pc'):#x}, which is no RAM")
            elif reason in _REASONS:
                return _REASONS[reason]
            else:
                raise GuestError(f"unexpected exit {reason.name}")

    def step(self) -> ExitReason:
        """Run one instruction, without interrupts: DEBUG, or what it ended in."""
        self.debugger.prepare()
        reason = self._step(watching=True)
        if reason is Exit.DEBUG and self.debugger.take():
            reason = self._step(watching=False)
        return _REASONS.get(reason, ExitReason.DEBUG) if reason in _ENDS else ExitReason.DEBUG

    def _step(self, *, watching: bool) -> Exit:
        with self.debugger.stepping(watching=watching):
            while True:
                self._cpu.settle()
                reason = self._execute(1)
                if reason is not Exit.REQUEST:
                    break
                self._cpu.state.set("stop_request", 0)  # `_stop` tells the run that follows
        self._cpu.poke(stop=True)
        return reason

    @property
    def debug(self) -> Vcpu:
        """What debuggers use."""
        return self

    def has(self, feature: str) -> bool:
        """Whether the CPU model has a feature, by its name for `-cpu`."""
        return self._cpu.has(feature)

    def _execute(self, budget: int) -> Exit:
        """One stretch of guest code, accounted for."""
        state = self._cpu.state
        state.set("budget", budget)
        state.set("retired", self._instructions + budget)
        began = time.perf_counter()
        try:
            return self._cpu.execute()
        finally:
            self._seconds += time.perf_counter() - began
            self._instructions += budget - state.get("budget")

    def _take_stop(self) -> bool:
        with self._wake:
            self._cpu.state.set("stop_request", 0)
            stop, self._stop = self._stop, False
            return stop

    def _sleep(self) -> None:
        """Wait for an interrupt line or a request; the loop then looks for itself."""
        with self._wake:
            while not (self._stop or self._cpu.wakes()):
                self._wake.wait()
            self._cpu.poke()

    def request_exit(self) -> None:
        """Make `run` return soon."""
        with self._wake:
            self._stop = True
            self._cpu.poke(stop=True)
            self._wake.notify_all()

    def set_intr(self, level: bool) -> None:
        """The INTR pin."""
        with self._wake:
            self._cpu.state.set("intr_line", int(level))
            if level:
                self._cpu.poke()
                self._wake.notify_all()

    def set_a20(self, level: bool) -> None:
        """The A20M# pin: False masks bit 20 of physical addresses."""
        self._cpu.set_a20(level)

    def raise_nmi(self) -> None:
        """An edge on the NMI pin."""
        self._signal("nmi_pending")

    def raise_smi(self) -> None:
        """An edge on the SMI# pin."""
        self._signal("smi_pending")

    def _signal(self, pin: str) -> None:
        with self._wake:
            self._cpu.state.set(pin, 1)
            self._cpu.poke()
            self._wake.notify_all()
