"""A port's registers (AHCI 1.3.1, 3.3); what they set going is the port's own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Final

from pytcg.hw.state import State, StateError, load, save
from pytcg.hw.storage.ahci.regs import NO_SIGNATURE, SATA_STATUS, Cmd, Port
from pytcg.hw.storage.ide_drive import IdeDrive, Status

NO_DEVICE: Final = 0x7F  # the task file of an empty port
KEPT: Final = Cmd.START | Cmd.SPIN_UP | Cmd.POWER_ON | Cmd.RECEIVE | Cmd.ATAPI | 0xF << 28


class PortRegisters(ABC):
    """``on_interrupt`` hears of each change of the port's interrupts."""

    _FIELDS = ("list_base", "fis_base", "irq", "irq_enable", "cmd", "task_file", "signature",
               "control", "error", "active", "issued", "current", "resetting", "greeting",
               "halted")  # fmt: skip

    def __init__(self, on_interrupt: Callable[[], None]) -> None:
        self.on_interrupt = on_interrupt
        self.drive: IdeDrive | None = None
        self.current = -1
        self._clear()

    def _clear(self) -> None:
        self.list_base = self.fis_base = self.irq = self.irq_enable = 0
        self.cmd = Cmd.SPIN_UP | Cmd.POWER_ON
        self.control = self.error = 0
        self.forget()
        self.task_file, self.signature = NO_DEVICE, NO_SIGNATURE
        self.greeting = False  # a signature that waits for room to be received

    def forget(self) -> None:
        """Commands issued and under way."""
        self.active = self.issued = 0
        self.current = -1  # the slot of a command that is not queued
        self.resetting = False  # between the two FISes of a software reset
        self.halted = False  # by an error, until software stops the port

    def reset(self) -> None:
        """The HBA's."""
        self._clear()
        self.reset_drive()

    @abstractmethod
    def reset_drive(self) -> None:
        """COMRESET, or software's: the drive shows its signature."""

    @abstractmethod
    def greet(self) -> None:
        """If a signature waits and can be received: receive it."""

    @abstractmethod
    def advance(self) -> None:
        """Start what is issued: queued commands beside each other, others alone."""

    # --- registers -----------------------------------------------------------------------------

    def read(self, reg: int) -> int:
        """A register of 32 bits."""
        match reg:
            case Port.CLB | Port.FB:
                return (self.list_base if reg == Port.CLB else self.fis_base) & 0xFFFFFFFF
            case 0x04 | 0x0C:
                return (self.list_base if reg == 0x04 else self.fis_base) >> 32
            case Port.IS:
                return self.irq
            case Port.IE:
                return self.irq_enable
            case Port.CMD:
                return self._command_register()
            case Port.TFD:
                return self.task_file
            case Port.SIG:
                return self.signature
            case Port.SSTS:
                return SATA_STATUS if self.drive is not None and self.control & 15 != 1 else 0
            case Port.SCTL:
                return self.control
            case Port.SERR:
                return self.error
            case Port.SACT:
                return self.active
            case Port.CI:
                return self.issued
        return 0

    def _command_register(self) -> int:
        running = Cmd.RUNNING if self.cmd & Cmd.START else 0
        receiving = Cmd.RECEIVING if self.cmd & Cmd.RECEIVE else 0
        slot = max(self.current, 0) << 8 if running else 0
        return self.cmd | running | receiving | slot

    def write(self, reg: int, value: int) -> None:
        """A register of 32 bits."""
        match reg:
            case Port.CLB:
                self.list_base = self.list_base & ~0xFFFFFFFF | value & ~0x3FF
            case 0x04:
                self.list_base = self.list_base & 0xFFFFFFFF | value << 32
            case Port.FB:
                self.fis_base = self.fis_base & ~0xFFFFFFFF | value & ~0xFF
            case 0x0C:
                self.fis_base = self.fis_base & 0xFFFFFFFF | value << 32
            case Port.IS:
                self.irq &= ~value
            case Port.IE:
                self.irq_enable = value
            case Port.CMD:
                self._write_command(value)
            case Port.SCTL:
                self._write_control(value)
            case Port.SERR:
                self.error &= ~value
            case Port.SACT if self.cmd & Cmd.START:
                self.active |= value
            case Port.CI if self.cmd & Cmd.START:
                self.issued |= value
                self.advance()
        self.on_interrupt()

    def _write_command(self, value: int) -> None:
        stopped = self.cmd & ~value & Cmd.START
        self.cmd = value & KEPT | Cmd.SPIN_UP | Cmd.POWER_ON
        if stopped:
            self.forget()
        if value & Cmd.OVERRIDE:
            self.task_file &= ~(Status.BSY | Status.DRQ)
        self.greet()
        self.advance()

    def _write_control(self, value: int) -> None:
        before, self.control = self.control, value & 0xFFF
        if before & 15 == 1 and value & 15 == 0:
            self.forget()
            self.task_file = NO_DEVICE
            self.reset_drive()

    # --- saved state ---------------------------------------------------------------------------

    def state(self) -> State:
        """Nothing is under way."""
        drive = None if self.drive is None else self.drive.state()
        return save(self, 1, self._FIELDS) | {"drive": drive}

    def restore(self, state: State) -> None:
        load(self, state, 1, self._FIELDS)
        if (state["drive"] is None) != (self.drive is None):
            raise StateError("AhciPort: other drives than the saved machine has")
        if self.drive is not None:
            self.drive.restore(state["drive"])
