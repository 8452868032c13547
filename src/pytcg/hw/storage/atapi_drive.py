"""A packet device on an IDE cable: SCSI commands behind the PACKET command (ATA/ATAPI-7, 6.25)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from pytcg.hw.state import State, load, save
from pytcg.hw.storage.ata import Error, Taskfile
from pytcg.hw.storage.ata_identify import DiskIdentity, identify_packet
from pytcg.hw.storage.ide_drive import IdeDrive
from pytcg.hw.storage.scsi.unit import Request, Response, ScsiUnit

PACKET: Final = 0xA0
IDENTIFY_DEVICE: Final = 0xEC
IDENTIFY_PACKET_DEVICE: Final = 0xA1
DEVICE_RESET: Final = 0x08
SET_FEATURES: Final = 0xEF
POWER: Final = (0xE0, 0xE1, 0xE2, 0xE3, 0xE6)
CHECK_POWER_MODE: Final = 0xE5
PACKET_LENGTH: Final = 12
DMA: Final = 0x01  # in the features register
COMMAND_PHASE: Final = 1  # interrupt reason, in the count register: C/D
TO_HOST: Final = 2  # I/O
MAX_BLOCK: Final = 0xFFFE


class AtapiDrive(IdeDrive):
    """The registers in front of a `ScsiUnit`."""

    signature = (0x14, 0xEB)

    def __init__(self, unit: ScsiUnit, identity: DiskIdentity) -> None:
        self.unit = unit
        self.identity = identity
        self.dma_mode = 0x45
        self._uses_dma = False
        self._in_packet = False  # data phases belong to a packet
        self._limit = MAX_BLOCK
        self._cdb = b""
        super().__init__()

    def reset(self) -> None:
        self.unit.reset()
        super().reset()

    def idle_status(self) -> int:
        return 0  # packet devices are not "ready" until they get a command

    def takes_when_busy(self, command: int) -> bool:
        return command == DEVICE_RESET

    def execute(self, task: Taskfile) -> None:
        command = task.command
        self._in_packet = False
        if command == PACKET:
            self._uses_dma = bool(task.feature & DMA)
            self._reason(COMMAND_PHASE)
            self.data_out(PACKET_LENGTH, PACKET_LENGTH, self._packet)
        elif command == IDENTIFY_PACKET_DEVICE:
            self.data_in(identify_packet(self.identity, self.dma_mode), 512)
        elif command == DEVICE_RESET:
            self.reset()
        elif command == IDENTIFY_DEVICE:
            self.set_signature()
            self.abort()
        elif command == SET_FEATURES:
            self._set_features(task)
        elif command == CHECK_POWER_MODE:
            self.show(count=0xFF, lba=None)
            self.finish()
        elif command in POWER:
            self.finish()
        else:
            self.abort()

    @property
    def wants_packet(self) -> bool:
        """Whether the data register takes a command block."""
        return self.takes_data and not self._in_packet

    def continuation(self, task: Taskfile, *, out: bool) -> Callable[[bytes], None]:
        if not out:
            return lambda _: self._good()
        if not self._in_packet:
            return self._packet
        return partial(self._run, self.unit.command(self._cdb))

    _OWN = ("dma_mode", "_uses_dma", "_in_packet", "_limit", "_cdb")

    def state(self) -> State:
        own = save(self, 1, self._OWN)
        return super().state() | {"packet": own, "unit": self.unit.state()}

    def restore(self, state: State) -> None:
        load(self, state["packet"], 1, self._OWN)
        super().restore(state)
        self.unit.restore(state["unit"])

    def _set_features(self, task: Taskfile) -> None:
        mode = task.count & 0xFF
        if task.feature & 0xFF == 0x03 and mode >> 3 in (4, 8):
            self.dma_mode = mode
        elif task.feature & 0xFF not in (0x03, 0x66, 0xCC, 0x05, 0x85):
            self.abort()
            return
        self.finish()

    def _reason(self, value: int) -> None:
        self.count[0] = value

    # --- the packet ----------------------------------------------------------------------------

    def _packet(self, cdb: bytes) -> None:
        self._in_packet, self._cdb = True, cdb
        self._limit = (self.lba[1][0] | self.lba[2][0] << 8) & MAX_BLOCK or MAX_BLOCK
        request = self.unit.command(cdb)
        if not request.length:
            self._run(request, b"")
        elif self._uses_dma:
            self.dma_out(request.length, partial(self._run, request))
        else:
            run = partial(self._run, request)
            self.data_out(request.length, self._limit, run, interrupt=True)

    def _run(self, request: Request, data: bytes) -> None:
        self.busy()
        request.run(data, partial(self._ended, self.generation))

    def _ended(self, generation: int, response: Response) -> None:
        if generation != self.generation:
            return
        if response.sense is not None:
            self._reason(COMMAND_PHASE | TO_HOST)
            self.finish(response.sense.key << 4 | Error.ABRT)
        elif not response.data:
            self._good()
        elif self._uses_dma:
            self.dma_in(response.data, lambda _: self._good())
        else:
            self.data_in(response.data, self._limit)

    def _good(self) -> None:
        self._reason(COMMAND_PHASE | TO_HOST)
        self.finish()

    def begin_block_in(self, length: int) -> None:
        super().begin_block_in(length)
        self._announce(TO_HOST, length)

    def begin_block_out(self, length: int) -> None:
        super().begin_block_out(length)
        self._announce(0, length)

    def _announce(self, reason: int, length: int) -> None:
        if self._in_packet:
            self._reason(reason)
            self.lba[1][0], self.lba[2][0] = length & 0xFF, length >> 8

    def data_read(self) -> None:
        if self._in_packet:
            self._good()
        else:
            super().data_read()
