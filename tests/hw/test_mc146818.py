"""MC146818: time of day in its formats, update cycle, the three interrupts, CMOS memory."""

from __future__ import annotations

import calendar

import pytest

from pytcg.hw.clock import NS_PER_SECOND, FakeClock
from pytcg.hw.core.mc146818 import Mc146818, Reg

EPOCH = calendar.timegm((2024, 2, 29, 23, 59, 57))
MS = 1_000_000
PIE, AIE, UIE = 0x40, 0x20, 0x10


class Bench:
    """An RTC and its clock, started at EPOCH."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.rtc = Mc146818(self.clock, epoch=EPOCH)

    def get(self, index: int) -> int:
        self.rtc.write(0, index)
        return self.rtc.read(1)

    def put(self, index: int, value: int) -> None:
        self.rtc.write(0, index)
        self.rtc.write(1, value)

    def time(self) -> tuple[int, ...]:
        order = (
            Reg.CENTURY, Reg.YEAR, Reg.MONTH, Reg.DAY_OF_MONTH, Reg.HOURS, Reg.MINUTES, Reg.SECONDS
        )  # fmt: skip
        return tuple(self.get(reg) for reg in order)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_time_is_bcd_and_24_hours_at_power_on(bench: Bench) -> None:
    assert bench.time() == (0x20, 0x24, 0x02, 0x29, 0x23, 0x59, 0x57)
    assert bench.get(Reg.DAY_OF_WEEK) == 5  # a Thursday


def test_time_rolls_over_into_march(bench: Bench) -> None:
    bench.clock.advance(3 * NS_PER_SECOND)
    assert bench.time() == (0x20, 0x24, 0x03, 0x01, 0x00, 0x00, 0x00)


def test_binary_and_12_hour_formats(bench: Bench) -> None:
    bench.put(Reg.B, 0x04)
    assert bench.time() == (20, 24, 2, 29, 0x80 | 11, 59, 57)
    bench.clock.advance(3 * NS_PER_SECOND)
    assert bench.get(Reg.HOURS) == 12  # midnight is 12 AM


def test_setting_the_time_with_set(bench: Bench) -> None:
    bench.put(Reg.B, 0x82)
    for reg, value in (
        (Reg.SECONDS, 0x30), (Reg.MINUTES, 0x15), (Reg.HOURS, 0x08), (Reg.DAY_OF_MONTH, 0x31),
        (Reg.MONTH, 0x12), (Reg.YEAR, 0x99), (Reg.CENTURY, 0x19), (Reg.DAY_OF_WEEK, 6),
    ):  # fmt: skip
        bench.put(reg, value)
    bench.clock.advance(10 * NS_PER_SECOND)
    assert bench.get(Reg.SECONDS) == 0x30  # frozen
    bench.put(Reg.B, 0x02)
    bench.clock.advance(2 * NS_PER_SECOND)
    assert bench.time() == (0x19, 0x99, 0x12, 0x31, 0x08, 0x15, 0x32)
    assert bench.get(Reg.DAY_OF_WEEK) == 6
    bench.clock.advance(24 * 3600 * NS_PER_SECOND)
    assert bench.time()[:4] == (0x20, 0x00, 0x01, 0x01)
    assert bench.get(Reg.DAY_OF_WEEK) == 7


def test_nonsense_in_the_time_bytes_is_survived(bench: Bench) -> None:
    for reg in (Reg.MONTH, Reg.YEAR, Reg.CENTURY, Reg.DAY_OF_MONTH, Reg.HOURS):
        bench.put(reg, 0xFF)
    bench.clock.advance(NS_PER_SECOND)
    assert len(bench.time()) == 7


def test_the_divider_reset_restarts_half_a_second_before_an_update(bench: Bench) -> None:
    bench.put(Reg.A, 0x76)
    bench.clock.advance(7 * NS_PER_SECOND + 123 * MS)
    assert bench.get(Reg.SECONDS) == 0x57
    bench.put(Reg.A, 0x26)
    bench.clock.advance(499 * MS)
    assert bench.get(Reg.SECONDS) == 0x57
    bench.clock.advance(1 * MS)
    assert bench.get(Reg.SECONDS) == 0x58


def test_uip_warns_before_the_update_only(bench: Bench) -> None:
    bench.clock.advance(990 * MS)
    assert not bench.get(Reg.A) & 0x80
    bench.clock.advance(9 * MS)
    assert bench.get(Reg.A) & 0x80
    bench.clock.advance(1 * MS)
    assert not bench.get(Reg.A) & 0x80


def test_update_interrupt_each_second_until_c_is_read(bench: Bench) -> None:
    bench.put(Reg.B, 0x02 | UIE)
    bench.clock.advance(NS_PER_SECOND - 1)
    assert not bench.rtc.irq.level
    bench.clock.advance(1)
    assert bench.rtc.irq.level
    assert bench.get(Reg.C) & 0xB0 == 0x90
    assert not bench.rtc.irq.level
    bench.clock.advance(NS_PER_SECOND)
    assert bench.rtc.irq.level


def test_flags_are_set_without_their_enables(bench: Bench) -> None:
    bench.clock.advance(2 * NS_PER_SECOND)
    assert bench.get(Reg.C) & 0x50 == 0x50
    assert bench.get(Reg.C) == 0
    assert not bench.rtc.irq.level


def test_a_flag_set_before_its_enable_interrupts_at_once(bench: Bench) -> None:
    bench.clock.advance(NS_PER_SECOND)
    bench.put(Reg.B, 0x02 | UIE)
    assert bench.rtc.irq.level


@pytest.mark.parametrize(("rate", "hertz"), [(6, 1024), (15, 2), (3, 8192), (1, 256), (2, 128)])
def test_periodic_rates(bench: Bench, rate: int, hertz: int) -> None:
    bench.put(Reg.A, 0x20 | rate)
    bench.put(Reg.B, 0x02 | PIE)
    count = 0
    step = NS_PER_SECOND // 32768
    while bench.clock.now() < NS_PER_SECOND:
        bench.clock.advance(step)
        if bench.rtc.irq.level:
            assert bench.get(Reg.C) & 0xC0 == 0xC0
            count += 1
    assert count == hertz


@pytest.mark.parametrize(
    ("alarm", "after"),
    [
        ((0x59, 0xFF, 0xFF), 2),
        ((0x05, 0x00, 0xC0), 8),
        ((0x00, 0x30, 0x00), 3 + 30 * 60),
        ((0xFF, 0x10, 0x01), 3 + 70 * 60),
        ((0x56, 0x59, 0x23), 24 * 3600 - 1),
    ],
)
def test_alarm_interrupt(bench: Bench, alarm: tuple[int, int, int], after: int) -> None:
    for reg, value in zip((1, 3, 5), alarm, strict=True):
        bench.put(reg, value)
    bench.put(Reg.B, 0x02 | AIE)
    bench.clock.advance(after * NS_PER_SECOND - 1)
    assert not bench.rtc.irq.level
    bench.clock.advance(1)
    assert bench.rtc.irq.level
    assert bench.get(Reg.C) & 0xA0 == 0xA0


def test_set_clears_uie_and_stops_updates(bench: Bench) -> None:
    bench.put(Reg.B, 0x92)
    assert bench.get(Reg.B) == 0x82
    bench.clock.advance(2 * NS_PER_SECOND)
    assert not bench.get(Reg.C) & 0x10


def test_reset_keeps_time_and_memory(bench: Bench) -> None:
    bench.put(0x40, 0x5A)
    bench.put(Reg.B, 0x72)
    bench.clock.advance(NS_PER_SECOND)
    bench.rtc.reset()
    assert not bench.rtc.irq.level
    assert bench.get(Reg.B) == 0x02
    assert bench.get(0x40) == 0x5A
    assert bench.get(Reg.SECONDS) == 0x58


def test_registers_c_and_d_are_read_only(bench: Bench) -> None:
    bench.put(Reg.D, 0)
    bench.put(Reg.C, 0xFF)
    assert (bench.get(Reg.C), bench.get(Reg.D)) == (0, 0x80)


def test_memory_size_bytes(bench: Bench) -> None:
    bench.rtc.set_memory_size(256 << 20, 4 << 30)

    def word(index: int) -> int:
        return bench.get(index) | bench.get(index + 1) << 8

    assert word(0x15) == 640
    assert word(0x17) == word(0x30) == 0xFFFF
    assert word(0x34) << 16 == 240 << 20
    assert (word(0x5B) | bench.get(0x5D) << 16) << 16 == 4 << 30
    checksum = bench.get(0x2E) << 8 | bench.get(0x2F)
    assert checksum == sum(bench.get(index) for index in range(0x10, 0x2E))


def test_small_memory_size(bench: Bench) -> None:
    bench.rtc.set_memory_size(8 << 20)
    assert bench.get(0x17) | bench.get(0x18) << 8 == 7 << 10
    assert bench.get(0x34) == 0


def test_a_period_that_ends_while_c_is_read_is_another_edge() -> None:
    class Running(FakeClock):
        """Goes on by a millisecond whenever it is looked at."""

        runs = False

        def now(self) -> int:
            if self.runs:
                self.skip(MS)
            return super().now()

    clock = Running()
    rtc = Mc146818(clock, epoch=EPOCH)
    edges: list[bool] = []
    rtc.irq.connect(edges.append)
    rtc.write(0, Reg.B)
    rtc.write(1, PIE | 2)
    clock.advance(2 * MS)
    assert edges[-1] is True
    edges.clear()
    clock.runs = True
    rtc.write(0, Reg.C)
    assert rtc.read(1) & 0xC0 == 0xC0
    assert edges == [False, True]
