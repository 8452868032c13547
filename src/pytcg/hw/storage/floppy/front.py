"""The 82077AA's registers, its FIFO, and the commands that move no data (datasheet 290166)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from enum import Enum
from typing import Final

from pytcg.hw.line import Line
from pytcg.hw.storage.floppy.drive import FloppyDrive, Kind
from pytcg.hw.storage.floppy.regs import (
    DISK_CHANGE,
    FIFO_OFF,
    FULL_OPCODE,
    PARAMETERS,
    PART,
    SOFT_RESET,
    VERSION,
    Command,
    Dor,
    Msr,
    Reg,
    St0,
)

UNITS: Final = 2
DRIVES: Final = 4  # that a reset speaks of
MODIFIERS: Final = 0xE0


class Phase(Enum):
    """What the FIFO is for."""

    COMMAND = "command"
    EXECUTION = "execution"
    RESULT = "result"


class FdcFront(ABC):
    """All but the commands that move data. `drives[n]` are the two; `irq` is INTRPT."""

    def __init__(self) -> None:
        self.irq = Line()
        self.drives: list[FloppyDrive | None] = [None] * UNITS
        self._generation = 0
        self.reset()

    @property
    def kinds(self) -> list[Kind]:
        """The drives' types, for CMOS."""
        return [Kind.NONE if drive is None else drive.kind for drive in self.drives]

    def reset(self) -> None:
        """RESET: everything."""
        self.dor = 0
        self.tape = 0
        self.locked = False
        self.perpendicular = 0
        self.specified = [0, 0]
        for drive in self.drives:
            if drive is not None:
                drive.track, drive.changed = 0, True
        self._reset(interrupt=False)

    def _reset(self, *, interrupt: bool) -> None:
        """Also what DOR and DSR do."""
        self._generation += 1
        self.dsr, self.rate = 2, 2
        self.phase = Phase.COMMAND
        self.fifo: list[int] = []
        self.result: list[int] = []
        self.data = bytearray()  # of a command without DMA
        self._wanted = 0
        self._taken: Callable[[bytes], None] | None = None
        self.seeks: list[int] = []  # status 0 of seeks that ended
        if not self.locked:
            self.configured = [0, FIFO_OFF, 0]
        self.resets = DRIVES if interrupt else 0
        self.pending = interrupt
        self._sync()

    def _sync(self) -> None:
        self.irq.set(self.pending and bool(self.dor & Dor.DMA_GATE))

    def _interrupt(self) -> None:
        self.pending = True
        self._sync()

    # --- registers -----------------------------------------------------------------------------

    def read(self, reg: int) -> int:
        """A byte register."""
        match reg:
            case Reg.SRA:
                return 0x80 if self.pending else 0
            case Reg.SRB:
                return 0xC0 | (self.dor & 1) << 5 | self.dor >> 4 & 3
            case Reg.DOR:
                return self.dor
            case Reg.TDR:
                return self.tape
            case Reg.MSR:
                return self._main_status()
            case Reg.FIFO:
                return self._read_fifo()
            case Reg.DIR:
                return self._digital_input()
        return 0

    def write(self, reg: int, value: int) -> None:
        """A byte register."""
        match reg:
            case Reg.DOR:
                self._write_output(value)
            case Reg.TDR:
                self.tape = value & 3
            case Reg.DSR:
                if value & SOFT_RESET:
                    self._reset(interrupt=True)
                self.dsr, self.rate = value & 0x7F, value & 3
            case Reg.FIFO if self.dor & Dor.RUN:
                self._write_fifo(value)
            case Reg.CCR:
                self.rate = value & 3
        self._sync()

    def _write_output(self, value: int) -> None:
        before, self.dor = self.dor, value
        if before & Dor.RUN and not value & Dor.RUN:
            self._reset(interrupt=False)
        elif value & Dor.RUN and not before & Dor.RUN:
            self._reset(interrupt=True)

    def _main_status(self) -> int:
        if not self.dor & Dor.RUN:
            return 0
        if self.phase is Phase.RESULT:
            return Msr.READY | Msr.TO_HOST | Msr.BUSY
        if self.phase is Phase.COMMAND:
            return Msr.READY | (Msr.BUSY if self.fifo else 0)
        if self._taken is not None:
            return Msr.READY | Msr.NON_DMA | Msr.BUSY
        if self.data:
            return Msr.READY | Msr.TO_HOST | Msr.NON_DMA | Msr.BUSY
        return Msr.BUSY | 0

    def _digital_input(self) -> int:
        """The selected drive's disk change line, while its motor runs."""
        unit = self.dor & 3
        drive = self._drive(unit)
        turning = self.dor >> 4 + unit & 1
        return DISK_CHANGE if turning and (drive is None or drive.changed) else 0

    def _drive(self, unit: int) -> FloppyDrive | None:
        return self.drives[unit] if unit < UNITS else None

    # --- the FIFO ------------------------------------------------------------------------------

    def _read_fifo(self) -> int:
        if self.phase is Phase.EXECUTION and self.data and self._taken is None:
            value = self.data.pop(0)
            if not self.data:
                self.data_read()
            return value
        if self.phase is not Phase.RESULT:
            return 0
        self.pending = False
        self._sync()
        value = self.result.pop(0)
        if not self.result:
            self.phase = Phase.COMMAND
        return value

    def _write_fifo(self, value: int) -> None:
        if self.phase is Phase.EXECUTION and self._taken is not None:
            self.data.append(value)
            if len(self.data) >= self._wanted:
                taken, self._taken = self._taken, None
                data, self.data = bytes(self.data), bytearray()
                taken(data)
        elif self.phase is Phase.COMMAND:
            self.pending = False
            self.fifo.append(value)
            if len(self.fifo) > self._parameters():
                fifo, self.fifo = self.fifo, []
                self.phase = Phase.EXECUTION
                self._execute(fifo)

    def _parameters(self) -> int:
        command = _known(self.fifo[0])
        return 0 if command is None else PARAMETERS[command]

    def _execute(self, fifo: list[int]) -> None:
        command = _known(fifo[0])
        if command is None:
            self._answer(St0.INVALID)
        elif command in _SIMPLE:
            _SIMPLE[command](self, fifo)
        else:
            self.move(command, fifo)

    @abstractmethod
    def move(self, command: Command, fifo: list[int]) -> None:
        """A command that moves data."""

    @abstractmethod
    def data_read(self) -> None:
        """The processor took all of it."""

    def _answer(self, *result: int) -> None:
        """The result phase of a command without an interrupt."""
        self.result = [int(byte) for byte in result]
        self.phase = Phase.RESULT if self.result else Phase.COMMAND

    # --- settings and status -------------------------------------------------------------------

    def _specify(self, fifo: list[int]) -> None:
        self.specified = fifo[1:]
        self._answer()

    def _configure(self, fifo: list[int]) -> None:
        self.configured = fifo[1:]
        self._answer()

    def _set_perpendicular(self, fifo: list[int]) -> None:
        self.perpendicular = fifo[1]
        self._answer()

    def _lock(self, fifo: list[int]) -> None:
        self.locked = bool(fifo[0] & 0x80)
        self._answer(self.locked << 4)

    def _version(self, _: list[int]) -> None:
        self._answer(VERSION)

    def _part(self, _: list[int]) -> None:
        self._answer(PART)

    def _dump(self, _: list[int]) -> None:
        tracks = [0 if drive is None else drive.track for drive in self.drives]
        lock = self.locked << 7 | self.perpendicular & 0x7F
        self._answer(*tracks, 0, 0, *self.specified, 0, lock, *self.configured[1:])

    def _sense_drive(self, fifo: list[int]) -> None:
        unit, drive = fifo[1] & 3, self._drive(fifo[1] & 3)
        status = 0x28 | fifo[1] & 7
        if drive is not None:
            status |= (0x10 if not drive.track else 0) | (0x40 if drive.read_only else 0)
        self._answer(status if unit < UNITS else fifo[1] & 7)

    def _sense_interrupt(self, _: list[int]) -> None:
        self.pending = False
        if self.resets:
            unit = DRIVES - self.resets
            self.resets -= 1
            status: int = St0.POLLING | unit
        elif self.seeks:
            status = self.seeks.pop(0)
        else:
            self._answer(St0.INVALID)
            return
        drive = self._drive(status & 3)
        self._answer(status, 0 if drive is None else drive.track)

    # --- the head ------------------------------------------------------------------------------

    def _seek(self, fifo: list[int]) -> None:
        drive = self._drive(fifo[1] & 3)
        track = fifo[2]
        if fifo[0] & 0x80 and drive is not None:  # RELATIVE SEEK
            track = max(0, drive.track + (track if fifo[0] & 0x40 else -track))
        self._go(fifo[1], track)

    def _recalibrate(self, fifo: list[int]) -> None:
        self._go(fifo[1] & 3, 0)

    def _go(self, where: int, track: int) -> None:
        drive = self._drive(where & 3)
        status = St0.SEEK_END | where & 7
        if drive is None:
            status |= St0.ABNORMAL | St0.EQUIPMENT_CHECK
        else:
            drive.seek(track)
        self.resets = 0
        self.seeks.append(status)
        del self.seeks[:-DRIVES]
        self._answer()
        self._interrupt()


def _known(first: int) -> Command | None:
    """The command of a first byte; None for what is none."""
    code = first & ~MODIFIERS
    if code not in PARAMETERS:
        return None
    command = Command(code)
    return command if not first & MODIFIERS & ~FULL_OPCODE.get(command, 0) else None


_SIMPLE: Final[dict[Command, Callable[[FdcFront, list[int]], None]]] = {
    Command.SPECIFY: FdcFront._specify, Command.SENSE_DRIVE: FdcFront._sense_drive,
    Command.RECALIBRATE: FdcFront._recalibrate, Command.SENSE_INTERRUPT: FdcFront._sense_interrupt,
    Command.DUMP: FdcFront._dump, Command.SEEK: FdcFront._seek, Command.VERSION: FdcFront._version,
    Command.PERPENDICULAR: FdcFront._set_perpendicular, Command.CONFIGURE: FdcFront._configure,
    Command.LOCK: FdcFront._lock, Command.PART_ID: FdcFront._part,
}  # fmt: skip
