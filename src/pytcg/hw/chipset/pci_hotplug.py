"""PCI hot-plug by ACPI, as QEMU's `pc` has it (its docs/specs/acpi_pci_hotplug).

Registers of 32 bits, one bit for each slot. ACPI's methods read which slots were filled (PCIU) or
are to be emptied (PCID) when general-purpose event 1 comes, and write to B0EJ when the operating
system has let go of a slot.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum

from pytcg.hw.state import State, load, save


class Reg(IntEnum):
    """Offsets."""

    PCIU = 0x00
    PCID = 0x04
    B0EJ = 0x08
    PCRM = 0x0C  # slots whose cards can be removed
    BNUM = 0x10  # the bus that the others are about


LENGTH = 0x14
EVENT = 1  # of the GPE block


class PciHotplug:
    """``removable`` has the slots' bits. `on_eject(slot)` is called when software gave one up."""

    _FIELDS = ("up", "down", "bus")

    def __init__(self, raise_event: Callable[[], None], removable: int) -> None:
        self._raise_event = raise_event
        self.removable = removable
        self.on_eject: Callable[[int], None] = lambda slot: None
        self.up = self.down = self.bus = 0

    def reset(self) -> None:
        """What software was asked to give up goes now; what came is found by looking."""
        self._eject(self.down)
        self.up = self.down = self.bus = 0

    def plugged(self, slot: int) -> None:
        """A card has come."""
        self.up |= 1 << slot
        self._raise_event()

    def ask(self, slot: int) -> None:
        """A slot is to be emptied."""
        self.down |= 1 << slot
        self._raise_event()

    def read(self, reg: int) -> int:
        """A register; PCIU is cleared by that. There is one bus, number 0."""
        if self.bus:
            return self.bus if reg == Reg.BNUM else 0
        if reg == Reg.PCIU:
            value, self.up = self.up, 0
            return value
        if reg == Reg.PCID:
            return self.down
        return self.removable if reg == Reg.PCRM else 0

    def write(self, reg: int, value: int) -> None:
        """Eject slots, or choose a bus."""
        if reg == Reg.BNUM:
            self.bus = value
        elif reg == Reg.B0EJ and not self.bus:
            self._eject(value & self.removable)

    def _eject(self, slots: int) -> None:
        self.up &= ~slots
        self.down &= ~slots
        for slot in range(32):
            if slots >> slot & 1:
                self.on_eject(slot)

    def state(self) -> State:
        return save(self, 1, self._FIELDS)

    def restore(self, state: State) -> None:
        load(self, state, 1, self._FIELDS)
