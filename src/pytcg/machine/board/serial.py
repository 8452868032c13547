"""COM1 to COM4: each with a UART if it has a chardev."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from pytcg.chardev.base import Chardev
from pytcg.hw.core.uart16550 import Uart16550
from pytcg.machine import pc_map as at
from pytcg.machine.acpi.hardware import SerialPort
from pytcg.machine.board.backplane import Backplane
from pytcg.machine.wires import and_gate


class SerialLink(NamedTuple):
    """A UART and what it is connected to."""

    port: SerialPort
    uart: Uart16550
    chardev: Chardev


def make_serial_ports(board: Backplane, chardevs: Sequence[Chardev | None]) -> list[SerialLink]:
    """The ports that have a chardev."""
    return [
        attach_serial_port(board, port, chardev)
        for port, chardev in zip(at.COM_PORTS, chardevs, strict=False)
        if chardev is not None
    ]


def attach_serial_port(board: Backplane, port: SerialPort, chardev: Chardev) -> SerialLink:
    """A UART at a port, sending to a chardev that is still to be connected."""
    uart = Uart16550(
        board.clock,
        chardev.write,
        can_transmit=lambda: not chardev.full(),
        receive_ready=chardev.accept_input,
    )
    chardev.on_room = uart.drain
    board.connect_irq(and_gate(uart.irq, uart.out2), port.irq)
    board.ports.attach(board.add(uart), port.base, count=8)
    return SerialLink(port, uart, chardev)
