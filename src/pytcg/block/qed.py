"""QED, QEMU's enhanced disk: two levels of tables (reading).

Reference: docs/interop/qed_spec.txt of the QEMU project. Integers are little-endian.
"""

from __future__ import annotations

import struct
from array import array

from pytcg.typed import TYPE_CHECKING

from .device import BlockDevice, ImageFormatError, NotSupported
from .mapped import ABSENT, ZERO, Block, MappedImage, TableLru, read_table

if TYPE_CHECKING:
    from .open import OpenFlags

_HEADER = struct.Struct("<4sIIIQQQQQII")
FEATURE_BACKING, FEATURE_NEED_CHECK, FEATURE_RAW_BACKING = 1, 2, 4
KNOWN_FEATURES = 7


class QedDevice(MappedImage):
    """A QED image."""

    format_name = "qed"
    supports_backing = True

    def __init__(self, file: BlockDevice) -> None:
        (magic, cluster, table_clusters, header_clusters, features, _, _, l1_offset, size,
         name_offset, name_length) = _HEADER.unpack_from(file.pread(0, 512))
        if magic != b"QED\0":
            raise ImageFormatError("Image not in QED format")
        if features & ~KNOWN_FEATURES:
            raise NotSupported(f"Unsupported QED features: {features & ~KNOWN_FEATURES:x}")
        if cluster & (cluster - 1) or not 4096 <= cluster <= 64 << 20:
            raise ImageFormatError("QED cluster size is invalid")
        if table_clusters & (table_clusters - 1) or not 1 <= table_clusters <= 16:
            raise ImageFormatError("QED table size is invalid")
        self._entries = cluster * table_clusters // 8
        if size % 512 or size > self._entries * self._entries * cluster:
            raise ImageFormatError("QED image size is invalid")
        super().__init__(file, size, cluster)
        self._l1 = read_table(file, l1_offset, self._entries, "Q", what="L1 table")
        self._tables = TableLru(self._load_l2)
        if features & FEATURE_BACKING:
            if name_offset + name_length > header_clusters * cluster or name_length > 1023:
                raise ImageFormatError("QED backing file name is invalid")
            name = file.pread(name_offset, name_length)
            self.backing_file = name.decode(errors="surrogateescape")
            self.backing_format = "raw" if features & FEATURE_RAW_BACKING else None

    @classmethod
    def open(cls, file: BlockDevice, flags: OpenFlags) -> QedDevice:
        """Open an image."""
        return cls(file)

    def _load_l2(self, offset: int) -> array[int]:
        return read_table(self.file, offset, self._entries, "Q", what="L2 table")

    def block(self, index: int) -> Block:
        first, second = divmod(index, self._entries)
        table = self._l1[first]
        if not table:
            return ABSENT
        offset = self._tables.get(table)[second]
        if offset <= 1:
            return ZERO if offset else ABSENT
        if offset % self.cluster_size:
            raise ImageFormatError(f"QED cluster offset {offset:#x} is invalid")
        return Block(True, False, offset)
