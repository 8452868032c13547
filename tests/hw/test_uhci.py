"""A UHCI controller with empty ports (UHCI Design Guide 1.1)."""

from __future__ import annotations

import pytest

from pytcg.hw.clock import FakeClock
from pytcg.hw.usb.uhci import Command, Reg, Status, Uhci


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def card(clock: FakeClock) -> Uhci:
    return Uhci(clock)


def test_registers_after_reset(card: Uhci) -> None:
    assert card._read(Reg.USBCMD, 2) == 0
    assert card._read(Reg.USBSTS, 2) == Status.HALTED
    assert card._read(Reg.SOFMOD, 1) == 0x40
    assert card._read(Reg.PORTSC, 4) == 0x00800080
    assert card.read_config(0x60, 1) == 0x10


def test_frames_count_while_it_runs(card: Uhci, clock: FakeClock) -> None:
    card._write(Reg.FRNUM, 2, 0x7FE)
    card._write(Reg.USBCMD, 2, Command.RUN)
    assert not card._read(Reg.USBSTS, 2) & Status.HALTED
    clock.advance(3_000_000)
    assert card._read(Reg.FRNUM, 2) == 1
    card._write(Reg.USBCMD, 2, 0)
    clock.advance(3_000_000)
    assert (card._read(Reg.FRNUM, 2), card._read(Reg.USBSTS, 2)) == (1, Status.HALTED)


def test_ports_are_empty_and_stay_disabled(card: Uhci) -> None:
    card._write(Reg.PORTSC, 2, 0xFFFF)
    assert not card._read(Reg.PORTSC, 2) & 0x000F
    card._write(Reg.USBCMD, 2, Command.HCRESET)
    assert card._read(Reg.PORTSC, 2) == 0x80 and not card._read(Reg.USBCMD, 2)


def test_halves_of_the_list_base(card: Uhci) -> None:
    card._write(Reg.FLBASEADD, 4, 0x12345FFF)
    assert card._read(Reg.FLBASEADD, 4) == 0x12345000
    card._write(Reg.FLBASEADD + 3, 1, 0x56)
    assert card._read(Reg.FLBASEADD, 4) == 0x56345000


def test_state_returns(card: Uhci, clock: FakeClock) -> None:
    card._write(Reg.USBCMD, 2, Command.RUN)
    other = Uhci(clock)
    other.restore(card.state())
    clock.advance(5_000_000)
    assert other._read(Reg.FRNUM, 2) == 5
