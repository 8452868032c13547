"""8254: the six modes, the ways to read a count, IRQ0's long-run rate, Linux's calibration."""

from __future__ import annotations

import pytest

from pytcg.hw.clock import NS_PER_SECOND, FakeClock
from pytcg.hw.core.glue import SystemControlPortB
from pytcg.hw.core.i8254 import FREQUENCY, I8254, MAX_CATCH_UP, tick_time, ticks


class Bench:
    """A timer chip and a clock that is moved in CLK pulses."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.pit = I8254(self.clock)
        self.edges: list[int] = []
        self.pit.out[0].connect(self._note)
        self.edges.clear()

    def _note(self, level: bool) -> None:
        if level:
            self.edges.append(self.tick)

    @property
    def tick(self) -> int:
        return ticks(self.clock.now())

    def goto(self, tick: int) -> None:
        self.clock.advance(tick_time(tick) - self.clock.now())

    def program(self, n: int, mode: int, count: int, *, bcd: bool = False) -> None:
        self.pit.write(3, n << 6 | 0x30 | mode << 1 | bcd)
        self.pit.write(n, count & 0xFF)
        self.pit.write(n, count >> 8)

    def latched(self, n: int) -> int:
        self.pit.write(3, n << 6)
        low = self.pit.read(n)
        return low | self.pit.read(n) << 8

    def outs(self, n: int, first: int, last: int) -> str:
        """OUT from CLK first to last, as a string of H and L."""
        levels = []
        for tick in range(first, last + 1):
            self.goto(tick)
            levels.append("LH"[self.pit.out_level(n)])
        return "".join(levels)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_mode_0_rises_n_plus_1_clocks_after_the_write(bench: Bench) -> None:
    bench.program(0, 0, 4)
    assert bench.outs(0, 0, 7) == "LLLLLHHH"


def test_mode_0_counts_on_past_zero(bench: Bench) -> None:
    bench.program(0, 0, 4)
    bench.goto(7)
    assert bench.latched(0) == 0xFFFE


def test_mode_0_gate_low_holds_the_count(bench: Bench) -> None:
    bench.pit.set_gate(2, True)
    bench.program(2, 0, 10)
    bench.goto(5)
    bench.pit.set_gate(2, False)
    held = bench.latched(2)
    bench.goto(100)
    assert bench.latched(2) == held == 6
    bench.pit.set_gate(2, True)
    assert bench.outs(2, 104, 107) == "LLHH"


def test_mode_0_first_byte_stops_the_count(bench: Bench) -> None:
    bench.program(0, 0, 4)
    bench.pit.write(0, 0x10)
    bench.goto(50)
    assert not bench.pit.out_level(0)


def test_mode_1_is_triggered_by_the_gate_and_again(bench: Bench) -> None:
    bench.program(2, 1, 3)
    assert bench.outs(2, 0, 3) == "HHHH"
    bench.pit.set_gate(2, True)
    assert bench.outs(2, 4, 5) == "LL"
    bench.pit.set_gate(2, False)
    bench.pit.set_gate(2, True)  # at CLK 5: loads at 6
    assert bench.outs(2, 6, 10) == "LLLHH"


def test_mode_2_is_low_for_the_last_clock_of_each_period(bench: Bench) -> None:
    bench.program(0, 2, 4)
    assert bench.outs(0, 1, 9) == "HHHLHHHLH"
    assert bench.edges == [5, 9]


def test_mode_2_reads_n_down_to_1(bench: Bench) -> None:
    bench.program(0, 2, 3)
    seen = []
    for tick in range(1, 8):
        bench.goto(tick)
        seen.append(bench.latched(0))
    assert seen == [3, 2, 1, 3, 2, 1, 3]


def test_mode_2_takes_a_new_count_at_the_end_of_the_period(bench: Bench) -> None:
    bench.program(0, 2, 6)
    bench.goto(3)
    bench.pit.write(0, 4)
    bench.pit.write(0, 0)
    bench.goto(20)
    assert bench.edges == [7, 11, 15, 19]


def test_mode_2_gate_low_forces_out_high_and_rising_gate_restarts(bench: Bench) -> None:
    bench.pit.set_gate(2, True)
    bench.program(2, 2, 4)
    bench.goto(4)
    assert not bench.pit.out_level(2)
    bench.pit.set_gate(2, False)
    assert bench.pit.out_level(2)
    bench.goto(10)
    bench.pit.set_gate(2, True)
    assert bench.outs(2, 11, 15) == "HHHLH"


@pytest.mark.parametrize(
    ("count", "wave", "values"),
    [(4, "HHLLHHLL", [4, 2, 4, 2]), (5, "HHHLLHHHLL", [4, 2, 0, 4, 2])],
)
def test_mode_3_is_a_square_wave_counting_by_two(
    bench: Bench, count: int, wave: str, values: list[int]
) -> None:
    bench.program(0, 3, count)
    assert bench.outs(0, 1, 2 * count) == wave
    other = Bench()
    other.program(0, 3, count)
    seen = []
    for tick in range(1, count + 1):
        other.goto(tick)
        seen.append(other.latched(0))
    assert seen == values


def test_mode_3_takes_a_new_count_at_the_half_cycle(bench: Bench) -> None:
    bench.program(0, 3, 8)
    bench.goto(2)
    bench.pit.write(0, 4)
    bench.pit.write(0, 0)
    assert bench.outs(0, 3, 11) == "HHLLHHLLH"
    assert bench.edges == [7, 11]


def test_mode_4_strobes_once(bench: Bench) -> None:
    bench.program(0, 4, 3)
    assert bench.outs(0, 1, 7) == "HHHLHHH"
    assert bench.edges == [5]


def test_mode_5_strobes_after_the_gate(bench: Bench) -> None:
    bench.program(2, 5, 3)
    assert bench.outs(2, 0, 6) == "HHHHHHH"
    bench.pit.set_gate(2, True)
    assert bench.outs(2, 7, 12) == "HHHLHH"


def test_count_0_means_65536(bench: Bench) -> None:
    bench.program(0, 2, 0)
    bench.goto(1)
    assert bench.latched(0) == 0
    bench.goto(2)
    assert bench.latched(0) == 0xFFFF


def test_bcd_counts_in_decimal(bench: Bench) -> None:
    bench.program(0, 2, 0x1000, bcd=True)
    bench.goto(2)
    assert bench.latched(0) == 0x0999
    bench.goto(1001)
    assert bench.latched(0) == 0x1000


def test_a_latched_count_stands_still_until_read(bench: Bench) -> None:
    bench.program(0, 2, 0x1000)
    bench.goto(0x11)
    bench.pit.write(3, 0x00)
    bench.goto(0x500)
    bench.pit.write(3, 0x00)  # ignored: one is latched already
    assert (bench.pit.read(0), bench.pit.read(0)) == (0xF0, 0x0F)


def test_lsb_and_msb_only_access(bench: Bench) -> None:
    bench.pit.write(3, 0x14)
    bench.pit.write(0, 0x40)
    bench.goto(1)
    assert (bench.pit.read(0), bench.pit.read(0)) == (0x40, 0x40)
    bench.pit.write(3, 0x24)
    bench.pit.write(0, 0x12)
    bench.goto(2)
    assert bench.pit.read(0) == 0x12


def test_read_back_latches_status_then_count(bench: Bench) -> None:
    bench.program(0, 2, 0x1234)
    bench.pit.write(3, 0xE2)
    assert bench.pit.read(0) == 0xF4  # OUT high, null count, LSB+MSB, mode 2
    bench.goto(1)
    bench.pit.write(3, 0xC2)
    assert bench.pit.read(0) == 0xB4
    assert bench.pit.read(0) | bench.pit.read(0) << 8 == 0x1234


def test_irq0_does_not_drift_in_an_hour(bench: Bench) -> None:
    bench.program(0, 2, 11932)
    bench.clock.advance(3600 * NS_PER_SECOND)
    assert len(bench.edges) == (3600 * FREQUENCY - 1) // 11932


def test_missed_edges_are_caught_up_within_bounds(bench: Bench) -> None:
    bench.program(0, 2, 11932)
    bench.clock.skip(50_000_000)
    bench.clock.advance(0)
    assert len(bench.edges) == 4
    bench.clock.skip(60 * NS_PER_SECOND)
    bench.clock.advance(0)
    assert len(bench.edges) - 4 in (MAX_CATCH_UP, MAX_CATCH_UP + 1)


def test_linux_calibrates_by_channel_2_and_port_61h(bench: Bench) -> None:
    """pit_calibrate_tsc: gate on, mode 0, wait until bit 5 of port 61h rises."""
    pit = bench.pit
    port = SystemControlPortB(
        bench.clock, lambda level: pit.set_gate(2, level), lambda: pit.out_level(2)
    )
    port.write(0, port.read(0) & ~0x02 | 0x01)
    count = FREQUENCY // 20
    bench.program(2, 0, count)
    start = bench.clock.now()
    while not port.read(0) & 0x20:
        bench.clock.advance(1_000)
    assert bench.clock.now() - start == pytest.approx(50_000_000, abs=2_000)


def test_linux_quick_calibration_reads_a_falling_msb(bench: Bench) -> None:
    """quick_pit_calibrate: mode 0 with count FFFFh, reading LSB and MSB in turns."""
    bench.pit.set_gate(2, True)
    bench.program(2, 0, 0xFFFF)
    seen = []
    for step in range(4):
        bench.goto(1 + 256 * step)
        bench.pit.read(2)
        seen.append(bench.pit.read(2))
    assert seen == [0xFF, 0xFE, 0xFD, 0xFC]
