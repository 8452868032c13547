"""The raw format: the protocol's bytes as they are, or a window of them (offset=, size=)."""

from __future__ import annotations

import errno
from collections.abc import Sequence

from pytcg.block.device import BlockDevice, BlockError, Extent
from pytcg.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from pytcg.block.open import OpenFlags

SECTOR = 512
PROBE_SIZE = 512


class RawDevice(BlockDevice):
    """A raw image; its size is the file's, rounded up to a sector as in QEMU."""

    format_name = "raw"

    def __init__(self, file: BlockDevice, *, offset: int = 0, size: int | None = None) -> None:
        self.file: BlockDevice = file
        self.filename = file.filename
        self.read_only = file.read_only
        self.has_zero_init = file.has_zero_init
        self._offset = offset
        length = file.size
        if offset > length:
            raise BlockError(f"Offset ({offset}) cannot be greater than size of the containing "
                             f"file ({length})", errno.EINVAL)
        if size is not None and size > length - offset:
            raise BlockError(f"The sum of offset ({offset}) and size ({size}) has to be smaller "
                             f"or equal to the  actual size of the containing file ({length})",
                             errno.EINVAL)
        if size is not None and size % SECTOR:
            raise BlockError(f"Specified size is not multiple of {SECTOR}", errno.EINVAL)
        self._window = size is not None or offset != 0
        self._size = size if size is not None else -(-(length - offset) // SECTOR) * SECTOR

    @classmethod
    def open(cls, file: BlockDevice, flags: OpenFlags) -> RawDevice:
        """Open with the driver options ``offset`` and ``size``."""
        offset = flags.take_size("offset", 0)
        size = flags.take_size("size", -1)
        if file.debugged:
            from pytcg.block.filters.blkdebug import EventfulRaw as cls
        return cls(file, offset=offset, size=None if size < 0 else size)

    @property
    def size(self) -> int:
        return self._size

    def read_into(self, offset: int, buffer: memoryview) -> None:
        self.check_range(offset, len(buffer))
        self.file.read_into(offset + self._offset, buffer)

    def read_now(self, offset: int, buffers: Sequence[memoryview]) -> bool:
        return (self._holds(offset, buffers)
                and self.file.read_now(offset + self._offset, buffers))

    def write_now(self, offset: int, buffers: Sequence[memoryview]) -> bool:
        guarded = self.read_only or self.dirty or (self.probed and offset < PROBE_SIZE)
        return (not guarded and self._holds(offset, buffers)
                and self.file.write_now(offset + self._offset, buffers))

    def _holds(self, offset: int, buffers: Sequence[memoryview]) -> bool:
        return offset >= 0 and offset + sum(map(len, buffers)) <= self._size

    def host_range(self, offset: int, length: int) -> tuple[int, int] | None:
        return self.file.host_range(offset + self._offset, length)

    def pread(self, offset: int, length: int) -> bytes:
        if offset < 0 or offset + length > self._size:
            self.check_range(offset, length)
        return self.file.pread(offset + self._offset, length)

    def pwrite(self, offset: int, data: bytes | bytearray | memoryview, *, fua: bool = False
               ) -> None:
        self.check_range(offset, len(data), write=True)
        if self.probed and offset < PROBE_SIZE:
            self._guard_header(offset, data)
        self.file.pwrite(offset + self._offset, data, fua=fua)

    def _guard_header(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        # A guest must not turn a guessed raw disk into, say, a qcow2 with a backing file.
        from pytcg.block.probe import probe_format

        head = bytearray(self.file.pread(self._offset, PROBE_SIZE))
        part = bytes(data[: PROBE_SIZE - offset])
        head[offset : offset + len(part)] = part
        if probe_format(bytes(head), self.filename) != "raw":
            raise BlockError("Operation not permitted", errno.EPERM)

    def write_zeroes(self, offset: int, length: int, *, may_unmap: bool = True,
                     fua: bool = False) -> None:
        self.check_range(offset, length, write=True)
        self.file.write_zeroes(offset + self._offset, length, may_unmap=may_unmap, fua=fua)

    def discard(self, offset: int, length: int) -> None:
        self.check_range(offset, length, write=True)
        self.file.discard(offset + self._offset, length)

    def layer_status(self, offset: int, length: int) -> Extent:
        extent = self.file.layer_status(offset + self._offset, length)
        return extent if extent.length <= length else extent._replace(length=length)

    def flush(self) -> None:
        self.file.debug_event("flush_to_disk")
        self.file.flush()

    def truncate(self, size: int, *, preallocation: str = "off") -> None:
        if self._window:
            raise BlockError("Cannot resize fixed-size raw disks", errno.ENOTSUP)
        self.file.truncate(size, preallocation=preallocation)
        self._size = -(-size // SECTOR) * SECTOR
