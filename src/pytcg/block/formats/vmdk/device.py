"""VMDK, VMware's format: a text descriptor and extents, flat or sparse, perhaps compressed.

Reference: VMware's "Virtual Disk Format 5.0". The sparse extents are in vmdk_sparse.
"""

from __future__ import annotations

import errno
import os
import sys
import zlib
from collections.abc import Callable

from pytcg.block.device import BlockDevice, BlockError, Extent, ImageFormatError, NotSupported
from pytcg.block.formats.mapped import SECTOR
from pytcg.block.formats.raw import RawDevice
from pytcg.block.formats.vmdk.descriptor import (
    MAX_DESCRIPTOR,
    ExtentLine,
    check_create_type,
    parse_descriptor,
    renew_cid,
)
from pytcg.block.formats.vmdk.sparse import MAGIC, MAGIC_COWD, SparseExtent
from pytcg.block.options import resolve_backing
from pytcg.block.protocols.posix import PosixFile
from pytcg.typed import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytcg.block.check_result import CheckResult
    from pytcg.block.open import OpenFlags

MAX_EXTENTS = 1 << 15


class VmdkDevice(BlockDevice):
    """A VMDK image of one or several extents."""

    format_name = "vmdk"
    supports_backing = True
    can_compress = True

    def __init__(self, file: BlockDevice) -> None:
        self.file: BlockDevice = file
        self.filename = file.filename
        self.read_only = file.read_only
        self._opened: list[BlockDevice] = []
        self._parent: BlockDevice | None = None  # the backing file the extents know
        self._renew_cid = True
        self.parts: list[BlockDevice] = []
        self._place = (0, 0)  # the descriptor's offset and length
        try:
            self._open_parts(file)
        except BaseException:
            self._close_extents()
            raise
        self._starts = []
        self._size = 0
        for part in self.parts:
            self._starts.append(self._size)
            self._size += part.size
        self.cluster_size = max(part.cluster_size for part in self.parts)
        self.has_zero_init = all(part.has_zero_init for part in self.parts)
        self.needs_compressed_writes = any(
            isinstance(part, SparseExtent) and part.compressed for part in self.parts)
        self.backing_file = self.descriptor.values.get("parentFileNameHint")
        self.backing_format = "vmdk" if self.backing_file is not None else None

    def _open_parts(self, file: BlockDevice) -> None:
        if file.pread(0, 4) in (MAGIC, MAGIC_COWD):
            extent = SparseExtent(file)
            header = extent.header
            length = min(header.descriptor_sectors * SECTOR, MAX_DESCRIPTOR)
            if header.descriptor_at and header.descriptor_at * SECTOR < file.size:
                self._place = (header.descriptor_at * SECTOR, length)
            self.descriptor = parse_descriptor(file.pread(*self._place))
            self.parts = [extent]
            return
        if file.size < 4:
            raise ImageFormatError("File is too small, not a valid image")
        self._place = (0, min(file.size, MAX_DESCRIPTOR))
        self.descriptor = parse_descriptor(file.pread(*self._place))
        check_create_type(self.descriptor)
        if not 0 < len(self.descriptor.extents) <= MAX_EXTENTS:
            raise ImageFormatError("VMDK descriptor names no extents")
        for line in self.descriptor.extents:
            self.parts.append(self._open_extent(line))

    def _open_extent(self, line: ExtentLine) -> BlockDevice:
        if line.type == "SESPARSE":
            raise NotSupported(f"Unsupported extent type '{line.type}'")
        try:
            path = resolve_backing(self.file.location, line.name)
        except BlockError:
            raise BlockError("Cannot use relative paths with VMDK descriptor file "
                             f"'{self.filename}'", errno.EINVAL) from None
        opened = PosixFile(path, read_only=self.read_only)
        self._opened.append(opened)
        if line.type in ("SPARSE", "VMFSSPARSE"):
            return SparseExtent(opened)
        return RawDevice(opened, offset=line.offset * SECTOR, size=line.sectors * SECTOR)

    @classmethod
    def open(cls, file: BlockDevice, flags: OpenFlags) -> VmdkDevice:
        """Open an image."""
        return cls(file)

    def format_specific(self) -> dict[str, Any]:
        """What info shows."""
        kind = self.descriptor.create_type
        if self.parts[0].file is self.file:
            kind = "streamOptimized" if self.needs_compressed_writes else kind
            kind = kind or "monolithicSparse"
        return {"cid": self.descriptor.cid("CID"), "parent-cid": self.descriptor.cid("parentCID"),
                "create-type": kind,
                "extents": [self._describe_extent(index) for index in range(len(self.parts))]}

    def _describe_extent(self, index: int) -> dict[str, Any]:
        part = self.parts[index]
        found: dict[str, Any] = {}
        if isinstance(part, SparseExtent) and part.compressed:
            found["compressed"] = True
        found |= {"virtual-size": part.size, "filename": part.filename}
        if part.cluster_size:
            found["cluster-size"] = part.cluster_size
        named = part.file is not self.file
        return found | {"format": self.descriptor.extents[index].type if named else ""}

    @property
    def size(self) -> int:
        return self._size

    @property
    def allocated_size(self) -> int | None:
        sizes = [file.allocated_size or 0 for file in (self.file, *self._opened)]
        return sum(sizes)

    def _at(self, offset: int) -> tuple[BlockDevice, int]:
        from bisect import bisect_right

        if self.backing is not self._parent:
            self._adopt(self.backing)
        index = bisect_right(self._starts, offset) - 1
        return self.parts[index], offset - self._starts[index]

    def _adopt(self, backing: BlockDevice | None) -> None:
        """Show each extent its part of the backing file, if that is still the one it overlays."""
        if isinstance(backing, VmdkDevice) and (
                backing.descriptor.cid("CID") != self.descriptor.cid("parentCID")):
            raise BlockError(os.strerror(errno.EINVAL), errno.EINVAL)
        for part, start in zip(self.parts, self._starts, strict=True):
            part.backing = backing
            if start and backing is not None:
                part.backing = RawDevice(backing, offset=min(start, backing.size))
        self._parent = backing

    def read_into(self, offset: int, buffer: memoryview) -> None:
        self.check_range(offset, len(buffer))
        while buffer:
            part, inside = self._at(offset)
            step = min(len(buffer), part.size - inside)
            part.read_into(inside, buffer[:step])
            offset, buffer = offset + step, buffer[step:]

    def pwrite(self, offset: int, data: bytes | bytearray | memoryview, *, fua: bool = False
               ) -> None:
        self.check_range(offset, len(data), write=True)
        rest = memoryview(data).cast("B")
        while rest:
            part, inside = self._at(offset)
            step = min(len(rest), part.size - inside)
            self._check_whole_grains(part, inside, step)
            part.pwrite(inside, rest[:step])
            self._content_changed()
            offset, rest = offset + step, rest[step:]
        if fua:
            self.flush()

    @staticmethod
    def _check_whole_grains(part: BlockDevice, inside: int, length: int) -> None:
        """A compressed grain can't be filled in later: only whole ones are written."""
        if isinstance(part, SparseExtent) and part.compressed and (
                inside % part.block_size
                or (length % part.block_size and inside + length != part.size)):
            raise BlockError(os.strerror(errno.EINVAL), errno.EINVAL)

    def _content_changed(self) -> None:
        if self._renew_cid:
            self._renew_cid = False
            renew_cid(self.file, *self._place)

    def pack(self, data: bytes | bytearray | memoryview) -> bytes:
        """The form in which a compressed extent stores a grain."""
        return zlib.compress(data)

    def write_compressed(self, offset: int, data: bytes | bytearray | memoryview,
                         packed: bytes | None = None) -> None:
        """Store whole grains, compressed in the extents that are."""
        self.check_range(offset, len(data), write=True)
        part, inside = self._at(offset)
        if (packed is None or not isinstance(part, SparseExtent) or not part.compressed
                or len(data) > part.block_size):
            self.pwrite(offset, data)
            return
        self._check_whole_grains(part, inside, len(data))
        part.store_packed(inside // part.block_size, packed)
        self._content_changed()

    def write_zeroes(self, offset: int, length: int, *, may_unmap: bool = True,
                     fua: bool = False) -> None:
        self.check_range(offset, length, write=True)
        end = offset + length
        while offset < end:
            part, inside = self._at(offset)
            step = min(end - offset, part.size - inside)
            if isinstance(part, SparseExtent) and part.has_zero_grain:
                step = min(step, part.block_size - inside % part.block_size)
                if step == part.block_size:
                    part.make_zero(inside // part.block_size)
                    self._content_changed()
                else:
                    self.pwrite(offset, bytes(step))
            elif isinstance(part, SparseExtent):
                super().write_zeroes(offset, step)
            else:
                part.write_zeroes(inside, step, may_unmap=may_unmap)
                self._content_changed()
            offset += step
        if fua:
            self.flush()

    def layer_status(self, offset: int, length: int) -> Extent:
        part, inside = self._at(offset)
        return part.layer_status(inside, min(length, part.size - inside))

    def flush(self) -> None:
        for part in self.parts:
            part.flush()
        if self._opened:
            self.file.flush()

    def check(self, *, repair: str | None = None,
              report: Callable[[str], None] = lambda line: print(line, file=sys.stderr)
              ) -> CheckResult:
        """Look at every grain's place; nothing can be repaired."""
        from pytcg.block.check_result import CheckResult

        if repair is not None:
            raise NotSupported("This image format does not support checks")
        for part in self.parts:
            if isinstance(part, SparseExtent):
                try:
                    part.check()
                except BlockError as error:
                    report(str(error))
                    raise BlockError(os.strerror(error.errno), error.errno) from None
        return CheckResult()

    def _close_extents(self) -> None:
        for opened in self._opened:
            opened.close()

    def close(self) -> None:
        self._close_extents()
        super().close()

    @staticmethod
    def create_image(path: str, size: int, values: dict[str, Any]) -> None:
        """Make an image."""
        from pytcg.block.formats.vmdk.create import create_vmdk

        create_vmdk(path, size, values)
