"""A board whose interrupt controllers KVM has: all with the PIT, or the local APIC alone."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from pytcg.hw.core.ioapic import IoApic
from pytcg.machine import firmware
from pytcg.machine import pc_map as at
from pytcg.machine.board.interrupts import Interrupts

if TYPE_CHECKING:
    from pytcg.accel.kvm.irqchip.chips import KernelChips
    from pytcg.accel.kvm.irqchip.lapic import KernelLapic
    from pytcg.hw.core.i8259 import I8259Pair
    from pytcg.machine.board.backplane import Backplane


def make_interrupts(board: Backplane) -> Interrupts | KernelInterrupts:
    """As the board's processor has it."""
    chips = board.vcpu.kernel_chips
    if chips is None:
        return Interrupts(board)
    return SplitInterrupts(board, chips) if chips.split else KernelInterrupts(board, chips)


class SplitInterrupts(Interrupts):
    """8259s and I/O APIC are the board's (kernel-irqchip=split)."""

    def __init__(self, board: Backplane, chips: KernelChips) -> None:
        self._chips = chips
        super().__init__(board)

    def send(self, address: int, data: int) -> None:
        self._chips.send(address, data)

    def set_up(self) -> None:
        firmware.program_pics(self.pic)
        with self._kernel_lapic.changed() as lapic:
            lapic.virtual_wire()

    def _make_ioapic(self) -> IoApic:
        ioapic = IoApic(self._chips.deliver)
        ioapic.on_entries = self._chips.route_entries
        return ioapic

    def _add_lapic(self, board: Backplane) -> None:
        self._kernel_lapic = _add_lapic(board, self._chips)
        self._kernel_lapic.lint0 = lambda: self.pic.intr.level
        board.cpu_bus.acknowledge_by(self.pic.acknowledge)
        self._chips.on_level_end = partial(board.cpu_bus.locked, self.ioapic.end_of_interrupt)
        self.pic.intr.connect(board.vcpu.set_intr)


class KernelInterrupts:
    """None is the board's (kernel-irqchip=on)."""

    def __init__(self, board: Backplane, chips: KernelChips) -> None:
        self._chips = chips
        self._pic = board.add(chips.make_pic())
        self._ioapic = board.add(chips.make_ioapic())
        self._lapic = _add_lapic(board, chips)
        self._lapic.lint0 = lambda: self._pic.model.intr.level  # as it was saved, a moment before
        board.memory.reserve(at.IO_APIC, at.APIC_PAGE)
        for irq, gate in enumerate(board.isa):
            gate.out.connect(partial(chips.set_line, irq))

    def set_pin(self, pin: int, level: bool) -> None:
        """Drive a pin of the I/O APIC."""
        self._chips.set_pin(pin, level)

    def send(self, address: int, data: int) -> None:
        """An interrupt message of a card."""
        self._chips.send(address, data)

    def set_up(self) -> None:
        """Leave them as a BIOS does."""
        with self._pic.changed() as pic:
            firmware.program_pics(pic)
        with self._lapic.changed() as lapic:
            lapic.virtual_wire()

    def look(self) -> tuple[I8259Pair, IoApic]:
        """What they are doing."""
        return self._pic.fetch(), self._ioapic.fetch()


def _add_lapic(board: Backplane, chips: KernelChips) -> KernelLapic:
    made = board.add(chips.make_lapic(board.clock))
    made.model.on_init = board.ask_reset
    board.cpu_bus.attach_lapic(made.model)
    board.memory.reserve(at.LOCAL_APIC, at.APIC_PAGE)
    return made
