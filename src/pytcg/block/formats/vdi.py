"""VDI, VirtualBox's format: a header, one table of blocks, the blocks.

Reference: the "VDI image format" notes of VirtualBox's VDICore.h.
"""

from __future__ import annotations

import errno
import os
import struct
import sys
from array import array
from collections.abc import Callable, Iterator

from pytcg.block.device import BlockDevice, BlockError, ImageFormatError, NotSupported
from pytcg.block.formats.mapped import ABSENT, SECTOR, ZERO, Block, MappedImage, TableLru, table_of
from pytcg.block.protocols.posix import PosixFile
from pytcg.typed import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytcg.block.check_result import CheckResult
    from pytcg.block.open import OpenFlags

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
LINK_UUID_AT = 0x1A8  # the parent's follows
MAX_BLOCKS = 0x1FFFFF80
PAGE_ENTRIES = 1 << 14


class VdiDevice(MappedImage):
    """A VDI image, dynamic or static."""

    format_name = "vdi"
    writable_format = True

    def __init__(self, file: BlockDevice) -> None:
        head = file.pread(0, 512)
        (signature, version, _, _, _, _, self._table_at, self._data_at, _, _, _, sector, _, size,
         block_size, _, self._blocks, self._allocated) = _HEADER.unpack_from(head, HEADER_AT)
        size, room = -(-size // SECTOR) * SECTOR, self._blocks * BLOCK_SIZE
        if signature != SIGNATURE:
            raise ImageFormatError(f"Image not in VDI format (bad signature {signature:08x})")
        rules = (
            (version != VERSION, f"version {version >> 16}.{version & 0xFFFF}"),
            (self._table_at % SECTOR, f"unaligned block map offset {self._table_at:#x}"),
            (self._data_at % SECTOR, f"unaligned data offset {self._data_at:#x}"),
            (sector != SECTOR, f"sector size {sector} is not {SECTOR}"),
            (block_size != BLOCK_SIZE, f"block size {block_size} is not {BLOCK_SIZE}"),
            (size > room, f"disk size {size}, image bitmap has room for {room}"),
            (any(head[LINK_UUID_AT : LINK_UUID_AT + 16]), "non-NULL link UUID"),
            (any(head[LINK_UUID_AT + 16 : LINK_UUID_AT + 32]), "non-NULL parent UUID"),
            (self._blocks > MAX_BLOCKS,
             f"too many blocks {self._blocks}, max is {MAX_BLOCKS}"))
        if size > MAX_BLOCKS * BLOCK_SIZE:
            raise _too_large(size)
        for wrong, what in rules:
            if wrong:
                raise NotSupported(f"unsupported VDI image ({what})")
        super().__init__(file, size, BLOCK_SIZE)
        self._pages = TableLru(self._load_page)  # the table has up to 2 GiB

    def _load_page(self, page: int) -> array[int]:
        length = min(PAGE_ENTRIES, self._blocks - page * PAGE_ENTRIES) * 4
        return table_of(self.file.pread(self._table_at + 4 * PAGE_ENTRIES * page, length), "I")

    @classmethod
    def open(cls, file: BlockDevice, flags: OpenFlags) -> VdiDevice:
        """Open an image."""
        return cls(file)

    def block(self, index: int) -> Block:
        page, inside = divmod(index, PAGE_ENTRIES)
        entry = self._pages.get(page)[inside]
        if entry >= DISCARDED:
            return ABSENT if entry == UNALLOCATED else ZERO
        return Block(True, False, self._data_at + entry * BLOCK_SIZE)

    def allocate(self, index: int, content: bytes) -> None:
        entry = self._allocated
        if entry >= DISCARDED:
            raise BlockError(os.strerror(errno.ENOSPC), errno.ENOSPC)
        self.file.pwrite(self._data_at + entry * BLOCK_SIZE, content)
        self._allocated += 1
        self._pages.get(index // PAGE_ENTRIES)[index % PAGE_ENTRIES] = entry
        self.file.pwrite(self._table_at + 4 * index, entry.to_bytes(4, "little"))
        self.file.pwrite(ALLOCATED_AT, self._allocated.to_bytes(4, "little"))

    def check(self, *, repair: str | None = None,
              report: Callable[[str], None] = lambda line: print(line, file=sys.stderr)
              ) -> CheckResult:
        """Every block has a place of its own, and the header counts them; nothing is repaired."""
        from pytcg.block.check_result import CheckResult

        if repair is not None:
            raise NotSupported("This image format does not support checks")
        result = CheckResult()
        used: set[int] = set()
        allocated = 0
        for index, entry in self._entries():
            if entry >= self._blocks:
                report(f"ERROR: block index {index} too large, is {entry}")
                result.corruptions += 1
                continue
            allocated += 1
            if entry in used:
                report(f"ERROR: block index {entry} also used by {entry}")
                result.corruptions += 1
            used.add(entry)
        if allocated != self._allocated:
            report(f"ERROR: allocated blocks mismatch, is {allocated}, should be "
                   f"{self._allocated}")
            result.corruptions += 1
        return result

    def _entries(self) -> Iterator[tuple[int, int]]:
        """(index, place) of the blocks that have one."""
        for page in range(-(-self._blocks // PAGE_ENTRIES)):
            for inside, entry in enumerate(self._pages.get(page)):
                if entry < DISCARDED:
                    yield page * PAGE_ENTRIES + inside, entry

    @staticmethod
    def create_image(path: str, size: int, values: dict[str, Any]) -> None:
        """Make an image."""
        static = bool(values.get("static"))
        blocks = -(-size // BLOCK_SIZE)
        if size > MAX_BLOCKS * BLOCK_SIZE:
            raise _too_large(size)
        data_at = 512 + -(-blocks * 4 // SECTOR) * SECTOR
        header = _HEADER.pack(SIGNATURE, VERSION, 0x180, TYPE_STATIC if static else TYPE_DYNAMIC,
                              0, b"", 512, data_at, 0, 0, 0, SECTOR, 0, size, BLOCK_SIZE, 0,
                              blocks, blocks if static else 0)
        text = b"<<< pytcg VM Virtual Disk Image >>>\n"
        # Image and last-snapshot UUIDs are new, link and parent none.
        uuids = os.urandom(32) + bytes(32)
        with PosixFile.create(path) as file:
            file.pwrite(0, (text.ljust(HEADER_AT, b"\0") + header + uuids).ljust(512, b"\0"))
            for first in range(0, blocks, PAGE_ENTRIES):
                page = range(first, min(blocks, first + PAGE_ENTRIES))
                file.pwrite(512 + 4 * first, struct.pack(f"<{len(page)}I", *page) if static
                            else b"\xff" * (4 * len(page)))
            file.truncate(data_at + (blocks * BLOCK_SIZE if static else 0))


def _too_large(size: int) -> NotSupported:
    return NotSupported(f"Unsupported VDI image size (size is {size:#x}, max supported is "
                        f"{MAX_BLOCKS * BLOCK_SIZE:#x})")
