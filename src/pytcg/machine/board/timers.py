"""8254, port 61h, the real-time clock, and the HPET, which may stand in for both."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from pytcg.hw.core.glue import SystemControlPortB
from pytcg.hw.core.hpet import Hpet
from pytcg.hw.core.i8254 import I8254
from pytcg.hw.core.mc146818 import Mc146818
from pytcg.hw.line import Line
from pytcg.machine import pc_map as at
from pytcg.machine.board.backplane import ISA_IRQS, Backplane
from pytcg.machine.bus import MmioRegion
from pytcg.machine.layout import low_memory_end
from pytcg.machine.wires import unless

if TYPE_CHECKING:
    from pytcg.accel.kvm.irqchip.pit import KernelPit


class Timers:
    """What counts time on an AT's board."""

    def __init__(self, board: Backplane, io_apic_pin: Callable[[int, bool], None], *, epoch: int,
                 ram_size: int, hpet: bool) -> None:
        pit = self._add_pit(board)
        set_gate, out_level = partial(pit.set_gate, 2), partial(pit.out_level, 2)
        port_b = board.add(SystemControlPortB(board.clock, set_gate, out_level))
        board.ports.attach(port_b, at.PORT_B, count=1)
        self.rtc = board.add(Mc146818(board.clock, epoch=epoch))
        board.ports.attach(self.rtc, at.RTC, count=2)
        low_end = low_memory_end(ram_size)
        self.rtc.set_memory_size(low_end, ram_size - low_end)
        self.hpet = self._make_hpet(board, io_apic_pin) if hpet else None
        legacy = self.hpet.legacy if self.hpet is not None else Line()
        if isinstance(pit, I8254):
            board.connect_irq(unless(pit.out[0], legacy), at.IRQ_TIMER)
        else:
            legacy.connect(pit.replace_by_hpet)
        board.connect_irq(unless(self.rtc.irq, legacy), at.IRQ_RTC)

    def _add_pit(self, board: Backplane) -> I8254 | KernelPit:
        chips = board.vcpu.kernel_chips
        if chips is not None and not chips.split:
            return board.add(chips.make_pit(board.clock))
        pit = board.add(I8254(board.clock))
        board.ports.attach(pit, at.PIT, count=4)
        return pit

    def _make_hpet(self, board: Backplane, io_apic_pin: Callable[[int, bool], None]) -> Hpet:
        hpet = board.add(Hpet(board.clock))
        board.memory.reserve(at.HPET, at.HPET_SIZE)
        board.mmio.attach(MmioRegion(at.HPET, at.HPET_SIZE, hpet.read, hpet.write))
        for pin, line in hpet.pins.items():
            if pin == at.TIMER_PIN:
                board.connect_irq(line, at.IRQ_TIMER)
            elif pin < ISA_IRQS:
                board.connect_irq(line, pin)
            else:
                line.connect(partial(io_apic_pin, pin))
        return hpet
