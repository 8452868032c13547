"""AHCI controllers."""

from __future__ import annotations

from pytcg.hw.storage.ahci.hba import Ahci
from pytcg.machine.devices import ide_bus
from pytcg.machine.devices.model import Values
from pytcg.machine.devices.rack import Rack
from pytcg.machine.devices.virtio import boot_path


def build(rack: Rack, values: Values) -> object:
    """ich9-ahci; its buses are ID.0 to ID.5, or the next of ide.N."""
    card = Ahci()
    rack.plug_pci(card, "ich9-ahci", values)
    first = len(rack.ide_buses())
    for number, bus in enumerate(ide_bus.ports(card, boot_path(card, "pci8086,2922"))):
        name = f"{values['id']}.{number}" if values["id"] else f"ide.{first + number}"
        rack.add_bus(name, bus)
    return card
