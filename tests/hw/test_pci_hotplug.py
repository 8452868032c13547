"""ACPI's PCI hot-plug registers (QEMU's docs/specs/acpi_pci_hotplug)."""

from __future__ import annotations

import pytest

from pytcg.hw.chipset.pci_hotplug import PciHotplug, Reg
from pytcg.hw.state import State


class Slots(PciHotplug):
    """Slots 3 and 4; what happened is in ``events`` and ``ejected``."""

    def __init__(self) -> None:
        self.events = 0
        self.ejected: list[int] = []
        super().__init__(self._count, 1 << 3 | 1 << 4)
        self.on_eject = self.ejected.append

    def _count(self) -> None:
        self.events += 1


@pytest.fixture
def chip() -> Slots:
    return Slots()


def test_pciu_is_cleared_by_reading_it(chip: Slots) -> None:
    chip.plugged(4)
    assert chip.events == 1
    assert chip.read(Reg.PCIU) == 1 << 4
    assert chip.read(Reg.PCIU) == 0


def test_pcid_stays_until_the_slot_is_ejected(chip: Slots) -> None:
    chip.ask(3)
    assert chip.events == 1
    assert chip.read(Reg.PCID) == chip.read(Reg.PCID) == 1 << 3
    chip.write(Reg.B0EJ, 1 << 3)
    assert (chip.ejected, chip.read(Reg.PCID)) == ([3], 0)


def test_a_slot_is_ejected_unasked_but_none_that_is_soldered(chip: Slots) -> None:
    chip.write(Reg.B0EJ, 0xFFFFFFFF)
    assert chip.ejected == [3, 4]
    assert chip.read(Reg.PCRM) == 0b11000


def test_other_buses_are_empty(chip: Slots) -> None:
    chip.plugged(3)
    chip.write(Reg.BNUM, 1)
    assert (chip.read(Reg.BNUM), chip.read(Reg.PCIU), chip.read(Reg.PCRM)) == (1, 0, 0)
    chip.write(Reg.B0EJ, 1 << 3)
    assert not chip.ejected
    chip.write(Reg.BNUM, 0)
    assert chip.read(Reg.PCIU) == 1 << 3


def test_a_reset_does_what_was_asked(chip: Slots) -> None:
    chip.plugged(4)
    chip.ask(3)
    chip.reset()
    assert (chip.ejected, chip.read(Reg.PCIU), chip.read(Reg.PCID)) == ([3], 0, 0)


def test_state_returns(chip: Slots) -> None:
    chip.plugged(4)
    chip.ask(3)
    other = PciHotplug(lambda: None, chip.removable)
    state: State = chip.state() | {"chip": "PciHotplug"}
    other.restore(state)
    assert (other.read(Reg.PCID), other.read(Reg.PCIU)) == (1 << 3, 1 << 4)
