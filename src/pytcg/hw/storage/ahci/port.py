"""A port with its drive: the command list is fetched, run, and answered by FISes (AHCI 1.3.1, 5).

The drive is one of an IDE cable's: the port writes its registers, moves its data by the command's
regions, and turns the end of a command into a FIS. Queued commands go to the disk's medium side by
side. A command that fails stops the port until software restarts it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import partial
from typing import Final

from pytcg.hw.pci.device import DmaError, PciDevice
from pytcg.hw.state import State
from pytcg.hw.storage.ahci import fis
from pytcg.hw.storage.ahci.port_registers import PortRegisters
from pytcg.hw.storage.ahci.queued import QUEUED, QueuedCommand
from pytcg.hw.storage.ahci.regions import Regions
from pytcg.hw.storage.ahci.regs import (
    HEADER,
    SLOTS,
    SOFT_RESET,
    TABLE_PACKET,
    Cmd,
    Header,
    HostFis,
    Irq,
    Received,
)
from pytcg.hw.storage.ata import Error
from pytcg.hw.storage.ata_drive import AtaDrive
from pytcg.hw.storage.atapi_drive import PACKET_LENGTH, AtapiDrive
from pytcg.hw.storage.ide_drive import IdeDrive, Reg, Status

MOVES: Final = 1 << 20  # data phases of a command, at the most


class AhciPort(PortRegisters):
    """A port; a drive is plugged in before the machine starts."""

    def __init__(self, card: PciDevice, on_interrupt: Callable[[], None]) -> None:
        self._card = card
        self._generation = 0
        self._regions = Regions(card)
        self._queued: set[int] = set()
        self._serving = False
        super().__init__(on_interrupt)

    def connect(self, drive: IdeDrive) -> None:
        """Plug a drive in."""
        self.drive = drive
        drive.cable = self
        self.reset()

    def forget(self) -> None:
        if self.current >= 0 and self.drive is not None:
            self.drive.reset()
            self.task_file &= ~Status.BSY
        super().forget()
        self._generation += 1
        self._queued.clear()

    def reset_drive(self) -> None:
        if self.drive is not None:
            self.drive.reset()
            self.error = 0
            self.greeting = True
            self.greet()

    def greet(self) -> None:
        if self.greeting and self.cmd & Cmd.RECEIVE and self.drive is not None:
            self.greeting = False
            self._answer(interrupt=False)
            low, mid, high = (held[0] for held in self.drive.lba)
            self.signature = self.drive.count[0] | low << 8 | mid << 16 | high << 24

    # --- commands ------------------------------------------------------------------------------

    @property
    def _ready(self) -> bool:
        idle = self.current < 0 and not self.task_file & (Status.BSY | Status.DRQ)
        runs = self.cmd & Cmd.START and not self.halted
        return bool(runs) and idle and self.drive is not None

    def advance(self) -> None:
        """Start what is issued: queued commands beside each other, others alone."""
        for slot in range(SLOTS):
            if not self._ready:
                return
            if self.issued >> slot & 1:
                try:
                    self._start(slot)
                except DmaError:
                    self._fail(Irq.HOST_BUS_FATAL)

    def _start(self, slot: int) -> None:
        raw = self._card.dma_read(self.list_base + slot * HEADER, HEADER)
        header = Header.parse(raw)
        task = HostFis.parse(self._card.dma_read(header.table, 20))
        if task is None or header.fis_length < 16:
            self._fail(Irq.HOST_BUS_FATAL)
            return
        if not task.is_command:
            self.issued &= ~(1 << slot)
            self._control_register(task.control)
        elif task.command in QUEUED and isinstance(self.drive, AtaDrive):
            self._start_queued(self.drive, slot, task, header)
        elif not self._queued:
            self.current = slot
            self._regions.open(header)
            self._run(task)

    def _control_register(self, value: int) -> None:
        if value & SOFT_RESET:
            self.resetting = True
        elif self.resetting:
            self.resetting = False
            self.reset_drive()

    def _run(self, task: HostFis) -> None:
        """Write the drive's registers, as the FIS has them, and see what it does."""
        drive = self.drive
        assert drive is not None
        for half in (1, 0):  # the older byte of the two first
            shift = 8 * half
            drive.write(Reg.FEATURES, task.feature >> shift & 0xFF)
            drive.write(Reg.COUNT, task.count >> shift & 0xFF)
            for number, reg in enumerate((Reg.LBA_LOW, Reg.LBA_MID, Reg.LBA_HIGH)):
                drive.write(reg, task.lba >> 24 * half + 8 * number & 0xFF)
        drive.write(Reg.DEVICE, task.device & 0x4F)
        self.task_file |= Status.BSY
        self._serving = True
        drive.command(task.command)
        self._serving = False
        self._serve()

    # --- the drive's side ----------------------------------------------------------------------

    def sync(self) -> None:
        """INTRQ changed: a phase or the command ended."""
        self._serve()

    def dma_request(self) -> None:
        """It waits for data, or for room."""
        self._serve()

    def _serve(self) -> None:
        """Move what the drive wants moved, until it is busy or has ended."""
        drive = self.drive
        if self._serving or drive is None or self.current < 0:
            return
        self._serving = True
        try:
            for _ in range(MOVES):
                if drive.status & Status.BSY or self.current < 0:
                    break
                if drive.dma is not None:
                    self._move_dma(drive)
                elif drive.status & Status.DRQ:
                    self._move_pio(drive)
                else:
                    self._ended(drive)
        except DmaError:
            self._abort(drive)
        finally:
            self._serving = False
        if self.current < 0:
            self.advance()

    def _abort(self, drive: IdeDrive) -> None:
        drive.reset()
        self.task_file = Error.ABRT << 8 | Status.DRDY | Status.DSC | Status.ERR
        self._fail(Irq.HOST_BUS_DATA)

    def _move_dma(self, drive: IdeDrive) -> None:
        state = drive.dma
        assert state is not None
        if state.exchange is not None:
            if drive.exchange(self._regions.map(state.length)):
                self._regions.skip(state.length)
                drive.dma_done(b"")
                return
            if drive.dma is not state:  # it has to fetch its data first
                return
        if state.data is None:
            data = self._regions.gather(state.length)
            if len(data) < state.length:
                self._regions.overflow = True
                drive.dma_failed()
            else:
                drive.dma_done(data)
        else:
            self._regions.scatter(state.data)
            drive.dma_done(b"")

    def _move_pio(self, drive: IdeDrive) -> None:
        """A block by the data register."""
        length = drive.room
        if not drive.takes_data:
            self._receive(Received.PIO_SETUP, fis.pio_setup(drive, length))
            self.irq |= Irq.PIO_SETUP
            self._regions.scatter(drive.read_run(1, length))
        elif isinstance(drive, AtapiDrive) and drive.wants_packet:
            table = self._regions.table
            drive.write_run(self._card.dma_read(table + TABLE_PACKET, PACKET_LENGTH), 1)
        else:
            data = self._regions.gather(length).ljust(length, b"\0")
            drive.write_run(data, 1)

    def _ended(self, drive: IdeDrive) -> None:
        slot = self.current
        self.current = -1
        where = self.list_base + slot * HEADER + 4
        self._card.dma_write(where, struct.pack("<L", self._regions.moved))
        self.issued &= ~(1 << slot)
        if self._regions.overflow:
            self.irq |= Irq.OVERFLOW
        drive.irq = False
        self._answer(interrupt=True)

    # --- FISes ---------------------------------------------------------------------------------

    def _answer(self, *, interrupt: bool) -> None:
        """The drive's registers go to the host."""
        drive = self.drive
        assert drive is not None
        raw = fis.device_to_host(drive, interrupt=interrupt)
        self._receive(Received.DEVICE_TO_HOST, raw)
        self.task_file = drive.error << 8 | drive.status
        if interrupt:
            self.halted = bool(drive.status & Status.ERR)
            self.irq |= Irq.DEVICE_TO_HOST | (Irq.TASK_FILE_ERROR if self.halted else 0)
            self.on_interrupt()

    def _receive(self, place: int, raw: bytes) -> None:
        if self.cmd & Cmd.RECEIVE:
            try:
                self._card.dma_write(self.fis_base + place, raw)
            except DmaError:
                self.irq |= Irq.HOST_BUS_FATAL

    def _fail(self, why: int) -> None:
        """The HBA's own error: software has to restart the port."""
        self.current = -1
        self.halted = True
        self.irq |= why
        self.on_interrupt()

    # --- queued commands -----------------------------------------------------------------------

    def _start_queued(self, drive: AtaDrive, slot: int, task: HostFis, header: Header) -> None:
        tag, bit = task.count >> 3 & 31, 1 << slot
        if tag != slot or tag in self._queued:
            self._fail(Irq.HOST_BUS_FATAL)
            return
        self.issued &= ~bit
        self.active |= bit
        self._queued.add(tag)
        regions, generation = Regions(self._card), self._generation
        regions.open(header)
        command = QueuedCommand(drive.disk, regions, task, lambda: generation == self._generation)
        command.run(partial(self._ended_queued, tag))

    def _ended_queued(self, tag: int, error: int) -> None:
        """A queued command ended; where it failed, all others of the queue are void."""
        status = Status.DRDY | Status.DSC | (Status.ERR if error else 0)
        self._queued.discard(tag)
        done = 0 if error else 1 << tag
        self.active &= ~done
        self._receive(Received.SET_DEVICE_BITS, fis.set_device_bits(status, error, done))
        self.task_file = error << 8 | status
        if error:
            self._generation += 1
            self._queued.clear()
            self.halted = True
        self.irq |= Irq.SET_DEVICE_BITS | (Irq.TASK_FILE_ERROR if error else 0)
        self.on_interrupt()
        self.advance()

    def restore(self, state: State) -> None:
        self._generation += 1
        self._queued.clear()
        super().restore(state)
