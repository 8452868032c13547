"""The interface of every disk: a flat array of bytes with status, discard and flush.

Protocols (a file, NBD), formats (raw, qcow2, ...) and filters (throttle) are all BlockDevices; a
format holds the protocol below it as ``file`` and the image it overlays as ``backing``.
The core is synchronous and thread-safe per device; ``pytcg.block.aio`` is the asynchronous face.
"""

from __future__ import annotations

import errno as errnos
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence

from pytcg.typed import TYPE_CHECKING, NamedTuple, TypeVar

if TYPE_CHECKING:
    from pytcg.block.dirty import DirtyBitmap

# Bounds one request, as NBD and QEMU do (BDRV_REQUEST_MAX_BYTES); the walkers below split.
MAX_REQUEST = 1 << 31
ZERO_BLOCK = bytes(1 << 16)

_T = TypeVar("_T")


class BlockError(Exception):
    """A failed block operation: a message in QEMU's words and the errno a guest should see."""

    def __init__(self, message: str, errno: int = errnos.EIO) -> None:
        super().__init__(message)
        self.errno = errno

    @classmethod
    def from_os(cls, prefix: str, error: OSError) -> BlockError:
        """``prefix: strerror``, the shape of QEMU's error_setg_errno."""
        number = error.errno or errnos.EIO
        return cls(f"{prefix}: {os.strerror(number)}", number)


class ImageFormatError(BlockError):
    """The image violates its format; nothing was written to it."""

    def __init__(self, message: str) -> None:
        super().__init__(message, errnos.EINVAL)


class NotSupported(BlockError):
    """The format or the protocol can't do this operation."""

    def __init__(self, message: str) -> None:
        super().__init__(message, errnos.ENOTSUP)


class Extent(NamedTuple):
    """A run of bytes that share one status, as in ``qemu-img map``.

    ``data``: bytes are stored; ``zero``: the run reads as zeroes; ``present``: some layer of the
    chain has an opinion; ``depth``: 0 for this image, n for its n-th backing file; ``offset``:
    where the bytes sit in ``filename``, if they sit there verbatim.
    """

    length: int
    data: bool
    zero: bool
    present: bool = True
    depth: int = 0
    offset: int | None = None
    filename: str | None = None
    compressed: bool = False

    def continues(self, other: Extent) -> bool:
        """Whether ``other``, lying right after this run, belongs to the same run."""
        if self[1:5] != other[1:5] or self[6:] != other[6:]:
            return False
        if self.offset is None or other.offset is None:
            return self.offset is other.offset
        return self.offset + self.length == other.offset


def merge_extents(extents: Iterator[Extent]) -> Iterator[Extent]:
    """Join neighbours of one status into maximal runs."""
    last: Extent | None = None
    for extent in extents:
        if last is not None and last.continues(extent):
            last = last._replace(length=last.length + extent.length)
            continue
        if last is not None:
            yield last
        last = extent
    if last is not None:
        yield last


class BlockDevice(ABC):
    """A disk. Offsets and lengths are bytes, any alignment; errors are BlockError."""

    format_name: str = ""
    filename: str = ""  # the name messages use; a protocol's own name for a format above it
    read_only: bool = False
    probed: bool = False  # format guessed, not given
    request_alignment: int = 1
    cluster_size: int = 0  # allocation unit, 0 when there is none
    file: BlockDevice | None = None
    backing: BlockDevice | None = None
    has_zero_init: bool = False  # a freshly created image of this kind reads as zeroes
    can_compress: bool = False  # pack and write_compressed are there
    needs_compressed_writes = False  # the image holds nothing else (convert turns to -c)
    supports_backing: bool = False
    is_filter: bool = False  # a disk like the one below (``file``), with other behaviour
    debugged: bool = False  # debug_event() does something
    backing_file: str | None = None  # as the image names it
    backing_format: str | None = None
    node_name: str = ""  # in the graph of a running machine
    dirty: tuple[DirtyBitmap, ...] = ()  # of a running machine's

    # ---- to implement ----

    @property
    @abstractmethod
    def size(self) -> int:
        """Bytes a guest sees."""

    @abstractmethod
    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill ``buffer`` (writable, contiguous bytes) from ``offset``."""

    @abstractmethod
    def pwrite(self, offset: int, data: bytes | bytearray | memoryview, *, fua: bool = False
               ) -> None:
        """Store ``data``; with ``fua`` it is on stable storage on return."""

    @abstractmethod
    def layer_status(self, offset: int, length: int) -> Extent:
        """Status of a prefix (at least a byte) of the range in this layer alone."""

    @abstractmethod
    def flush(self) -> None:
        """Everything written before is on stable storage on return."""

    # ---- with defaults ----

    def pread(self, offset: int, length: int) -> bytes:
        """``length`` bytes from ``offset``."""
        buffer = bytearray(length)
        self.read_into(offset, memoryview(buffer))
        return bytes(buffer)

    def read_now(self, offset: int, buffers: Sequence[memoryview]) -> bool:
        """Fill buffers with what can be had without waiting; False: they hold nothing of use.

        Whatever is wrong is False, too: the same request as `read_into` meets it again.
        """
        return False

    def write_now(self, offset: int, buffers: Sequence[memoryview]) -> bool:
        """Hand bytes over where that hardly waits: to the host's page cache. False: `pwrite` it."""
        return False

    def write_zeroes(self, offset: int, length: int, *, may_unmap: bool = True,
                     fua: bool = False) -> None:
        """Make the range read as zeroes, without storing them where the format can."""
        self.check_range(offset, length, write=True)
        end = offset + length
        while offset < end:
            step = min(end - offset, len(ZERO_BLOCK))
            self.pwrite(offset, memoryview(ZERO_BLOCK)[:step])
            offset += step
        if fua:
            self.flush()

    def discard(self, offset: int, length: int) -> None:
        """Hint that the range is not needed; it reads as anything or as zeroes after."""
        self.check_range(offset, length, write=True)

    def pack(self, data: bytes | bytearray | memoryview) -> bytes | None:
        """The compressed form of a cluster for write_compressed; None if it won't shrink."""
        raise NotSupported("Compression not supported for this file format")

    def write_compressed(self, offset: int, data: bytes | bytearray | memoryview,
                         packed: bytes | None = None) -> None:
        """Store one whole cluster (or the shorter last one) compressed, if that is smaller."""
        raise NotSupported("Compression not supported for this file format")

    def truncate(self, size: int, *, preallocation: str = "off") -> None:
        """Resize the disk; new bytes read as zeroes."""
        raise NotSupported("Image format driver does not support resize")

    def change_backing_file(self, name: str | None, format: str | None) -> None:
        """Name another backing file in the image, without looking at either."""
        raise NotSupported(os.strerror(errnos.ENOTSUP))

    def close(self) -> None:
        """Write back what is cached and release the layers below; idempotent."""
        for below in (self.file, self.backing):
            if below is not None:
                below.close()

    def read_vm_state(self, offset: int, buffer: memoryview) -> None:
        """Read a saved machine's state, from the image's place for it."""
        raise NotSupported("Operation not supported")

    def write_vm_state(self, offset: int, data: memoryview) -> None:
        """Store a machine's state beside the disk's content."""
        raise NotSupported("Operation not supported")

    def cache_range(self, offset: int, length: int) -> None:
        """Hint that the range is read soon (NBD_CMD_CACHE)."""
        self.check_range(offset, length)

    def debug_event(self, event: str) -> None:
        """Tell a blkdebug node, if this is one, what the format above is about to do."""
        return

    def host_range(self, offset: int, length: int) -> tuple[int, int] | None:
        """(descriptor, offset) of a host file that holds just these bytes, for as long as the disk.

        None if they have to be read: they are kept in another form, or may move.
        """
        return None

    def bitmap_names(self) -> list[str]:
        """Names of the dirty bitmaps that the image carries, and a running machine's."""
        return [bitmap.name for bitmap in self.dirty]

    def bitmap_status(self, name: str, offset: int, length: int) -> list[tuple[int, bool]]:
        """(length, dirty) runs that cover the range."""
        for bitmap in self.dirty:
            if bitmap.name == name:
                return bitmap.status(offset, length)
        raise BlockError(f"Dirty bitmap '{name}' not found", errnos.ENOENT)

    @property
    def allocated_size(self) -> int | None:
        """Host bytes the image takes ("disk size"), if known."""
        return self.file.allocated_size if self.file is not None else None

    @property
    def is_dirty(self) -> bool:
        """Whether the image was not closed after its last changes."""
        return False

    @property
    def is_cached(self) -> bool:
        """Whether requests go through the host's page cache, so that few of them wait."""
        return (self.file is not None and self.file.is_cached
                and (self.backing is None or self.backing.is_cached))

    # ---- built on the above ----

    @property
    def node(self) -> BlockDevice:
        """This, as the graph of a machine's nodes knows it."""
        return self

    @property
    def location(self) -> str:
        """The lowest node's name, which relative names of other files start from."""
        return self.filename if self.file is None else self.file.location

    def status_at(self, offset: int, length: int) -> Extent:
        """Status of a prefix of the range as the guest sees it, through the backing chain."""
        layer: BlockDevice = self
        depth = 0
        while True:
            extent = layer.layer_status(offset, min(length, layer.size - offset))
            if extent.data or extent.zero:
                return extent._replace(depth=depth) if depth else extent
            length = extent.length
            backing = layer.backing
            if backing is None or offset >= backing.size:
                known = layer.supports_backing
                return Extent(length, data=False, zero=known, present=False, depth=depth)
            if offset + length > backing.size:
                length = backing.size - offset
            layer, depth = backing, depth + 1

    def block_status(self, offset: int, length: int, *, limit: int = 1 << 16) -> list[Extent]:
        """Maximal extents that cover the range, or its prefix when there are over ``limit``."""
        self.check_range(offset, length)
        found: list[Extent] = []
        for extent in merge_extents(self._walk_status(offset, length)):
            found.append(extent)
            if len(found) >= limit:
                break
        return found

    def _walk_status(self, offset: int, length: int) -> Iterator[Extent]:
        end = offset + length
        while offset < end:
            extent = self.status_at(offset, end - offset)
            yield extent
            offset += extent.length

    def check_range(self, offset: int, length: int, *, write: bool = False) -> None:
        """Refuse requests outside the disk, and writes to a read-only one; note writes."""
        if write and self.read_only:
            raise BlockError(f"Block node '{self.filename}' is read-only", errnos.EPERM)
        if offset < 0 or length < 0 or offset + length > self.size:
            raise BlockError("Request beyond the end of the device", errnos.EIO)
        if write and self.dirty:
            self.note_write(offset, length)

    def note_write(self, offset: int, length: int) -> None:
        """Mark it in the bitmaps that follow this node."""
        for bitmap in self.dirty:
            bitmap.mark(offset, length)

    def children(self) -> Iterator[tuple[str, BlockDevice]]:
        """The disks right below this one, by their role."""
        if self.file is not None:
            yield "file", self.file
        if self.backing is not None:
            yield "backing", self.backing

    def replace_child(self, old: BlockDevice, new: BlockDevice) -> None:
        """Stand on another disk with the same content; nothing is under way."""
        if self.file is old:
            self.file = new
        if self.backing is old:
            self.backing = new

    def set_read_only(self, value: bool, /) -> None:
        """Refuse writes, or take them, once what is below does."""
        self.read_only = value

    def layers(self) -> Iterator[BlockDevice]:
        """This image, its backing file, and so on down the chain."""
        layer: BlockDevice | None = self
        while layer is not None:
            yield layer
            layer = layer.backing

    def __enter__(self: _T) -> _T:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


ProgressCallback = Callable[[int, int], None]  # (done, total) in bytes
