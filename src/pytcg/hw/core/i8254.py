"""Intel 8254 programmable interval timer: three 16-bit counters at 1.193182 MHz.

OUT as a *line* is moved by a timer, at rising edges only: IRQ0 is edge-triggered, so a wake-up for
each falling edge would buy nothing. `out_level` is exact at any time. When the host runs the timer
late, missed edges are delivered one by one, at most MAX_CATCH_UP of them.
"""

from __future__ import annotations

from functools import partial

from pytcg.hw.clock import NS_PER_SECOND, Clock, Deadline
from pytcg.hw.core.i8254_counter import PERIODIC, Access, ControlWord, Counter
from pytcg.hw.line import Line
from pytcg.hw.state import State, load, save

FREQUENCY = 1_193_182
MAX_CATCH_UP = 16


def ticks(ns: int) -> int:
    """CLK pulses since power-on."""
    return ns * FREQUENCY // NS_PER_SECOND


def tick_time(tick: int) -> int:
    """The first nanosecond at which `ticks` has reached tick."""
    return -(-tick * NS_PER_SECOND // FREQUENCY)


class I8254:
    """The timer chip. Registers 0-2 are the counters, 3 the control word."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        # On a PC the gates of counters 0 and 1 are tied high, port 61h drives that of counter 2.
        self.counters = [Counter(gate=n != 2) for n in range(3)]
        self.out = [Line(level=True) for _ in range(3)]
        self._timers = [Deadline(clock, partial(self._expire, n)) for n in range(3)]
        self._due: list[int | None] = [None, None, None]

    def reset(self) -> None:
        for counter in self.counters:
            counter.reset()
        self._due = [None, None, None]
        self._sync()

    def read(self, reg: int) -> int:
        if reg == 3:
            return 0xFF  # the control word can't be read
        tick = self._settle()
        value = self.counters[reg].read(tick)
        self._sync()
        return value

    def write(self, reg: int, value: int) -> None:
        tick = self._settle()
        if reg == 3:
            self._write_control(value & 0xFF, tick)
        else:
            self.counters[reg].write(value & 0xFF, tick)
            self._reschedule(reg, tick)
        self._sync()

    def set_gate(self, n: int, level: bool) -> None:
        """Drive a GATE input (counter 2's is port 61h bit 0)."""
        tick = self._settle()
        self.counters[n].set_gate(level, tick)
        self._reschedule(n, tick)
        self._sync()

    def out_level(self, n: int) -> bool:
        """OUT at this moment (port 61h bit 5 shows counter 2's)."""
        return self.counters[n].out(self._settle())

    def state(self) -> State:
        own = save(self, 1, ("_due",))
        return own | {"counters": [counter.state() for counter in self.counters]}

    def restore(self, state: State) -> None:
        load(self, state, 1, ("_due",))
        for counter, saved in zip(self.counters, state["counters"], strict=True):
            counter.restore(saved)
        self._sync()

    def _settle(self) -> int:
        tick = ticks(self._clock.now())
        for counter in self.counters:
            counter.settle(tick)
        return tick

    def _write_control(self, value: int, tick: int) -> None:
        word = ControlWord.parse(value)
        if word.select == 3:
            self._read_back(value, tick)
        elif word.access is Access.LATCH:
            self.counters[word.select].latch_count(tick)
        else:
            self.counters[word.select].control(word)
            self._reschedule(word.select, tick)

    def _read_back(self, value: int, tick: int) -> None:
        """Read-back command: bit 5 and 4 low select count and status, bits 1-3 the counters."""
        for n, counter in enumerate(self.counters):
            if value >> n + 1 & 1:
                if not value & 0x20:
                    counter.latch_count(tick)
                if not value & 0x10:
                    counter.latch_status(tick)

    def _reschedule(self, n: int, tick: int) -> None:
        self._due[n] = self.counters[n].next_rise(tick)

    def _expire(self, n: int) -> None:
        """Deliver one rising edge; further missed ones follow through the re-armed timer."""
        tick, due = self._settle(), self._due[n]
        if due is not None and due <= tick:
            self.out[n].pulse()
            counter = self.counters[n]
            oldest = tick - MAX_CATCH_UP * counter.count if counter.mode in PERIODIC else due
            self._due[n] = counter.next_rise(max(due, oldest))
        self._sync()

    def _sync(self) -> None:
        tick = ticks(self._clock.now())
        for n, (line, timer) in enumerate(zip(self.out, self._timers, strict=True)):
            due = self._due[n] if line.connected else None
            if due is None or due > tick:
                # An edge that is already due belongs to `_expire`.
                line.set(self.counters[n].out(tick))
            timer.set(None if due is None else tick_time(due))
