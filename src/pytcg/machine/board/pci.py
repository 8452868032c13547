"""The PCI bus and configuration mechanism 1."""

from __future__ import annotations

from functools import partial

from pytcg.hw.chipset import ich9
from pytcg.hw.core.apic_bus import ApicBus
from pytcg.hw.pci.bus import ConfigMechanism1, PciBus
from pytcg.machine import pc_map as at
from pytcg.machine.board.backplane import Backplane
from pytcg.machine.bus import PortHandlers
from pytcg.machine.pci_host import PciSpaces, deliver_message


def make_pci_bus(board: Backplane, spaces: PciSpaces, apic_bus: ApicBus, *,
                 q35: bool = False) -> PciBus:  # fmt: skip
    """Bus 0, with its windows in the board's address spaces."""
    deliver = partial(deliver_message, apic_bus.deliver)
    bus = (PciBus(spaces, spaces, deliver, ich9.swizzle, ich9.PIRQS) if q35
           else PciBus(spaces, spaces, deliver))  # fmt: skip
    access = board.add(ConfigMechanism1(bus))
    address = PortHandlers(access.read_address, access.write_address)
    board.ports.attach_port(address, at.PCI_ADDRESS, size=4)
    board.attach_wide(at.PCI_DATA, 4, access.read_data, access.write_data)
    board.add(bus)
    return bus
