"""The I/O APIC in the kernel (struct kvm_ioapic_state)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pytcg.accel.kvm.abi import struct
from pytcg.accel.kvm.irqchip.mirror import Mirror
from pytcg.hw.core.ioapic import PINS, IoApic, Redirection

if TYPE_CHECKING:
    from pytcg.accel.kvm.device import KvmFile

CHIP: Final = 2  # KVM_IRQCHIP_IOAPIC
_BASE: Final = 0xFEC0_0000


class KernelIoApic(Mirror[IoApic]):
    """The model's inputs are what the kernel was told, but for an edge that it has sent on."""

    def __init__(self, vm: KvmFile) -> None:
        super().__init__(IoApic(lambda dest, mode, vector, trigger: None))
        self._vm = vm

    def fetch(self) -> IoApic:
        chip, told = self.model, struct("ioapic")
        told.chip_id = CHIP
        self._vm.ioctl("GET_IRQCHIP", told)
        chip.index, chip.id, chip.inputs = told.ioregsel, told.id & 15, told.irr
        chip.entries = [entry & ~int(Redirection.DELIVS) for entry in told.redirtbl]
        return chip

    def push(self) -> None:
        """Edges are over: an input that is set counts as one that comes now."""
        chip, told = self.model, struct("ioapic")
        told.chip_id, told.base_address = CHIP, _BASE
        told.ioregsel, told.id = chip.index, chip.id
        told.redirtbl[:] = [int(entry) for entry in chip.entries]
        for pin in range(PINS):
            if chip.entries[pin] & Redirection.LEVEL:
                told.irr |= chip.inputs & 1 << pin
        self._vm.ioctl("SET_IRQCHIP", told)
