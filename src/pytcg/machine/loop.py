"""The main loop: asyncio for files and signals, one clock for all timers, one lock for all devices.

Devices run in the main thread (timers, input) and in the vCPU thread (ports, MMIO); whoever runs
one holds `MainLoop.lock`. The loop's own Python stays short: the vCPU may be waiting for the GIL.
"""

from __future__ import annotations

import asyncio
import ctypes
import heapq
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Final, Protocol

NS: Final = 1_000_000_000
CLOCK_MONOTONIC: Final = 1
TFD_NONBLOCK: Final = 0o4000
TFD_CLOEXEC: Final = 0o2000000
STALE_LIMIT: Final = 256  # queued deadlines before the replaced ones among them are looked for


class Alarm(Protocol):
    """Wakes the main loop once, `delay` nanoseconds from now; may be set from any thread."""

    def set(self, delay: int) -> None:
        """Replace the deadline; at most 0 means at once."""
        ...

    def close(self) -> None:
        """Give back what it holds."""
        ...


class TimerFdAlarm:
    """Linux's timerfd: exact to microseconds, where asyncio's own timers round up to milliseconds.

    ctypes, because Python has `os.timerfd_create` from 3.13 on only; the one structure
    passed is `struct itimerspec`: two pairs of seconds and nanoseconds.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._loop = loop
        self._callback = callback
        self._fd = self._libc.timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        loop.add_reader(self._fd, self._expired)

    def _expired(self) -> None:
        try:
            os.read(self._fd, 8)
        except BlockingIOError:
            return  # set anew between expiry and now
        self._callback()

    def set(self, delay: int) -> None:
        seconds, nanoseconds = divmod(max(delay, 1), NS)  # zero would disarm it
        setting = (ctypes.c_long * 4)(0, 0, seconds, nanoseconds)
        self._libc.timerfd_settime(self._fd, 0, setting, None)

    def close(self) -> None:
        self._loop.remove_reader(self._fd)
        os.close(self._fd)


class LoopAlarm:
    """asyncio's own timer, for hosts without timerfd."""

    def __init__(self, loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
        self._loop = loop
        self._callback = callback
        self._handle: asyncio.TimerHandle | None = None

    def set(self, delay: int) -> None:
        self._loop.call_soon_threadsafe(self._schedule, delay)

    def _schedule(self, delay: int) -> None:
        self.close()
        self._handle = self._loop.call_later(max(delay, 0) / NS, self._callback)

    def close(self) -> None:
        if self._handle is not None:
            self._handle.cancel()


def make_alarm(loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> Alarm:
    """The most exact alarm this host has."""
    if sys.platform == "linux":
        return TimerFdAlarm(loop, callback)
    return LoopAlarm(loop, callback)


class HostClock:
    """Virtual time that runs with the host's monotonic clock; timers fire in the main loop.

    Used with the device lock held, as every chip is.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, lock: threading.RLock) -> None:
        self._start = time.monotonic_ns()
        self._lock = lock
        self._serial = 0
        self._heap: list[tuple[int, int, HostTimer]] = []
        self._stale_limit = STALE_LIMIT
        self._wake_at: int | None = None
        self._alarm = make_alarm(loop, self._fire)

    def now(self) -> int:
        """Nanoseconds since power-on."""
        return time.monotonic_ns() - self._start

    def set(self, now: int) -> None:
        """Let virtual time go on from ``now``; timers keep their deadlines."""
        self._start = time.monotonic_ns() - now
        self._wake_at = None
        if self._heap:
            self._set_alarm(self._heap[0][0])

    def timer(self, callback: Callable[[], None]) -> HostTimer:
        """A new timer, not armed."""
        return HostTimer(self, callback)

    def schedule(self, deadline: int, timer: HostTimer) -> int:
        """Queue a timer; the returned serial tells this arming from later ones."""
        self._serial += 1
        if len(self._heap) >= self._stale_limit:
            self._drop_stale()
        heapq.heappush(self._heap, (deadline, self._serial, timer))
        # The alarm is only moved forward: guests re-arm a later timer at every tick.
        if self._wake_at is None or deadline < self._wake_at:
            self._set_alarm(deadline)
        return self._serial

    def close(self) -> None:
        """Fire nothing any more."""
        self._alarm.close()

    def _drop_stale(self) -> None:
        """Forget replaced deadlines that lie far ahead: a guest may replace one at every tick."""
        self._heap = [entry for entry in self._heap if entry[2].awaits(entry[1])]
        heapq.heapify(self._heap)
        self._stale_limit = max(STALE_LIMIT, 2 * len(self._heap))

    def _set_alarm(self, deadline: int) -> None:
        self._wake_at = deadline
        self._alarm.set(deadline - self.now())

    def _fire(self) -> None:
        with self._lock:
            now = self.now()
            while self._heap and self._heap[0][0] <= now:
                self._pop()
            self._wake_at = None
            if self._heap:
                self._set_alarm(self._heap[0][0])

    def _pop(self) -> None:
        """Fire the first timer of the queue."""
        _, serial, timer = heapq.heappop(self._heap)
        timer.fire(serial)


class HostTimer:
    """HostClock's timer; a heap entry that is no longer meant is known by its serial."""

    def __init__(self, clock: HostClock, callback: Callable[[], None]) -> None:
        self._clock = clock
        self._callback = callback
        self._serial = 0

    @property
    def armed(self) -> bool:
        """Is it waiting?"""
        return self._serial != 0

    def arm(self, deadline_ns: int) -> None:
        """Call back once `now()` reaches deadline_ns; arming again replaces it."""
        self._serial = 0  # what it waited for is stale
        self._serial = self._clock.schedule(deadline_ns, self)

    def cancel(self) -> None:
        """Forget the deadline."""
        self._serial = 0

    def awaits(self, serial: int) -> bool:
        """Is this the arming that counts?"""
        return serial == self._serial

    def fire(self, serial: int) -> None:
        """Call back, unless the entry that came due is stale."""
        if self.awaits(serial):
            self._serial = 0
            self._callback()


class MainLoop:
    """asyncio's loop, the device lock, the clock, and the two ways to end: stop and failure."""

    def __init__(self, make_clock: Callable[[asyncio.AbstractEventLoop, threading.RLock],
                                            HostClock] = HostClock) -> None:  # fmt: skip
        self.lock = threading.RLock()
        self.asyncio = asyncio.new_event_loop()
        self.clock = make_clock(self.asyncio, self.lock)
        self.error: BaseException | None = None
        self.signal: int | None = None
        self.asyncio.set_exception_handler(self._on_exception)

    def run(self, started: Callable[[], None] | None = None) -> None:
        """Serve until `stop`; raises what a callback raised.

        ``started`` is called once signals are caught: a guest that has shown a sign of life can be
        ended in an orderly way.
        """
        handled = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        for number in handled:
            self.asyncio.add_signal_handler(number, self._on_signal, number)
        try:
            if started is not None:
                started()
            self.asyncio.run_forever()
        finally:
            for number in handled:
                self.asyncio.remove_signal_handler(number)
        if self.error is not None:
            raise self.error

    def stop(self) -> None:
        """Leave `run` soon; from any thread."""
        self.asyncio.call_soon_threadsafe(self.asyncio.stop)

    def fail(self, error: BaseException) -> None:
        """Make `run` raise the error; the first one counts. From any thread."""
        if self.error is None:
            self.error = error
        self.stop()

    def close(self) -> None:
        """Give back descriptors."""
        self.clock.close()
        self.asyncio.close()

    def _on_signal(self, number: int) -> None:
        self.signal = number
        self.asyncio.stop()

    def _on_exception(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        del loop
        error = context.get("exception")
        self.fail(error if error is not None else RuntimeError(context["message"]))
