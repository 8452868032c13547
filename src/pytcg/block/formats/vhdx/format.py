"""VHDX's structures on disk: checksums, the two headers, the region table, the metadata.

Reference: Microsoft's [MS-VHDX]. Integers are little-endian.
"""

from __future__ import annotations

import os
import struct

from pytcg.block.device import BlockDevice, ImageFormatError
from pytcg.typed import NamedTuple

MIB = 1 << 20
HEADERS_AT = (64 << 10, 128 << 10)
REGIONS_AT = (192 << 10, 256 << 10)
HEADER_BYTES = 4096
NO_LOG = bytes(16)


def _guid(text: str) -> bytes:
    """A GUID's bytes: three little-endian numbers, then eight bytes."""
    first, second, third, *rest = text.split("-")
    return (bytes.fromhex(first)[::-1] + bytes.fromhex(second)[::-1] + bytes.fromhex(third)[::-1]
            + bytes.fromhex("".join(rest)))


BAT = _guid("2dc27766-f623-4200-9d64-115e9bfd4a08")
METADATA = _guid("8b7ca206-4790-4b9a-b8fe-575f050f886e")
FILE_PARAMETERS = _guid("caa16737-fa36-4d43-b3b6-33f0aa44e76b")
VIRTUAL_DISK_SIZE = _guid("2fa54224-cd1b-4876-b211-5dbed83bf4b8")
VIRTUAL_DISK_ID = _guid("beca12ab-b2e6-4523-93ef-c309e000c746")
LOGICAL_SECTOR_SIZE = _guid("8141bf1d-a96f-4709-ba47-f233a8faab5f")
PHYSICAL_SECTOR_SIZE = _guid("cda348c7-445d-4471-9cc9-e9885251c556")
PARAMETER_LEAVE_ALLOCATED, PARAMETER_HAS_PARENT = 1, 2
STATE_NOT_PRESENT, STATE_UNDEFINED, STATE_ZERO, STATE_UNMAPPED = 0, 1, 2, 3
STATE_FULLY_PRESENT = 6
MAX_DISK = 64 << 40
_HEADER = struct.Struct("<4sIQ16s16s16sHHIQ")


def _crc_entry(value: int) -> int:
    for _ in range(8):
        value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
    return value


_CRC_TABLE = tuple(_crc_entry(value) for value in range(256))


def crc32c(data: bytes) -> int:
    """The Castagnoli CRC."""
    crc = 0xFFFFFFFF
    table = _CRC_TABLE
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


def is_sealed(block: bytes, signature: bytes) -> bool:
    """Signature and checksum (bytes 4 to 8, taken as zero) are right."""
    stored = int.from_bytes(block[4:8], "little")
    return block[:4] == signature and crc32c(block[:4] + bytes(4) + block[8:]) == stored


def sealed(block: bytes) -> bytes:
    """The block with its checksum, in whose place it has zeroes."""
    return block[:4] + crc32c(block).to_bytes(4, "little") + block[8:]


class Header(NamedTuple):
    """The current state of the file, kept twice."""

    sequence: int
    file_guid: bytes  # new whenever a session changes the file
    data_guid: bytes  # new whenever one changes what the disk shows
    log_guid: bytes  # of the log's valid entries; NO_LOG if there are none
    log_length: int
    log_offset: int
    place: int = 1  # which of the two holds it

    def pack(self) -> bytes:
        """The bytes of a header."""
        packed = _HEADER.pack(b"head", 0, self.sequence, self.file_guid, self.data_guid,
                              self.log_guid, 0, 1, self.log_length, self.log_offset)
        return sealed(packed.ljust(HEADER_BYTES, b"\0"))


def read_header(file: BlockDevice) -> Header:
    """The valid header of the higher sequence number."""
    found = []
    for place, offset in enumerate(HEADERS_AT):
        block = file.pread(offset, HEADER_BYTES)
        if is_sealed(block, b"head"):
            (_, _, sequence, file_guid, data_guid, log_guid, _, version, length,
             at) = _HEADER.unpack_from(block)
            if version == 1:
                found.append(Header(sequence, file_guid, data_guid, log_guid, length, at, place))
    if not found:
        raise ImageFormatError("No valid VHDX header found")
    return max(found, key=lambda header: header.sequence)


def write_header(file: BlockDevice, header: Header) -> Header:
    """Store a state in both places, the current one last: one is valid at any moment."""
    for _ in range(2):
        header = header._replace(sequence=header.sequence + 1, place=1 - header.place)
        file.pwrite(HEADERS_AT[header.place], header.pack())
        file.flush()
    return header


def new_guid() -> bytes:
    """A random GUID."""
    return os.urandom(16)


def read_regions(file: BlockDevice) -> dict[bytes, tuple[int, int]]:
    """(offset, length) of each region."""
    for offset in REGIONS_AT:
        table = file.pread(offset, 65536)
        if is_sealed(table, b"regi"):
            break
    else:
        raise ImageFormatError("No valid VHDX region table found")
    count = int.from_bytes(table[8:12], "little")
    if count > 2047:
        raise ImageFormatError("VHDX region table is invalid")
    found = {}
    for index in range(count):
        ident, start, length, _ = struct.unpack_from("<16sQII", table, 16 + 32 * index)
        found[ident] = (start, length)
    if BAT not in found or METADATA not in found:
        raise ImageFormatError("VHDX image lacks its BAT or metadata region")
    return found


def read_metadata(file: BlockDevice, start: int) -> dict[bytes, bytes]:
    """The metadata items."""
    table = file.pread(start, 65536)
    if table[:8] != b"metadata":
        raise ImageFormatError("VHDX metadata table is invalid")
    count = int.from_bytes(table[10:12], "little")
    found = {}
    for index in range(min(count, 2047)):
        ident, offset, length = struct.unpack_from("<16sII", table, 32 + 32 * index)
        found[ident] = file.pread(start + offset, min(length, 4096))
    return found
