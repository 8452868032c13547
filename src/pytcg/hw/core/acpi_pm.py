"""ACPI fixed hardware: PM1a event and control blocks, PM timer, GPE0 and the SMI command port.

Register layout: the ACPI specification, 4.8.3 ("ACPI Register Model"), at the offsets that Intel's
PIIX4 and ICH9 give the blocks inside PMBASE (ICH9 datasheet 13.8.3). GPE0 is part of that window on
an ICH9 and has ports of its own on a PIIX4 board. There is no SMM: with SCI_EN clear, events are
recorded and raise nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum, IntFlag

from pytcg.hw.bits import register_bits
from pytcg.hw.clock import NS_PER_SECOND, Clock, Deadline
from pytcg.hw.line import Line
from pytcg.hw.state import State, load, save

PM_TIMER_HZ = 3_579_545


class Block(IntEnum):
    """Byte offsets of the register blocks (for the FADT)."""

    PM1_STS = 0x00
    PM1_EN = 0x02
    PM1_CNT = 0x04
    PM_TMR = 0x08
    GPE0_STS = 0x20
    GPE0_EN = 0x28


ICH9_GPE0_LENGTH = 16
"""GPE0_BLK_LEN: eight bytes of status, eight of enables."""


@register_bits
class Pm1(IntFlag):
    """PM1 status and enable bits."""

    TMR = 1 << 0
    BM = 1 << 4
    GBL = 1 << 5
    PWRBTN = 1 << 8
    SLPBTN = 1 << 9
    RTC = 1 << 10
    WAK = 1 << 15


ENABLES = Pm1.TMR | Pm1.GBL | Pm1.PWRBTN | Pm1.SLPBTN | Pm1.RTC


@register_bits
class Pm1Cnt(IntFlag):
    """PM1 control; SLP_TYP is bits 10-12."""

    SCI_EN = 1 << 0
    BM_RLD = 1 << 1
    GBL_RLS = 1 << 2
    SLP_EN = 1 << 13


SLP_TYP_SHIFT = 10
CONTROL_KEPT = Pm1Cnt.SCI_EN | Pm1Cnt.BM_RLD | 7 << SLP_TYP_SHIFT


class AcpiPm:
    """The blocks of one PMBASE window. Accesses of 1, 2 or 4 bytes at any offset."""

    _FIELDS = ("status", "enable", "control", "gpe_status", "gpe_enable", "_half_periods")

    def __init__(
        self,
        clock: Clock,
        on_sleep: Callable[[int], None],
        *,
        timer_bits: int = 24,
        gpe_length: int = ICH9_GPE0_LENGTH,
        gpe_in_window: bool = True,
    ) -> None:
        """on_sleep(SLP_TYP) is called when SLP_EN is written; timer_bits is 24 or 32.

        gpe_length: bytes of status and enables together.
        """
        self._gpe_half = gpe_length // 2
        self._gpe_in_window = gpe_in_window
        self._clock = clock
        self._on_sleep = on_sleep
        self._timer = Deadline(clock, self._sync)
        self.timer_bits = timer_bits
        self.sci = Line()
        self._clear()

    def _clear(self) -> None:
        self.status = self.enable = Pm1(0)
        self.control = 0
        self.gpe_status = self.gpe_enable = 0
        self._half_periods = self._half_period()

    def reset(self) -> None:
        self._clear()
        self._sync()

    def power_button(self) -> None:
        """The user presses the button for less than four seconds."""
        self.status |= Pm1.PWRBTN
        self._sync()

    def wake(self) -> None:
        """The machine leaves a sleeping state."""
        self.status |= Pm1.WAK
        self._sync()

    def raise_gpe(self, n: int) -> None:
        """General-purpose event n happens."""
        self.gpe_status |= 1 << n
        self._sync()

    def set_acpi_mode(self, *, enabled: bool) -> None:
        """What firmware does on the FADT's ACPI_ENABLE and ACPI_DISABLE commands."""
        bit = Pm1Cnt.SCI_EN
        self.control = self.control | bit if enabled else self.control & ~bit
        self._sync()

    def read(self, reg: int, size: int = 1) -> int:
        self._collect()
        value = self._image() >> 8 * reg & (1 << 8 * size) - 1
        self._sync()
        return value

    def write(self, reg: int, value: int, size: int = 1) -> None:
        self._collect()
        sleep: int | None = None
        for offset in range(size):
            if self._write_byte(reg + offset, value >> 8 * offset & 0xFF):
                sleep = self.control >> SLP_TYP_SHIFT & 7
        self._sync()
        if sleep is not None:
            self._on_sleep(sleep)

    def read_gpe(self, reg: int, size: int = 1) -> int:
        """GPE0: status bytes, then enables."""
        block = self.gpe_status | self.gpe_enable << 8 * self._gpe_half
        return block >> 8 * reg & (1 << 8 * size) - 1

    def write_gpe(self, reg: int, value: int, size: int = 1) -> None:
        """Ones clear status bits; enables are stored."""
        for offset in range(reg, reg + size):
            byte = value >> 8 * (offset - reg) & 0xFF
            if offset < self._gpe_half:
                self.gpe_status &= ~(byte << 8 * offset)
            elif offset < 2 * self._gpe_half:
                self.gpe_enable = _put(self.gpe_enable, offset - self._gpe_half, byte)
        self._sync()

    def state(self) -> State:
        return save(self, 1, self._FIELDS)

    def restore(self, state: State) -> None:
        load(self, state, 1, self._FIELDS)
        self._sync()

    def timer_value(self) -> int:
        """PM_TMR's count."""
        return self._ticks() & (1 << self.timer_bits) - 1

    def _ticks(self) -> int:
        return self._clock.now() * PM_TIMER_HZ // NS_PER_SECOND

    def _half_period(self) -> int:
        """How often the timer's top bit has changed since power-on."""
        return self._ticks() >> self.timer_bits - 1

    def _image(self) -> int:
        """The whole window as one little-endian number."""
        fixed = (
            self.status << 8 * Block.PM1_STS | self.enable << 8 * Block.PM1_EN
            | self.control << 8 * Block.PM1_CNT | self.timer_value() << 8 * Block.PM_TMR
        )  # fmt: skip
        if not self._gpe_in_window:
            return fixed
        return fixed | self.read_gpe(0, 2 * self._gpe_half) << 8 * Block.GPE0_STS

    def _write_byte(self, reg: int, value: int) -> bool:
        """Store one byte; True when it had SLP_EN set."""
        if reg < Block.PM1_EN:
            self.status &= ~(value << 8 * reg)
        elif reg < Block.PM1_CNT:
            self.enable = Pm1(_put(self.enable, reg - Block.PM1_EN, value)) & ENABLES
        elif reg < Block.PM1_CNT + 2:
            self.control = _put(self.control, reg - Block.PM1_CNT, value) & CONTROL_KEPT
            # SLP_EN is write-only; the byte that holds it holds all of SLP_TYP.
            return reg == Block.PM1_CNT + 1 and bool(value << 8 & Pm1Cnt.SLP_EN)
        elif self._gpe_in_window and reg >= Block.GPE0_STS:
            self.write_gpe(reg - Block.GPE0_STS, value)
        return False

    def _collect(self) -> None:
        half_periods = self._half_period()
        if half_periods != self._half_periods:
            self._half_periods = half_periods
            self.status |= Pm1.TMR

    def _sync(self) -> None:
        self._collect()
        events = self.status & self.enable or self.gpe_status & self.gpe_enable
        self.sci.set(bool(self.control & Pm1Cnt.SCI_EN and events))
        if self.enable & Pm1.TMR and not self.status & Pm1.TMR:
            tick = self._half_periods + 1 << self.timer_bits - 1
            self._timer.set(-(-tick * NS_PER_SECOND // PM_TIMER_HZ))
        else:
            self._timer.set(None)


def _put(word: int, index: int, byte: int) -> int:
    """word with its byte number `index` replaced."""
    return word & ~(0xFF << 8 * index) | byte << 8 * index


class ApmControl:
    """Ports B2h (command) and B3h (status): commands that firmware's SMI handler would answer."""

    def __init__(self, pm: AcpiPm, *, enable: int, disable: int,
                 on_command: Callable[[], None] = lambda: None) -> None:  # fmt: skip
        """The commands that switch ACPI mode on and off, as the FADT names them."""
        self._pm = pm
        self._on_command = on_command
        self._enable, self._disable = enable, disable
        self.command = self.status = 0

    def reset(self) -> None:
        self.command = self.status = 0

    def read(self, reg: int) -> int:
        return self.status if reg else self.command

    def write(self, reg: int, value: int) -> None:
        if reg:
            self.status = value & 0xFF
            return
        self.command = value & 0xFF
        if self.command in (self._enable, self._disable):
            self._pm.set_acpi_mode(enabled=self.command == self._enable)
        self._on_command()

    def state(self) -> State:
        return save(self, 1, ("command", "status"))

    def restore(self, state: State) -> None:
        load(self, state, 1, ("command", "status"))
