"""Intel 82371SB (PIIX3), function 0: the ISA bridge and its PIRQ router (datasheet 290550)."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from pytcg.hw.line import Line
from pytcg.hw.pci import config as pci
from pytcg.hw.pci.config import HEADER, SIZE, Status
from pytcg.hw.pci.device import Identity, PciDevice
from pytcg.hw.state import State

PIRQS: Final = 4
ISA_IRQS: Final = 16
ROUTE_DISABLED: Final = 0x80
MEDIUM_DEVSEL: Final = 0x0280  # STATUS: medium timing, fast back-to-back


class Reg(IntEnum):
    """Registers that do something, or whose reset values software expects (datasheet 2.2)."""

    IORT = 0x4C
    XBCS = 0x4E
    PIRQRC = 0x60  # four: PIRQA# to PIRQD#
    TOM = 0x69
    MBIRQ0 = 0x70
    MBDMA = 0x76
    PCSC = 0x78
    SMICNTL = 0xA0
    CTLTMR = 0xA8


RESET_VALUES: Final = {
    Reg.IORT: 0x4D, Reg.XBCS: 0x03, Reg.TOM: 0x02, Reg.MBIRQ0: 0x80, Reg.MBDMA: 0x0C,
    Reg.MBDMA + 1: 0x0C, Reg.PCSC: 0x02, Reg.SMICNTL: 0x08, Reg.CTLTMR: 0x0F,
}  # fmt: skip


class Piix3(PciDevice):
    """`irq[n]` are the ISA interrupts that PCI's lines drive; `set_pirq` is the lines' input."""

    identity = Identity(0x8086, 0x7000, class_code=0x060100, multifunction=True)

    def __init__(self) -> None:
        super().__init__()
        self.irq = [Line() for _ in range(ISA_IRQS)]
        self.pirq = [False] * PIRQS
        define = self.config.define
        define(pci.Reg.STATUS, 2, MEDIUM_DEVSEL, clearable=Status.ERRORS)
        define(HEADER, SIZE - HEADER, writable=(1 << 8 * (SIZE - HEADER)) - 1)
        for reg, value in RESET_VALUES.items():
            define(reg, 1, value, writable=0xFF)
        for number in range(PIRQS):
            define(Reg.PIRQRC + number, 1, ROUTE_DISABLED, writable=0xFF)

    def set_pirq(self, number: int, level: bool) -> None:
        """PIRQ number 0 (A) to 3 (D)."""
        self.pirq[number] = level
        self._route()

    def reset(self) -> None:
        super().reset()
        self._route()

    def config_written(self, reg: int, size: int) -> None:
        self._route()

    def state(self) -> State:
        return super().state() | {"pirq": list(self.pirq)}

    def restore(self, state: State) -> None:
        super().restore(state)
        self.pirq = [bool(level) for level in state["pirq"]]
        self._route()

    def _route(self) -> None:
        high = set()
        for number, level in enumerate(self.pirq):
            route = self.config.bytes[Reg.PIRQRC + number]
            if level and not route & ROUTE_DISABLED:
                high.add(route & 0x0F)
        for irq, line in enumerate(self.irq):
            line.set(irq in high)
