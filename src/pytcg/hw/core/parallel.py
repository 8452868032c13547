"""A parallel port of the AT's kind with a printer on it (IEEE 1284-1994, compatibility mode).

The printer is on line always. A falling edge of STROBE gives it the data byte; it is busy until the
byte has gone on its way, and acknowledges then: an edge that is IRQ 7 if it is enabled.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum, IntFlag

from pytcg.hw.bits import register_bits
from pytcg.hw.line import Line
from pytcg.hw.state import State, load, save


class Reg(IntEnum):
    """Offsets."""

    DATA = 0
    STATUS = 1
    CONTROL = 2


@register_bits
class Status(IntFlag):
    """As the register shows it: BUSY, ACK and ERROR are low while they are so."""

    ERROR = 0x08
    ONLINE = 0x10
    PAPER_OUT = 0x20
    ACK = 0x40
    BUSY = 0x80


@register_bits
class Control(IntFlag):
    """STROBE, AUTO_FEED and SELECT are high while the line is low."""

    STROBE = 0x01
    AUTO_FEED = 0x02
    INIT = 0x04
    SELECT = 0x08
    INTERRUPT = 0x10
    INPUT = 0x20


IDLE = Status.BUSY | Status.ACK | Status.ONLINE | Status.ERROR
ALWAYS = 0xC0  # bits of CONTROL that read as ones


class ParallelPort:
    """``send(byte)`` is the printer; while ``full()`` it stays busy, until `drain`."""

    _FIELDS = ("data", "status", "control", "pending")

    def __init__(self, send: Callable[[bytes], None], full: Callable[[], bool]) -> None:
        self._send = send
        self._full = full
        self.irq = Line()
        self._clear()

    def _clear(self) -> None:
        self.data = 0xFF
        self.status = int(IDLE)
        self.control = int(Control.INIT | Control.SELECT)
        self.pending = False

    def reset(self) -> None:
        self._clear()
        self._sync()

    def read(self, reg: int) -> int:
        """With INPUT set DATA shows the lines that nobody drives. STATUS ends an interrupt."""
        if reg == Reg.DATA:
            return 0xFF if self.control & Control.INPUT else self.data
        if reg == Reg.CONTROL:
            return self.control | ALWAYS
        if reg != Reg.STATUS:
            return 0xFF
        shown = self.status
        self.pending = False
        self._acknowledge()
        self._sync()
        return shown

    def write(self, reg: int, value: int) -> None:
        if reg == Reg.DATA:
            self.data = value & 0xFF
        elif reg == Reg.CONTROL:
            self._command(value & ~ALWAYS)
        self._sync()

    def _command(self, value: int) -> None:
        before, self.control = self.control, value
        if not value & Control.INIT:
            self.status = int(IDLE)
        elif value & Control.SELECT:
            if value & Control.STROBE:
                self.status &= ~Status.BUSY
                if not before & Control.STROBE:
                    self._send(bytes([self.data]))
            elif before & Control.INTERRUPT:
                self.pending = True

    def _acknowledge(self) -> None:
        """One step at each look: ACK, then neither it nor busy."""
        if self.status & Status.BUSY or self.control & Control.STROBE or self._full():
            return
        if self.status & Status.ACK:
            self.status &= ~Status.ACK
        else:
            self.status |= Status.ACK | Status.BUSY

    def _sync(self) -> None:
        self.irq.set(self.pending)

    def state(self) -> State:
        return save(self, 1, self._FIELDS)

    def restore(self, state: State) -> None:
        load(self, state, 1, self._FIELDS)
        self._sync()
