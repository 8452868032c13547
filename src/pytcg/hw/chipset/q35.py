"""Intel 82Q35: the host bridge of `q35` (3 Series Express chipset datasheet, 316966)."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import Final

from pytcg.hw.chipset.i440fx import HostBridge
from pytcg.hw.pci.bar import Bar, BarType
from pytcg.hw.pci.bus import Ecam
from pytcg.hw.pci.device import Identity

ENABLE: Final = 1
SIZES: Final = (1 << 28, 1 << 27, 1 << 26, 1 << 26)  # by PCIEXBAR's bits 2 and 1
BASE_BITS: Final = 0xFFC000007


class Reg(IntEnum):
    """Registers with an effect."""

    PCIEXBAR = 0x60
    PAM0 = 0x90
    SMRAM = 0x9D


class Q35Mch(HostBridge):
    """Function 0 of slot 0; PCIEXBAR says where configuration space is memory."""

    identity = Identity(0x8086, 0x29C0, class_code=0x060000)

    def __init__(self, on_map: Callable[[], None], ecam: Ecam) -> None:
        super().__init__(on_map, Reg.PAM0, Reg.SMRAM)
        self.config.define(Reg.PCIEXBAR, 8, 0xB0000000, writable=BASE_BITS)
        self._windows = [Bar(0, size, BarType.MEMORY_64, ecam.read, ecam.write) for size in SIZES]

    def place_ecam(self, base: int) -> None:
        """Put the window where firmware would."""
        self.config.put(Reg.PCIEXBAR, 8, base | ENABLE)
        self._sync()

    def _sync(self) -> None:
        super()._sync()
        if self.host is None:
            return
        register = self.config.get(Reg.PCIEXBAR, 8)
        for number, window in enumerate(self._windows):
            shown = register & ENABLE and register >> 1 & 3 == number
            window.move(window.place(register) if shown else None, self.host)
