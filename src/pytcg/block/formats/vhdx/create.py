"""Making VHDX images: headers, regions, metadata, the block allocation table.

A fixed image's blocks are marked as present, unless block_state_zero is asked for; QEMU marks
them as zeroes, and gives each a second place when it is written.
"""

from __future__ import annotations

import errno
import os
import struct
from array import array

from pytcg.block.device import BlockError
from pytcg.block.formats.vhdx.format import (
    BAT,
    FILE_PARAMETERS,
    HEADERS_AT,
    LOGICAL_SECTOR_SIZE,
    MAX_DISK,
    METADATA,
    MIB,
    NO_LOG,
    PARAMETER_LEAVE_ALLOCATED,
    PHYSICAL_SECTOR_SIZE,
    REGIONS_AT,
    STATE_FULLY_PRESENT,
    STATE_NOT_PRESENT,
    STATE_ZERO,
    VIRTUAL_DISK_ID,
    VIRTUAL_DISK_SIZE,
    Header,
    new_guid,
    sealed,
)
from pytcg.block.protocols.posix import PosixFile
from pytcg.typed import Any

SECTOR = 512
MAX_BLOCK = 256 << 20
DATA_GAP = 5 << 20  # from the BAT's end to the first block: the metadata and room to grow
IS_VIRTUAL_DISK, IS_REQUIRED = 2, 4


def create_vhdx(path: str, size: int, values: dict[str, Any]) -> None:
    """Make an image; ``values`` are the create options."""
    kind = values.get("subformat", "dynamic")
    if size > MAX_DISK:
        raise BlockError("Image size too large; max of 64TB", errno.EINVAL)
    if kind not in ("dynamic", "fixed"):
        raise BlockError(f"Parameter 'subformat' does not accept value '{kind}'", errno.EINVAL)
    log_size = max(MIB, _whole_mib(values.get("log_size", MIB)))
    if log_size >> 32:
        raise BlockError("Log size must be smaller than 4 GB", errno.EINVAL)
    block_size = _block_size(size, _whole_mib(values.get("block_size", 0)))
    fixed = kind == "fixed"
    zero = values.get("block_state_zero", not fixed)
    bat = _allocation_table(size, block_size, STATE_ZERO if zero else
                            STATE_FULLY_PRESENT if fixed else STATE_NOT_PRESENT)
    bat_at, bat_length = MIB + log_size, _whole_mib(8 * len(bat))
    data_at = bat_at + bat_length + DATA_GAP
    _place_blocks(bat, data_at, block_size)
    with PosixFile.create(path) as file:
        file.truncate(data_at + -(-size // block_size) * block_size if fixed else data_at)
        file.pwrite(0, b"vhdxfile" + "pytcg".encode("utf-16-le"))
        header = Header(int.from_bytes(os.urandom(4), "little"), new_guid(), new_guid(), NO_LOG,
                        log_size, MIB)
        for offset in HEADERS_AT:
            file.pwrite(offset, header.pack())
            header = header._replace(sequence=header.sequence + 1)
        regions = b"regi" + struct.pack("<III", 0, 2, 0)
        regions += struct.pack("<16sQII", BAT, bat_at, bat_length, 1)
        regions += struct.pack("<16sQII", METADATA, bat_at + bat_length, MIB, 1)
        for offset in REGIONS_AT:
            file.pwrite(offset, sealed(regions.ljust(65536, b"\0")))
        file.pwrite(bat_at + bat_length, _metadata(size, block_size, fixed=fixed))
        file.pwrite(bat_at, struct.pack(f"<{len(bat)}Q", *bat))


def _whole_mib(value: int) -> int:
    return -(-value // MIB) * MIB


def _block_size(size: int, wanted: int) -> int:
    if wanted == 0:
        limits = ((32 << 40, 64 << 20), (100 << 30, 32 << 20), (1 << 30, 16 << 20))
        return next((block for limit, block in limits if size > limit), 8 << 20)
    if wanted & (wanted - 1):
        raise BlockError("Block size must be a power of two", errno.EINVAL)
    if wanted > MAX_BLOCK:
        raise BlockError(f"Block size must not exceed {MAX_BLOCK}", errno.EINVAL)
    return wanted


def _allocation_table(size: int, block_size: int, state: int) -> array[int]:
    """An entry for each block, and after each chunk of them one for a sector bitmap."""
    ratio = (SECTOR << 23) // block_size
    blocks = -(-size // block_size)
    table = array("Q", bytes(8 * (blocks + max(0, blocks - 1) // ratio)))
    for index in range(blocks):
        table[index + index // ratio] = state
    return table


def _place_blocks(table: array[int], data_at: int, block_size: int) -> None:
    """Give each present block its address."""
    for index, entry in enumerate(table):
        if entry == STATE_FULLY_PRESENT:
            table[index] = data_at | entry
            data_at += block_size


def _metadata(size: int, block_size: int, *, fixed: bool) -> bytes:
    items = (
        (FILE_PARAMETERS, IS_REQUIRED,
         struct.pack("<II", block_size, PARAMETER_LEAVE_ALLOCATED if fixed else 0)),
        (VIRTUAL_DISK_SIZE, IS_REQUIRED | IS_VIRTUAL_DISK, struct.pack("<Q", size)),
        (VIRTUAL_DISK_ID, IS_REQUIRED | IS_VIRTUAL_DISK, new_guid()),
        (LOGICAL_SECTOR_SIZE, IS_REQUIRED | IS_VIRTUAL_DISK, struct.pack("<I", SECTOR)),
        (PHYSICAL_SECTOR_SIZE, IS_REQUIRED | IS_VIRTUAL_DISK, struct.pack("<I", SECTOR)))
    table = b"metadata" + struct.pack("<HH20x", 0, len(items))
    content = b""
    for ident, flags, data in items:
        table += struct.pack("<16sIIII", ident, 65536 + len(content), len(data), flags, 0)
        content += data
    return table.ljust(65536, b"\0") + content
