"""Intel 82077AA: the floppy disk controller (datasheet 290166).

Seeks and rotation take no time. A command's data is moved at once: by the DMA channel up to its
terminal count, or through the FIFO where SPECIFY chose so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from pytcg.hw.state import State, load, save
from pytcg.hw.storage.floppy import transfer
from pytcg.hw.storage.floppy.drive import SECTOR, FloppyDrive
from pytcg.hw.storage.floppy.front import MODIFIERS, FdcFront, Phase
from pytcg.hw.storage.floppy.regs import IMPLIED_SEEK, MULTI_TRACK, Command, Dor, St0, St1
from pytcg.hw.storage.floppy.transfer import Channel, NotFound, Place


class Fdc82077(FdcFront):
    """``channel`` is its DMA channel."""

    _FIELDS = ("dor", "dsr", "rate", "tape", "phase", "fifo", "result", "data", "resets", "seeks",
               "specified", "configured", "perpendicular", "locked", "pending")  # fmt: skip

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._then = 0, Place(0, 0, 1, 1, multi_track=False)  # behind what the processor reads
        super().__init__()

    def move(self, command: Command, fifo: list[int]) -> None:
        _HANDLERS[command](self, fifo)

    # --- data ----------------------------------------------------------------------------------

    def _read_id(self, fifo: list[int]) -> None:
        drive, head = self._drive(fifo[1] & 3), fifo[1] >> 2 & 1
        place = Place(0 if drive is None else drive.track, head, 1, 1, multi_track=False)
        try:
            transfer.check(drive, self.rate, place.cylinder, transfer.CODE_512)
            if drive is None or drive.offset(head, 1) is None:
                raise NotFound(St1.MISSING_MARK)
        except NotFound as reason:
            self._fail(fifo[1], place, reason.st1, reason.st2)
            return
        self._end(fifo[1], place)

    def _begin(self, fifo: list[int]) -> tuple[FloppyDrive, Place] | None:
        """What a command with sectors works on; None where it has failed already."""
        drive = self._drive(fifo[1] & 3)
        place = Place(fifo[2], fifo[3] & 1, fifo[4], fifo[6], bool(fifo[0] & MULTI_TRACK))
        if drive is not None and self.configured[1] & IMPLIED_SEEK:
            drive.seek(fifo[2])
        try:
            return transfer.check(drive, self.rate, fifo[2], fifo[5]), place
        except NotFound as reason:
            self._fail(fifo[1], place, reason.st1, reason.st2)
            return None

    @property
    def _uses_dma(self) -> bool:
        return not self.specified[1] & 1 and bool(self.dor & Dor.DMA_GATE)

    def _room(self, place: Place) -> int:
        """Bytes up to the end: the terminal count, or the cylinder's end."""
        left = (place.last - place.sector & 0xFF) + 1
        if place.multi_track and not place.head:
            left += place.last
        return min(self._channel.room(), left * SECTOR) if self._uses_dma else left * SECTOR

    def _read(self, fifo: list[int]) -> None:
        begun = self._begin(fifo)
        if begun is None:
            return
        drive, place = begun
        if fifo[0] & ~MODIFIERS == Command.READ_TRACK:
            place.sector = 1
        generation = self._generation
        try:
            where = transfer.pieces(drive, place, self._room(place))
        except NotFound as reason:
            self._fail(fifo[1], place, reason.st1, reason.st2)
            return

        def done(data: bytes, errno: int) -> None:
            if generation != self._generation:
                return
            if errno:
                self._fail(fifo[1], place, St1.DATA_ERROR)
            elif fifo[0] & ~MODIFIERS == Command.VERIFY:
                self._end(fifo[1], place)
            elif self._uses_dma:
                _, complete = self._channel.receive(data)
                self._moved(fifo[1], place, complete=complete)
            else:
                self._then = fifo[1], place
                self.data = bytearray(data)
                self._interrupt()

        transfer.read(drive, where, done)

    def data_read(self) -> None:
        where, place = self._then
        self._moved(where, place, complete=False)

    def _moved(self, where: int, place: Place, *, complete: bool) -> None:
        if complete:
            self._end(where, place)
        elif place.ended:
            self._fail(where, place, St1.END_OF_CYLINDER)
        else:  # DMA that wasn't set up, or sectors that aren't there
            self._fail(where, place, St1.OVERRUN)

    def _write(self, fifo: list[int]) -> None:
        begun = self._begin(fifo)
        if begun is None:
            return
        drive, place = begun
        if drive.read_only:
            self._fail(fifo[1], place, St1.NOT_WRITABLE)
            return
        length = self._room(place)
        if self._uses_dma:
            data, complete = self._channel.send(length)
            self._store(fifo[1], drive, place, data, complete=complete)
        else:
            self._wanted = length
            self._taken = lambda data: self._store(fifo[1], drive, place, data, complete=False)
            self._interrupt()

    def _store(self, unit: int, drive: FloppyDrive, place: Place, data: bytes, *,
               complete: bool) -> None:  # fmt: skip
        generation = self._generation
        try:
            where = transfer.pieces(drive, place, len(data))
        except NotFound as reason:
            self._fail(unit, place, reason.st1, reason.st2)
            return

        def done(_: bytes, errno: int) -> None:
            if generation != self._generation:
                return
            if errno:
                self._fail(unit, place, St1.DATA_ERROR)
            else:
                self._moved(unit, place, complete=complete)

        transfer.write(drive, where, data, done)

    def _format(self, fifo: list[int]) -> None:
        """FORMAT TRACK: four bytes a sector, C, H, R and N; each is filled with the last byte."""
        unit, count, filler = fifo[1], fifo[3], fifo[5]
        drive, head = self._drive(unit & 3), fifo[1] >> 2 & 1
        place = Place(0 if drive is None else drive.track, head, 1, count, multi_track=False)
        try:
            found = transfer.check(drive, self.rate, place.cylinder, fifo[2])
        except NotFound as reason:
            self._fail(unit, place, reason.st1, reason.st2)
            return
        if found.read_only:
            self._fail(unit, place, St1.NOT_WRITABLE)
        elif self._uses_dma:
            self._channel.send(4 * count)
            self._store(unit, found, place, bytes([filler]) * (count * SECTOR), complete=True)
        else:
            self._wanted = 4 * count
            self._taken = lambda _: self._store(
                unit, found, place, bytes([filler]) * (count * SECTOR), complete=True)  # fmt: skip
            self._interrupt()

    def _end(self, where: int, place: Place, st0: int = 0, st1: int = 0, st2: int = 0) -> None:
        """The result phase of a command with sectors."""
        self.data.clear()
        self._taken = None
        self._answer(st0 | where & 3 | place.head << 2, st1, st2, place.cylinder, place.head,
                     place.sector, transfer.CODE_512)  # fmt: skip
        self._interrupt()

    def _fail(self, where: int, place: Place, st1: int, st2: int = 0) -> None:
        self._end(where, place, St0.ABNORMAL, st1, st2)

    # --- saved state ---------------------------------------------------------------------------

    def state(self) -> State:
        """A command whose data goes through the FIFO is given up."""
        drives = [None if drive is None else drive.state() for drive in self.drives]
        return save(self, 1, self._FIELDS) | {"drives": drives}

    def restore(self, state: State) -> None:
        load(self, state, 1, self._FIELDS)
        self._generation += 1
        self._taken = None
        for drive, saved in zip(self.drives, state["drives"], strict=True):
            if drive is not None and saved is not None:
                drive.restore(saved)
        if self.phase is Phase.EXECUTION:
            self._fail(self.dor, Place(0, 0, 1, 1, multi_track=False), St1.OVERRUN)
        self._sync()


_HANDLERS: Final[dict[Command, Callable[[Fdc82077, list[int]], None]]] = {
    Command.READ: Fdc82077._read, Command.READ_DELETED: Fdc82077._read,
    Command.READ_TRACK: Fdc82077._read, Command.VERIFY: Fdc82077._read,
    Command.READ_ID: Fdc82077._read_id, Command.WRITE: Fdc82077._write,
    Command.WRITE_DELETED: Fdc82077._write, Command.FORMAT: Fdc82077._format,
}  # fmt: skip
