"""Block addresses in command blocks, and reads and writes of a medium: disks and CD-ROMs."""

from __future__ import annotations

from collections.abc import Mapping

from pytcg.hw.storage.medium import Done, Medium
from pytcg.hw.storage.scsi.unit import (
    INVALID_FIELD,
    MEDIUM_ERROR,
    NOT_READY,
    OUT_OF_RANGE,
    SAVING_NOT_SUPPORTED,
    WRITE_ERROR,
    WRITE_PROTECTED,
    CheckCondition,
    Finish,
    Request,
    Response,
    ScsiUnit,
    UnitIdentity,
)

SAVED_VALUES = 3  # page control
ALL_PAGES = 0x3F
MAX_TRANSFER = 64 << 20  # bytes of one command; INQUIRY's block limits say so


def address(cdb: bytes) -> tuple[int, int]:
    """(first block, blocks) of READ, WRITE and their kin of 6, 10, 12 and 16 bytes."""
    group = cdb[0] >> 5
    if group == 0:
        return int.from_bytes(cdb[1:4], "big") & 0x1FFFFF, cdb[4] or 256
    if group in (1, 2):
        return int.from_bytes(cdb[2:6], "big"), int.from_bytes(cdb[7:9], "big")
    if group == 5:
        return int.from_bytes(cdb[2:6], "big"), int.from_bytes(cdb[6:10], "big")
    return int.from_bytes(cdb[2:10], "big"), int.from_bytes(cdb[10:14], "big")


def mode_pages(cdb: bytes, known: Mapping[int, bytes]) -> bytes:
    """What MODE SENSE asks for of the pages that there are; pages are not saved (SPC-3, 6.9)."""
    page, control = cdb[2] & 0x3F, cdb[2] >> 6
    if control == SAVED_VALUES:
        raise CheckCondition(SAVING_NOT_SUPPORTED)
    if page == ALL_PAGES:
        return b"".join(known.values())
    if page not in known:
        raise CheckCondition(INVALID_FIELD)
    return known[page]


class BlockUnit(ScsiUnit):
    """A unit with a medium of blocks, which may be absent."""

    block: int

    def __init__(self, identity: UnitIdentity, medium: Medium | None) -> None:
        super().__init__(identity)
        self.medium = medium

    @property
    def blocks(self) -> int:
        """How many the medium has."""
        return 0 if self.medium is None else self.medium.size // self.block

    def require_medium(self) -> Medium:
        """The medium, or a check condition."""
        if self.medium is None:
            raise CheckCondition(NOT_READY)
        return self.medium

    def checked(self, first: int, count: int) -> None:
        """Refuse what is outside the medium or too long for one command."""
        if first + count > self.blocks:
            raise CheckCondition(OUT_OF_RANGE)

    def read_blocks(self, first: int, count: int) -> Request:
        """READ."""
        medium = self.require_medium()
        self.checked(first, count)
        if count * self.block > MAX_TRANSFER:
            raise CheckCondition(OUT_OF_RANGE)

        def run(_: bytes, finish: Finish) -> None:
            def done(data: bytes, errno: int) -> None:
                finish(Response(sense=MEDIUM_ERROR) if errno else Response(data))

            medium.read(first * self.block, count * self.block, done)

        return Request(run)

    def write_blocks(self, first: int, count: int, *, fua: bool) -> Request:
        """WRITE."""
        medium = self.require_medium()
        if medium.read_only:
            raise CheckCondition(WRITE_PROTECTED)
        self.checked(first, count)
        if count * self.block > MAX_TRANSFER:
            raise CheckCondition(OUT_OF_RANGE)

        def run(data: bytes, finish: Finish) -> None:
            if len(data) < count * self.block:  # the initiator gave too little
                finish(Response(sense=WRITE_ERROR))
                return
            medium.write(first * self.block, data, written(finish), fua=fua)

        return Request(run, count * self.block)

    def flush(self) -> Request:
        """SYNCHRONIZE CACHE."""
        medium = self.require_medium()
        return Request(lambda _, finish: medium.flush(written(finish)))

    def test_unit_ready(self, cdb: bytes) -> Request:
        self.require_medium()
        return super().test_unit_ready(cdb)


def written(finish: Finish) -> Done:
    """The medium's answer to a write as the unit's."""

    def done(_: bytes, errno: int) -> None:
        finish(Response(sense=WRITE_ERROR if errno else None))

    return done
