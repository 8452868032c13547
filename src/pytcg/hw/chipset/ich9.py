"""Intel ICH9: the LPC bridge with its PIRQ router and PMBASE, and the SMBus function (316972)."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from pytcg.hw.chipset.smbus import SmbusHost
from pytcg.hw.core.acpi_pm import AcpiPm
from pytcg.hw.line import Line
from pytcg.hw.pci.bar import Bar, BarType
from pytcg.hw.pci.config import HEADER, SIZE
from pytcg.hw.pci.device import Identity, PciDevice
from pytcg.hw.state import State

PIRQS: Final = 8
ISA_IRQS: Final = 16
ROUTE_DISABLED: Final = 0x80
PM_WINDOW: Final = 128
ACPI_ENABLE: Final = 0x80
SMI_ENABLE: Final = 0x30  # in the window
APM_ENABLED: Final = 0x21  # there is no SMM: firmware that finds APM's SMI enabled leaves it alone
SMBUS_WINDOW: Final = 32
FIRST_SWIZZLED_PIRQ: Final = 4
FIXED_SLOTS: Final = range(25, 32)  # the chipset's own: INTA is PIRQA


class Reg(IntEnum):
    """Registers of the bridge with an effect."""

    PMBASE = 0x40
    ACPI_CNTL = 0x44
    PIRQ_A = 0x60  # to PIRQD
    PIRQ_E = 0x68  # to PIRQH
    RCBA = 0xF0


def swizzle(slot: int, pin: int) -> int:
    """The PIRQ (0 to 7) of a slot's pin (1 for INTA), as QEMU's q35 has them."""
    if slot in FIXED_SLOTS:
        return pin - 1
    return FIRST_SWIZZLED_PIRQ + (slot + pin - 1) % 4


class Ich9Lpc(PciDevice):
    """`irq[n]` are the ISA interrupts that PCI's lines drive; `set_pirq` is the lines' input."""

    identity = Identity(0x8086, 0x2918, class_code=0x060100, revision=2, multifunction=True)

    def __init__(self, pm: AcpiPm) -> None:
        super().__init__()
        self._pm = pm
        self._window = Bar(0, PM_WINDOW, BarType.IO, self._read_pm, self._write_pm)
        self.irq = [Line() for _ in range(ISA_IRQS)]
        self.pirq = [False] * PIRQS
        define = self.config.define
        define(HEADER, SIZE - HEADER, writable=(1 << 8 * (SIZE - HEADER)) - 1)
        define(Reg.PMBASE, 4, 1, writable=0xFF80)
        define(Reg.ACPI_CNTL, 1, writable=0x87)
        for number in range(PIRQS):
            define(_route(number), 1, ROUTE_DISABLED, writable=0x8F)

    def _read_pm(self, reg: int, size: int) -> int:
        value = self._pm.read(reg, size)
        return value | APM_ENABLED if reg == SMI_ENABLE else value

    def _write_pm(self, reg: int, size: int, value: int) -> None:
        self._pm.write(reg, value, size)

    def place_pm(self, base: int) -> None:
        """Put the power management registers where firmware would."""
        self.config.put(Reg.PMBASE, 4, base | 1)
        self.config.put(Reg.ACPI_CNTL, 1, ACPI_ENABLE)
        self._sync()

    def set_pirq(self, number: int, level: bool) -> None:
        """PIRQ number 0 (A) to 7 (H)."""
        self.pirq[number] = level
        self._sync()

    def _sync(self) -> None:
        super()._sync()
        if self.host is not None:
            enabled = self.config.bytes[Reg.ACPI_CNTL] & ACPI_ENABLE
            base = self.config.get(Reg.PMBASE, 4) & 0xFFFF
            self._window.move(self._window.place(base) if enabled else None, self.host)
        high = set()
        for number, level in enumerate(self.pirq):
            route = self.config.bytes[_route(number)]
            if level and not route & ROUTE_DISABLED:
                high.add(route & 0x0F)
        for irq, line in enumerate(self.irq):
            line.set(irq in high)

    def state(self) -> State:
        return super().state() | {"pirq": list(self.pirq)}

    def restore(self, state: State) -> None:
        self.pirq = [bool(level) for level in state["pirq"]]
        super().restore(state)


def _route(number: int) -> int:
    return Reg.PIRQ_A + number if number < 4 else Reg.PIRQ_E + number - 4


class Ich9Smbus(PciDevice):
    """The controller's ports are BAR 4."""

    identity = Identity(0x8086, 0x2930, class_code=0x0C0500, revision=2, pin=1)

    def __init__(self, smbus: SmbusHost) -> None:
        super().__init__()
        self.add_bar(4, SMBUS_WINDOW, BarType.IO, smbus.read_wide, smbus.write_wide)
        self.config.define(0x40, 1, 1, writable=0x1F)  # HOSTC: enabled
