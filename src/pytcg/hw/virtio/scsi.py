"""virtio-scsi: a SCSI host adapter (virtio 1.2, 5.6)."""

from __future__ import annotations

import struct
from functools import partial
from typing import Final

from pytcg.hw.pci.device import DmaError
from pytcg.hw.state import State, StateError
from pytcg.hw.storage.scsi.unit import (
    BAD_LUN,
    INVALID_FIELD,
    Request,
    Response,
    ScsiUnit,
    Sense,
    answer,
)
from pytcg.hw.virtio.chain import Chain, RingError
from pytcg.hw.virtio.device import VirtioDevice, Virtqueue

CONTROL, EVENTS, REQUESTS = range(3)
QUEUE_SIZE: Final = 256
MAX_TARGET: Final = 255
MAX_LUN: Final = 16383
DEFAULT_CDB: Final = 32
DEFAULT_SENSE: Final = 96
HOTPLUG: Final = 1  # feature bit
EVENT_SIZE: Final = 16
TRANSPORT_RESET: Final = 1
RESCAN, REMOVED = 1, 2
OK, OVERRUN, BAD_TARGET = 0, 1, 3
FUNCTION_COMPLETE, FUNCTION_SUCCEEDED, FUNCTION_REJECTED = 0, 10, 11
TASK_MANAGEMENT: Final = 0
LOGICAL_UNIT_RESET, TARGET_RESET = 5, 6
ABORTS: Final = (0, 1, 2, 3, 7, 8)
NO_DEVICE: Final = 0x7F  # INQUIRY's peripheral type where there is no unit
INQUIRY, REPORT_LUNS, REQUEST_SENSE = 0x12, 0xA0, 0x03


class VirtioScsi(VirtioDevice):
    """An adapter; `units[target, lun]` are on its bus."""

    kind = 8
    queue_sizes = (QUEUE_SIZE,) * 3
    own_features = 1 << HOTPLUG

    def __init__(self) -> None:
        super().__init__()
        self.units: dict[tuple[int, int], ScsiUnit] = {}
        self.cdb_size = DEFAULT_CDB
        self.sense_size = DEFAULT_SENSE

    _FIELDS = ("cdb_size", "sense_size")

    def state(self) -> State:
        units = {f"{target}:{lun}": unit.state() for (target, lun), unit in self.units.items()}
        return super().state() | {"units": units}

    def restore(self, state: State) -> None:
        super().restore(state)
        places = {f"{target}:{lun}": unit for (target, lun), unit in self.units.items()}
        if places.keys() != state["units"].keys():
            raise StateError("VirtioScsi: other units than the saved machine has")
        for place, unit in places.items():
            unit.restore(state["units"][place])

    def reset(self) -> None:
        super().reset()
        self.cdb_size, self.sense_size = DEFAULT_CDB, DEFAULT_SENSE
        for unit in self.units.values():
            unit.reset()

    def config(self) -> bytes:
        return struct.pack("<LLLLLLLHHL", 1, QUEUE_SIZE - 2, 0xFFFF, 128, 16, self.sense_size,
                           self.cdb_size, 0, MAX_TARGET, MAX_LUN)  # fmt: skip

    def write_config(self, offset: int, data: bytes) -> None:
        value = int.from_bytes(data, "little")
        if offset == 20 and 18 <= value <= 256:
            self.sense_size = value
        elif offset == 24 and 16 <= value <= 256:
            self.cdb_size = value

    def notified(self, queue: Virtqueue) -> None:
        if queue.index == CONTROL:
            queue.take_all(partial(self._control, queue))
        elif queue.index >= REQUESTS:
            queue.take_all(partial(self._request, queue))

    def announce(self, target: int, lun: int, *, present: bool) -> None:
        """A unit has come, or gone: an event (5.6.6.3), if the driver has given room for one."""
        if not self.running or not self.has(HOTPLUG):
            return
        queue = self.queues[EVENTS]
        chain = queue.pop_or_wait()
        if chain is None:
            return  # lost; a driver that wants them gives buffers
        # Flat addressing from 256 on only: Linux takes the field as it is.
        place = bytes((1, target, 0x40 | lun >> 8 if lun >= 256 else 0, lun & 0xFF))
        try:
            chain.write(struct.pack("<L8sL", TRANSPORT_RESET, place,
                                    RESCAN if present else REMOVED)[: chain.to_write])
        except DmaError:
            self.fail()
            return
        queue.push(chain, EVENT_SIZE)

    # --- commands ------------------------------------------------------------------------------

    def _request(self, queue: Virtqueue, chain: Chain) -> None:
        head, response = 19 + self.cdb_size, 12 + self.sense_size
        if chain.to_read < head or chain.to_write < response:
            raise RingError("a request without room for its header or its response")
        raw = chain.read(0, head)
        target, lun = _place(raw)
        cdb = raw[19:]
        end = partial(self._end, self.generation, queue, chain)
        unit = self.units.get((target, lun))
        known = raw[0] == 1 and any(place[0] == target for place in self.units)
        if not known:
            end(None)
        elif cdb[0] == REPORT_LUNS:
            self._report_luns(target, cdb).run(b"", end)
        elif unit is None:
            self._no_unit(cdb, end)
        else:
            self._run(unit, cdb, chain, head, end)

    def _run(self, unit: ScsiUnit, cdb: bytes, chain: Chain, head: int, end: partial[None]) -> None:
        request = unit.command(cdb)
        data = b""
        if request.length:
            data = chain.read(head, min(request.length, chain.to_read - head))
            if len(data) < request.length:
                end(Response(sense=INVALID_FIELD))
                return
        request.run(data, end)

    def _no_unit(self, cdb: bytes, end: partial[None]) -> None:
        if cdb[0] == INQUIRY and not cdb[1] & 1:
            answer(bytes([NO_DEVICE, 0, 5, 2, 31]).ljust(36, b"\0"), cdb[4]).run(b"", end)
        elif cdb[0] == REQUEST_SENSE:
            answer(BAD_LUN.fixed(), cdb[4]).run(b"", end)
        else:
            end(Response(sense=BAD_LUN))

    def _report_luns(self, target: int, cdb: bytes) -> Request:
        luns = sorted({0} | {lun for place, lun in self.units if place == target})
        body = b"".join(struct.pack(">H6x", lun if lun < 256 else 0x4000 | lun) for lun in luns)
        length = int.from_bytes(cdb[6:10], "big")
        return answer(struct.pack(">L4x", len(body)) + body, length)

    def _end(self, generation: int, queue: Virtqueue, chain: Chain, response: Response | None
             ) -> None:  # fmt: skip
        """The response goes first, the data behind it. None: there is no such target."""
        if generation != self.generation:
            return
        room = chain.to_write - 12 - self.sense_size
        data, sense, code = b"", b"", OK
        status = residual = 0
        if response is None:
            code = BAD_TARGET
        else:
            sense = _fixed(response.sense)
            status = response.status
            code = OVERRUN if len(response.data) > room else OK
            data = response.data[:room]
            residual = room - len(data)
        head = struct.pack("<LLHBB", len(sense), residual, 0, status, code)
        try:
            chain.write(head + sense.ljust(self.sense_size, b"\0"))
            chain.write(data, 12 + self.sense_size)
        except DmaError:
            self.fail()
            return
        queue.push(chain, 12 + self.sense_size + len(data))

    # --- control -------------------------------------------------------------------------------

    def _control(self, queue: Virtqueue, chain: Chain) -> None:
        raw = chain.read(0, min(chain.to_read, 24))
        if len(raw) < 4:
            raise RingError("a control request without a type")
        if int.from_bytes(raw[:4], "little") != TASK_MANAGEMENT:  # asynchronous notifications
            answered = struct.pack("<LB", 0, OK)
        elif len(raw) < 24:
            raise RingError("a task management request that is too short")
        else:
            answered = bytes([self._manage(int.from_bytes(raw[4:8], "little"), raw[8:16])])
        chain.write(answered)
        queue.push(chain, len(answered))

    def _manage(self, function: int, lun: bytes) -> int:
        target, number = _place(lun)
        every = function == TARGET_RESET
        concerned = [unit for place, unit in self.units.items()
                     if place[0] == target and (every or place[1] == number)]  # fmt: skip
        if not concerned:
            return BAD_TARGET
        if function in (LOGICAL_UNIT_RESET, TARGET_RESET):
            for unit in concerned:
                unit.reset()
            return FUNCTION_COMPLETE
        # A command that is under way ends by itself: there is nothing left to abort or ask for.
        return FUNCTION_COMPLETE if function in ABORTS else FUNCTION_REJECTED


def _place(raw: bytes) -> tuple[int, int]:
    """Target and LUN of the eight bytes that name a unit."""
    return raw[1], (raw[2] << 8 | raw[3]) & 0x3FFF


def _fixed(sense: Sense | None) -> bytes:
    return b"" if sense is None else sense.fixed()
