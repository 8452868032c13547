"""Parallels's old images (.hdd's single files), a header and one table of clusters.

Reference: docs/interop/parallels.txt of the QEMU project. Integers are little-endian.
"""

from __future__ import annotations

import errno
import os
import struct
import sys
from collections.abc import Callable

from pytcg.block.device import BlockDevice, BlockError, ImageFormatError
from pytcg.block.formats.mapped import ABSENT, SECTOR, Block, MappedImage, read_table
from pytcg.block.protocols.posix import PosixFile
from pytcg.typed import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytcg.block.check_result import CheckResult
    from pytcg.block.open import OpenFlags

_HEADER = struct.Struct("<16sIIIIIQIIIQ")
MAGIC_SECTORS = b"WithoutFreeSpace"  # the table counts in sectors, sizes have 32 bits
MAGIC_CLUSTERS = b"WithouFreSpacExt"  # the table counts in clusters
VERSION = 2
MAX_CLUSTER_SECTORS = 0x7FFFFFFF // 513
MAX_ENTRIES = 0x7FFFFFFF // 4
DEFAULT_CLUSTER = 1 << 20
HEADS, TRACK_SECTORS = 16, 32  # of a geometry that nobody looks at
IN_USE_AT, IN_USE = 44, 0x746F6E59


class ParallelsDevice(MappedImage):
    """A Parallels image."""

    format_name = "parallels"
    supports_backing = True  # the image can't name one, options can
    writable_format = True

    def __init__(self, file: BlockDevice, *, check: bool = False) -> None:
        (magic, version, _, _, tracks, entries, sectors, in_use, data_at, _,
         _) = _HEADER.unpack_from(file.pread(0, 512))
        if version != VERSION or magic not in (MAGIC_SECTORS, MAGIC_CLUSTERS):
            raise ImageFormatError("Image not in Parallels format")
        if tracks == 0:
            raise ImageFormatError("Invalid image: Zero sectors per track")
        if tracks > MAX_CLUSTER_SECTORS:
            raise BlockError("Invalid image: Too big cluster", errno.EFBIG)
        if entries > MAX_ENTRIES:
            raise BlockError("Catalog too large", errno.EFBIG)
        if magic == MAGIC_SECTORS:
            sectors &= 0xFFFFFFFF
        if sectors >> 54:
            raise ImageFormatError("Invalid image: the disk is too large")
        if in_use == IN_USE and not file.read_only and not check:
            raise BlockError("parallels: Image was not closed correctly; cannot be opened "
                             "read/write", errno.EACCES)
        self._unclean = in_use == IN_USE
        super().__init__(file, sectors * SECTOR, tracks * SECTOR)
        self._unit = SECTOR if magic == MAGIC_SECTORS else tracks * SECTOR
        self._table = read_table(file, _HEADER.size, entries, "I", what="Catalog")
        first = data_at * SECTOR or _HEADER.size + 4 * entries
        self._data_at = -(-first // SECTOR) * SECTOR
        last = max(self._table, default=0)
        self._end = max(first, last * self._unit + self.block_size if last else 0)
        self._marked = False

    @classmethod
    def open(cls, file: BlockDevice, flags: OpenFlags) -> ParallelsDevice:
        """Open an image."""
        return cls(file, check=flags.check)

    def block(self, index: int) -> Block:
        entry = self._table[index] if index < len(self._table) else 0
        return Block(True, False, entry * self._unit) if entry else ABSENT

    def allocate(self, index: int, content: bytes) -> None:
        if index >= len(self._table):
            raise BlockError(os.strerror(errno.EINVAL), errno.EINVAL)
        entry = -(-self._end // self._unit)
        if entry >> 32:
            raise BlockError(os.strerror(errno.ENOSPC), errno.ENOSPC)
        if not self._marked:
            self._mark(IN_USE)
        self.file.pwrite(entry * self._unit, content)
        self.file.pwrite(_HEADER.size + 4 * index, entry.to_bytes(4, "little"))
        self._table[index] = entry
        self._end = entry * self._unit + self.block_size

    def _mark(self, value: int) -> None:
        """Say in the header whether someone is changing the table."""
        self._marked = bool(value)
        self.file.pwrite(IN_USE_AT, value.to_bytes(4, "little"))
        self.file.flush()

    def check(self, *, repair: str | None = None,
              report: Callable[[str], None] = lambda line: print(line, file=sys.stderr)
              ) -> CheckResult:
        """Clusters lie in the file, which ends with the last of them and was closed."""
        from pytcg.block.check_result import CheckResult

        result = CheckResult()
        fix, verb = repair == "all", "Repairing" if repair == "all" else "ERROR"
        if self._unclean:
            report(f"{verb} image was not closed correctly")
            result.corruptions += 1
            if fix:
                result.corruptions_fixed += 1
                self._unclean, self._marked = False, True  # closing says so
        self._check_clusters(result, verb, report, fix=fix)
        size = self.file.size
        if size > result.image_end_offset:
            leaks = -(-(size - result.image_end_offset) // self.block_size)
            report(f"{'Repairing' if repair else 'ERROR'} space leaked at the end of the image "
                   f"{size - result.image_end_offset}")
            result.leaks += leaks
            if repair:
                self.file.truncate(result.image_end_offset)
                result.leaks_fixed += leaks
        return result

    def _check_clusters(self, result: CheckResult, verb: str, report: Callable[[str], None], *,
                        fix: bool) -> None:
        size, last = self.file.size, 0
        result.total_clusters = len(self._table)
        result.image_end_offset = self._data_at
        for index, entry in enumerate(self._table):
            offset = entry * self._unit
            if offset > size:
                report(f"{verb} cluster {index} is outside image")
                result.corruptions += 1
                if fix:
                    self.file.pwrite(_HEADER.size + 4 * index, bytes(4))
                    self._table[index] = 0
                    result.corruptions_fixed += 1
                    offset = 0
            if offset:
                result.allocated_clusters += 1
                result.fragmented_clusters += bool(last) and last + self.block_size != offset
                result.image_end_offset = max(result.image_end_offset, offset + self.block_size)
            last = offset

    def close(self) -> None:
        if self._marked:
            self.file.flush()
            self._mark(0)
        super().close()

    @staticmethod
    def create_image(path: str, size: int, values: dict[str, Any]) -> None:
        """Make an image whose table counts in clusters."""
        cluster = -(-int(values.get("cluster_size", DEFAULT_CLUSTER)) // SECTOR) * SECTOR
        if not 0 < cluster <= MAX_CLUSTER_SECTORS * SECTOR:
            raise BlockError("Cluster size is out of range", errno.EINVAL)
        entries = -(-size // cluster)
        if entries > MAX_ENTRIES or size >= MAX_ENTRIES * cluster:
            raise BlockError("Image size is too large for this cluster size", errno.E2BIG)
        data_at = -(-(_HEADER.size + 4 * entries) // cluster) * cluster
        sectors = size // SECTOR
        header = _HEADER.pack(MAGIC_CLUSTERS, VERSION, HEADS, sectors // (HEADS * TRACK_SECTORS),
                              cluster // SECTOR, entries, sectors, 0, data_at // SECTOR, 0, 0)
        with PosixFile.create(path) as file:
            file.truncate(data_at)
            file.pwrite(0, header)
