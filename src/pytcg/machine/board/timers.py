"""8254, port 61h and the real-time clock."""

from __future__ import annotations

from functools import partial

from pytcg.hw.core.glue import SystemControlPortB
from pytcg.hw.core.i8254 import I8254
from pytcg.hw.core.mc146818 import Mc146818
from pytcg.machine import pc_map as at
from pytcg.machine.board.backplane import Backplane
from pytcg.machine.layout import low_memory_end


class Timers:
    """What counts time on an AT's board."""

    def __init__(self, board: Backplane, *, epoch: int, ram_size: int) -> None:
        self.pit = board.add(I8254(board.clock))
        board.connect_irq(self.pit.out[0], at.IRQ_TIMER)
        board.ports.attach(self.pit, at.PIT, count=4)
        set_gate, out_level = partial(self.pit.set_gate, 2), partial(self.pit.out_level, 2)
        port_b = board.add(SystemControlPortB(board.clock, set_gate, out_level))
        board.ports.attach(port_b, at.PORT_B, count=1)
        self.rtc = board.add(Mc146818(board.clock, epoch=epoch))
        board.connect_irq(self.rtc.irq, at.IRQ_RTC)
        board.ports.attach(self.rtc, at.RTC, count=2)
        low_end = low_memory_end(ram_size)
        self.rtc.set_memory_size(low_end, ram_size - low_end)
