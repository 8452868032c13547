"""The floppy disk controller at its ports; CMOS says which drives there are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pytcg.hw.storage.floppy.drive import Kind
from pytcg.hw.storage.floppy.fdc import Fdc82077
from pytcg.hw.storage.floppy.regs import Reg
from pytcg.machine import pc_map as at

if TYPE_CHECKING:
    from pytcg.hw.core.mc146818 import Mc146818
    from pytcg.machine.board.backplane import Backplane
    from pytcg.machine.board.dma import IsaDma

CMOS_DRIVES: Final = 0x10
CMOS_EQUIPMENT: Final = 0x14
EQUIPMENT: Final = 0x06  # a coprocessor and a mouse


def make_fdc(board: Backplane, dma: IsaDma) -> Fdc82077:
    """Without drives."""
    fdc = board.add(Fdc82077(dma.channel(at.FLOPPY_DMA)))
    board.ports.attach(fdc, at.FLOPPY, count=Reg.FIFO + 1)
    board.ports.attach(fdc, at.FLOPPY + Reg.DIR, count=1, first=Reg.DIR)  # between them: IDE's
    board.connect_irq(fdc.irq, at.IRQ_FLOPPY)
    return fdc


def tell_cmos(fdc: Fdc82077, rtc: Mc146818) -> None:
    """Types of the drives, and how many."""
    first, second = fdc.kinds
    rtc.set_cmos(CMOS_DRIVES, first << 4 | second)
    count = sum(kind is not Kind.NONE for kind in fdc.kinds)
    rtc.set_cmos(CMOS_EQUIPMENT, EQUIPMENT | (1 | count - 1 << 6 if count else 0))
