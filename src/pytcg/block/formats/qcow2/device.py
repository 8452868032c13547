"""The qcow2 format: the device; opening, writing, closing. Reads and write-back are its bases."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Iterator

from pytcg.block.device import BlockDevice, BlockError
from pytcg.block.formats.qcow2 import format as fmt
from pytcg.block.formats.qcow2.at_once import Qcow2AtOnce
from pytcg.block.formats.qcow2.compress import Decompressor
from pytcg.block.formats.qcow2.flush import SECTOR
from pytcg.block.formats.qcow2.l2 import L2_CACHE_BYTES, ClusterMap
from pytcg.block.formats.qcow2.refcount import REFCOUNT_CACHE_BYTES, Refcounts
from pytcg.block.formats.qcow2.validate import read_header, validate_header
from pytcg.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from pytcg.block.check_result import CheckResult
    from pytcg.block.formats.qcow2.bitmap import Bitmaps
    from pytcg.block.formats.qcow2.options import RuntimeOptions
    from pytcg.block.formats.qcow2.snapshot_table import SnapshotEntry
    from pytcg.block.formats.qcow2.stored import StoredBitmap
    from pytcg.block.formats.qcow2.write import Writer
    from pytcg.block.open import OpenFlags



class Qcow2Device(Qcow2AtOnce):
    """A qcow2 image, version 2 or 3."""

    format_name = "qcow2"
    can_compress = True
    supports_backing = True

    def __init__(self, file: BlockDevice, header: fmt.Header, *, data_file: BlockDevice | None,
                 read_only: bool, asked: RuntimeOptions | None = None, lenient: bool = False
                 ) -> None:
        """A ``lenient`` device's snapshots are left to check() to read."""
        self.file: BlockDevice = file
        self.filename = file.filename
        self.data_file = data_file or file
        self.header = header
        self._size = header.size & -SECTOR
        # Entries that peek() can't read by themselves
        self._slow_map = bool(header.incompatible & (fmt.Incompatible.EXTENDED_L2
                                                     | fmt.Incompatible.DATA_FILE)
                              or file.debugged)
        self.read_only = read_only
        self.backing_file = header.backing_file
        extension = header.extension(fmt.EXT_BACKING_FORMAT)
        self.backing_format = extension.decode(errors="replace") if extension else None
        self.cluster_size = 1 << header.cluster_bits
        lazy = asked.lazy_refcounts if asked else None
        self.lazy_refcounts = header.version >= 3 and (
            bool(header.compatible & fmt.Compatible.LAZY_REFCOUNTS) if lazy is None else lazy)
        self.refcount_cache_size = asked.refcount_cache_size if asked else REFCOUNT_CACHE_BYTES
        self._rlock = threading.RLock()
        self.lock = threading.Condition(self._rlock)
        self.refcounts = Refcounts(file, header, self.refcount_cache_size, self.write_metadata,
                                   self.update_header)
        self.map = ClusterMap(file, header, asked.l2_cache_size if asked else L2_CACHE_BYTES,
                              self.write_metadata)
        self.map.load_l1(header.l1_table_offset, header.l1_size)
        self.refcounts.on_corrupt = self.map.on_corrupt = self.corrupted
        self.map.allocate = lambda: self.writer.allocate_metadata(1)
        self.map.grow = self._grow_l1
        self.map.free = lambda offset: self.free_later(offset >> header.cluster_bits, 1)
        self.decompressor = Decompressor(self.data_file, header)
        # "none" and "all" mean what they say; others, and None, are QEMU's "cached"
        self.overlap_check = asked.overlap_check if asked else None
        self.snapshots = [] if lenient else self._load_snapshots()
        self.has_zero_init = not header.backing_file
        self._writer: Writer | None = None
        self._bitmaps: Bitmaps | None = None
        self._preallocated: bool | None = None
        self._sequence = 0
        self._active: set[int] = set()
        self._frees: list[tuple[int, int, int]] = []
        self._writethrough = False
        self._closed = False

    # ---- opening ----

    @classmethod
    def open(cls, file: BlockDevice, flags: OpenFlags) -> Qcow2Device:
        """Open an image over its file; repairs a dirty one when it is opened for writing."""
        header = read_header(file)
        validate_header(header, file, lenient=flags.check)
        asked = None
        if flags.options:
            from pytcg.block.formats.qcow2.options import take_options

            asked = take_options(flags, header)
        writable = not flags.read_only
        if writable and not flags.check and header.incompatible & fmt.Incompatible.CORRUPT:
            raise BlockError("qcow2: Image is corrupt; cannot be opened read/write",
                             errno.EACCES)
        data_file = _open_data_file(file, header, flags)
        try:
            device = cls(file, header, data_file=data_file, read_only=flags.read_only,
                         asked=asked, lenient=flags.check)
            device._writethrough = flags.writethrough
            unmap = flags.unmap if asked is None or asked.discard is None else asked.discard
            device.refcounts.discard_freed = writable and unmap
            if writable:
                device._prepare_writing(check=flags.check)
        except BaseException:
            if data_file is not None:
                data_file.close()
            raise
        return device

    def set_read_only(self, value: bool, /) -> None:
        if value and self._writer is not None:
            self._finish()
        self.read_only = value
        if not value:
            self._prepare_writing(check=False)

    def _prepare_writing(self, *, check: bool) -> None:
        known = int(fmt.Autoclear.BITMAPS | fmt.Autoclear.DATA_FILE_RAW)
        if self.header.autoclear & ~known:
            self.update_header(autoclear=self.header.autoclear & known)
        if not check and self.header.incompatible & fmt.Incompatible.DIRTY:
            from pytcg.block.formats.qcow2.check import repair_dirty

            repair_dirty(self)

    def _load_snapshots(self) -> list[SnapshotEntry]:
        header = self.header
        if header.nb_snapshots == 0:
            return []
        from pytcg.block.formats.qcow2.snapshot_table import read_snapshots

        return read_snapshots(self.file, header)

    @property
    def writer(self) -> Writer:
        """The writing half; made on first use, as many images are only read."""
        if self._writer is None:
            from pytcg.block.formats.qcow2.write import Writer

            self._writer = Writer(self)
        return self._writer

    @property
    def bitmaps(self) -> Bitmaps:
        """The image's dirty bitmaps."""
        if self._bitmaps is None:
            from pytcg.block.formats.qcow2.bitmap import Bitmaps

            self._bitmaps = Bitmaps(self)
        return self._bitmaps

    @property
    def is_dirty(self) -> bool:
        return bool(self.header.incompatible & fmt.Incompatible.DIRTY)

    @property
    def has_bitmaps(self) -> bool:
        """Whether a valid bitmaps extension is there (without loading it)."""
        return (bool(self.header.autoclear & fmt.Autoclear.BITMAPS)
                and self.header.extension(fmt.EXT_BITMAPS) is not None)

    def children(self) -> Iterator[tuple[str, BlockDevice]]:
        yield from super().children()
        if self.data_file is not self.file:
            yield "data-file", self.data_file

    @property
    def data_file_is_raw(self) -> bool:
        """Whether the external data file must stay valid as a raw image."""
        return bool(self.header.autoclear & fmt.Autoclear.DATA_FILE_RAW)

    @property
    def size(self) -> int:
        return self._size

    def show_size(self, size: int) -> None:
        """Another size in memory only (a snapshot's)."""
        self.header = self.header._replace(size=size)
        self._size = size & -SECTOR

    # ---- writing ----

    def pwrite(self, offset: int, data: bytes | bytearray | memoryview, *, fua: bool = False
               ) -> None:
        self.check_range(offset, len(data), write=True)
        self.writer.write(offset, memoryview(data).cast("B"))
        if fua or self._writethrough:
            self.flush()

    def write_zeroes(self, offset: int, length: int, *, may_unmap: bool = True,
                     fua: bool = False) -> None:
        self.check_range(offset, length, write=True)
        self.writer.clearer.write_zeroes(offset, length, may_unmap=may_unmap)
        if fua or self._writethrough:
            self.flush()

    def discard(self, offset: int, length: int) -> None:
        self.check_range(offset, length, write=True)
        self.writer.clearer.discard(offset, length)

    def pack(self, data: bytes | bytearray | memoryview) -> bytes | None:
        """The compressed form of a cluster for write_compressed; None if it won't shrink."""
        from pytcg.block.formats.qcow2.packed import pack

        return pack(self, data)

    def write_compressed(self, offset: int, data: bytes | bytearray | memoryview,
                         packed: bytes | None = None) -> None:
        """Store one whole cluster (or the shorter last one) compressed, if that is smaller."""
        self.check_range(offset, len(data), write=True)
        from pytcg.block.formats.qcow2.packed import pack, write_packed

        if packed is None:
            packed = pack(self, data)
        write_packed(self, offset, data, packed)

    def change_backing_file(self, name: str | None, format: str | None) -> None:
        """Name another backing file in the header, without looking at either."""
        self.check_range(0, 0, write=True)
        if name is not None and self.data_file_is_raw:
            raise BlockError("Cannot set a backing file for images with data-file-raw",
                             errno.EINVAL)
        header = self.header.with_extension(
            fmt.EXT_BACKING_FORMAT, format.encode() if name and format else None)
        self.update_header(backing_file=name or None, extensions=header.extensions)
        self.backing_file, self.backing_format = name or None, format if name else None

    def make_empty(self) -> None:
        """Drop all guest data of this layer, so that the backing file shows."""
        self.check_range(0, 0, write=True)
        self.writer.clearer.discard_fully(0, -(-self.header.size // self.cluster_size)
                                  * self.cluster_size)
        self.flush()

    @property
    def vm_state_offset(self) -> int:
        """Where a machine's state is kept: the L1 entries behind the disk's own."""
        span = self.map.table_span
        return -(-self.header.size // span) * span

    def read_vm_state(self, offset: int, buffer: memoryview) -> None:
        from pytcg.block.formats.qcow2.vmstate import read_vm_state

        read_vm_state(self, offset, buffer)

    def write_vm_state(self, offset: int, data: memoryview) -> None:
        from pytcg.block.formats.qcow2.vmstate import write_vm_state

        write_vm_state(self, offset, data)
        if self._writethrough:
            self.flush()

    def _grow_l1(self, entries: int) -> None:
        from pytcg.block.formats.qcow2.vmstate import grow_l1_for

        grow_l1_for(self, entries)

    def truncate(self, size: int, *, preallocation: str = "off") -> None:
        from pytcg.block.formats.qcow2.resize import resize

        self.check_range(0, 0, write=True)
        resize(self, size, preallocation)

    # ---- closing and repairs ----

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        try:
            if not self.read_only and self._writer is not None:
                self._finish()
        finally:
            if self.data_file is not self.file:
                self.data_file.close()
            super().close()

    def _finish(self) -> None:
        """Leave the image clean: bitmaps stored, frees applied, the dirty bit gone.

        The error has a line for each kind of table that could not be written.
        """
        if self._bitmaps is not None:
            self._bitmaps.store()
        failed = []
        code = 0
        try:
            self.flush()
        except BlockError as error:
            failed.append(f"Failed to flush the L2 table cache: {error}")
            code = error.errno
        try:
            self.refcounts.write_back()
            if failed or self._marked_dirty:
                self.file.flush()
        except BlockError as error:
            failed.append(f"Failed to flush the refcount block cache: {error}")
            code = error.errno
        if failed:
            raise BlockError("\n".join(failed), code)
        if self._marked_dirty:
            self.update_header(incompatible=self.header.incompatible & ~fmt.Incompatible.DIRTY)

    def check(self, *, repair: str | None = None,
              report: Callable[[str], None] = lambda line: None) -> CheckResult:
        """Check the image's consistency, and mend it if asked ("leaks" or "all")."""
        from pytcg.block.formats.qcow2.check import check_image

        return check_image(self, repair=repair, report=report)

    @property
    def data_file_name(self) -> str:
        """The external data file as the header names it."""
        name = self.header.extension(fmt.EXT_DATA_FILE) or b""
        return name.decode(errors="surrogateescape")

    def use_refcounts(self, refcounts: Refcounts) -> None:
        """Count with another structure (its width was changed)."""
        refcounts.on_corrupt = self.corrupted
        self.refcounts = refcounts
        self._writer = None

    # ---- bitmaps ----

    def bitmap_names(self) -> list[str]:
        stored = self.bitmaps.names() if self.has_bitmaps else []
        return stored + [name for name in super().bitmap_names() if name not in stored]

    def bitmap_status(self, name: str, offset: int, length: int) -> list[tuple[int, bool]]:
        if not self.has_bitmaps or name not in self.bitmaps.names():
            return super().bitmap_status(name, offset, length)
        return self.bitmaps.status(name, offset, length)

    def stored_bitmaps(self) -> list[StoredBitmap]:
        """The image's bitmaps for a running machine."""
        from pytcg.block.formats.qcow2.stored import StoredBitmap

        if not self.has_bitmaps:
            return []
        return [StoredBitmap(self.bitmaps, each, self.size) for each in self.bitmaps.bitmaps]

    def store_bitmap(self, name: str, granularity: int) -> StoredBitmap:
        """Make one that tracks; BlockError."""
        from pytcg.block.formats.qcow2.stored import StoredBitmap

        with self.lock:
            try:
                made = self.bitmaps.add(name, granularity)
            except BlockError as error:
                raise BlockError(f"Can't make bitmap '{name}' persistent in '{self.node_name}':"
                                 f" {error}", error.errno) from None
        stored = StoredBitmap(self.bitmaps, made, self.size)
        stored.change()
        return stored

    def drop_bitmap(self, name: str) -> None:
        """Delete one from the image."""
        with self.lock:
            self.bitmaps.remove(name)


def _open_data_file(file: BlockDevice, header: fmt.Header, flags: OpenFlags
                    ) -> BlockDevice | None:
    from pytcg.block.open import open_node

    given = flags.take("data-file")
    if not header.incompatible & fmt.Incompatible.DATA_FILE:
        if given is not None:
            raise BlockError("'data-file' can only be set for images with an external data file",
                             errno.EINVAL)
        return None
    if given is None:
        name = header.extension(fmt.EXT_DATA_FILE)
        if not name:
            raise BlockError("'data-file' is required for this image", errno.EINVAL)
        # Unlike a backing file's, its name is not relative to the image's place.
        given = {"driver": "file", "filename": name.decode(errors="surrogateescape")}
    below = flags.child({})
    return open_node(given, below)
