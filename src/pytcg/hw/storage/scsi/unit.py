"""A SCSI logical unit: command blocks in, data, status and sense out (SPC-4).

Commands are methods that a table of operation codes names. Check conditions are exceptions.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Final, NamedTuple

from pytcg.hw.state import State, load, save

GOOD: Final = 0x00
CHECK_CONDITION: Final = 0x02


class Sense(NamedTuple):
    """Sense key, additional sense code and its qualifier."""

    key: int
    asc: int
    ascq: int = 0

    def fixed(self) -> bytes:
        """Fixed format, 18 bytes (SPC-4, 4.5.3)."""
        return struct.pack("<BBBLBLBB4x", 0x70, 0, self.key, 0, 10, 0, self.asc, self.ascq)


NO_SENSE: Final = Sense(0, 0)
NOT_READY: Final = Sense(2, 0x3A)  # medium not present
MEDIUM_ERROR: Final = Sense(3, 0x11)  # unrecovered read error
WRITE_ERROR: Final = Sense(3, 0x0C)
INVALID_OPCODE: Final = Sense(5, 0x20)
OUT_OF_RANGE: Final = Sense(5, 0x21)
INVALID_FIELD: Final = Sense(5, 0x24)
BAD_LUN: Final = Sense(5, 0x25)
INVALID_PARAMETER: Final = Sense(5, 0x26)
PARAMETER_LENGTH: Final = Sense(5, 0x1A)
SAVING_NOT_SUPPORTED: Final = Sense(5, 0x39)
ILLEGAL_MODE: Final = Sense(5, 0x64)
REMOVAL_PREVENTED: Final = Sense(5, 0x53, 2)
RESET: Final = Sense(6, 0x29)
CHANGED: Final = Sense(6, 0x28)
CAPACITY_CHANGED: Final = Sense(6, 0x2A, 9)
WRITE_PROTECTED: Final = Sense(7, 0x27)


class CheckCondition(Exception):
    """A command that fails at once."""

    def __init__(self, sense: Sense) -> None:
        super().__init__(sense)
        self.sense = sense


class Response(NamedTuple):
    """How a command ended: data for the initiator, or the sense of a check condition."""

    data: bytes = b""
    sense: Sense | None = None

    @property
    def status(self) -> int:
        """The SCSI status byte."""
        return GOOD if self.sense is None else CHECK_CONDITION


Finish = Callable[[Response], None]


class Request(NamedTuple):
    """A command taken: ``length`` bytes come from the initiator, then `run` them."""

    run: Callable[[bytes, Finish], None]
    length: int = 0


def answer(data: bytes, length: int | None = None) -> Request:
    """Data that is there at once, cut to the allocation length."""
    cut = data if length is None else data[:length]
    return Request(lambda _, finish: finish(Response(cut)))


def fail(sense: Sense) -> Request:
    """A check condition."""
    return Request(lambda _, finish: finish(Response(sense=sense)))


@dataclass(frozen=True)
class UnitIdentity:
    """What INQUIRY says."""

    kind: int  # peripheral device type
    vendor: str = "QEMU"
    product: str = "QEMU HARDDISK"
    revision: str = "2.5+"
    serial: str = ""
    removable: bool = False
    atapi: bool = False


Command = Callable[["ScsiUnit", bytes], Request]


class ScsiUnit:
    """What all kinds of units do. `command` never raises; a failed one leaves its sense here."""

    commands: ClassVar[dict[int, str]]
    # Served while a unit attention is pending.
    always: ClassVar[frozenset[int]] = frozenset((0x03, 0x12, 0xA0))

    def __init__(self, identity: UnitIdentity) -> None:
        self.identity = identity
        self.sense = NO_SENSE
        self.attention: list[Sense] = []

    def reset(self) -> None:
        """Bus reset."""
        self.sense = NO_SENSE
        self.attention = [RESET]

    _FIELDS: tuple[str, ...] = ()

    def state(self) -> State:
        """Sense data, and what subclasses name in `_FIELDS`."""
        return save(self, 1, self._FIELDS) | {
            "sense": list(self.sense), "attention": [list(sense) for sense in self.attention]}

    def restore(self, state: State) -> None:
        load(self, state, 1, self._FIELDS)
        self.sense = Sense(*state["sense"])
        self.attention = [Sense(*each) for each in state["attention"]]

    def command(self, cdb: bytes) -> Request:
        """Take a command block."""
        request = self._taken(cdb)
        return Request(lambda data, finish: request.run(data, self._remember(finish)),
                       request.length)  # fmt: skip

    def _taken(self, cdb: bytes) -> Request:
        name = self.commands.get(cdb[0]) if cdb else None
        if name is None:
            return fail(INVALID_OPCODE)
        if self.attention and cdb[0] not in self.always:
            return fail(self.attention.pop(0))
        try:
            request: Request = getattr(self, name)(cdb.ljust(16, b"\0"))
        except CheckCondition as error:
            return fail(error.sense)
        return request

    def _remember(self, finish: Finish) -> Finish:
        def remembered(response: Response) -> None:
            if response.sense is not None:
                self.sense = response.sense
            finish(response)

        return remembered

    # --- commands of all units -----------------------------------------------------------------

    def test_unit_ready(self, cdb: bytes) -> Request:
        return answer(b"")

    def request_sense(self, cdb: bytes) -> Request:
        sense = self.attention.pop(0) if self.attention else self.sense
        self.sense = NO_SENSE
        return answer(sense.fixed(), cdb[4])

    def inquiry(self, cdb: bytes) -> Request:
        length = int.from_bytes(cdb[3:5], "big")
        if not cdb[1] & 1:
            if cdb[2]:
                raise CheckCondition(INVALID_FIELD)
            return answer(self._standard_inquiry(), length)
        page = self.vital_product_data(cdb[2])
        if page is None:
            raise CheckCondition(INVALID_FIELD)
        header = struct.pack(">BBH", self.identity.kind, cdb[2], len(page))
        return answer(header + page, length)

    def _standard_inquiry(self) -> bytes:
        who = self.identity
        response = 0x21 if who.atapi else 0x02
        version = 0 if who.atapi else 5
        head = bytes([who.kind, 0x80 if who.removable else 0, version, response, 31, 0, 0,
                      0x02 if not who.atapi else 0])  # fmt: skip
        text = who.vendor.ljust(8)[:8] + who.product.ljust(16)[:16] + who.revision.ljust(4)[:4]
        return head + text.encode("ascii", "replace")

    def vital_product_data(self, page: int) -> bytes | None:
        """A page's body; None if there is no such page."""
        if page == 0x00:
            return bytes(number for number in range(0x100)
                         if number == 0 or self._has_page(number))  # fmt: skip
        serial = self.identity.serial.encode("ascii", "replace")
        if page == 0x80:
            return serial or None
        if page == 0x83:
            return self._identification(serial)
        return None

    def _has_page(self, number: int) -> bool:
        return number != 0 and self.vital_product_data(number) is not None

    def _identification(self, serial: bytes) -> bytes:
        name = b"QEMU    " + (serial or b"pytcg")
        return struct.pack(">BBBB", 0x02, 0x01, 0, len(name)) + name

    def send_diagnostic(self, cdb: bytes) -> Request:
        return answer(b"")
