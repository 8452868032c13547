"""The 440FX PCIset: host bridge, ISA bridge, power management, and the memory they switch."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from pytcg.hw.chipset import piix4_pm
from pytcg.hw.chipset.i440fx import HostBridge, I440fx, Pam
from pytcg.hw.chipset.piix3 import Piix3
from pytcg.hw.chipset.piix4_pm import Piix4Pm
from pytcg.hw.chipset.smbus import SmbusEeprom, SmbusHost
from pytcg.hw.core.acpi_pm import AcpiPm, ApmControl
from pytcg.hw.pci.bus import PciBus
from pytcg.hw.state import State, load, save
from pytcg.machine import pc_map as at
from pytcg.machine import spd
from pytcg.machine.board.backplane import Backplane
from pytcg.machine.layout import VGA_HOLE, VGA_HOLE_SIZE
from pytcg.softmmu.address_map import AddressMap, Region, ram, rom


class Chipset:
    """The bridges in their slots, and the PM chip."""

    def __init__(self, board: Backplane, pci: PciBus, ram_size: int,
                 on_sleep: Callable[[int], None], *, smm: bool) -> None:  # fmt: skip
        self.shadow = board.add(ShadowMemory(board.memory))
        self.host = I440fx(lambda: self.shadow.map(self.host))
        self.isa = Piix3()
        self.pm = board.add(AcpiPm(board.clock, on_sleep, gpe_length=piix4_pm.GPE_LENGTH,
                                   gpe_in_window=False))  # fmt: skip
        modules = spd.modules(ram_size)
        self.smbus = board.add(SmbusHost({0x50 + n: SmbusEeprom(module)
                                          for n, module in enumerate(modules)}))  # fmt: skip
        self.power = Piix4Pm(self.pm, self.smbus, smm=smm)
        pci.plug(self.host, at.HOST_BRIDGE)
        pci.plug(self.isa, at.PIIX, 0)
        pci.plug(self.power, at.PIIX, 3)
        self._connect(board, pci)

    def _connect(self, board: Backplane, pci: PciBus) -> None:
        for number, line in enumerate(pci.pirq):
            line.connect(partial(self.isa.set_pirq, number))
        for irq, line in enumerate(self.isa.irq):
            board.connect_irq(line, irq)
        board.connect_irq(self.pm.sci, at.IRQ_SCI)
        board.attach_wide(at.GPE0, piix4_pm.GPE_LENGTH, self.pm.read_gpe,
                          lambda reg, size, value: self.pm.write_gpe(reg, value, size))  # fmt: skip

        def raise_smi() -> None:
            if self.power.apm_smi:
                board.vcpu.raise_smi()

        def set_smm(*, active: bool) -> None:
            self.shadow.smm = active
            self.shadow.map(self.host)

        board.cpu_bus.on_smm = set_smm
        apm = ApmControl(self.pm, enable=at.ACPI_ENABLE, disable=at.ACPI_DISABLE,
                         on_command=raise_smi)  # fmt: skip
        board.ports.attach(board.add(apm), at.APM_CONTROL, count=2)

    def set_up(self) -> None:
        """What firmware leaves behind: DRAM up to 1 MiB, power management where ACPI says."""
        self.host.open_dram()
        self.power.place_pm(at.PM_BASE)


class ShadowMemory:
    """The area from C0000h to FFFFFh, where PAM switches between DRAM, ROM and nothing, and SMRAM.

    ``smm`` says whether the processor is in the mode that sees the latter.
    """

    def __init__(self, memory: AddressMap) -> None:
        self._memory = memory
        self.smm = False

    def reset(self) -> None:
        self.smm = False

    def state(self) -> State:
        return save(self, 1, ("smm",))

    def restore(self, state: State) -> None:
        load(self, state, 1, ("smm",))

    def map(self, host: HostBridge) -> None:
        """Lay out the memory as the registers say."""
        regions = [region for base, length, pam in host.segments()
                   for region in self._segment(base, length, pam)]  # fmt: skip
        if host.smram_open or (self.smm and host.smram_enabled):
            regions.append(ram(VGA_HOLE, VGA_HOLE_SIZE, VGA_HOLE))
        self._memory.shadow(self, regions)

    def _segment(self, base: int, length: int, pam: Pam) -> list[Region]:
        """DRAM lies in the RAM window at its physical address."""
        if pam == Pam.READ | Pam.WRITE:
            return [ram(base, length, base)]
        if pam == Pam.READ:
            return [rom(base, length, base)]
        below = self._memory.find_fixed(base)
        if pam == Pam.WRITE and below is not None:
            return [Region(base, length, below.cut(base, base + length).offset, base)]
        return []
