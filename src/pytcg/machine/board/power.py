"""Keyboard controller, ports for reset, the A20 gate and coprocessor errors, SLP_TYP's meaning."""

from __future__ import annotations

from pytcg.hw.core.glue import CoprocessorError, ResetControl, SystemControlPortA
from pytcg.hw.input.i8042 import I8042
from pytcg.hw.input.ps2_mouse import Ps2Mouse
from pytcg.machine import pc_map as at
from pytcg.machine.board.backplane import Backplane
from pytcg.machine.runner import Event, PowerRequest


class PowerControl:
    """Reset, sleep and power-off."""

    def __init__(self, board: Backplane) -> None:
        self._board = board
        self.keyboard = board.add(I8042(board.ask_reset, mouse=Ps2Mouse()))
        board.connect_irq(self.keyboard.irq1, at.IRQ_KEYBOARD)
        board.connect_irq(self.keyboard.irq12, at.IRQ_MOUSE)
        ports = board.ports
        ports.attach(self.keyboard, at.KEYBOARD_DATA, count=1, first=0)
        ports.attach(self.keyboard, at.KEYBOARD_COMMAND, count=1, first=1)
        port_a = board.add(SystemControlPortA(board.ask_reset))
        ports.attach(port_a, at.PORT_A, count=1)
        for line in (self.keyboard.a20, port_a.a20):
            line.connect(board.vcpu.set_a20)
        ports.attach(board.add(ResetControl(board.ask_reset)), at.RESET_CONTROL, count=1)
        coprocessor = board.add(CoprocessorError())
        board.connect_irq(coprocessor.irq, at.IRQ_COPROCESSOR)
        ports.attach(coprocessor, at.COPROCESSOR_ERROR, count=1)
        board.cpu_bus.on_fpu_error = coprocessor.error

    def sleep(self, sleep_type: int) -> None:
        """SLP_EN was written, with this SLP_TYP."""
        if sleep_type in (at.SLEEP_SOFT_OFF, at.SLEEP_TO_DISK):
            self._board.ask(PowerRequest(Event.POWER_OFF))
