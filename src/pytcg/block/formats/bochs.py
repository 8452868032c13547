"""Bochs's growing images, for reading: extents, each behind a bitmap of its sectors.

Reference: struct redolog_header in Bochs's iodev/hdimage. Integers are little-endian.
"""

from __future__ import annotations

import struct
from array import array

from pytcg.block.device import BlockDevice, ImageFormatError
from pytcg.block.formats.mapped import ABSENT, SECTOR, Block, MappedImage, TableLru, read_table
from pytcg.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from pytcg.block.open import OpenFlags

_HEADER = struct.Struct("<32s16s16sIIIII")
VERSION_1, VERSION_2 = 0x10000, 0x20000
MAX_CATALOG = 0x100000
MAX_EXTENT = 0x800000
UNALLOCATED = 0xFFFFFFFF


def _text(field: bytes) -> bytes:
    return field.partition(b"\0")[0]


class BochsDevice(MappedImage):
    """A growing Bochs image."""

    format_name = "bochs"

    def __init__(self, file: BlockDevice) -> None:
        head = file.pread(0, 512)
        *names, version, start, entries, bitmap, extent = _HEADER.unpack_from(head)
        if ([_text(name) for name in names] != [b"Bochs Virtual HD Image", b"Redolog", b"Growing"]
                or version not in (VERSION_1, VERSION_2)):
            raise ImageFormatError("Image not in Bochs format")
        size_at = _HEADER.size + (4 if version == VERSION_2 else 0)
        size = int.from_bytes(head[size_at : size_at + 8], "little") // SECTOR * SECTOR
        if entries > MAX_CATALOG:
            raise ImageFormatError("Catalog size is too large")
        if extent < SECTOR:
            raise ImageFormatError("Extent size must be at least 512")
        if extent & (extent - 1):
            raise ImageFormatError(f"Extent size {extent} is not a power of two")
        if extent > MAX_EXTENT:
            raise ImageFormatError(f"Extent size {extent} is too large")
        if entries * extent < size:
            raise ImageFormatError("Catalog size is too small for this disk size")
        super().__init__(file, size, SECTOR)
        self.cluster_size = 0
        self._catalog = read_table(file, start, entries, "I", what="Catalog")
        self._data_at = start + 4 * entries
        self._sectors = extent // SECTOR  # of an extent
        self._bitmap_bytes = -(-max(1, bitmap) // SECTOR) * SECTOR
        self._bitmaps = TableLru(self._load_bitmap)

    @classmethod
    def open(cls, file: BlockDevice, flags: OpenFlags) -> BochsDevice:
        """Open an image."""
        return cls(file)

    def _load_bitmap(self, offset: int) -> array[int]:
        return array("B", self.file.pread(offset, -(-self._sectors // 8)))

    def block(self, index: int) -> Block:
        extent, sector = divmod(index, self._sectors)
        entry = self._catalog[extent]
        if entry == UNALLOCATED:
            return ABSENT
        start = self._data_at + entry * (self._bitmap_bytes + self._sectors * SECTOR)
        if not self._bitmaps.get(start)[sector // 8] >> sector % 8 & 1:
            return ABSENT
        return Block(True, False, start + self._bitmap_bytes + sector * SECTOR)
