"""An IDE channel: two drives on one cable, and the registers that reach the selected one."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntFlag
from typing import Final

from pytcg.hw.bits import register_bits
from pytcg.hw.line import Line
from pytcg.hw.state import State, StateError, load, save
from pytcg.hw.storage.ide_drive import EXECUTE_DIAGNOSTIC, SLAVE, IdeDrive, Reg, Status

FLOATING: Final = 0x7F  # DD7 is pulled down: an empty channel never looks busy
UNITS: Final = 2


@register_bits
class Control(IntFlag):
    """The device control register."""

    NIEN = 0x02
    SRST = 0x04
    HOB = 0x80


class IdeChannel:
    """`irq` is INTRQ; ``on_dma`` hears that a drive wants, or no longer wants, the bus master."""

    def __init__(self) -> None:
        self.drives: list[IdeDrive | None] = [None] * UNITS
        self.irq = Line()
        self.on_dma: Callable[[], None] | None = None
        self.select = 0
        self.control = 0

    def connect(self, unit: int, drive: IdeDrive) -> None:
        """Put a drive on the cable: unit 0 is the master."""
        self.drives[unit] = drive
        drive.cable = self

    def reset(self) -> None:
        """RESET-."""
        self.select = self.control = 0
        for drive in self.drives:
            if drive is not None:
                drive.reset()
        self.sync()

    @property
    def selected(self) -> IdeDrive | None:
        """Who answers."""
        return self.drives[self.select]

    def sync(self) -> None:
        """INTRQ as the selected drive has it."""
        drive = self.selected
        enabled = not self.control & Control.NIEN
        self.irq.set(bool(drive is not None and drive.irq and enabled))

    def dma_request(self) -> None:
        """A drive waits for the bus master."""
        if self.on_dma is not None:
            self.on_dma()

    # --- registers -----------------------------------------------------------------------------

    def read(self, reg: int) -> int:
        """A byte of the command block but DATA."""
        if self.drives == [None] * UNITS:
            return FLOATING
        drive = self.selected
        if drive is None:  # the master answers for a missing slave: nothing is there
            return 0
        if reg == Reg.STATUS:
            return drive.acknowledge()
        return drive.read(reg, previous=bool(self.control & Control.HOB))

    def write(self, reg: int, value: int) -> None:
        """A byte of the command block but DATA: both drives hear all but the command."""
        self.control &= ~Control.HOB
        if reg == Reg.COMMAND:
            self._command(value)
            return
        if reg == Reg.DEVICE:
            self.select = int(bool(value & SLAVE))
        for drive in self.drives:
            if drive is not None:
                drive.write(reg, value)
        self.sync()

    def _command(self, value: int) -> None:
        if value == EXECUTE_DIAGNOSTIC:
            self.select = 0
            for drive in self.drives:
                if drive is not None:
                    drive.write(Reg.DEVICE, 0)
                    drive.command(value)
        elif self.selected is not None:
            self.selected.command(value)

    def read_data(self, size: int) -> int:
        """The data register."""
        drive = self.selected
        return (1 << size * 8) - 1 if drive is None else drive.read_data(size)

    def write_data(self, size: int, value: int) -> None:
        """The data register."""
        if self.selected is not None:
            self.selected.write_data(value, size)

    def read_run(self, size: int, count: int) -> bytes:
        """``count`` reads of the data register."""
        drive = self.selected
        return b"\xff" * (size * count) if drive is None else drive.read_run(size, count)

    def write_run(self, size: int, data: bytes) -> None:
        """Writes of the data register."""
        if self.selected is not None:
            self.selected.write_run(data, size)

    def read_alternate(self) -> int:
        """The alternate status register: it leaves the interrupt alone."""
        if self.drives == [None] * UNITS:
            return FLOATING
        return 0 if self.selected is None else self.selected.status

    def write_control(self, value: int) -> None:
        """The device control register; SRST resets the drives when it goes up, busy until down."""
        before, self.control = self.control, value
        if value & ~before & Control.SRST:
            for drive in filter(None, self.drives):
                drive.reset()
                drive.status = Status.BSY
            self.select = 0
        elif before & ~value & Control.SRST:
            for drive in filter(None, self.drives):
                drive.status = drive.idle_status()
        self.sync()

    def state(self) -> State:
        drives = [None if drive is None else drive.state() for drive in self.drives]
        return save(self, 1, ("select", "control")) | {"drives": drives}

    def restore(self, state: State) -> None:
        load(self, state, 1, ("select", "control"))
        saved = state.get("drives", [])
        if [drive is None for drive in self.drives] != [each is None for each in saved]:
            raise StateError("IdeChannel: other drives than the saved machine has")
        for drive, each in zip(self.drives, saved, strict=True):
            if drive is not None:
                drive.restore(each)
        self.sync()
