"""Intel 82371AB (PIIX4), function 3: power management and SMBus (datasheet 290562, chapter 7).

The chips behind it are `AcpiPm` and `SmbusHost`; the function decides where their ports are.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from pytcg.hw.chipset.piix3 import MEDIUM_DEVSEL
from pytcg.hw.chipset.smbus import SmbusHost
from pytcg.hw.core.acpi_pm import AcpiPm
from pytcg.hw.pci import config as pci
from pytcg.hw.pci.bar import Bar, BarType
from pytcg.hw.pci.config import HEADER, SIZE, Status
from pytcg.hw.pci.device import Host, Identity, PciDevice

PM_WINDOW: Final = 64
SMBUS_WINDOW: Final = 16
GPE_LENGTH: Final = 4  # QEMU's GPE0 block: two bytes of status, two of enables
SMI_ENABLED: Final = 0x02  # bit 25 of DEVACTB: APMC_EN
ENABLE: Final = 1


class Reg(IntEnum):
    """Registers with an effect, or with reset values that software looks at."""

    PMBA = 0x40
    DEVACTB = 0x58
    DEVRESB = 0x5C
    PMREGMISC = 0x80
    SMBBA = 0x90
    SMBHSTCFG = 0xD2


class Piix4Pm(PciDevice):
    """The function. Its SCI is wired to ISA interrupt 9, whatever its interrupt pin says."""

    identity = Identity(0x8086, 0x7113, class_code=0x068000, revision=3, pin=1)

    def __init__(self, pm: AcpiPm, smbus: SmbusHost, *, smm: bool = False) -> None:
        super().__init__()
        self._smm = smm
        self._pm_window = Bar(0, PM_WINDOW, BarType.IO, pm.read,
                              lambda reg, size, value: pm.write(reg, value, size))  # fmt: skip
        self._smbus_window = Bar(1, SMBUS_WINDOW, BarType.IO, smbus.read_wide, smbus.write_wide)
        define = self.config.define
        define(pci.Reg.STATUS, 2, MEDIUM_DEVSEL, clearable=Status.ERRORS)
        define(HEADER, SIZE - HEADER, writable=(1 << 8 * (SIZE - HEADER)) - 1)
        define(Reg.PMBA, 4, ENABLE, writable=0xFFC0)
        # Without SMM firmware finds APM's SMI enabled, and leaves it alone.
        define(Reg.DEVACTB + 3, 1, 0 if smm else SMI_ENABLED, writable=0xFF)
        define(Reg.SMBBA, 4, 0xB100 | ENABLE, writable=0xFFF0)
        define(Reg.SMBHSTCFG, 1, 0x09, writable=0xFF)
        self.tell_ports(parallel=False, serial=(False, False))

    def tell_ports(self, *, parallel: bool, serial: tuple[bool, bool]) -> None:
        """Which of the super I/O's ports there are (DEVRESB on): a reset doesn't change it."""
        for offset, value in (
            (3, 0x10 | (0x80 if parallel else 0)),
            (7, 0x60),
            (11, (0x08 if serial[0] else 0) | (0x90 if serial[1] else 0)),
        ):
            self.config.define(Reg.DEVRESB + offset, 1, value, writable=0xFF)

    @property
    def apm_smi(self) -> bool:
        """Whether a command at port B2h raises an SMI."""
        return self._smm and bool(self.config.bytes[Reg.DEVACTB + 3] & SMI_ENABLED)

    def place_pm(self, base: int) -> None:
        """Put the power management registers where firmware would."""
        self.config.put(Reg.PMBA, 4, base | ENABLE)
        self.config.put(Reg.PMREGMISC, 1, ENABLE)
        self._sync()

    def _sync(self) -> None:
        super()._sync()
        if self.host is not None:
            self._place(self._pm_window, Reg.PMBA, Reg.PMREGMISC, self.host)
            self._place(self._smbus_window, Reg.SMBBA, Reg.SMBHSTCFG, self.host)

    def _place(self, window: Bar, base: Reg, enable: Reg, host: Host) -> None:
        register = self.config.get(base, 4) & 0xFFFF
        wanted = window.place(register) if self.config.bytes[enable] & ENABLE else None
        window.move(wanted, host)
