"""A CD/DVD-ROM drive: the multimedia commands that firmware and systems use (MMC-5)."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import ClassVar, Final

from pytcg.hw.storage.medium import Medium
from pytcg.hw.storage.scsi.blocks import BlockUnit, address, mode_pages
from pytcg.hw.storage.scsi.unit import (
    CHANGED,
    ILLEGAL_MODE,
    INVALID_FIELD,
    NOT_READY,
    OUT_OF_RANGE,
    REMOVAL_PREVENTED,
    CheckCondition,
    Finish,
    Request,
    Response,
    UnitIdentity,
    answer,
)

BLOCK: Final = 2048
CD_ROM: Final = 5
LEAD_OUT: Final = 0xAA
MAX_CD_BLOCKS: Final = 80 * 60 * 75 - 150  # what does not fit on a CD is a DVD
PROFILE_DVD: Final = 0x0010
PROFILE_CD: Final = 0x0008
RAW: Final = 2352
SYNC: Final = b"\0" + b"\xff" * 10 + b"\0"


def msf(block: int) -> tuple[int, int, int]:
    """Minute, second, frame of a block: two seconds of lead-in come first."""
    frames = block + 150
    return frames // (75 * 60), frames // 75 % 60, frames % 75


class CdRom(BlockUnit):
    """A drive with a tray; ``on_eject`` hears when software opens it."""

    block = BLOCK
    always = frozenset((0x03, 0x12, 0x46, 0x4A))
    commands: ClassVar = {
        0x00: "test_unit_ready", 0x03: "request_sense", 0x12: "inquiry", 0x1B: "start_stop",
        0x1D: "send_diagnostic", 0x1E: "prevent_removal", 0x25: "read_capacity",
        0x28: "read", 0xA8: "read", 0x08: "read", 0x2B: "seek", 0x2F: "verify",
        0x35: "synchronize", 0x42: "read_subchannel", 0x43: "read_toc",
        0x46: "get_configuration", 0x4A: "event_status", 0x51: "disc_information",
        0x52: "track_information", 0x15: "mode_select", 0x55: "mode_select",
        0x1A: "mode_sense_6", 0x5A: "mode_sense_10", 0xAD: "disc_structure",
        0xBB: "set_speed", 0xBD: "mechanism_status", 0xBE: "read_cd",
    }  # fmt: skip

    def __init__(self, identity: UnitIdentity, medium: Medium | None,
                 on_eject: Callable[[bool], None] | None = None) -> None:  # fmt: skip
        super().__init__(identity, medium)
        self.on_eject = on_eject
        self.tray_open = False
        self.locked = False
        self._event = 0

    _FIELDS = ("tray_open", "locked", "_event")

    def reset(self) -> None:
        super().reset()
        self.locked = False

    def change(self, medium: Medium | None) -> None:
        """Another disc, or none, in the closed tray."""
        self.medium = medium
        self.tray_open = False
        self._event = 2 if medium is not None else 3
        self.attention = [CHANGED] if medium is not None else []

    def open_tray(self) -> None:
        """By hand, whatever software says."""
        if not self.tray_open:
            self.tray_open = True
            self._event = 3

    def ask_to_eject(self) -> None:
        """The button was pressed while software keeps the tray locked (MMC-5, 6.7.2.4)."""
        self._event = 1

    def require_medium(self) -> Medium:
        if self.tray_open:
            raise CheckCondition(NOT_READY._replace(ascq=2))
        return super().require_medium()

    # --- data ----------------------------------------------------------------------------------

    def read(self, cdb: bytes) -> Request:
        return self.read_blocks(*address(cdb))

    def read_cd(self, cdb: bytes) -> Request:
        """READ CD: user data, or whole frames of mode 1 made around it."""
        first, count = int.from_bytes(cdb[2:6], "big"), int.from_bytes(cdb[6:9], "big")
        wanted = cdb[9] & 0xF8
        if not count or not wanted:
            self.require_medium()
            return answer(b"")
        if wanted == 0x10:
            return self.read_blocks(first, count)
        if wanted != 0xF8:
            raise CheckCondition(ILLEGAL_MODE)
        request = self.read_blocks(first, count)

        def run(data: bytes, finish: Finish) -> None:
            request.run(data, lambda response: finish(framed(response, first)))

        return Request(run)

    def read_capacity(self, cdb: bytes) -> Request:
        self.require_medium()
        return answer(struct.pack(">LL", max(self.blocks - 1, 0), BLOCK))

    def seek(self, cdb: bytes) -> Request:
        self.require_medium()
        if int.from_bytes(cdb[2:6], "big") >= self.blocks:
            raise CheckCondition(OUT_OF_RANGE)
        return answer(b"")

    def verify(self, cdb: bytes) -> Request:
        self.require_medium()
        self.checked(*address(cdb))
        return answer(b"")

    def synchronize(self, cdb: bytes) -> Request:
        return answer(b"")

    # --- the tray ------------------------------------------------------------------------------

    def start_stop(self, cdb: bytes) -> Request:
        if cdb[4] & 0xF0 or not cdb[4] & 2:  # power conditions, or spinning up and down
            return answer(b"")
        opens = not cdb[4] & 1
        if opens and self.locked:
            raise CheckCondition(REMOVAL_PREVENTED)
        if opens != self.tray_open:
            self.tray_open = opens
            self._event = 3 if opens else 2
            if self.on_eject is not None:
                self.on_eject(opens)
        return answer(b"")

    def prevent_removal(self, cdb: bytes) -> Request:
        self.locked = bool(cdb[4] & 1)
        return answer(b"")

    def event_status(self, cdb: bytes) -> Request:
        length = int.from_bytes(cdb[7:9], "big")
        if not cdb[1] & 1:
            raise CheckCondition(INVALID_FIELD)
        if not cdb[4] & 0x10:
            return answer(struct.pack(">HBB", 2, 0x80, 0x10), length)
        present = self.medium is not None and not self.tray_open
        state = 1 if self.tray_open else 2 if present else 0
        event, self._event = self._event, 0
        return answer(struct.pack(">HBBBBBB", 6, 4, 0x10, event, state, 0, 0), length)

    def mechanism_status(self, cdb: bytes) -> Request:
        length = int.from_bytes(cdb[8:10], "big")
        return answer(bytes([0, 0x10 if self.tray_open else 0, 0, 0, 0, 1, 0, 0]), length)

    # --- what the disc is ----------------------------------------------------------------------

    @property
    def _is_dvd(self) -> bool:
        return self.blocks > MAX_CD_BLOCKS

    def read_toc(self, cdb: bytes) -> Request:
        """Formats 0 (tracks), 1 (sessions) and 2 (the full table)."""
        self.require_medium()
        length = int.from_bytes(cdb[7:9], "big")
        in_msf = bool(cdb[1] & 2)
        kind = cdb[2] & 0x0F or cdb[9] >> 6
        if kind == 0:
            return answer(self._tracks(cdb[6], in_msf=in_msf), length)
        if kind == 1:
            return answer(struct.pack(">HBBBBBBL", 10, 1, 1, 0, 0x14, 1, 0, 0), length)
        if kind == 2:
            return answer(self._full_toc(), length)
        raise CheckCondition(INVALID_FIELD)

    def _tracks(self, start: int, *, in_msf: bool) -> bytes:
        if start > 1 and start != LEAD_OUT:
            raise CheckCondition(INVALID_FIELD)
        rows = [(1, 0), (LEAD_OUT, self.blocks)][start == LEAD_OUT :]
        body = b""
        for track, block in rows:
            place = bytes((0, *msf(block))) if in_msf else struct.pack(">L", block)
            body += bytes([0, 0x14, track, 0]) + place
        return struct.pack(">HBB", len(body) + 2, 1, 1) + body

    def _full_toc(self) -> bytes:
        rows = ((0xA0, (1, 0, 0)), (0xA1, (1, 0, 0)), (0xA2, msf(self.blocks)), (1, msf(0)))
        body = b"".join(bytes([1, 0x14, 0, point, 0, 0, 0, 0, *place]) for point, place in rows)
        return struct.pack(">HBB", len(body) + 2, 1, 1) + body

    def read_subchannel(self, cdb: bytes) -> Request:
        self.require_medium()
        length = int.from_bytes(cdb[7:9], "big")
        return answer(bytes([0, 0x15, 0, 0]), length)

    def disc_information(self, cdb: bytes) -> Request:
        self.require_medium()
        if cdb[1] & 7:
            raise CheckCondition(INVALID_FIELD)
        data = bytes([0, 32, 0x0E, 1, 1, 1, 1, 0x20]) + bytes(26)
        return answer(data, int.from_bytes(cdb[7:9], "big"))

    def track_information(self, cdb: bytes) -> Request:
        self.require_medium()
        data = struct.pack(">HBBBBBBLLLLLBBBB", 34, 1, 1, 0, 4, 1, 0, 0, 0, 0, 0, self.blocks,
                           0, 0, 0, 0)  # fmt: skip
        return answer(data, int.from_bytes(cdb[7:9], "big"))

    def get_configuration(self, cdb: bytes) -> Request:
        profile = 0
        if self.medium is not None and not self.tray_open:
            profile = PROFILE_DVD if self._is_dvd else PROFILE_CD
        profiles = b"".join(struct.pack(">HBB", number, number == profile, 0)
                            for number in (PROFILE_DVD, PROFILE_CD))  # fmt: skip
        features = {
            0x0000: (0x03, profiles),
            0x0001: (0x0B, struct.pack(">LB3x", 2, 1)),  # core: ATAPI, device busy events
            0x0002: (0x07, bytes([2, 0, 0, 0])),  # morphing
            0x0003: (0x03, bytes([0x29, 0, 0, 0])),  # tray, ejects, locks
            0x001E: (0x00, bytes(4)),  # CD read
            0x001F: (0x00, bytes(4)),  # DVD read
            0x0100: (0x03, b""),  # power management
        }
        start, which = int.from_bytes(cdb[2:4], "big"), cdb[1] & 3
        if which == 3:
            raise CheckCondition(INVALID_FIELD)
        body = b""
        for number, (flags, data) in features.items():
            if number == start if which == 2 else number >= start:
                body += struct.pack(">HBB", number, flags, len(data)) + data
        head = struct.pack(">LHH", len(body) + 4, 0, profile)
        return answer(head + body, int.from_bytes(cdb[7:9], "big"))

    def disc_structure(self, cdb: bytes) -> Request:
        """READ DVD STRUCTURE: physical format, copyright, manufacturer."""
        self.require_medium()
        if not self._is_dvd or cdb[1] & 0x0F or cdb[6]:
            raise CheckCondition(INVALID_FIELD)
        last = 0x30000 + self.blocks - 1
        body = {
            0x00: struct.pack(">BBBBLLLB", 1, 0x0F, 1, 0, 0x30000, last, 0, 0).ljust(2048, b"\0"),
            0x01: bytes(4),
            0x04: bytes(2048),
        }.get(cdb[7])
        if body is None:
            raise CheckCondition(INVALID_FIELD)
        head = struct.pack(">HBB", len(body) + 2, 0, 0)
        return answer(head + body, int.from_bytes(cdb[8:10], "big"))

    # --- modes ---------------------------------------------------------------------------------

    def mode_sense_10(self, cdb: bytes) -> Request:
        pages = self._pages(cdb)
        medium = 0x70 if self.medium is None else 0x01
        head = struct.pack(">HB5x", len(pages) + 6, medium)
        return answer(head + pages, int.from_bytes(cdb[7:9], "big"))

    def mode_sense_6(self, cdb: bytes) -> Request:
        pages = self._pages(cdb)
        return answer(bytes([len(pages) + 3, 0x01, 0, 0]) + pages, cdb[4])

    def _pages(self, cdb: bytes) -> bytes:
        capabilities = struct.pack(
            ">BBBBBBBBHHHHH", 0x2A, 0x12, 0x3B, 0, 0x70, 0,
            0x29 | (2 if self.locked else 0), 0, 706, 2, 512, 706, 0,
        )  # fmt: skip
        known = {
            0x01: bytes([0x01, 6, 0, 5, 0, 0, 0, 0]),
            0x0E: bytes([0x0E, 14, 4, 0, 0, 0, 0, 0, 1, 0xFF, 2, 0xFF, 0, 0, 0, 0]),
            0x2A: capabilities,
        }
        return mode_pages(cdb, known)

    def mode_select(self, cdb: bytes) -> Request:
        """Accepted, and nothing changes: the parameters are for drives that wear."""
        length = cdb[4] if cdb[0] == 0x15 else int.from_bytes(cdb[7:9], "big")
        return Request(lambda _, finish: finish(Response()), length)

    def set_speed(self, cdb: bytes) -> Request:
        return answer(b"")


def framed(response: Response, first: int) -> Response:
    """Raw frames of mode 1: sync, header, user data; the error correction codes are zeroes."""
    data = response.data
    frames = []
    for index, at in enumerate(range(0, len(data), BLOCK)):
        minute, second, frame = (value // 10 << 4 | value % 10 for value in msf(first + index))
        head = SYNC + bytes([minute, second, frame, 1])
        frames.append((head + data[at : at + BLOCK]).ljust(RAW, b"\0"))
    return response._replace(data=b"".join(frames))
