"""8259s, I/O APIC and local APIC, and how ISA interrupts reach both kinds."""

from __future__ import annotations

from functools import partial

from pytcg.hw.core.apic import LocalApic
from pytcg.hw.core.apic_bus import ApicBus
from pytcg.hw.core.i8259 import I8259Pair
from pytcg.hw.core.ioapic import IoApic
from pytcg.machine import pc_map as at
from pytcg.machine.board.backplane import Backplane
from pytcg.machine.bus import MmioRegion


class Interrupts:
    """The board's interrupt controllers."""

    def __init__(self, board: Backplane) -> None:
        self.apic_bus = ApicBus()
        self.pic = board.add(I8259Pair())
        self.ioapic = board.add(IoApic(self.apic_bus.deliver))
        vcpu = board.vcpu
        self.lapic = board.add(LocalApic(board.clock, 0, self.apic_bus.send_ipi,
                                         tsc=vcpu.tsc, tsc_hz=vcpu.tsc_frequency))  # fmt: skip
        self._connect(board)
        self._attach(board)

    def _connect(self, board: Backplane) -> None:
        self.apic_bus.attach(self.lapic)
        self.lapic.extint = self.pic.acknowledge
        self.lapic.on_eoi = self.ioapic.end_of_interrupt
        self.lapic.on_nmi = board.vcpu.raise_nmi
        self.lapic.on_smi = board.vcpu.raise_smi
        self.lapic.on_init = board.ask_reset
        self.pic.intr.connect(partial(self.lapic.set_lint, 0))
        self.lapic.intr.connect(board.vcpu.set_intr)
        board.cpu_bus.attach_lapic(self.lapic)
        for irq, gate in enumerate(board.isa):
            gate.out.connect(partial(self._drive_irq, irq))

    def _attach(self, board: Backplane) -> None:
        ports, mmio = board.ports, board.mmio
        ports.attach(self.pic.master, at.PIC_MASTER, count=2)
        ports.attach(self.pic.slave, at.PIC_SLAVE, count=2)
        ports.attach(self.pic.master, at.ELCR, count=1, first=2)
        ports.attach(self.pic.slave, at.ELCR + 1, count=1, first=2)
        mmio.attach(MmioRegion(at.IO_APIC, at.APIC_PAGE, self._read_ioapic, self._write_ioapic))
        for page in (at.IO_APIC, at.LOCAL_APIC):
            board.memory.reserve(page, at.APIC_PAGE)
        self._mmio = mmio
        self._page = MmioRegion(at.LOCAL_APIC, at.APIC_PAGE, self._read_lapic, self._write_lapic)
        mmio.attach(self._page)
        self.lapic.on_base = self._move_lapic

    def _move_lapic(self) -> None:
        """IA32_APIC_BASE says where its page is."""
        if self.lapic.base != self._page.base:
            self._page = self._mmio.move(self._page, self.lapic.base)

    def _drive_irq(self, irq: int, level: bool) -> None:
        """An ISA interrupt reaches both the 8259s and the I/O APIC; the guest masks one of them."""
        self.pic.set_irq(irq, level)
        pin = at.TIMER_PIN if irq == at.IRQ_TIMER else irq
        if irq != at.TIMER_PIN:  # IRQ 2 is the 8259s' cascade
            self.ioapic.set_irq(pin, level)

    # The APICs' registers are 32 bits wide, one every 16 bytes; narrower reads see a part of one.

    def _read_ioapic(self, offset: int, size: int) -> int:
        return _part(self.ioapic.read(offset >> 4), offset, size)

    def _write_ioapic(self, offset: int, size: int, value: int) -> None:
        del size
        if not offset & 15:
            self.ioapic.write(offset >> 4, value & 0xFFFFFFFF)

    def _read_lapic(self, offset: int, size: int) -> int:
        if not self.lapic.mmio_enabled:
            return (1 << size * 8) - 1
        return _part(self.lapic.read(offset >> 4), offset, size)

    def _write_lapic(self, offset: int, size: int, value: int) -> None:
        del size
        if self.lapic.mmio_enabled and not offset & 15:
            self.lapic.write(offset >> 4, value & 0xFFFFFFFF)


def _part(value: int, offset: int, size: int) -> int:
    """The bytes of a 32-bit register that an access at this offset sees."""
    return value >> (offset & 3) * 8 & (1 << size * 8) - 1 if not offset & 0xC else 0
