"""The PCI bus, configuration mechanism 1, and slots whose cards come and go."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from pytcg.hw.chipset import ich9, pci_hotplug
from pytcg.hw.chipset.pci_hotplug import PciHotplug
from pytcg.hw.core.acpi_pm import AcpiPm
from pytcg.hw.pci.bus import SLOTS, ConfigMechanism1, PciBus
from pytcg.machine import pc_map as at
from pytcg.machine.board.backplane import Backplane
from pytcg.machine.bus import PortHandlers
from pytcg.machine.pci_host import PciSpaces


def make_pci_bus(board: Backplane, spaces: PciSpaces, deliver: Callable[[int, int], None], *,
                 q35: bool = False) -> PciBus:  # fmt: skip
    """Bus 0, with its windows in the board's address spaces; messages go to ``deliver``."""
    bus = (PciBus(spaces, spaces, deliver, ich9.swizzle, ich9.PIRQS) if q35
           else PciBus(spaces, spaces, deliver))  # fmt: skip
    access = board.add(ConfigMechanism1(bus))
    address = PortHandlers(access.read_address, access.write_address)
    board.ports.attach_port(address, at.PCI_ADDRESS, size=4)
    board.attach_wide(at.PCI_DATA, 4, access.read_data, access.write_data)
    board.add(bus)
    return bus


def make_hotplug(board: Backplane, bus: PciBus, pm: AcpiPm) -> PciHotplug:
    """For the slots that are empty when the board is done."""
    removable = (1 << SLOTS) - 1
    for devfn in bus.devices:
        removable &= ~(1 << (devfn >> 3))
    chip = board.add(PciHotplug(partial(pm.raise_gpe, pci_hotplug.EVENT), removable))
    for reg in range(0, pci_hotplug.LENGTH, 4):
        handlers = PortHandlers(partial(chip.read, reg), partial(chip.write, reg))
        board.ports.attach_port(handlers, at.PCI_HOTPLUG + reg, size=4)
    return chip
