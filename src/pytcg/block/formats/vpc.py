"""VHD ("vpc"), Virtual PC's format: fixed and dynamic disks.

Reference: Microsoft's "Virtual Hard Disk Image Format Specification". Integers are big-endian.
"""

from __future__ import annotations

import errno
import os
import struct
import time
from array import array

from pytcg.block.device import BlockDevice, BlockError, ImageFormatError, NotSupported
from pytcg.block.formats.mapped import ABSENT, SECTOR, Block, MappedImage, read_table
from pytcg.block.protocols.posix import PosixFile
from pytcg.typed import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from pytcg.block.open import OpenFlags

COOKIE, DYNAMIC_COOKIE = b"conectix", b"cxsparse"
TYPE_FIXED, TYPE_DYNAMIC = 2, 3
UNUSED = 0xFFFFFFFF
BLOCK_SIZE = 2 << 20
EPOCH = 946684800  # 2000-01-01, from which VHD counts seconds
MAX_GEOMETRY = 65535 * 16 * 255
MAX_SECTORS = 0xFF000000
MAX_ENTRIES = (1 << 29) - 1
# Creators whose footer says the true size; for others the geometry counts.
EXACT_CREATORS = (b"win ", b"qem2", b"d2v ", b"tap\0", b"CTXS")
_FOOTER = struct.Struct(">8sIIQI4sII QQHBBII16sB")
_DYNAMIC = struct.Struct(">8sQQIIII")


class Footer(NamedTuple):
    """The footer's fields that matter."""

    data_offset: int
    creator: bytes
    current_size: int
    cylinders: int
    heads: int
    sectors: int
    type: int

    def size(self, calculation: str | None) -> int:
        """Bytes of the disk, by ``chs`` or ``current_size``, or as the creator's program would."""
        geometry = self.cylinders * self.heads * self.sectors
        exact = calculation == "current_size" or (calculation is None
                                                  and self.creator in EXACT_CREATORS)
        if exact or geometry == MAX_GEOMETRY:
            return self.current_size // SECTOR * SECTOR
        return geometry * SECTOR


def read_footer(file: BlockDevice) -> tuple[bytes, Footer, bool]:
    """The footer, or its copy at the start of a dynamic disk: bytes, fields, whether fixed."""
    data = file.pread(0, SECTOR)
    fixed = data[:8] != COOKIE
    if fixed:
        if file.size == 0:
            raise ImageFormatError("File too small for a VHD header")
        data = file.pread(max(0, file.size - SECTOR), SECTOR)
    fields = _FOOTER.unpack_from(data)
    if fields[0] != COOKIE or (fixed and fields[13] != TYPE_FIXED):
        raise ImageFormatError("invalid VPC image")
    if checksum(data[:64] + bytes(4) + data[68:]) != fields[14]:
        raise ImageFormatError("Incorrect header checksum")
    return data, Footer(fields[3], fields[5], fields[9], fields[10], fields[11], fields[12],
                        fields[13]), fixed


def checksum(data: bytes) -> int:
    """The one's complement of the sum of the bytes."""
    return ~sum(data) & 0xFFFFFFFF


def geometry(sectors: int) -> tuple[int, int, int]:
    """Cylinders, heads and sectors a track, by the specification's appendix."""
    if sectors > 65535 * 16 * 255:
        sectors = 65535 * 16 * 255
    if sectors > 65535 * 16 * 63:
        return sectors // 255 // 16, 16, 255
    track = 17
    cylinders_times_heads = sectors // track
    heads = max(4, (cylinders_times_heads + 1023) // 1024)
    if cylinders_times_heads >= heads * 1024 or heads > 16:
        track, heads = 31, 16
        cylinders_times_heads = sectors // track
    if cylinders_times_heads >= heads * 1024:
        track, heads = 63, 16
        cylinders_times_heads = sectors // track
    return cylinders_times_heads // heads, heads, track


class VpcDevice(MappedImage):
    """A VHD image."""

    format_name = "vpc"
    writable_format = True

    def __init__(self, file: BlockDevice, *, calculation: str | None = None) -> None:
        head, footer, fixed = read_footer(file)
        if not fixed and footer.type not in (TYPE_FIXED, TYPE_DYNAMIC):
            raise NotSupported("VHD differencing disks are not supported")
        size = footer.size(calculation)
        if size > MAX_SECTORS * SECTOR:
            raise BlockError(os.strerror(errno.EFBIG), errno.EFBIG)
        self._table: array[int] | None = None
        self._bitmap_bytes = 0
        if fixed or footer.type == TYPE_FIXED:
            super().__init__(file, min(size, file.size - SECTOR), 1 << 62)
            self.cluster_size = 0  # nothing is allocated in steps
            return
        entries, block_size = self._read_dynamic_header(file, footer, size)
        super().__init__(file, size, block_size)
        self._table = read_table(file, self._table_at, entries, "I", big=True)
        self._bitmap_bytes = -(-block_size // SECTOR // 8 // SECTOR) * SECTOR
        self._footer = head
        self._end = max([self._table_at + entries * 4,
                         *(entry * SECTOR + self._bitmap_bytes + block_size
                           for entry in self._table if entry != UNUSED)])
        if self._end > file.size:
            raise ImageFormatError("block-vpc: free_data_block_offset points after the end of "
                                   "file. The image has been truncated.")

    def _read_dynamic_header(self, file: BlockDevice, footer: Footer, size: int
                             ) -> tuple[int, int]:
        """Entries of the table and bytes of a block."""
        if footer.data_offset >> 62:
            raise ImageFormatError("Error reading dynamic VHD header")
        cookie, _, self._table_at, _, entries, block_size, _ = _DYNAMIC.unpack_from(
            file.pread(footer.data_offset, 1024))
        if cookie != DYNAMIC_COOKIE:
            raise ImageFormatError("Invalid header magic")
        if block_size < SECTOR or block_size & (block_size - 1):
            raise ImageFormatError(f"Invalid block size {block_size}")
        if entries * block_size < size:
            raise ImageFormatError("Page table too small")
        if entries > MAX_ENTRIES:
            raise ImageFormatError(f"Max Table Entries too large ({entries})")
        return entries, block_size

    @classmethod
    def open(cls, file: BlockDevice, flags: OpenFlags) -> VpcDevice:
        """Open an image with the driver option ``force_size_calc``."""
        calculation = flags.take("force_size_calc")
        if calculation not in (None, "chs", "current_size"):
            raise BlockError(f"Invalid size calculation mode: '{calculation}'", errno.EINVAL)
        return cls(file, calculation=calculation)

    def block(self, index: int) -> Block:
        if self._table is None:
            return Block(True, False, 0)
        entry = self._table[index]
        if entry == UNUSED:
            return ABSENT
        return Block(True, False, entry * SECTOR + self._bitmap_bytes)

    def allocate(self, index: int, content: bytes) -> None:
        assert self._table is not None
        start = -(-self._end // SECTOR) * SECTOR
        self.file.pwrite(start, b"\xff" * self._bitmap_bytes)
        self.file.pwrite(start + self._bitmap_bytes, content)
        self._end = start + self._bitmap_bytes + self.block_size
        self.file.pwrite(self._end, self._footer)  # the footer stays last
        self._table[index] = start // SECTOR
        self.file.pwrite(self._table_at + 4 * index, self._table[index].to_bytes(4, "big"))

    @staticmethod
    def create_image(path: str, size: int, values: dict[str, Any]) -> None:
        """Make an image; without force_size its size is a whole geometry, as Virtual PC wants."""
        kind = values.get("subformat", "dynamic")
        if kind not in ("dynamic", "fixed"):
            raise BlockError(f"Parameter 'subformat' does not accept value '{kind}'",
                             errno.EINVAL)
        exact = bool(values.get("force_size"))
        shape, sectors = _rounded_size(size // SECTOR, exact=exact)
        if sectors > MAX_SECTORS:
            raise BlockError("The image size is too large for file format 'vpc'", errno.EFBIG)
        fixed = kind == "fixed"
        footer = _build_footer(sectors * SECTOR, shape, fixed=fixed, exact=exact)
        with PosixFile.create(path) as file:
            if fixed:
                file.pwrite(sectors * SECTOR, footer)
                return
            entries = -(-sectors * SECTOR // BLOCK_SIZE)
            table = b"\xff" * (-(-entries * 4 // SECTOR) * SECTOR)
            header = _DYNAMIC.pack(DYNAMIC_COOKIE, (1 << 64) - 1, 3 * SECTOR, 0x10000, entries,
                                   BLOCK_SIZE, 0).ljust(1024, b"\0")
            total = checksum(header)
            header = header[:36] + total.to_bytes(4, "big") + header[40:]
            file.pwrite(0, footer + header + table + footer)


def _rounded_size(sectors: int, *, exact: bool) -> tuple[tuple[int, int, int], int]:
    """A geometry for at least so many sectors, and how many the disk has then."""
    if exact:
        return (65535, 16, 255), sectors
    grown = wanted = min(sectors, MAX_GEOMETRY)
    shape = geometry(grown) if wanted else (0, 0, 0)
    while shape[0] * shape[1] * shape[2] < wanted:
        grown += 1
        shape = geometry(grown)
    product = shape[0] * shape[1] * shape[2]
    return shape, sectors if product == MAX_GEOMETRY else product


def _build_footer(size: int, shape: tuple[int, int, int], *, fixed: bool, exact: bool) -> bytes:
    data_offset = (1 << 64) - 1 if fixed else SECTOR
    packed = _FOOTER.pack(COOKIE, 2, 0x10000, data_offset, max(0, int(time.time()) - EPOCH),
                          b"qem2" if exact else b"qemu", 0x50003, 0x5769326B, size, size, *shape,
                          TYPE_FIXED if fixed else TYPE_DYNAMIC, 0, os.urandom(16), 0)
    footer = packed.ljust(SECTOR, b"\0")
    return footer[:64] + checksum(footer).to_bytes(4, "big") + footer[68:]
