"""VHDX, Hyper-V's format: regions, metadata items and a block allocation table (reading).

Reference: Microsoft's [MS-VHDX]. Integers are little-endian.
"""

from __future__ import annotations

import struct
import uuid

from pytcg.typed import TYPE_CHECKING

from .device import BlockDevice, ImageFormatError, NotSupported
from .mapped import ABSENT, ZERO, Block, MappedImage, read_table

if TYPE_CHECKING:
    from .open import OpenFlags

HEADERS_AT = (64 << 10, 128 << 10)
REGIONS_AT = (192 << 10, 256 << 10)
BAT = uuid.UUID("2dc27766-f623-4200-9d64-115e9bfd4a08")
METADATA = uuid.UUID("8b7ca206-4790-4b9a-b8fe-575f050f886e")
FILE_PARAMETERS = uuid.UUID("caa16737-fa36-4d43-b3b6-33f0aa44e76b")
VIRTUAL_DISK_SIZE = uuid.UUID("2fa54224-cd1b-4876-b211-5dbed83bf4b8")
LOGICAL_SECTOR_SIZE = uuid.UUID("8141bf1d-a96f-4709-ba47-f233a8faab5f")
PARAMETER_HAS_PARENT = 2
STATE_NOT_PRESENT, STATE_UNDEFINED, STATE_ZERO, STATE_UNMAPPED = 0, 1, 2, 3
STATE_FULLY_PRESENT = 6
MAX_DISK = 64 << 40


def crc32c(data: bytes) -> int:
    """The Castagnoli CRC."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _CRC_TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


def _crc_entry(value: int) -> int:
    for _ in range(8):
        value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
    return value


_CRC_TABLE = tuple(_crc_entry(value) for value in range(256))


def _valid(block: bytes, signature: bytes) -> bool:
    """Signature and checksum (bytes 4 to 8, taken as zero) are right."""
    stored = int.from_bytes(block[4:8], "little")
    return block[:4] == signature and crc32c(block[:4] + bytes(4) + block[8:]) == stored


def _current_header(file: BlockDevice) -> bytes:
    """The valid header of the higher sequence number."""
    headers = [file.pread(offset, 4096) for offset in HEADERS_AT]
    valid = [header for header in headers if _valid(header, b"head")]
    if not valid:
        raise ImageFormatError("No valid VHDX header found")
    return max(valid, key=lambda header: int.from_bytes(header[8:16], "little"))


def _regions(file: BlockDevice) -> dict[uuid.UUID, tuple[int, int]]:
    """(offset, length) of each region."""
    for offset in REGIONS_AT:
        table = file.pread(offset, 65536)
        if _valid(table, b"regi"):
            break
    else:
        raise ImageFormatError("No valid VHDX region table found")
    count = int.from_bytes(table[8:12], "little")
    if count > 2047:
        raise ImageFormatError("VHDX region table is invalid")
    found = {}
    for index in range(count):
        ident, start, length, _ = struct.unpack_from("<16sQII", table, 16 + 32 * index)
        found[uuid.UUID(bytes_le=ident)] = (start, length)
    if BAT not in found or METADATA not in found:
        raise ImageFormatError("VHDX image lacks its BAT or metadata region")
    return found


def _metadata(file: BlockDevice, start: int) -> dict[uuid.UUID, bytes]:
    """The metadata items."""
    table = file.pread(start, 65536)
    if table[:8] != b"metadata":
        raise ImageFormatError("VHDX metadata table is invalid")
    count = int.from_bytes(table[10:12], "little")
    found = {}
    for index in range(min(count, 2047)):
        ident, offset, length = struct.unpack_from("<16sII", table, 32 + 32 * index)
        found[uuid.UUID(bytes_le=ident)] = file.pread(start + offset, min(length, 4096))
    return found


def _item(items: dict[uuid.UUID, bytes], ident: uuid.UUID, length: int) -> bytes:
    data = items.get(ident, b"")
    if len(data) < length:
        raise ImageFormatError("VHDX image lacks a metadata item")
    return data


class VhdxDevice(MappedImage):
    """A VHDX image."""

    format_name = "vhdx"

    def __init__(self, file: BlockDevice) -> None:
        if file.pread(0, 8) != b"vhdxfile":
            raise ImageFormatError("Image not in VHDX format")
        header = _current_header(file)
        if any(header[48:64]):  # the log's GUID
            raise NotSupported("The VHDX image contains a log that needs to be replayed")
        regions = _regions(file)
        items = _metadata(file, regions[METADATA][0])
        block_size, flags = struct.unpack_from("<II", _item(items, FILE_PARAMETERS, 8))
        size = int.from_bytes(_item(items, VIRTUAL_DISK_SIZE, 8)[:8], "little")
        sector = int.from_bytes(_item(items, LOGICAL_SECTOR_SIZE, 4)[:4], "little")
        if flags & PARAMETER_HAS_PARENT:
            raise NotSupported("VHDX differencing disks are not supported")
        if block_size & (block_size - 1) or not 1 << 20 <= block_size <= 256 << 20:
            raise ImageFormatError("VHDX block size is invalid")
        if sector not in (512, 4096) or size % sector or size > MAX_DISK:
            raise ImageFormatError("VHDX disk size is invalid")
        super().__init__(file, size, block_size)
        self._chunk_ratio = (sector << 23) // block_size
        blocks = -(-size // block_size)
        entries = blocks + max(0, blocks - 1) // self._chunk_ratio
        bat_at, bat_length = regions[BAT]
        if entries * 8 > bat_length:
            raise ImageFormatError("VHDX block allocation table is too small")
        self._bat = read_table(file, bat_at, entries, "Q", what="VHDX BAT")

    @classmethod
    def open(cls, file: BlockDevice, flags: OpenFlags) -> VhdxDevice:
        """Open an image."""
        return cls(file)

    def block(self, index: int) -> Block:
        # After each chunk of payload entries comes one for a sector bitmap.
        entry = self._bat[index + index // self._chunk_ratio]
        state, host = entry & 7, entry >> 20 << 20
        if state == STATE_FULLY_PRESENT:
            return Block(True, False, host)
        if state in (STATE_NOT_PRESENT, STATE_UNDEFINED):
            return ABSENT
        if state in (STATE_ZERO, STATE_UNMAPPED):
            return ZERO
        raise ImageFormatError(f"VHDX block {index} has state {state}, which is invalid here")
