"""A SCSI disk (SBC-3)."""

from __future__ import annotations

import struct
from typing import ClassVar, Final

from pytcg.hw.storage.medium import Medium
from pytcg.hw.storage.scsi.blocks import MAX_TRANSFER, BlockUnit, address, mode_pages, written
from pytcg.hw.storage.scsi.unit import (
    INVALID_FIELD,
    INVALID_PARAMETER,
    OUT_OF_RANGE,
    PARAMETER_LENGTH,
    WRITE_ERROR,
    WRITE_PROTECTED,
    CheckCondition,
    Finish,
    Request,
    Response,
    UnitIdentity,
    answer,
)

BLOCK: Final = 512
DISK: Final = 0
FUA: Final = 0x08
UNMAP_BIT: Final = 0x08
NO_DATA_OUT: Final = 0x01  # WRITE SAME's NDOB
MAX_UNMAP: Final = 1 << 21  # blocks
MAX_RANGES: Final = 255
DPO_FUA: Final = 0x10
WRITE_PROTECT: Final = 0x80


class ScsiDisk(BlockUnit):
    """A disk; `write_cache` is what its caching page says."""

    block = BLOCK
    commands: ClassVar = {
        0x00: "test_unit_ready", 0x03: "request_sense", 0x12: "inquiry", 0x1B: "start_stop",
        0x1D: "send_diagnostic", 0x1E: "start_stop", 0x25: "read_capacity_10",
        0x08: "read", 0x28: "read", 0xA8: "read", 0x88: "read",
        0x0A: "write", 0x2A: "write", 0xAA: "write", 0x8A: "write",
        0x2F: "verify", 0xAF: "verify", 0x8F: "verify", 0x35: "synchronize", 0x91: "synchronize",
        0x41: "write_same", 0x93: "write_same", 0x42: "unmap", 0x9E: "service_action_in",
        0x1A: "mode_sense_6", 0x5A: "mode_sense_10", 0x15: "mode_select", 0x55: "mode_select",
    }  # fmt: skip

    _FIELDS = ("write_cache",)

    def __init__(self, identity: UnitIdentity, medium: Medium, *, write_cache: bool = True
                 ) -> None:  # fmt: skip
        super().__init__(identity, medium)
        self.write_cache = write_cache

    # --- data ----------------------------------------------------------------------------------

    def read(self, cdb: bytes) -> Request:
        return self.read_blocks(*address(cdb))

    def write(self, cdb: bytes) -> Request:
        through = not self.write_cache or (cdb[0] != 0x0A and bool(cdb[1] & FUA))
        return self.write_blocks(*address(cdb), fua=through)

    def verify(self, cdb: bytes) -> Request:
        self.checked(*address(cdb))
        if cdb[1] & 6:  # comparing with data of the initiator
            raise CheckCondition(INVALID_FIELD)
        return answer(b"")

    def synchronize(self, cdb: bytes) -> Request:
        return self.flush()

    def start_stop(self, cdb: bytes) -> Request:
        return answer(b"")

    def _writable(self) -> Medium:
        medium = self.require_medium()
        if medium.read_only:
            raise CheckCondition(WRITE_PROTECTED)
        return medium

    def write_same(self, cdb: bytes) -> Request:
        medium = self._writable()
        first, count = address(cdb)
        self.checked(first, count)
        count = count or self.blocks - first
        if count * BLOCK > max(MAX_TRANSFER, MAX_UNMAP * BLOCK):
            raise CheckCondition(OUT_OF_RANGE)
        unmaps = bool(cdb[1] & UNMAP_BIT)
        without_data = cdb[0] == 0x93 and bool(cdb[1] & NO_DATA_OUT)

        def run(data: bytes, finish: Finish) -> None:
            where = first * BLOCK
            if not any(data):
                medium.write_zeroes(where, count * BLOCK, written(finish), may_unmap=unmaps)
            elif len(data) < BLOCK or count * BLOCK > MAX_TRANSFER:
                finish(Response(sense=WRITE_ERROR))
            else:
                medium.write(where, data[:BLOCK] * count, written(finish))

        return Request(run, 0 if without_data else BLOCK)

    def unmap(self, cdb: bytes) -> Request:
        medium = self._writable()
        length = int.from_bytes(cdb[7:9], "big")
        if cdb[1] & 1:
            raise CheckCondition(INVALID_FIELD)
        if not length:
            return answer(b"")
        if length < 8:
            raise CheckCondition(PARAMETER_LENGTH)

        def run(data: bytes, finish: Finish) -> None:
            size = int.from_bytes(data[2:4], "big")
            if len(data) < 8 + size or size % 16 or size // 16 > MAX_RANGES:
                finish(Response(sense=INVALID_PARAMETER))
                return
            ranges = [struct.unpack_from(">QL", data, at) for at in range(8, 8 + size, 16)]
            if any(first + count > self.blocks for first, count in ranges):
                finish(Response(sense=OUT_OF_RANGE))
                return

            def step(_: bytes, errno: int) -> None:
                if errno or not ranges:
                    finish(Response(sense=WRITE_ERROR if errno else None))
                    return
                first, count = ranges.pop()
                medium.discard(first * BLOCK, count * BLOCK, step)

            step(b"", 0)

        return Request(run, length)

    # --- what it is ----------------------------------------------------------------------------

    def read_capacity_10(self, cdb: bytes) -> Request:
        last = min(max(self.blocks - 1, 0), 0xFFFFFFFF)
        return answer(struct.pack(">LL", last, BLOCK))

    def service_action_in(self, cdb: bytes) -> Request:
        """READ CAPACITY (16)."""
        if cdb[1] & 0x1F != 0x10:
            raise CheckCondition(INVALID_FIELD)
        data = struct.pack(">QLBBH16x", max(self.blocks - 1, 0), BLOCK, 0, 0, 0x8000)
        return answer(data, int.from_bytes(cdb[10:14], "big"))

    def vital_product_data(self, page: int) -> bytes | None:
        if page == 0xB0:  # block limits
            most = MAX_TRANSFER // BLOCK
            return struct.pack(">BBHLLLLLLLQ", 0, 0, 0, most, 0, 0, MAX_UNMAP, MAX_RANGES, 0, 0,
                               most).ljust(60, b"\0")  # fmt: skip
        if page == 0xB1:  # it does not rotate
            return struct.pack(">H", 1).ljust(60, b"\0")
        if page == 0xB2:  # UNMAP and WRITE SAME with UNMAP
            return bytes([0, 0xE0, 2, 0])
        return super().vital_product_data(page)

    def mode_sense_6(self, cdb: bytes) -> Request:
        pages = self._pages(cdb)
        head = bytes([len(pages) + 3, 0, self._specific(), 0])
        return answer(head + pages, cdb[4])

    def mode_sense_10(self, cdb: bytes) -> Request:
        pages = self._pages(cdb)
        head = struct.pack(">HBB4x", len(pages) + 6, 0, self._specific())
        return answer(head + pages, int.from_bytes(cdb[7:9], "big"))

    def _specific(self) -> int:
        protect = WRITE_PROTECT if self.medium is not None and self.medium.read_only else 0
        return DPO_FUA | protect

    def _pages(self, cdb: bytes) -> bytes:
        control = cdb[2] >> 6
        cache = 4 if self.write_cache or control == 1 else 0
        known = {
            0x01: bytes([0x01, 10, 0 if control == 1 else 0x80]) + bytes(9),
            0x08: bytes([0x08, 18, cache]) + bytes(17),
            0x0A: bytes([0x0A, 10]) + bytes(10),
        }
        return mode_pages(cdb, known)

    def mode_select(self, cdb: bytes) -> Request:
        """The caching page's write cache bit can be set; other pages are taken as they are."""
        short = cdb[0] == 0x15
        length = cdb[4] if short else int.from_bytes(cdb[7:9], "big")

        def run(data: bytes, finish: Finish) -> None:
            descriptors = data[3] if short else int.from_bytes(data[6:8], "big")
            at = (4 if short else 8) + descriptors
            while at + 2 <= len(data):
                page, size = data[at] & 0x3F, data[at + 1]
                if at + 2 + size > len(data):
                    finish(Response(sense=PARAMETER_LENGTH))
                    return
                if page == 0x08 and size >= 1:
                    self.write_cache = bool(data[at + 2] & 4)
                at += 2 + size
            finish(Response())

        if length < (4 if short else 8):
            return answer(b"") if not length else _fail_length()
        return Request(run, length)


def _fail_length() -> Request:
    raise CheckCondition(PARAMETER_LENGTH)
