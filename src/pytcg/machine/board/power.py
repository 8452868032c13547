"""Keyboard controller, the ports that reset the machine, ACPI power management."""

from __future__ import annotations

from pytcg.hw.core import acpi_pm
from pytcg.hw.core.acpi_pm import AcpiPm, ApmControl
from pytcg.hw.core.glue import PostPort, ResetControl, SystemControlPortA
from pytcg.hw.input.i8042 import I8042
from pytcg.machine import pc_map as at
from pytcg.machine.board.backplane import Backplane
from pytcg.machine.runner import Event, PowerRequest


class PowerControl:
    """Reset, sleep and power-off."""

    def __init__(self, board: Backplane) -> None:
        self._board = board
        self.keyboard = board.add(I8042(board.ask_reset))
        board.connect_irq(self.keyboard.irq1, at.IRQ_KEYBOARD)
        board.connect_irq(self.keyboard.irq12, at.IRQ_MOUSE)
        ports = board.ports
        ports.attach(self.keyboard, at.KEYBOARD_DATA, count=1, first=0)
        ports.attach(self.keyboard, at.KEYBOARD_COMMAND, count=1, first=1)
        ports.attach(board.add(SystemControlPortA(board.ask_reset)), at.PORT_A, count=1)
        ports.attach(board.add(ResetControl(board.ask_reset)), at.RESET_CONTROL, count=1)
        ports.attach(board.add(PostPort()), at.POST, count=1)
        self.pm = board.add(AcpiPm(board.clock, self._ask_sleep, timer_bits=32))
        board.connect_irq(self.pm.sci, at.IRQ_SCI)
        board.attach_wide(at.PM_BASE, acpi_pm.WINDOW, self.pm.read, self._write_pm)
        ports.attach(board.add(ApmControl(self.pm)), at.APM_CONTROL, count=2)

    def _write_pm(self, offset: int, size: int, value: int) -> None:
        self.pm.write(offset, value, size)

    def _ask_sleep(self, sleep_type: int) -> None:
        if sleep_type == at.SLEEP_SOFT_OFF:
            self._board.ask(PowerRequest(Event.POWER_OFF))
