"""The IDE function of the south bridge, its legacy ports and interrupts."""

from __future__ import annotations

from functools import partial
from typing import Final

from pytcg.hw.pci.bus import PciBus
from pytcg.hw.storage.ide_channel import IdeChannel
from pytcg.hw.storage.piix3_ide import Piix3Ide
from pytcg.machine import pc_map as at
from pytcg.machine.board.backplane import Backplane
from pytcg.machine.bus import PortHandlers, RunHandlers

REGISTERS: Final = 8
FUNCTION: Final = 1


def make_ide(board: Backplane, pci: PciBus) -> Piix3Ide:
    """Two channels without drives."""
    ide = Piix3Ide()
    pci.plug(ide, at.PIIX, FUNCTION)
    for number, (base, control, irq) in enumerate(at.IDE_CHANNELS):
        _attach(board, ide.channels[number], base, control)
        board.connect_irq(ide.channels[number].irq, irq)
    return ide


def _attach(board: Backplane, channel: IdeChannel, base: int, control: int) -> None:
    for size in (1, 2, 4):
        data = PortHandlers(partial(channel.read_data, size), partial(channel.write_data, size))
        board.ports.attach_port(data, base, size=size)
        run = RunHandlers(partial(channel.read_run, size), partial(channel.write_run, size))
        board.ports.attach_run(run, base, size=size)
    board.ports.attach(channel, base + 1, count=REGISTERS - 1, first=1)
    alternate = PortHandlers(channel.read_alternate, channel.write_control)
    board.ports.attach_port(alternate, control, size=1)
