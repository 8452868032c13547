"""The Q35 chipset: host bridge, LPC bridge, SMBus, power management, and the memory they switch."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from pytcg.hw.chipset.ich9 import Ich9Lpc, Ich9Smbus
from pytcg.hw.chipset.q35 import Q35Mch
from pytcg.hw.chipset.smbus import SmbusEeprom, SmbusHost
from pytcg.hw.core.acpi_pm import AcpiPm, ApmControl
from pytcg.hw.pci.bus import Ecam, PciBus
from pytcg.hw.storage.ahci.hba import Ahci
from pytcg.machine import pc_map as at
from pytcg.machine import spd
from pytcg.machine.board.chipset import ShadowMemory

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytcg.machine.board.backplane import Backplane


class Q35Chipset:
    """The bridges in their slots, and the PM chip; `pin` drives a pin of the I/O APIC."""

    def __init__(self, board: Backplane, pci: PciBus, ram_size: int,
                 on_sleep: Callable[[int], None], pin: Callable[[int, bool], None]
                 ) -> None:  # fmt: skip
        self.shadow = ShadowMemory(board.memory)
        self.pm = board.add(AcpiPm(board.clock, on_sleep))
        self.host = Q35Mch(lambda: self.shadow.map(self.host), Ecam(pci))
        self.isa = Ich9Lpc(self.pm)
        modules = spd.modules(ram_size)
        self.smbus = board.add(SmbusHost({0x50 + n: SmbusEeprom(module)
                                          for n, module in enumerate(modules)}))  # fmt: skip
        pci.plug(self.host, at.HOST_BRIDGE)
        pci.plug(self.isa, at.ICH9, 0)
        pci.plug(Ich9Smbus(self.smbus), at.ICH9, at.ICH9_SMBUS)
        for number, line in enumerate(pci.pirq):
            line.connect(partial(self.isa.set_pirq, number))
            line.connect(partial(pin, at.PIRQ_PIN + number))
        for irq, line in enumerate(self.isa.irq):
            board.connect_irq(line, irq)
        board.connect_irq(self.pm.sci, at.IRQ_SCI)
        apm = ApmControl(self.pm, enable=at.ACPI_ENABLE, disable=at.ACPI_DISABLE)
        board.ports.attach(board.add(apm), at.APM_CONTROL, count=2)

    def set_up(self) -> None:
        """What firmware leaves behind: DRAM up to 1 MiB, windows where ACPI says."""
        self.host.open_dram()
        self.isa.place_pm(at.PM_BASE)
        self.host.place_ecam(at.Q35_ECAM)


def make_sata(pci: PciBus) -> Ahci:
    """The AHCI controller on board."""
    card = Ahci()
    pci.plug(card, at.ICH9, at.ICH9_SATA)
    return card
