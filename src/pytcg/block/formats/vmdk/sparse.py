"""Sparse VMDK extents: a grain directory of grain tables, the grains plain or compressed.

Reference: VMware's "Virtual Disk Format 5.0". Integers are little-endian.
"""

from __future__ import annotations

import errno
import os
import struct
import zlib
from array import array

from pytcg.block.device import BlockDevice, BlockError, ImageFormatError, NotSupported
from pytcg.block.formats.mapped import (
    ABSENT,
    SECTOR,
    ZERO,
    Block,
    MappedImage,
    TableLru,
    read_table,
)
from pytcg.typed import NamedTuple

MAGIC, MAGIC_COWD = b"KDMV", b"COWD"
FLAG_NEWLINE, FLAG_REDUNDANT, FLAG_ZERO_GRAIN = 1, 2, 4
FLAG_COMPRESSED, FLAG_MARKERS = 1 << 16, 1 << 17
DEFLATE = 1
AT_END = (1 << 64) - 1  # the grain directory's place when a footer knows it
MARKER_END, MARKER_FOOTER = 0, 3
MAX_GRAIN_SECTORS = 0x200000
MAX_COMPRESSED_GRAIN = 16 << 20  # unpacked in memory
MAX_DIRECTORY = 32 << 20
GTE_ZEROED = 1
HEADER = struct.Struct("<4sIIQQQQIQQQBccccH")
_COWD_HEADER = struct.Struct("<4sIIIIII")
_MARKER = struct.Struct("<QII")
_GRAIN_MARKER = struct.Struct("<QI")


class SparseHeader(NamedTuple):
    """What the header of a sparse extent says; places and sizes in sectors."""

    version: int
    flags: int
    capacity: int
    grain: int
    descriptor_at: int
    descriptor_sectors: int
    gt_entries: int
    redundant_at: int
    directory_at: int
    overhead: int
    compressed: bool

    @property
    def directory_entries(self) -> int:
        """Grain tables that cover the capacity."""
        return -(-self.capacity // (self.gt_entries * self.grain))


def read_sparse_header(file: BlockDevice) -> SparseHeader:
    """The header, or the footer that takes its place."""
    header = _parse(file.pread(0, SECTOR))
    if header.directory_at == AT_END:
        # A marker, the footer, and the end-of-stream marker are the last three sectors.
        tail = file.pread(max(0, file.size // SECTOR - 3) * SECTOR, 3 * SECTOR)
        _, *footer_marker = _MARKER.unpack_from(tail)
        end_marker = _MARKER.unpack_from(tail, 2 * SECTOR)
        if (tail[SECTOR : SECTOR + 4] != MAGIC or footer_marker != [0, MARKER_FOOTER]
                or end_marker != (0, 0, MARKER_END)):
            raise ImageFormatError("Invalid footer")
        header = _parse(tail[SECTOR : 2 * SECTOR])
    _check(header, file)
    return header


def _parse(data: bytes) -> SparseHeader:
    magic, *fields = HEADER.unpack_from(data)
    if magic == MAGIC_COWD:  # ESX's older form, without flags
        _, version, _, capacity, grain, directory_at, _ = _COWD_HEADER.unpack_from(data)
        return SparseHeader(version, 0, capacity, grain, 0, 0, 4096, 0, directory_at, 0, False)
    if magic != MAGIC:
        raise ImageFormatError("Image not in VMDK format")
    header = SparseHeader._make((*fields[:10], fields[-1] == DEFLATE))
    if header.gt_entries > 512:
        raise ImageFormatError("L2 table size too big")
    return header


def _check(header: SparseHeader, file: BlockDevice) -> None:
    if header.version > 3:
        raise NotSupported(f"Unsupported VMDK version {header.version}")
    if header.version == 3 and not file.read_only and not header.compressed:
        # VMware's changed block tracking, which a writer would have to maintain.
        raise ImageFormatError("VMDK version 3 must be read only")
    if header.gt_entries * header.grain == 0:
        raise ImageFormatError("L1 entry size is invalid")
    if file.size < header.overhead * SECTOR:
        raise ImageFormatError(f"File truncated, expecting at least {header.overhead * SECTOR} "
                               "bytes")
    if header.grain > MAX_GRAIN_SECTORS:
        raise ImageFormatError("Invalid granularity, image may be corrupt")
    if header.compressed and header.grain * SECTOR > MAX_COMPRESSED_GRAIN:
        raise NotSupported("Compressed VMDK grains of this size are not supported")
    if header.directory_entries > MAX_DIRECTORY:
        raise ImageFormatError("L1 size too big")


class SparseExtent(MappedImage):
    """A sparse extent."""

    format_name = "vmdk"
    writable_format = True

    def __init__(self, file: BlockDevice) -> None:
        self.header = header = read_sparse_header(file)
        self.compressed = header.compressed
        self.has_zero_grain = bool(header.flags & FLAG_ZERO_GRAIN)
        super().__init__(file, header.capacity * SECTOR, header.grain * SECTOR)
        self._directory = self._load_directory(header.directory_at)
        self._copy: array[int] | None = None  # the redundant directory, once it is written to
        self._tables = TableLru(self._load_table)
        self._last: tuple[int, bytes] | None = None

    def _load_directory(self, sector: int) -> array[int]:
        return read_table(self.file, sector * SECTOR, self.header.directory_entries, "I",
                          what="L1 table")

    def _load_table(self, sector: int) -> array[int]:
        return read_table(self.file, sector * SECTOR, self.header.gt_entries, "I",
                          what="L2 table")

    def block(self, index: int) -> Block:
        first, second = divmod(index, self.header.gt_entries)
        table = self._directory[first]
        if not table:
            return ABSENT
        sector = self._tables.get(table)[second]
        if sector == 0:
            return ABSENT
        if sector == GTE_ZEROED and self.has_zero_grain:
            return ZERO
        if self.compressed:
            return Block(True, False, 0, lambda: self._inflate(sector))
        return Block(True, False, sector * SECTOR)

    def _inflate(self, sector: int) -> bytes:
        last = self._last
        if last is not None and last[0] == sector:
            return last[1]
        at, length = sector * SECTOR, self.block_size
        if self.header.flags & FLAG_MARKERS:
            _, length = _GRAIN_MARKER.unpack(self.file.pread(at, _GRAIN_MARKER.size))
            at += _GRAIN_MARKER.size
        if length > 2 * self.block_size:
            raise BlockError(os.strerror(errno.EINVAL), errno.EINVAL)
        try:
            plain = zlib.decompressobj().decompress(self.file.pread(at, length),
                                                    self.block_size)
        except zlib.error:
            raise BlockError(os.strerror(errno.EINVAL), errno.EINVAL) from None
        plain = plain.ljust(self.block_size, b"\0")
        self._last = (sector, plain)
        return plain

    def allocate(self, index: int, content: bytes) -> None:
        if self.compressed:
            inside = min(self.block_size, self._size - index * self.block_size)
            self.store_packed(index, zlib.compress(content[:inside]))
            return
        unit = self.header.grain
        at = -(-self.file.size // (unit * SECTOR)) * unit
        self.file.pwrite(at * SECTOR, content)
        self._set_entry(index, at)

    def store_packed(self, index: int, packed: bytes) -> None:
        """Append a compressed grain; one that is there already can't be replaced."""
        with self._lock:
            if self.block(index).data:
                raise BlockError("Could not write to allocated cluster for streamOptimized")
            at = -(-self.file.size // SECTOR)
            marker = _GRAIN_MARKER.pack(index * self.header.grain, len(packed))
            length = -(-(len(marker) + len(packed)) // SECTOR) * SECTOR
            self.file.pwrite(at * SECTOR, (marker + packed).ljust(length, b"\0"))
            self._set_entry(index, at)

    def make_zero(self, index: int) -> None:
        """Mark a whole grain as zeroes, where the extent may have such marks."""
        with self._lock:
            if not self.block(index).zero:
                self._set_entry(index, GTE_ZEROED)

    def _set_entry(self, index: int, value: int) -> None:
        """Point a grain table entry, and its redundant copy, to a sector."""
        first, second = divmod(index, self.header.gt_entries)
        table = self._directory[first]
        if not table:
            raise ImageFormatError("VMDK image lacks a grain table")
        if value >> 32:
            raise BlockError(os.strerror(errno.EFBIG), errno.EFBIG)
        entry = value.to_bytes(4, "little")
        self.file.pwrite(table * SECTOR + 4 * second, entry)
        if self.header.flags & FLAG_REDUNDANT:
            if self._copy is None:
                self._copy = self._load_directory(self.header.redundant_at)
            self.file.pwrite(self._copy[first] * SECTOR + 4 * second, entry)
        self._tables.get(table)[second] = value

    def check(self) -> None:
        """BlockError for the first grain or table that can't be where the image says."""
        end = self.file.size
        for first, table in enumerate(self._directory):
            if not table:
                continue
            base = first * self.header.gt_entries * self.header.grain
            try:
                sectors = self._tables.get(table)
            except BlockError:
                raise _bad_grain(f"could not get cluster_offset for sector {base}") from None
            for second, sector in enumerate(sectors):
                if sector * SECTOR >= end:
                    where = base + second * self.header.grain
                    raise _bad_grain(f"cluster offset for sector {where} points after EOF")


def _bad_grain(message: str) -> BlockError:
    return BlockError(f"ERROR: {message}", errno.EINVAL)
