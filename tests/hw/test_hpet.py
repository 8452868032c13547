"""High precision event timers."""

from __future__ import annotations

import random

import pytest

from pytcg.hw.clock import FakeClock
from pytcg.hw.core.hpet import Hpet

CAPS, CONFIG, STATUS, COUNTER = 0x000, 0x010, 0x020, 0x0F0
ENABLE, LEGACY = 1, 2
LEVEL, INT, PERIODIC, SET, MODE_32 = 2, 4, 8, 0x40, 0x100
MS = 1_000_000
MS_TICKS = 100_000


def timer(number: int, reg: int = 0) -> int:
    return 0x100 + 0x20 * number + reg


class Bench:
    def __init__(self) -> None:
        self.clock = FakeClock()
        self.chip = Hpet(self.clock)
        self.rises: list[tuple[int, int]] = []
        for pin, line in self.chip.pins.items():
            line.connect(lambda level, pin=pin: self._seen(pin, level))

    def _seen(self, pin: int, level: bool) -> None:
        if level:
            self.rises.append((pin, self.clock.now()))

    def write(self, reg: int, value: int, size: int = 8) -> None:
        self.chip.write(reg, size, value)

    def read(self, reg: int, size: int = 8) -> int:
        return self.chip.read(reg, size)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_capabilities_are_qemus(bench: Bench) -> None:
    assert bench.read(CAPS) == 10_000_000 << 32 | 0x8086A201
    assert bench.read(CAPS + 4, 4) == 10_000_000
    assert bench.read(timer(0)) >> 32 == 0xFF0104


def test_the_counter_runs_while_enabled(bench: Bench) -> None:
    bench.clock.advance(MS)
    assert bench.read(COUNTER) == 0
    bench.write(COUNTER, 0x1_0000_0000)
    bench.write(CONFIG, ENABLE)
    bench.clock.advance(MS)
    assert bench.read(COUNTER) == 0x1_0000_0000 + MS_TICKS
    assert bench.read(COUNTER + 4, 4) == 1
    bench.write(CONFIG, 0)
    bench.clock.advance(MS)
    assert bench.read(COUNTER, 4) == MS_TICKS


def test_a_one_shot_fires_once_at_its_comparator(bench: Bench) -> None:
    bench.write(CONFIG, ENABLE)
    bench.write(timer(2), INT | 20 << 9)
    bench.write(timer(2, 8), 3 * MS_TICKS)
    bench.clock.advance(10 * MS)
    assert bench.rises == [(20, 3 * MS)]


def test_legacy_routing_replaces_pit_and_rtc(bench: Bench) -> None:
    bench.write(CONFIG, ENABLE | LEGACY)
    assert bench.chip.legacy.level
    for number in (0, 1):
        bench.write(timer(number), INT | MODE_32)
        bench.write(timer(number, 8), (number + 1) * MS_TICKS, 4)
    bench.clock.advance(5 * MS)
    assert bench.rises == [(2, MS), (8, 2 * MS)]


def test_a_periodic_timer_as_linux_sets_it(bench: Bench) -> None:
    bench.write(CONFIG, ENABLE | LEGACY)
    bench.clock.advance(MS)
    bench.write(timer(0), INT | PERIODIC | SET | MODE_32)
    bench.write(timer(0, 8), 2 * MS_TICKS, 4)
    bench.write(timer(0, 8), MS_TICKS // 2, 4)
    bench.clock.advance(2 * MS)
    assert [when for _, when in bench.rises] == [2 * MS, 5 * MS // 2, 3 * MS]
    assert not bench.read(timer(0)) & SET


def test_a_late_host_makes_up_with_one_interrupt(bench: Bench) -> None:
    bench.write(CONFIG, ENABLE | LEGACY)
    bench.write(timer(0), INT | PERIODIC | SET)
    bench.write(timer(0, 8), MS_TICKS)
    bench.write(timer(0, 8), MS_TICKS)
    bench.clock.skip(5 * MS + MS // 2)
    bench.read(STATUS)
    assert len(bench.rises) == 1
    bench.clock.advance(MS)
    assert bench.rises[-1][1] == 6 * MS


def test_a_comparator_in_the_past_fires_at_once(bench: Bench) -> None:
    bench.write(CONFIG, ENABLE)
    bench.clock.advance(MS)
    bench.write(timer(0), INT | MODE_32 | 16 << 9)
    bench.write(timer(0, 8), MS_TICKS - 5)
    bench.clock.advance(10)
    assert bench.rises[:1] == [(16, MS)]


def test_level_interrupts_stay_until_their_status_is_cleared(bench: Bench) -> None:
    bench.write(CONFIG, ENABLE)
    bench.write(timer(1), INT | LEVEL | 17 << 9)
    bench.write(timer(1, 8), MS_TICKS)
    bench.clock.advance(2 * MS)
    assert bench.chip.pins[17].level and bench.read(STATUS) == 2
    bench.write(STATUS, 2)
    assert not bench.chip.pins[17].level and bench.read(STATUS) == 0


def test_state_restores_what_is_pending(bench: Bench) -> None:
    bench.write(CONFIG, ENABLE)
    bench.write(timer(0), INT | 18 << 9)
    bench.write(timer(0, 8), MS_TICKS)
    state = bench.chip.state()
    bench.chip.reset()
    bench.chip.restore(state)
    bench.clock.advance(2 * MS)
    assert bench.rises == [(18, MS)]


def test_random_accesses(bench: Bench) -> None:
    chance = random.Random(3)
    for _ in range(20_000):
        size = chance.choice([1, 2, 4, 8])
        offset = chance.randrange(0, 0x400, size)
        bench.write(offset, chance.getrandbits(8 * size), size)
        assert 0 <= bench.read(chance.randrange(0, 0x400, size), size) < 1 << 8 * size
        bench.clock.advance(chance.randrange(100))
