"""The local APIC's timer (SDM vol. 3A, 11.5.4): one-shot, periodic and TSC-deadline."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum

from pytcg.hw.clock import NS_PER_SECOND, Clock, Deadline
from pytcg.hw.state import State, load, save

SHORTEST_WAIT_NS = 20_000
"""Periods below this would fire faster than a host can run timers: their interrupts coalesce, as
they would in IRR."""
LONGEST_WAIT_NS = 3600 * NS_PER_SECOND
"""A far deadline is waited for in steps, so that host timers never see absurd times."""


class TimerMode(IntEnum):
    """Bits 17-18 of the LVT timer entry."""

    ONE_SHOT = 0
    PERIODIC = 1
    TSC_DEADLINE = 2
    RESERVED = 3


class ApicTimer:
    """Counts bus clocks over the divider; calls `on_expire` at each expiry, at most once a look."""

    _FIELDS = ("mode", "divide", "initial_count", "deadline", "_expires")

    def __init__(
        self,
        clock: Clock,
        on_expire: Callable[[], None],
        *,
        tsc: Callable[[], int],
        tsc_hz: int,
        bus_hz: int,
    ) -> None:
        self._clock = clock
        self._on_expire = on_expire
        self._tsc = tsc
        self._tsc_hz = tsc_hz
        self._bus_hz = bus_hz
        self._timer = Deadline(clock, self._wake)
        self._clear()

    def _clear(self) -> None:
        self.mode = TimerMode.ONE_SHOT
        self.divide = 0
        self.initial_count = 0
        self.deadline = 0  # IA32_TSC_DEADLINE; 0 = disarmed
        self._expires: int | None = None  # the timer clock at which the count reaches 0

    def reset(self) -> None:
        self._clear()
        self._sync()

    def start(self, count: int) -> None:
        """Write of the initial count; 0 stops. Ignored in TSC-deadline mode."""
        if self.mode is TimerMode.TSC_DEADLINE:
            return
        self.initial_count = count
        self._begin(count)
        self._sync()

    def current_count(self) -> int:
        if self._expires is None:
            return 0
        left = max(self._expires - self._now(), 0)
        return min(left, self.initial_count)

    def set_divide(self, value: int) -> None:
        """Divide configuration; a running count goes on at the new rate."""
        left = self.current_count()
        self.divide = value
        if self._expires is not None:
            self._begin(left)
        self._sync()

    def set_mode(self, mode: TimerMode) -> None:
        """LVT timer mode; going to or from TSC-deadline disarms (11.5.4.1)."""
        if (mode is TimerMode.TSC_DEADLINE) != (self.mode is TimerMode.TSC_DEADLINE):
            self.deadline = self.initial_count = 0
            self._expires = None
        self.mode = mode
        self._sync()

    def set_deadline(self, tsc: int) -> None:
        """Write of IA32_TSC_DEADLINE: 0 disarms; ignored in the other modes."""
        if self.mode is TimerMode.TSC_DEADLINE:
            self.deadline = tsc
            self.expire()
            self._sync()

    def resume(self, mode: TimerMode, *, divide: int, initial: int, left: int, deadline: int
               ) -> None:  # fmt: skip
        """Be as another timer was, ``left`` clocks before it expires (0: it doesn't count)."""
        self.mode, self.divide, self.initial_count, self.deadline = mode, divide, initial, deadline
        self._begin(left)
        self._sync()

    def expire(self) -> None:
        """Signal an expiry that has come, then wait for the next; cheap when none has."""
        if self._due():
            if self.mode is TimerMode.TSC_DEADLINE:
                self.deadline = 0
            else:
                self._next_period()
            self._sync()
            self._on_expire()

    def _wake(self) -> None:
        self.expire()
        self._sync()

    def state(self) -> State:
        return save(self, 1, self._FIELDS)

    def restore(self, state: State) -> None:
        load(self, state, 1, self._FIELDS)
        self._sync()

    def _divisor(self) -> int:
        """Bits 0, 1 and 3 hold log2 of the divisor minus one; 7 is divide by one."""
        code = self.divide & 3 | self.divide >> 1 & 4
        return 1 << (code + 1 & 7)

    def _now(self) -> int:
        return self._clock.now() * self._bus_hz // (NS_PER_SECOND * self._divisor())

    def _begin(self, count: int) -> None:
        self._expires = self._now() + count if count else None

    def _due(self) -> bool:
        if self.mode is TimerMode.TSC_DEADLINE:
            return bool(self.deadline) and self._tsc() >= self.deadline
        return self._expires is not None and self._now() >= self._expires

    def _next_period(self) -> None:
        """Periods keep the phase of the start, so that late timers don't add up."""
        if self.mode is not TimerMode.PERIODIC or not self.initial_count:
            self._expires = None
            return
        assert self._expires is not None
        missed = (self._now() - self._expires) // self.initial_count
        self._expires += (missed + 1) * self.initial_count

    def _wait_ns(self) -> int | None:
        """Nanoseconds from now to the next expiry; None when there is none."""
        if self.mode is TimerMode.TSC_DEADLINE:
            if not self.deadline:
                return None
            return -((self._tsc() - self.deadline) * NS_PER_SECOND // self._tsc_hz)
        if self._expires is None:
            return None
        scale = NS_PER_SECOND * self._divisor()
        return -(-self._expires * scale // self._bus_hz) - self._clock.now()

    def _sync(self) -> None:
        wait = self._wait_ns()
        if wait is None:
            self._timer.set(None)
            return
        if self.mode is TimerMode.PERIODIC and self._period_ns() < SHORTEST_WAIT_NS:
            wait = SHORTEST_WAIT_NS
        self._timer.set(self._clock.now() + min(wait, LONGEST_WAIT_NS))

    def _period_ns(self) -> int:
        return self.initial_count * self._divisor() * NS_PER_SECOND // self._bus_hz
