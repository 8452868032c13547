"""One counter of the 8254: modes, count and OUT as functions of the CLK number.

Nothing ticks: a counter remembers at which CLK its counting element was loaded, and everything
else is computed. Modes and their figures are those of the 8254 datasheet (order number 231164,
"Mode Definitions").
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

from pytcg.hw.state import State, load, save


class Mode(IntEnum):
    """The six counter modes."""

    TERMINAL_COUNT = 0
    ONE_SHOT = 1
    RATE_GENERATOR = 2
    SQUARE_WAVE = 3
    SOFTWARE_STROBE = 4
    HARDWARE_STROBE = 5


PERIODIC = {Mode.RATE_GENERATOR, Mode.SQUARE_WAVE}
GATE_TRIGGERED = {Mode.ONE_SHOT, Mode.HARDWARE_STROBE}
GATE_PAUSES = {Mode.TERMINAL_COUNT, Mode.SOFTWARE_STROBE}


class Access(IntEnum):
    """RW1-RW0 of the control word."""

    LATCH = 0
    LSB = 1
    MSB = 2
    WORD = 3


class ControlWord(NamedTuple):
    """The control word's fields."""

    select: int
    access: Access
    mode: Mode
    bcd: bool

    @classmethod
    def parse(cls, value: int) -> ControlWord:
        mode = value >> 1 & 7
        # M2 is "don't care" for modes 2 and 3.
        return cls(value >> 6, Access(value >> 4 & 3), Mode(mode & 3 if mode > 5 else mode),
                   bool(value & 1))  # fmt: skip


class Counter:
    """One counter. All of its methods take the time as a CLK number."""

    _FIELDS = (
        "mode", "access", "bcd", "gate", "count", "pending", "switch", "origin", "held",
        "idle_out", "next_high", "write_low", "latched", "status_latch",
    )  # fmt: skip

    def __init__(self, *, gate: bool) -> None:
        self._gate_at_reset = gate
        self.reset()

    def reset(self) -> None:
        self.mode, self.access, self.bcd = Mode.TERMINAL_COUNT, Access.WORD, False
        self.gate = self._gate_at_reset
        self.count = 0  # what the counting element was last loaded with; 0 = never
        self.pending = 0  # the count register, while it waits to be loaded; 0 = nothing
        self.switch: int | None = None  # CLK at which `pending` takes over in a periodic mode
        self.origin: int | None = None  # CLK of the load; None = stopped
        self.held: int | None = None  # elapsed CLKs when the gate paused a mode 0 or 4 count
        self.idle_out = True
        self.next_high = False  # flip-flop: the next byte read is the high one
        self.write_low: int | None = None
        self.latched: int | None = None
        self.status_latch: int | None = None

    @property
    def modulus(self) -> int:
        return 10_000 if self.bcd else 0x10000

    # --- what the pins and the counting element show -------------------------------------------

    def elapsed(self, tick: int) -> int | None:
        """CLKs since the load; None while nothing counts (no count, no trigger, gate low)."""
        if self.held is not None:
            return self.held
        return None if self.origin is None else tick - self.origin

    def out(self, tick: int) -> bool:
        elapsed = self.elapsed(tick)
        if elapsed is None or (elapsed < 0 and self.mode is not Mode.ONE_SHOT):
            return self.idle_out
        n = self.count
        if self.mode in {Mode.TERMINAL_COUNT, Mode.ONE_SHOT}:
            return elapsed >= n
        if self.mode is Mode.RATE_GENERATOR:
            return elapsed % n != n - 1
        if self.mode is Mode.SQUARE_WAVE:
            return elapsed % n < (n + 1) // 2
        return elapsed != n

    def value(self, tick: int) -> int:
        """The counting element as the CPU reads it."""
        elapsed = max(self.elapsed(tick) or 0, 0)
        n = self.count
        if self.mode is Mode.SQUARE_WAVE and n:
            # Counts by two, an odd count from N - 1; the high half has the odd CLK.
            high, phase = (n + 1) // 2, elapsed % n
            left = (n & ~1) - 2 * (phase if phase < high else phase - high)
        elif self.mode is Mode.RATE_GENERATOR and n:
            left = n - elapsed % n
        else:
            left = n - elapsed
        left %= self.modulus
        return int(str(left), 16) if self.bcd else left

    def null_count(self, tick: int) -> bool:
        """Status bit 6: the written count isn't in the counting element yet."""
        elapsed = self.elapsed(tick)
        return bool(self.pending) or elapsed is None or elapsed < 0

    def next_rise(self, after: int) -> int | None:
        """CLK of the first rising edge of OUT later than `after`."""
        if self.origin is None or self.held is not None:
            return None
        n = self.count
        if self.switch is not None and after < self.switch:
            ends_cycle = self._cycle_ends_at(self.switch)
            return self.switch if ends_cycle else self.switch + self.pending // 2
        if self.mode in PERIODIC:
            cycles = max((after - self.origin) // n + 1, 1)
            return self.origin + cycles * n if n > 1 else None
        strobe = self.mode in {Mode.SOFTWARE_STROBE, Mode.HARDWARE_STROBE}
        rise = self.origin + n + strobe
        return rise if rise > after else None

    # --- programming ---------------------------------------------------------------------------

    def control(self, word: ControlWord) -> None:
        self.access, self.mode, self.bcd = word.access, word.mode, word.bcd
        self.count = self.pending = 0
        self.origin = self.held = self.switch = None
        self.write_low = self.latched = self.status_latch = None
        self.next_high = False
        self.idle_out = self.mode is not Mode.TERMINAL_COUNT

    def write(self, value: int, tick: int) -> None:
        """A byte of the count; the count register is complete after one or two."""
        if self.access is Access.WORD and self.write_low is None:
            self.write_low = value
            if self.mode is Mode.TERMINAL_COUNT:
                # The first byte stops the count and drops OUT.
                self.origin = self.held = None
                self.idle_out = False
            return
        low, high = value, 0
        if self.access is Access.WORD:
            low, high = self.write_low or 0, value
        elif self.access is Access.MSB:
            low, high = 0, value
        self.write_low = None
        self._new_count(low | high << 8, tick)

    def _new_count(self, value: int, tick: int) -> None:
        if self.bcd:
            value = sum((value >> 4 * i & 15) * 10**i for i in range(4)) % 10_000
        self.pending = value or self.modulus
        if self.mode in GATE_TRIGGERED or (self.mode in PERIODIC and not self.gate):
            return  # loaded by the gate
        if self.mode in PERIODIC and self.origin is not None:
            self.switch = self._next_switch(tick)
            return
        self._load(tick + 1)
        if self.mode is Mode.TERMINAL_COUNT:
            self.idle_out = False
        if not self.gate:
            self.held = 0

    def _load(self, tick: int) -> None:
        self.count, self.pending = self.pending or self.count, 0
        self.origin, self.held, self.switch = tick, None, None

    def settle(self, tick: int) -> None:
        """Load a count that was written while a periodic mode ran, if its time has come."""
        if self.switch is None or self.origin is None or tick < self.switch:
            return
        switch, ends_cycle = self.switch, self._cycle_ends_at(self.switch)
        self._load(switch)
        if not ends_cycle:
            self.origin = switch - (self.count + 1) // 2

    def _next_switch(self, tick: int) -> int:
        """CLK at which a new count takes over: the end of the cycle, in mode 3 of its half."""
        assert self.origin is not None
        elapsed = tick - self.origin
        phase, high = elapsed % self.count, (self.count + 1) // 2
        start = tick - phase
        if self.mode is Mode.SQUARE_WAVE and phase < high:
            return start + high
        return start + self.count

    def _cycle_ends_at(self, tick: int) -> bool:
        assert self.origin is not None
        return (tick - self.origin) % self.count == 0

    def set_gate(self, level: bool, tick: int) -> None:
        if level == self.gate:
            return
        self.gate = level
        if self.mode in GATE_PAUSES:
            self._pause(tick)
        elif level and (self.pending or self.count):
            self._load(tick + 1)
        elif self.mode in PERIODIC:
            self.origin = self.switch = None  # OUT is forced high

    def _pause(self, tick: int) -> None:
        if self.origin is None:
            return
        if self.gate and self.held is not None:
            self.origin, self.held = tick - self.held, None
        elif not self.gate:
            self.held = max(tick - self.origin, 0)

    # --- reading -------------------------------------------------------------------------------

    def latch_count(self, tick: int) -> None:
        if self.latched is None:
            self.latched = self.value(tick)

    def latch_status(self, tick: int) -> None:
        if self.status_latch is None:
            self.status_latch = (
                self.out(tick) << 7 | self.null_count(tick) << 6 | self.access << 4
                | self.mode << 1 | self.bcd
            )  # fmt: skip

    def read(self, tick: int) -> int:
        """The latched status, else a byte of the latched or the running count."""
        if self.status_latch is not None:
            status, self.status_latch = self.status_latch, None
            return status
        value = self.value(tick) if self.latched is None else self.latched
        high = self.access is Access.MSB or (self.access is Access.WORD and self.next_high)
        if self.access is Access.WORD:
            self.next_high = not self.next_high
        if not self.next_high:
            self.latched = None
        return value >> 8 if high else value & 0xFF

    def state(self) -> State:
        return save(self, 1, self._FIELDS)

    def restore(self, state: State) -> None:
        load(self, state, 1, self._FIELDS)
