"""QED, QEMU's enhanced disk: two levels of tables, and the file's length as the allocator.

Reference: docs/interop/qed_spec.txt of the QEMU project. Integers are little-endian.
"""

from __future__ import annotations

import errno
import os
import sys
from array import array
from collections.abc import Callable

from pytcg.block.device import BlockDevice, BlockError, ImageFormatError, NotSupported
from pytcg.block.formats.mapped import ABSENT, ZERO, Block, MappedImage, TableLru, read_table
from pytcg.block.formats.qed.format import (
    FEATURE_BACKING,
    FEATURE_NEED_CHECK,
    FEATURE_RAW_BACKING,
    MAX_NAME,
    Header,
    read_header,
)
from pytcg.typed import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytcg.block.check_result import CheckResult
    from pytcg.block.open import OpenFlags

CLUSTER_ZERO = 1  # in the place of an offset


class QedDevice(MappedImage):
    """A QED image."""

    format_name = "qed"
    supports_backing = True
    writable_format = True

    def __init__(self, file: BlockDevice, *, check: bool = False) -> None:
        self.header = header = read_header(file)
        super().__init__(file, header.size, header.cluster_size)
        self._entries = header.table_bytes // 8
        self.l1 = read_table(file, header.l1_offset, self._entries, "Q", what="L1 table")
        self.tables = TableLru(self.load_table)
        self._marked = False  # NEED_CHECK is ours, to be cleared on closing
        self.end = file.size // header.cluster_size * header.cluster_size
        if header.features & FEATURE_BACKING:
            if header.name_length > MAX_NAME:
                raise ImageFormatError("Failed to read backing filename")
            name = file.pread(header.name_offset, header.name_length)
            self.backing_file = os.fsdecode(name)
            self.backing_format = "raw" if header.features & FEATURE_RAW_BACKING else None
        if self.needs_check and not check and not self.read_only:
            self._repair_on_open()

    @classmethod
    def open(cls, file: BlockDevice, flags: OpenFlags) -> QedDevice:
        """Open an image."""
        return cls(file, check=flags.check)

    def _repair_on_open(self) -> None:
        """It was not closed: drop what did not get into the file."""
        try:
            self.check(repair="all", report=lambda line: None)
        except BlockError:
            raise ImageFormatError("Image corrupted") from None

    @property
    def needs_check(self) -> bool:
        """Whether the image must be checked before it is changed again."""
        return bool(self.header.features & FEATURE_NEED_CHECK)

    def load_table(self, offset: int) -> array[int]:
        """Read an L2 table."""
        if not self.holds_table(offset):
            raise BlockError(os.strerror(errno.EINVAL), errno.EINVAL)
        return read_table(self.file, offset, self._entries, "Q", what="L2 table")

    def holds(self, offset: int) -> bool:
        """Whether a cluster may be at this offset."""
        first = self.header.header_clusters * self.block_size
        return not offset % self.block_size and first <= offset < self.end

    def holds_table(self, offset: int) -> bool:
        """Whether an L2 table may be at this offset."""
        return self.holds(offset) and offset + self.header.table_bytes <= self.end

    def block(self, index: int) -> Block:
        first, second = divmod(index, self._entries)
        table = self.l1[first]
        if not table:
            return ABSENT
        offset = self.tables.get(table)[second]
        if offset <= CLUSTER_ZERO:
            return ZERO if offset else ABSENT
        if not self.holds(offset):
            raise BlockError(os.strerror(errno.EINVAL), errno.EINVAL)
        return Block(True, False, offset)

    # ---- writing ----

    def allocate(self, index: int, content: bytes) -> None:
        self._begin_changes()
        table = self._table_for(index)  # first, so that the data stays together
        offset = self._grow(self.block_size)
        self.file.pwrite(offset, content)
        if self.backing is not None:
            # Else a crash could leave the cluster there with less than it hides of the backing.
            self.file.flush()
        self._link(table, index, offset)

    def _grow(self, length: int) -> int:
        """Take space at the end of the file, which grows as it is written."""
        offset, self.end = self.end, self.end + length
        return offset

    def _table_for(self, index: int) -> int:
        """The L2 table of a cluster, made if need be."""
        first = index // self._entries
        table = self.l1[first]
        if not table:
            table = self._grow(self.header.table_bytes)
            self.file.pwrite(table, bytes(self.header.table_bytes))
            self.file.flush()  # an L1 entry never points to what isn't there
            self._write_entry(self.header.l1_offset + 8 * first, table)
            self.l1[first] = table
        return table

    def _link(self, table: int, index: int, offset: int) -> None:
        second = index % self._entries
        self._write_entry(table + 8 * second, offset)
        self.tables.get(table)[second] = offset

    def _write_entry(self, at: int, value: int) -> None:
        self.file.pwrite(at, value.to_bytes(8, "little"))

    def write_table(self, offset: int, entries: array[int]) -> None:
        """Store a whole table."""
        if sys.byteorder == "big":
            entries = array("Q", entries)
            entries.byteswap()
        self.file.pwrite(offset, memoryview(entries).cast("B"))

    def _begin_changes(self) -> None:
        if not self.needs_check:
            self._marked = True
            self.set_features(self.header.features | FEATURE_NEED_CHECK)
            self.file.flush()

    def set_features(self, features: int) -> None:
        """Rewrite the header with other features."""
        self._set_header(self.header._replace(features=features))

    def _set_header(self, header: Header, name: bytes = b"") -> None:
        self.file.pwrite(0, header.pack() + name)
        self.header = header

    def write_zeroes(self, offset: int, length: int, *, may_unmap: bool = True,
                     fua: bool = False) -> None:
        self.check_range(offset, length, write=True)
        end = offset + length
        while offset < end:
            index, inside = divmod(offset, self.block_size)
            step = min(self.block_size - inside, end - offset)
            whole = step == self.block_size or (not inside and end == self._size)
            with self._lock:
                block = self.block(index)
                if whole and not block.data and not block.zero:
                    self._begin_changes()
                    self._link(self._table_for(index), index, CLUSTER_ZERO)
                elif not block.zero:
                    self.pwrite(offset, bytes(step))
            offset += step
        if fua:
            self.flush()

    def truncate(self, size: int, *, preallocation: str = "off") -> None:
        if preallocation != "off":
            raise NotSupported(f"Unsupported preallocation mode '{preallocation}'")
        if size > self.header.max_size or size % 512:
            raise BlockError("Invalid image size specified", errno.EINVAL)
        if size < self._size:
            raise NotSupported("Shrinking images is currently not supported")
        self._set_header(self.header._replace(size=size))
        self._size = size

    def change_backing_file(self, name: str | None, format: str | None) -> None:
        """Name another backing file in the header, without looking at either."""
        self.check_range(0, 0, write=True)
        encoded = os.fsencode(name) if name else None
        self._set_header(self.header.with_backing(encoded, raw=format == "raw"), encoded or b"")
        self.backing_file = name or None
        self.backing_format = "raw" if name and format == "raw" else None

    def check(self, *, repair: str | None = None,
              report: Callable[[str], None] = lambda line: print(line, file=sys.stderr)
              ) -> CheckResult:
        """Compare tables and file; with ``repair``, drop references to what isn't there."""
        from pytcg.block.formats.qed.check import check_qed

        return check_qed(self, repair=repair is not None)

    def close(self) -> None:
        if self._marked:
            self._marked = False
            self.file.flush()
            self.set_features(self.header.features & ~FEATURE_NEED_CHECK)
        super().close()

    @staticmethod
    def create_image(path: str, size: int, values: dict[str, Any]) -> None:
        """Make an image."""
        from pytcg.block.formats.qed.format import create_qed

        create_qed(path, size, values)
