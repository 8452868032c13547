"""The mouse by itself, and behind the controller as Linux's psmouse driver talks to it."""

from __future__ import annotations

import pytest

from pytcg.hw.input.i8042 import I8042
from pytcg.hw.input.ps2_mouse import Button, Ps2Mouse

ACK, OBF, AUX = 0xFA, 0x01, 0x20


class Bench:
    """A mouse on a controller whose auxiliary port is open."""

    def __init__(self) -> None:
        self.mouse = Ps2Mouse()
        self.kbc = I8042(lambda: None, mouse=self.mouse)
        self.kbc.reset()
        assert self.kbc.read(0) == 0xAA  # the keyboard's self test
        self.kbc.write(1, 0x60)
        self.kbc.write(0, 0x47)  # interrupts, translation

    def drain(self) -> list[int]:
        got = []
        while self.kbc.read(1) & OBF:
            assert self.kbc.read(1) & AUX
            assert self.kbc.irq12.level and not self.kbc.irq1.level
            got.append(self.kbc.read(0))
        return got

    def send(self, *values: int) -> list[int]:
        got = []
        for value in values:
            self.kbc.write(1, 0xD4)
            self.kbc.write(0, value)
            got += self.drain()
        return got

    def knock(self, *rates: int) -> int:
        for rate in rates:
            assert self.send(0xF3, rate) == [ACK, ACK]
        ack, identity = self.send(0xF2)
        assert ack == ACK
        return identity


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_reset_tests_itself_and_says_who_it_is(bench: Bench) -> None:
    assert bench.send(0xFF) == [ACK, 0xAA, 0x00]


def test_it_is_silent_until_enabled(bench: Bench) -> None:
    bench.mouse.move(5, 5)
    assert bench.drain() == []
    assert bench.send(0xF4) == [ACK]
    assert bench.drain() == []  # what came before is forgotten
    bench.mouse.move(3, -2)
    assert bench.drain() == [0x08, 3, 2]
    bench.mouse.move(-1, 300)
    assert bench.drain() == [0x38, 0xFF, 0x00, 0x28, 0x00, 0x100 - 44]


def test_buttons(bench: Bench) -> None:
    bench.send(0xF4)
    bench.mouse.press(Button.LEFT | Button.MIDDLE)
    assert bench.drain() == [0x0D, 0, 0]
    assert bench.send(0xE9) == [ACK, 0x20 | 4 | 2, 2, 100]
    bench.mouse.press(0)
    assert bench.drain() == [0x08, 0, 0]


def test_three_rates_switch_the_wheel_on(bench: Bench) -> None:
    assert bench.knock() == 0
    assert bench.knock(200, 100, 80) == 3
    bench.send(0xF4)
    bench.mouse.move(0, 0, 1)
    bench.mouse.move(0, 0, -1)
    assert bench.drain() == [0x08, 0, 0, 1, 0x08, 0, 0, 0xFF]
    assert bench.send(0xFF)[-1] == 0
    assert bench.knock() == 0


def test_three_others_the_side_buttons(bench: Bench) -> None:
    assert bench.knock(200, 200, 80) == 4
    bench.send(0xF4)
    bench.mouse.press(Button.SIDE)
    bench.mouse.move(0, 0, -2)
    assert bench.drain() == [0x08, 0, 0, 0x10, 0x08, 0, 0, 0x1E]


def test_remote_mode_reports_when_asked(bench: Bench) -> None:
    bench.send(0xF4, 0xF0)
    bench.mouse.move(7, 0)
    assert bench.drain() == []
    assert bench.send(0xEB) == [ACK, 0x08, 7, 0]


def test_wrap_mode_sends_everything_back(bench: Bench) -> None:
    bench.send(0xEE)
    assert bench.send(0xE6, 0x12) == [0xE6, 0x12]
    assert bench.send(0xEC) == [ACK]


def test_unknown_bytes_are_asked_for_again(bench: Bench) -> None:
    assert bench.send(0x12) == [0xFE]
    assert bench.send(0xF3, 0x33) == [ACK, 0xFE]
    assert bench.send(100) == [ACK]


def test_movement_that_nobody_reads_adds_up(bench: Bench) -> None:
    bench.send(0xF4)
    for _ in range(1000):
        bench.mouse.move(1, 0)
    got = bench.drain()
    assert len(got) < 200
    assert sum(got[1::3]) == 1000


def test_scaling_two_to_one(bench: Bench) -> None:
    bench.send(0xE7, 0xF4)
    for count, scaled in ((1, 1), (2, 1), (3, 3), (4, 6), (5, 9), (6, 12)):
        bench.mouse.move(-count, 0)
        assert bench.drain() == [0x18, 0x100 - scaled, 0]


def test_state_is_kept() -> None:
    one, other = Bench(), Bench()
    one.knock(200, 200, 80)
    one.send(0xF4)
    one.mouse.move(9, 9)
    other.kbc.restore(one.kbc.state())
    assert other.mouse.state() == one.mouse.state()
    assert other.drain() == one.drain()
