"""VDI, VirtualBox's format: a header, one table of blocks, the blocks.

Reference: the "VDI image format" notes of VirtualBox's VDICore.h.
"""

from __future__ import annotations

import errno
import os
import struct

from pytcg.typed import TYPE_CHECKING, Any

from .device import BlockDevice, BlockError, ImageFormatError, NotSupported
from .mapped import ABSENT, MAX_TABLE_BYTES, SECTOR, ZERO, Block, MappedImage, read_table
from .posix import PosixFile

if TYPE_CHECKING:
    from .open import OpenFlags

SIGNATURE = 0xBEDA107F
VERSION = 0x00010001
BLOCK_SIZE = 1 << 20
TYPE_DYNAMIC, TYPE_STATIC = 1, 2
UNALLOCATED, DISCARDED = 0xFFFFFFFF, 0xFFFFFFFE
# From offset 0x40: signature, version, header size, type, flags, 256 bytes of description,
# offsets of table and data, geometry (4 words), unused, disk size, block size, extra, blocks.
_HEADER = struct.Struct("<IIIII256sIIIIIIIQIIII")
HEADER_AT = 0x40
ALLOCATED_AT = HEADER_AT + _HEADER.size - 4
PARENT_UUIDS_AT = 0x1A8


class VdiDevice(MappedImage):
    """A VDI image, dynamic or static."""

    format_name = "vdi"
    writable_format = True

    def __init__(self, file: BlockDevice) -> None:
        head = file.pread(0, 512)
        (signature, version, _, kind, _, _, self._table_at, self._data_at, _, _, _, _, _, size,
         block_size, _, blocks, self._allocated) = _HEADER.unpack_from(head, HEADER_AT)
        if signature != SIGNATURE:
            raise ImageFormatError(f"Image not in VDI format (bad signature {signature:08x})")
        if version != VERSION:
            raise NotSupported(f"unsupported VDI image (version {version >> 16}."
                               f"{version & 0xFFFF})")
        if block_size != BLOCK_SIZE:
            raise NotSupported(f"unsupported VDI image (block size {block_size} is not "
                               f"{BLOCK_SIZE})")
        if kind not in (TYPE_DYNAMIC, TYPE_STATIC) or any(head[PARENT_UUIDS_AT:][:32]):
            raise NotSupported("unsupported VDI image (it is not a plain disk)")
        if self._table_at % SECTOR or self._data_at % SECTOR:
            raise ImageFormatError("unsupported VDI image (unaligned block map or data offset)")
        size = -(-size // SECTOR) * SECTOR
        if size > blocks * BLOCK_SIZE:
            raise ImageFormatError(f"unsupported VDI image (disk size {size}, image bitmap has "
                                   f"room for {blocks * BLOCK_SIZE})")
        super().__init__(file, size, BLOCK_SIZE)
        self._table = read_table(file, self._table_at, blocks, "I")

    @classmethod
    def open(cls, file: BlockDevice, flags: OpenFlags) -> VdiDevice:
        """Open an image."""
        return cls(file)

    def block(self, index: int) -> Block:
        entry = self._table[index]
        if entry >= DISCARDED:
            return ABSENT if entry == UNALLOCATED else ZERO
        return Block(True, False, self._data_at + entry * BLOCK_SIZE)

    def allocate(self, index: int, content: bytes) -> None:
        entry = self._allocated
        if entry >= DISCARDED:
            raise BlockError(os.strerror(errno.ENOSPC), errno.ENOSPC)
        self.file.pwrite(self._data_at + entry * BLOCK_SIZE, content)
        self._allocated += 1
        self._table[index] = entry
        self.file.pwrite(self._table_at + 4 * index, entry.to_bytes(4, "little"))
        self.file.pwrite(ALLOCATED_AT, self._allocated.to_bytes(4, "little"))

    @staticmethod
    def create_image(path: str, size: int, values: dict[str, Any]) -> None:
        """Make an image."""
        static = bool(values.get("static"))
        blocks = -(-size // BLOCK_SIZE)
        if blocks * 4 > MAX_TABLE_BYTES:
            raise BlockError("Unsupported VDI image size", errno.ENOTSUP)
        data_at = 512 + -(-blocks * 4 // SECTOR) * SECTOR
        header = _HEADER.pack(SIGNATURE, VERSION, 0x180, TYPE_STATIC if static else TYPE_DYNAMIC,
                              0, b"", 512, data_at, 0, 0, 0, SECTOR, 0, size, BLOCK_SIZE, 0,
                              blocks, blocks if static else 0)
        text = b"<<< pytcg VM Virtual Disk Image >>>\n"
        # Image and last-snapshot UUIDs are new, link and parent none.
        uuids = os.urandom(32) + bytes(32)
        table = b"".join(struct.pack("<I", index if static else UNALLOCATED)
                         for index in range(blocks))
        with PosixFile.create(path) as file:
            file.pwrite(0, (text.ljust(HEADER_AT, b"\0") + header + uuids).ljust(512, b"\0"))
            if table:
                file.pwrite(512, table)
            if static:
                file.truncate(data_at + blocks * BLOCK_SIZE)
