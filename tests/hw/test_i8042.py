"""Keyboard controller and keyboard, up to what Linux's i8042 and atkbd drivers send."""

from __future__ import annotations

import pytest

from pytcg.hw.input.i8042 import I8042

OBF, SYS, A2, AUX, TIMEOUT = 0x01, 0x04, 0x08, 0x20, 0x40


class Bench:
    """A controller, the resets it asked for and the edges of IRQ1."""

    def __init__(self) -> None:
        self.resets = 0
        self.edges = 0
        self.kbc = I8042(self._reset)
        self.kbc.irq1.connect(self._irq1)

    def _reset(self) -> None:
        self.resets += 1

    def _irq1(self, level: bool) -> None:
        self.edges += level

    def command(self, value: int, *data: int) -> None:
        self.kbc.write(1, value)
        for byte in data:
            self.kbc.write(0, byte)

    def keyboard(self, *data: int) -> list[int]:
        for byte in data:
            self.kbc.write(0, byte)
        return self.drain()

    def drain(self) -> list[int]:
        answers = []
        while self.kbc.read(1) & OBF:
            answers.append(self.kbc.read(0))
        return answers


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
def raw(bench: Bench) -> Bench:
    """Translation off, keyboard interrupt on."""
    bench.command(0x60, 0x21)
    return bench


def test_self_test_answers_55_and_sets_sys(bench: Bench) -> None:
    assert not bench.kbc.read(1) & SYS
    bench.command(0xAA)
    assert bench.drain() == [0x55]
    assert bench.kbc.read(1) & SYS


def test_interface_tests_pass(bench: Bench) -> None:
    bench.command(0xAB)
    assert bench.drain() == [0]
    bench.command(0xA9)
    assert bench.drain() == [0]


def test_command_byte_and_ram(bench: Bench) -> None:
    bench.command(0x60, 0x65)
    bench.command(0x20)
    assert bench.drain() == [0x65]
    bench.command(0x7F, 0xAA)
    bench.command(0x3F)
    assert bench.drain() == [0xAA]


def test_status_tells_command_from_data_writes(bench: Bench) -> None:
    bench.command(0xAD)
    assert bench.kbc.read(1) & A2
    bench.kbc.write(0, 0xF4)
    assert not bench.kbc.read(1) & A2


def test_enable_commands_change_the_command_byte(bench: Bench) -> None:
    for command, expected in ((0xAD, 0x70), (0xA8, 0x50), (0xAE, 0x40), (0xA7, 0x60)):
        bench.command(command)
        bench.command(0x20)
        assert bench.drain() == [expected]


def test_irq1_follows_the_output_buffer(raw: Bench) -> None:
    raw.kbc.keyboard.key(b"\x1c")
    assert raw.kbc.irq1.level
    assert raw.kbc.read(0) == 0x1C
    assert not raw.kbc.irq1.level


def test_each_byte_has_its_own_edge(raw: Bench) -> None:
    raw.kbc.keyboard.key(b"\x1c\xf0\x1c")
    assert raw.edges == 1
    assert raw.drain() == [0x1C, 0xF0, 0x1C]
    assert raw.edges == 3


def test_no_interrupt_without_its_enable(bench: Bench) -> None:
    bench.kbc.keyboard.key(b"\x1c")
    assert not bench.kbc.irq1.level
    assert bench.kbc.read(1) & OBF


def test_translation_to_set_1(bench: Bench) -> None:
    bench.kbc.keyboard.key(b"\x1c\xf0\x1c")  # A down, A up
    bench.kbc.keyboard.key(b"\xe0\x75\xe0\xf0\x75")  # cursor up
    bench.kbc.keyboard.key(b"\x83")  # F7
    assert bench.drain() == [0x1E, 0x9E, 0xE0, 0x48, 0xE0, 0xC8, 0x41]


def test_disabled_keyboard_waits(bench: Bench) -> None:
    bench.command(0xAD)
    bench.kbc.keyboard.key(b"\x1c")
    assert bench.drain() == []
    bench.command(0xAE)
    assert bench.drain() == [0x1E]


def test_overrun_leaves_a_mark(raw: Bench) -> None:
    for _ in range(20):
        raw.kbc.keyboard.key(b"\x1c")
    answers = raw.drain()
    assert answers[-1] == 0x00
    assert answers[:-1] == [0x1C] * (len(answers) - 1)


@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        ([0xFF], [0xFA, 0xAA]),
        ([0xF2], [0xFA, 0xAB, 0x83]),
        ([0xED, 0x07], [0xFA, 0xFA]),
        ([0xEE], [0xEE]),
        ([0xF0, 0x00], [0xFA, 0xFA, 0x02]),
        ([0xF0, 0x01, 0xF0, 0x00], [0xFA, 0xFA, 0xFA, 0xFA, 0x01]),
        ([0xF0, 0x07], [0xFA, 0xFE]),
        ([0xF3, 0x00], [0xFA, 0xFA]),
        ([0xF5], [0xFA]),
        ([0xF6], [0xFA]),
        ([0xF4], [0xFA]),
        ([0xFA], [0xFA]),
        ([0xFC, 0x1C], [0xFA, 0xFA]),
        ([0xF1], [0xFE]),
        ([0x12], [0xFE]),
        ([0xED, 0xF4], [0xFA, 0xFA]),
    ],
)
def test_keyboard_commands(raw: Bench, sent: list[int], answer: list[int]) -> None:
    answers = []
    for byte in sent:
        answers += raw.keyboard(byte)
    assert answers == answer


def test_resend_repeats_the_last_byte(raw: Bench) -> None:
    raw.keyboard(0xEE)
    assert raw.keyboard(0xFE) == [0xEE]


def test_leds_are_kept(raw: Bench) -> None:
    raw.keyboard(0xED, 0x05)
    assert raw.kbc.keyboard.leds == 5


def test_disabled_scanning_drops_keys(raw: Bench) -> None:
    raw.keyboard(0xF5)
    raw.kbc.keyboard.key(b"\x1c")
    assert raw.drain() == []
    raw.keyboard(0xF4)
    raw.kbc.keyboard.key(b"\x1c")
    assert raw.drain() == [0x1C]


def test_identity_with_translation(bench: Bench) -> None:
    assert bench.keyboard(0xF2) == [0xFA, 0xAB, 0x41]


def test_reset_pulse(bench: Bench) -> None:
    bench.command(0xFE)
    assert bench.resets == 1
    bench.command(0xFF)  # pulses nothing
    assert bench.resets == 1


def test_output_port_drives_a20_and_reset(bench: Bench) -> None:
    assert bench.kbc.a20.level
    bench.command(0xD1, 0xDD)
    assert not bench.kbc.a20.level
    bench.command(0xD0)
    assert bench.drain() == [0xCD]
    bench.command(0xDF)
    assert bench.kbc.a20.level
    bench.command(0xD1, 0x02)
    assert bench.resets == 1


def test_writing_the_output_buffer_looks_like_the_keyboard(raw: Bench) -> None:
    raw.command(0xD2, 0x42)
    assert raw.kbc.irq1.level
    assert raw.drain() == [0x42]


def test_aux_loop_of_linux_i8042_check_aux(bench: Bench) -> None:
    bench.command(0x60, 0x47)
    bench.command(0xD3, 0x5A)
    assert bench.kbc.read(1) & (OBF | AUX) == OBF | AUX
    assert bench.kbc.irq12.level
    assert not bench.kbc.irq1.level
    assert bench.drain() == [0x5A]
    assert not bench.kbc.irq12.level


def test_absent_mouse_times_out(bench: Bench) -> None:
    bench.command(0xD4, 0xF2)
    assert bench.kbc.read(1) & (OBF | AUX | TIMEOUT) == OBF | AUX | TIMEOUT
    assert bench.drain() == [0xFE]


def test_linux_controller_check_and_keyboard_probe(bench: Bench) -> None:
    """i8042_controller_selftest(), i8042_controller_init(), atkbd_probe()."""
    assert bench.drain() == []
    bench.command(0xAA)
    assert bench.drain() == [0x55]
    bench.command(0x20)
    (control,) = bench.drain()
    assert control & 0x40  # translated mode
    bench.command(0x60, (control | 0x10) & ~0x01)
    bench.command(0xAE)
    bench.command(0x60, control & ~0x10 | 0x01)
    assert bench.keyboard(0xF2) == [0xFA, 0xAB, 0x41]
    assert bench.keyboard(0xED) + bench.keyboard(0x00) == [0xFA, 0xFA]
    assert bench.keyboard(0xF4) == [0xFA]


def test_reset_of_the_board(bench: Bench) -> None:
    bench.command(0x60, 0x00)
    bench.command(0xD1, 0x01)
    bench.kbc.reset()
    assert bench.kbc.a20.level
    assert bench.drain() == [0xAA]  # the keyboard's own power-on report


def test_unread_answers_are_bounded(bench: Bench) -> None:
    for _ in range(10_000):
        bench.command(0xAA)
        bench.kbc.write(0, 0xFF)
        bench.kbc.write(0, 0xEE)
    assert len(bench.drain()) < 100
