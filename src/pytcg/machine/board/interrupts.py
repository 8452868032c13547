"""8259s, I/O APIC and local APIC, and how ISA interrupts reach both kinds."""

from __future__ import annotations

from functools import partial

from pytcg.hw.core.apic import LocalApic
from pytcg.hw.core.apic_bus import ApicBus
from pytcg.hw.core.i8259 import I8259Pair
from pytcg.hw.core.ioapic import IoApic
from pytcg.machine import firmware
from pytcg.machine import pc_map as at
from pytcg.machine.board.backplane import Backplane
from pytcg.machine.bus import MmioRegion
from pytcg.machine.pci_host import deliver_message


class Interrupts:
    """The board's interrupt controllers, all of them its own chips."""

    def __init__(self, board: Backplane) -> None:
        self.pic = board.add(I8259Pair())
        self._attach_pic(board)
        self.ioapic = board.add(self._make_ioapic())
        self._attach_ioapic(board)
        self._add_lapic(board)
        for irq, gate in enumerate(board.isa):
            gate.out.connect(partial(self._drive_irq, irq))

    # What others need of them -----------------------------------------------------------------

    def set_pin(self, pin: int, level: bool) -> None:
        """Drive a pin of the I/O APIC."""
        self.ioapic.set_irq(pin, level)

    def send(self, address: int, data: int) -> None:
        """An interrupt message of a card."""
        deliver_message(self._apic_bus.deliver, address, data)

    def set_up(self) -> None:
        """Leave them as a BIOS does."""
        firmware.program_interrupts(self.pic, self._lapic)

    def look(self) -> tuple[I8259Pair, IoApic]:
        """The chips, for who shows what they are doing."""
        return self.pic, self.ioapic

    # Wiring -----------------------------------------------------------------------------------

    def _make_ioapic(self) -> IoApic:
        self._apic_bus = ApicBus()
        return IoApic(self._apic_bus.deliver)

    def _add_lapic(self, board: Backplane) -> None:
        vcpu = board.vcpu
        lapic = board.add(LocalApic(board.clock, 0, self._apic_bus.send_ipi, tsc=vcpu.tsc,
                                    tsc_hz=vcpu.tsc_frequency))  # fmt: skip
        self._lapic = lapic
        self._apic_bus.attach(lapic)
        lapic.extint = self.pic.acknowledge
        lapic.on_eoi = self.ioapic.end_of_interrupt
        lapic.on_nmi = board.vcpu.raise_nmi
        lapic.on_smi = board.vcpu.raise_smi
        lapic.on_init = board.ask_reset
        self.pic.intr.connect(partial(lapic.set_lint, 0))
        lapic.intr.connect(board.vcpu.set_intr)
        board.cpu_bus.attach_lapic(lapic)
        board.memory.reserve(at.LOCAL_APIC, at.APIC_PAGE)
        self._mmio = board.mmio
        self._page = MmioRegion(at.LOCAL_APIC, at.APIC_PAGE, self._read_lapic, self._write_lapic)
        board.mmio.attach(self._page)
        lapic.on_base = self._move_lapic

    def _move_lapic(self) -> None:
        """IA32_APIC_BASE says where its page is."""
        if self._lapic.base != self._page.base:
            self._page = self._mmio.move(self._page, self._lapic.base)

    def _attach_pic(self, board: Backplane) -> None:
        ports, pic = board.ports, self.pic
        ports.attach(pic.master, at.PIC_MASTER, count=2)
        ports.attach(pic.slave, at.PIC_SLAVE, count=2)
        ports.attach(pic.master, at.ELCR, count=1, first=2)
        ports.attach(pic.slave, at.ELCR + 1, count=1, first=2)

    def _attach_ioapic(self, board: Backplane) -> None:
        board.mmio.attach(MmioRegion(at.IO_APIC, at.APIC_PAGE, self._read_ioapic,
                                     self._write_ioapic))  # fmt: skip
        board.memory.reserve(at.IO_APIC, at.APIC_PAGE)

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
        if not self._lapic.mmio_enabled:
            return (1 << size * 8) - 1
        return _part(self._lapic.read(offset >> 4), offset, size)

    def _write_lapic(self, offset: int, size: int, value: int) -> None:
        del size
        if self._lapic.mmio_enabled and not offset & 15:
            self._lapic.write(offset >> 4, value & 0xFFFFFFFF)


def _part(value: int, offset: int, size: int) -> int:
    """The bytes of a 32-bit register that an access at this offset sees."""
    return value >> (offset & 3) * 8 & (1 << size * 8) - 1 if not offset & 0xC else 0
