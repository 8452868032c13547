"""Slots whose cards come and go: what ACPI's methods do about `pytcg.hw.chipset.pci_hotplug`."""

from __future__ import annotations

from typing import Final

from pytcg.hw.chipset.pci_hotplug import EVENT, Reg
from pytcg.machine.acpi import aml
from pytcg.machine.acpi.hardware import Hardware

DEVICE_CHECK, EJECT_REQUEST = aml.integer(1), aml.integer(3)
UP, DOWN, EJECT = "PCIU", "PCID", "B0EJ"
ROOT: Final = "\\_SB.PCI0"


def slots(hardware: Hardware) -> list[bytes]:
    """For the PCI root: the registers, a device for each slot, and who is told of changes."""
    if hardware.hotplug is None:
        return []
    return [
        aml.region("PCST", aml.SYSTEM_IO, hardware.hotplug + Reg.PCIU, 8),
        aml.dword_fields("PCST", UP, DOWN),
        aml.region("SEJ", aml.SYSTEM_IO, hardware.hotplug + Reg.B0EJ, 4),
        aml.dword_fields("SEJ", EJECT),
        *(_slot(number) for number in hardware.hotplug_slots),
        aml.method("DVNT", 2, *(_tell(number) for number in hardware.hotplug_slots)),
        aml.method("PCNT", 0, aml.call("DVNT", aml.segment(UP), DEVICE_CHECK),
                   aml.call("DVNT", aml.segment(DOWN), EJECT_REQUEST)),
    ]  # fmt: skip


def event(hardware: Hardware) -> bytes:
    """The general-purpose event's method."""
    if hardware.hotplug is None:
        return b""
    method = aml.method(f"_E{EVENT:02X}", 0, aml.segment(f"{ROOT}.PCNT"))
    return aml.scope("\\_GPE", method)


def _name(slot: int) -> str:
    return f"S{slot << 3:02X}"


def _slot(number: int) -> bytes:
    bit = aml.integer(1 << number)
    return aml.device(
        _name(number),
        aml.name("_ADR", aml.integer(number << 16)),
        aml.name("_SUN", aml.integer(number)),
        aml.method("_EJ0", 1, aml.store(bit, aml.segment(EJECT))),
    )


def _tell(number: int) -> bytes:
    """Of DVNT(slots, what): one slot's part."""
    return aml.when(aml.bit_and(aml.ARG0, aml.integer(1 << number)),
                    aml.notify(_name(number), aml.ARG1))  # fmt: skip
