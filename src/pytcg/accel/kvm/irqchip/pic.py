"""The two 8259s in the kernel (struct kvm_pic_state)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pytcg.accel.kvm.abi import struct
from pytcg.accel.kvm.irqchip.mirror import Mirror
from pytcg.hw.core.i8259 import I8259, I8259Pair, Icw1, Icw4

if TYPE_CHECKING:
    from pytcg.accel.kvm.device import KvmFile

_EXPECTED: Final = (0, 2, 3, 4)
"""What is written next while a controller is set up, by KVM's init_state."""
_WIRING: Final = (1 << 2, 2)
"""ICW3 of master and slave: what a PC's are, as KVM doesn't keep it."""


class KernelPic(Mirror[I8259Pair]):
    """KVM_IRQCHIP_PIC_MASTER and _SLAVE."""

    def __init__(self, vm: KvmFile) -> None:
        super().__init__(I8259Pair())
        self._vm = vm

    def fetch(self) -> I8259Pair:
        for number, chip in enumerate((self.model.master, self.model.slave)):
            pic = struct("pic")
            pic.chip_id = number
            self._vm.ioctl("GET_IRQCHIP", pic)
            _take(chip, pic)
            chip.icw3 = _WIRING[number]
        self.model.restore(self.model.state())  # its lines are as its registers say
        return self.model

    def push(self) -> None:
        for number, chip in enumerate((self.model.master, self.model.slave)):
            pic = struct("pic")
            pic.chip_id = number
            _tell(chip, pic)
            if number == 0:
                pic.last_irr &= ~1  # the kernel's PIT makes pulses: the next one is an edge
            self._vm.ioctl("SET_IRQCHIP", pic)


def _take(chip: I8259, pic: Any) -> None:
    chip.irr, chip.imr, chip.isr = pic.irr, pic.imr, pic.isr
    chip.inputs, chip.elcr, chip.icw2 = pic.last_irr, pic.elcr, pic.irq_base
    chip.icw1 = Icw1.INIT | Icw1.IC4 if pic.init4 else Icw1.INIT
    programmed = pic.init4 and not pic.init_state
    chip.icw4 = Icw4((Icw4.UPM if programmed else 0) | (Icw4.AEOI if pic.auto_eoi else 0)
                     | (Icw4.SFNM if pic.special_fully_nested_mode else 0))  # fmt: skip
    chip.expect = _EXPECTED[pic.init_state & 3]
    chip.lowest = (pic.priority_add - 1) & 7
    chip.special_mask, chip.poll = bool(pic.special_mask), bool(pic.poll)
    chip.rotate_on_aeoi = bool(pic.rotate_on_auto_eoi)
    chip.read_isr = bool(pic.read_reg_select)


def _tell(chip: I8259, pic: Any) -> None:
    pic.irr, pic.imr, pic.isr = chip.irr, chip.imr, chip.isr
    pic.last_irr, pic.irq_base = chip.inputs, chip.icw2
    pic.elcr, pic.elcr_mask = chip.elcr, chip.elcr_mask
    pic.init4 = int(bool(chip.icw1 & Icw1.IC4))
    pic.auto_eoi = int(bool(chip.icw4 & Icw4.AEOI))
    pic.special_fully_nested_mode = int(bool(chip.icw4 & Icw4.SFNM))
    pic.init_state = _EXPECTED.index(chip.expect)
    pic.priority_add = (chip.lowest + 1) & 7
    pic.special_mask, pic.poll = int(chip.special_mask), int(chip.poll)
    pic.rotate_on_auto_eoi, pic.read_reg_select = int(chip.rotate_on_aeoi), int(chip.read_isr)
