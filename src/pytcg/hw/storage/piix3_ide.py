"""Intel 82371SB (PIIX3), function 1: two IDE channels with bus masters (datasheet 290550, 2.3)."""

from __future__ import annotations

import struct
from enum import IntEnum, IntFlag
from typing import Final

from pytcg.hw.bits import register_bits
from pytcg.hw.pci import config as pci
from pytcg.hw.pci.bar import BarType
from pytcg.hw.pci.device import DmaError, Identity, PciDevice
from pytcg.hw.state import State, load, save
from pytcg.hw.storage.ide_channel import IdeChannel
from pytcg.hw.storage.ide_drive import DmaState, IdeDrive

CHANNELS: Final = 2
IDETIM: Final = 0x40  # configuration: timing and decode enable of each channel
IDETIM_BITS: Final = 0xFFFFFFFF
DECODE: Final = 0x8000
END_OF_TABLE: Final = 0x80000000
SPAN: Final = 0x10000
ENTRY: Final = struct.Struct("<LL")
PAGE: Final = 4096
AHEAD: Final = 64 * ENTRY.size


class BusReg(IntEnum):
    """Bus master registers of one channel."""

    COMMAND = 0
    STATUS = 2
    TABLE = 4


@register_bits
class BusCommand(IntFlag):
    """Bus master IDE command."""

    START = 0x01
    TO_MEMORY = 0x08


@register_bits
class BusStatus(IntFlag):
    """Bus master IDE status."""

    ACTIVE = 0x01
    ERROR = 0x02
    INTERRUPT = 0x04
    CAPABLE = 0x60  # software's own bits


class Spans:
    """A physical region descriptor table, read as it is needed."""

    def __init__(self, device: PciDevice, table: int) -> None:
        self._device = device
        self._next = table
        self.ended = False

    def take(self, length: int) -> list[tuple[int, int]]:
        """(address, length) pieces of so many bytes, fewer if the table ends; DmaError."""
        pieces = []
        while length and not self.ended:
            for address, count in ENTRY.iter_unpack(self._page()):
                self._next += ENTRY.size
                self.ended = bool(count & END_OF_TABLE)
                span = count & 0xFFFE or SPAN
                step = min(span, length)
                pieces.append((address & ~1, step))
                length -= step
                self.longer = span > step
                if self.ended or not length:
                    break
        return pieces

    def _page(self) -> bytes:
        """The next entries, as far as memory is there if the first is."""
        room = PAGE - self._next % PAGE
        return self._device.dma_read(self._next, min(room & -ENTRY.size, AHEAD) or ENTRY.size)

    longer = False  # the last piece's region goes on


class BusMaster:
    """One channel's DMA engine."""

    FIELDS = ("command", "status", "table")

    def __init__(self, device: PciDevice, channel: IdeChannel) -> None:
        self._device = device
        self.channel = channel
        channel.on_dma = self.pump
        channel.irq.connect(self._interrupt)
        self.command = self.status = self.table = 0

    def reset(self) -> None:
        """RST#."""
        self.command = self.status = self.table = 0

    def _interrupt(self, level: bool) -> None:
        if level:
            self.status |= BusStatus.INTERRUPT

    def read(self, reg: int, size: int) -> int:
        """Registers 0 to 7."""
        raw = struct.pack("<BBBBL", self.command, 0, self.status, 0, self.table)
        return int.from_bytes(raw[reg : reg + size], "little")

    def write(self, reg: int, size: int, value: int) -> None:
        """Registers 0 to 7."""
        for at, byte in enumerate(value.to_bytes(size, "little"), reg):
            if at == BusReg.COMMAND:
                self._write_command(byte)
            elif at == BusReg.STATUS:
                self._write_status(byte)
            elif at >= BusReg.TABLE:
                shift = (at - BusReg.TABLE) * 8
                self.table = (self.table & ~(0xFF << shift) | byte << shift) & 0xFFFFFFFC

    def _write_command(self, value: int) -> None:
        started = value & ~self.command & BusCommand.START
        self.command = value & (BusCommand.START | BusCommand.TO_MEMORY)
        if started:
            self.status |= BusStatus.ACTIVE
            self.pump()
        elif not value & BusCommand.START:
            self.status &= ~BusStatus.ACTIVE

    def _write_status(self, value: int) -> None:
        kept = self.status & ~BusStatus.CAPABLE
        kept &= ~(value & (BusStatus.INTERRUPT | BusStatus.ERROR))
        self.status = kept | value & BusStatus.CAPABLE

    def pump(self) -> None:
        """Move what a drive waits for, if software has started the engine."""
        if not self.status & BusStatus.ACTIVE:
            return
        for drive in self.channel.drives:
            if drive is not None and drive.dma is not None:
                self._serve(drive, drive.dma)

    def _serve(self, drive: IdeDrive, state: DmaState) -> None:
        spans, moved = Spans(self._device, self.table), None
        try:
            pieces = spans.take(state.length)
            complete = sum(length for _, length in pieces) == state.length
            if state.exchange is not None:
                if drive.exchange(self._device.dma_map(pieces) if complete else None):
                    moved = b""
                elif drive.dma is not state:  # it has to fetch its data first
                    return
            if moved is None:
                data = self._move(state, pieces)
                moved = data if complete else None
            used = spans.ended and not spans.longer
        except DmaError:
            self.status |= BusStatus.ERROR
            moved, used = None, True
        if used:
            self.status &= ~BusStatus.ACTIVE
        if moved is None:
            drive.dma_failed()
        else:
            drive.dma_done(moved)

    def _move(self, state: DmaState, pieces: list[tuple[int, int]]) -> bytes:
        """The data that went OUT."""
        if state.data is None:
            return b"".join(self._device.dma_read(address, length) for address, length in pieces)
        at = 0
        for address, length in pieces:
            self._device.dma_write(address, state.data[at : at + length])
            at += length
        return b""


class Piix3Ide(PciDevice):
    """`channels[n]` answer at the legacy ports.

    Whatever IDETIM's decode bits and the command register say: QEMU's do, and OVMF relies on it.
    """

    identity = Identity(0x8086, 0x7010, class_code=0x010180)

    def __init__(self) -> None:
        super().__init__()
        self.channels = [IdeChannel() for _ in range(CHANNELS)]
        self.masters = [BusMaster(self, channel) for channel in self.channels]
        self.config.define(pci.Reg.STATUS, 2, 0x0280, clearable=pci.Status.ERRORS)
        self.config.define(IDETIM, 4, writable=IDETIM_BITS)
        self.add_bar(4, 16, BarType.IO, self._read, self._write)

    def reset(self) -> None:
        super().reset()
        for master in self.masters:
            master.reset()
        for channel in self.channels:
            channel.reset()

    def set_up(self) -> None:
        """What firmware leaves behind: ports and bus mastering on."""
        self.write_config(IDETIM, 4, DECODE | DECODE << 16)
        self.write_config(pci.Reg.COMMAND, 2, pci.Command.IO | pci.Command.BUS_MASTER)

    def _read(self, offset: int, size: int) -> int:
        return self.masters[offset >> 3].read(offset & 7, size)

    def _write(self, offset: int, size: int, value: int) -> None:
        self.masters[offset >> 3].write(offset & 7, size, value)

    def state(self) -> State:
        channels = [channel.state() for channel in self.channels]
        masters = [save(master, 1, BusMaster.FIELDS) for master in self.masters]
        return super().state() | {"channels": channels, "masters": masters}

    def restore(self, state: State) -> None:
        super().restore(state)
        for channel, saved in zip(self.channels, state["channels"], strict=True):
            channel.restore(saved)
        for master, saved in zip(self.masters, state["masters"], strict=True):
            load(master, saved, 1, BusMaster.FIELDS)
