"""The fake clock and the line, on which all chip tests rest."""

from __future__ import annotations

from pytcg.hw.clock import Deadline, FakeClock
from pytcg.hw.line import Line


def test_timers_fire_in_deadline_order_at_their_own_time() -> None:
    clock, seen = FakeClock(), list[tuple[str, int]]()
    clock.timer(lambda: seen.append(("late", clock.now()))).arm(30)
    clock.timer(lambda: seen.append(("early", clock.now()))).arm(10)
    clock.advance(40)
    assert seen == [("early", 10), ("late", 30)]
    assert clock.now() == 40


def test_rearming_replaces_the_deadline() -> None:
    clock, seen = FakeClock(), []
    timer = clock.timer(lambda: seen.append(clock.now()))
    timer.arm(10)
    timer.arm(20)
    clock.advance(100)
    assert seen == [20]


def test_a_cancelled_timer_stays_silent() -> None:
    clock, seen = FakeClock(), []
    timer = clock.timer(lambda: seen.append(clock.now()))
    timer.arm(10)
    timer.cancel()
    clock.advance(100)
    assert seen == []


def test_a_past_deadline_fires_now() -> None:
    clock, seen = FakeClock(100), []
    clock.timer(lambda: seen.append(clock.now())).arm(10)
    clock.advance(0)
    assert seen == [100]


def test_a_timer_may_rearm_itself() -> None:
    clock, seen = FakeClock(), []

    def tick() -> None:
        seen.append(clock.now())
        timer.arm(clock.now() + 10)

    timer = clock.timer(tick)
    timer.arm(10)
    clock.advance(35)
    assert seen == [10, 20, 30]


def test_a_deadline_reaches_the_clock_on_changes_only() -> None:
    clock, seen = FakeClock(), list[int]()
    deadline = Deadline(clock, lambda: seen.append(clock.now()))
    for _ in range(100):
        deadline.set(50)
    assert clock.queued == 1
    clock.advance(50)
    deadline.set(50)  # past, but asked for again
    clock.advance(0)
    deadline.set(80)
    deadline.set(None)
    clock.advance(100)
    assert seen == [50, 50]


def test_line_tells_sinks_of_changes_only() -> None:
    line, first, second = Line(), list[bool](), list[bool]()
    line.connect(first.append)
    line.set(False)
    line.set(True)
    line.connect(second.append)
    line.set(True)
    line.set(False)
    assert first == [False, True, False]
    assert second == [True, False]


def test_a_pulse_always_ends_in_a_rising_edge() -> None:
    line, seen = Line(level=True), list[bool]()
    line.connect(seen.append)
    line.pulse()
    assert seen == [True, False, True]
