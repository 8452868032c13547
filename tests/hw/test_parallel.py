"""The parallel port with its printer (IEEE 1284, compatibility mode)."""

from __future__ import annotations

import pytest

from pytcg.hw.core.parallel import Control, ParallelPort, Reg, Status

READY = Control.INIT | Control.SELECT


class Printer(ParallelPort):
    """``printed`` is what came out; ``jam`` keeps it busy."""

    def __init__(self) -> None:
        self.printed = b""
        self.jam = False
        super().__init__(self._print, lambda: self.jam)

    def _print(self, data: bytes) -> None:
        self.printed += data

    def put(self, byte: int, more: int = 0) -> None:
        """What a driver does for each byte."""
        self.write(Reg.DATA, byte)
        self.write(Reg.CONTROL, READY | more | Control.STROBE)
        self.write(Reg.CONTROL, READY | more)


@pytest.fixture
def port() -> Printer:
    return Printer()


def test_registers_after_reset(port: Printer) -> None:
    assert port.read(Reg.STATUS) == 0xD8
    assert port.read(Reg.CONTROL) == 0xCC
    assert port.read(Reg.DATA) == 0xFF


def test_a_strobe_sends_once_and_busy_ends_with_an_acknowledgement(port: Printer) -> None:
    port.put(ord("A"))
    assert port.printed == b"A"
    seen = [port.read(Reg.STATUS) & (Status.BUSY | Status.ACK) for _ in range(4)]
    assert seen == [Status.ACK, 0, Status.BUSY | Status.ACK, Status.BUSY | Status.ACK]
    port.write(Reg.CONTROL, READY | Control.STROBE)
    port.write(Reg.CONTROL, READY | Control.STROBE)
    assert port.printed == b"AA"


def test_a_jammed_printer_stays_busy(port: Printer) -> None:
    port.jam = True
    port.put(0)
    assert not any(port.read(Reg.STATUS) & Status.BUSY for _ in range(5))
    port.jam = False
    assert any(port.read(Reg.STATUS) & Status.BUSY for _ in range(3))


def test_the_interrupt_is_for_those_who_enabled_it_and_ends_with_status(port: Printer) -> None:
    port.put(1)
    assert not port.irq.level
    port.write(Reg.CONTROL, READY | Control.INTERRUPT)
    port.put(2, Control.INTERRUPT)
    assert port.irq.level
    port.read(Reg.STATUS)
    assert not port.irq.level


def test_init_ends_busy(port: Printer) -> None:
    port.put(1)
    port.write(Reg.CONTROL, 0)
    assert port.read(Reg.STATUS) == 0xD8


def test_input_shows_lines_that_nobody_drives(port: Printer) -> None:
    port.write(Reg.DATA, 0x55)
    assert port.read(Reg.DATA) == 0x55
    port.write(Reg.CONTROL, READY | Control.INPUT)
    assert port.read(Reg.DATA) == 0xFF


def test_state_returns(port: Printer) -> None:
    port.put(7, Control.INTERRUPT)
    port.write(Reg.CONTROL, READY)
    other = ParallelPort(lambda data: None, lambda: False)
    other.restore(port.state() | {"chip": "ParallelPort"})
    assert other.irq.level == port.irq.level and other.read(Reg.DATA) == 7
