"""The qcow2 format: the device. Header and life cycle, reads, status, and write-back order.

Order on disk, so that a power cut at any moment leaves at worst leaked clusters: refcounts of
new clusters, then L2 tables that point at them, then L1 entries that point at new tables; then
refcounts of what was dropped. Between them the file is flushed.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from . import qcow2_format as fmt
from .device import ZERO_BLOCK, BlockDevice, BlockError, Extent, ImageFormatError, NotSupported
from .qcow2_compress import Decompressor
from .qcow2_l2 import ClusterMap, Kind, Run
from .qcow2_refcount import Refcounts

if TYPE_CHECKING:
    from .check_result import CheckResult
    from .open import OpenFlags
    from .qcow2_bitmap import Bitmaps
    from .qcow2_write import Writer

_NOT_PLAIN = fmt.COMPRESSED | fmt.ZERO
L2_CACHE_BYTES = 32 << 20  # QEMU's default bound
REFCOUNT_CACHE_BYTES = 4 << 20
SECTOR = 512


class Qcow2Device(BlockDevice):
    """A qcow2 image, version 2 or 3."""

    format_name = "qcow2"
    supports_backing = True

    def __init__(self, file: BlockDevice, header: fmt.Header, *, data_file: BlockDevice | None,
                 read_only: bool, lazy_refcounts: bool | None = None,
                 l2_cache_size: int = L2_CACHE_BYTES) -> None:
        self.file: BlockDevice = file
        self.filename = file.filename
        self.data_file = data_file or file
        self.header = header
        self._size = header.size & -SECTOR
        # Entries that peek() can't read by themselves
        self._slow_map = bool(header.incompatible & (fmt.Incompatible.EXTENDED_L2
                                                     | fmt.Incompatible.DATA_FILE))
        self.read_only = read_only
        self.backing_file = header.backing_file
        extension = header.extension(fmt.EXT_BACKING_FORMAT)
        self.backing_format = extension.decode(errors="replace") if extension else None
        self.cluster_size = 1 << header.cluster_bits
        self.lazy_refcounts = header.version >= 3 and (
            bool(header.compatible & fmt.Compatible.LAZY_REFCOUNTS)
            if lazy_refcounts is None else lazy_refcounts)
        self._rlock = threading.RLock()
        self.lock = threading.Condition(self._rlock)
        self.refcounts = Refcounts(file, header, REFCOUNT_CACHE_BYTES, self.write_metadata,
                                   self.update_header)
        self.map = ClusterMap(file, header, l2_cache_size, self.write_metadata)
        self.map.load_l1(header.l1_table_offset, header.l1_size)
        self.refcounts.on_corrupt = self.map.on_corrupt = self.corrupted
        self.map.allocate = lambda: self.writer.allocate_metadata(1)
        self.map.free = lambda offset: self.free_later(offset >> header.cluster_bits, 1)
        self.decompressor = Decompressor(self.data_file, header)
        self.snapshots = self._load_snapshots()
        self.has_zero_init = not header.backing_file
        self._writer: Writer | None = None
        self._bitmaps: Bitmaps | None = None
        self._preallocated: bool | None = None
        self._sequence = 0
        self._active: set[int] = set()
        self._frees: list[tuple[int, int, int]] = []
        self._closed = False

    # ---- opening ----

    @classmethod
    def open(cls, file: BlockDevice, flags: OpenFlags) -> Qcow2Device:
        """Open an image over its file; repairs a dirty one when it is opened for writing."""
        header = read_header(file)
        validate_header(header, file, lenient=flags.check)
        lazy = (flags.take_bool("lazy-refcounts", False)
                if "lazy-refcounts" in flags.options else None)
        l2_cache_size = flags.take_size("l2-cache-size", L2_CACHE_BYTES)
        for ignored in ("cache-size", "refcount-cache-size", "cache-clean-interval",
                        "l2-cache-entry-size", "overlap-check", "pass-discard-request",
                        "pass-discard-snapshot", "pass-discard-other"):
            flags.take(ignored)
        writable = not flags.read_only
        if writable and not flags.check and header.incompatible & fmt.Incompatible.CORRUPT:
            raise BlockError("qcow2: Image is corrupt; cannot be opened read/write",
                             errno.EACCES)
        data_file = _open_data_file(file, header, flags)
        try:
            device = cls(file, header, data_file=data_file, read_only=flags.read_only,
                         lazy_refcounts=lazy, l2_cache_size=l2_cache_size)
            device.refcounts.discard_freed = writable and flags.unmap
            if writable and not flags.check:
                device._prepare_writing()
        except BaseException:
            if data_file is not None:
                data_file.close()
            raise
        return device

    def _prepare_writing(self) -> None:
        known = fmt.Autoclear.BITMAPS | fmt.Autoclear.DATA_FILE_RAW
        if self.header.autoclear & ~known:
            self.update_header(autoclear=self.header.autoclear & known)
        if self.header.incompatible & fmt.Incompatible.DIRTY:
            from .qcow2_check import check_image

            check_image(self, repair="all")

    def _load_snapshots(self) -> list[fmt.SnapshotEntry]:
        header = self.header
        if header.nb_snapshots == 0:
            return []
        length = min(fmt.MAX_SNAPSHOT_TABLE_BYTES, self.file.size - header.snapshots_offset)
        length = min(length, header.nb_snapshots * 4096 + self.cluster_size)
        table = self.file.pread(header.snapshots_offset, max(0, length))
        return fmt.parse_snapshots(table, header.nb_snapshots, header.size)

    @property
    def writer(self) -> Writer:
        """The writing half; made on first use, as many images are only read."""
        if self._writer is None:
            from .qcow2_write import Writer

            self._writer = Writer(self)
        return self._writer

    @property
    def bitmaps(self) -> Bitmaps:
        """The image's dirty bitmaps."""
        if self._bitmaps is None:
            from .qcow2_bitmap import Bitmaps

            self._bitmaps = Bitmaps(self)
        return self._bitmaps

    @property
    def has_bitmaps(self) -> bool:
        """Whether a valid bitmaps extension is there (without loading it)."""
        return (bool(self.header.autoclear & fmt.Autoclear.BITMAPS)
                and self.header.extension(fmt.EXT_BITMAPS) is not None)

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

    # ---- reading ----

    def begin(self) -> int:
        """Note that a request is under way: clusters freed from now on are not reused yet."""
        self._sequence += 1
        self._active.add(self._sequence)
        return self._sequence

    def end(self, token: int) -> None:
        """The request of begin() is over."""
        self._active.discard(token)

    def pread(self, offset: int, length: int) -> bytes:
        cluster = self.cluster_size
        inside = offset & (cluster - 1)
        if inside + length <= cluster and 0 <= offset <= self._size - length:
            with self._rlock:
                word = 0 if self._slow_map else self.map.peek(offset)
                self._sequence = token = self._sequence + 1
                self._active.add(token)
            try:
                host = word & fmt.OFFSET_MASK
                if host and not word & _NOT_PLAIN and not host & (cluster - 1):
                    return self.data_file.pread(host + inside, length)
            finally:
                self._active.discard(token)
        return self._pread(offset, length)

    def _pread(self, offset: int, length: int) -> bytes:
        if offset < 0 or offset + length > self.size:
            self.check_range(offset, length)
        with self.lock:
            run = self.map.lookup(offset, length) if length else None
            token = self.begin()
        try:
            if run is not None and run.kind is Kind.DATA and run.length == length:
                return self.data_file.pread(run.host, length)
            buffer = bytearray(length)
            self.read_range(offset, memoryview(buffer))
            return bytes(buffer)
        finally:
            self.end(token)

    def read_into(self, offset: int, buffer: memoryview) -> None:
        self.check_range(offset, len(buffer))
        with self.lock:
            token = self.begin()
        try:
            self._read(offset, buffer, cleared=False)
        finally:
            self.end(token)

    def _read(self, offset: int, buffer: memoryview, *, cleared: bool) -> None:
        while buffer:
            with self.lock:
                run = self.map.lookup(offset, len(buffer))
            self.read_run(run, offset, buffer[: run.length], cleared=cleared)
            offset += run.length
            buffer = buffer[run.length :]

    def read_range(self, offset: int, buffer: memoryview) -> None:
        """Read into a buffer that is zeroed already, within a request of begin()."""
        self._read(offset, buffer, cleared=True)

    def read_run(self, run: Run, offset: int, part: memoryview, *, cleared: bool = False
                 ) -> None:
        """Fill ``part`` with what a run holds."""
        if run.kind is Kind.DATA:
            self.data_file.read_into(run.host, part)
        elif run.kind is Kind.COMPRESSED:
            inside = offset & (self.cluster_size - 1)
            data = self.decompressor.cluster(run.host)
            part[:] = data[inside : inside + run.length]
        elif run.kind in (Kind.UNALLOCATED, Kind.UNALLOCATED_HOSTED) and self.backing:
            inside_backing = max(0, min(run.length, self.backing.size - offset))
            if inside_backing:
                self.backing.read_into(offset, part[:inside_backing])
            if not cleared:
                fill_zeroes(part[inside_backing:])
        elif not cleared:
            fill_zeroes(part)

    def layer_status(self, offset: int, length: int) -> Extent:
        with self.lock:
            run = self.map.lookup(offset, length)
        zero = run.kind in (Kind.ZERO, Kind.ZERO_ALLOCATED)
        data = run.kind in (Kind.DATA, Kind.COMPRESSED)
        extent = Extent(run.length, data, zero, data or zero,
                        compressed=run.kind is Kind.COMPRESSED)
        if run.kind in (Kind.DATA, Kind.ZERO_ALLOCATED, Kind.UNALLOCATED_HOSTED):
            extent = extent._replace(offset=run.host, filename=self.data_file.filename)
        if run.kind is Kind.DATA and self._is_preallocated():
            below = self.data_file.layer_status(run.host, run.length)
            if not (below.zero and run.host + below.length >= self.data_file.size):
                extent = extent._replace(length=min(run.length, below.length))
            extent = extent._replace(zero=below.zero)
        return extent

    def _is_preallocated(self) -> bool:
        """Whether the file holds many fewer blocks than its refcounts say (QEMU's heuristic)."""
        if self._preallocated is None:
            taken = (self.file.allocated_size or self.file.size) >> self.header.cluster_bits
            threshold = max(taken * 10 // 9, taken + 2)
            with self.lock:
                used = self.refcounts.count_used(
                    -(-self.file.size // self.cluster_size), threshold)
            self._preallocated = used >= threshold
        return self._preallocated

    # ---- writing ----

    def pwrite(self, offset: int, data: bytes | bytearray | memoryview, *, fua: bool = False
               ) -> None:
        self.check_range(offset, len(data), write=True)
        self.writer.write(offset, memoryview(data).cast("B"))
        if fua:
            self.flush()

    def write_zeroes(self, offset: int, length: int, *, may_unmap: bool = True,
                     fua: bool = False) -> None:
        self.check_range(offset, length, write=True)
        self.writer.clearer.write_zeroes(offset, length, may_unmap=may_unmap)
        if fua:
            self.flush()

    def discard(self, offset: int, length: int) -> None:
        self.check_range(offset, length, write=True)
        self.writer.clearer.discard(offset, length)

    def pack(self, data: bytes | bytearray | memoryview) -> bytes | None:
        """The compressed form of a cluster for write_compressed; None if it won't shrink."""
        return self.writer.pack(data)

    def write_compressed(self, offset: int, data: bytes | bytearray | memoryview,
                         packed: bytes | None = None) -> None:
        """Store one whole cluster (or the shorter last one) compressed, if that is smaller."""
        self.check_range(offset, len(data), write=True)
        if packed is None:
            packed = self.writer.pack(data)
        self.writer.write_compressed(offset, data, packed)

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
        if self.snapshots:
            raise BlockError("Can't empty an image that has snapshots", errno.ENOTSUP)
        self.writer.clearer.discard_fully(0, -(-self.header.size // self.cluster_size)
                                  * self.cluster_size)
        self.flush()

    def truncate(self, size: int, *, preallocation: str = "off") -> None:
        from .qcow2_resize import resize

        self.check_range(0, 0, write=True)
        resize(self, size, preallocation)

    # ---- write-back ----

    def free_later(self, cluster: int, count: int) -> None:
        """Drop a reference to host clusters once the disk no longer points at them."""
        self._frees.append((self._sequence, cluster, count))

    @property
    def pending_frees(self) -> int:
        """How many entries wait to be freed."""
        return len(self._frees)

    def write_metadata(self) -> None:
        """Write all cached tables in the safe order (see the module's head)."""
        pointers = self.map.cache.is_dirty or bool(self.map.dirty_l1)
        if self.refcounts.is_dirty and not (self.lazy_refcounts and self._marked_dirty):
            self.refcounts.write_back()
        if pointers:
            self.data_file.flush()
            if self.data_file is not self.file:
                self.file.flush()
        self.map.cache.write_back()
        if self.map.dirty_l1:
            self.file.flush()
            self.map.write_l1()

    def _apply_frees(self) -> None:
        """Count down what was dropped; only after the tables are on stable storage."""
        oldest = min(self._active, default=self._sequence + 1)
        ready = [entry for entry in self._frees if entry[0] < oldest]
        if not ready:
            return
        self._frees = [entry for entry in self._frees if entry[0] >= oldest]
        self.decompressor.forget()
        for _, cluster, count in ready:
            self.refcounts.add(cluster, count, -1)

    def flush(self) -> None:
        if self.read_only:
            return
        with self.lock:
            self.write_metadata()
            self.file.flush()
            if self.data_file is not self.file:
                self.data_file.flush()
            self._apply_frees()

    @property
    def _marked_dirty(self) -> bool:
        return bool(self.header.incompatible & fmt.Incompatible.DIRTY)

    def mark_dirty(self) -> None:
        """Lazy refcounts: say on disk that the counts can't be trusted from here."""
        if not self._marked_dirty:
            self.update_header(incompatible=self.header.incompatible | fmt.Incompatible.DIRTY)

    def update_header(self, **fields: Any) -> None:
        """Change header fields, durably, in one write."""
        new = fmt.fit_header(self.header._replace(**fields))
        packed = fmt.pack_header(new)
        old_length = min(self.cluster_size, 4096)
        self.file.pwrite(0, packed + bytes(max(0, old_length - len(packed))))
        self.file.flush()
        self.header = new
        self._size = new.size & -SECTOR

    def corrupted(self, message: str) -> BlockError:
        """Note corruption in the header, if we may write it; the error to raise."""
        if not self.read_only and self.header.version >= 3:
            bits = self.header.incompatible | fmt.Incompatible.CORRUPT
            if bits != self.header.incompatible:
                self.update_header(incompatible=bits)
            self.read_only = True
            message = f"qcow2: Marking image as corrupt: {message}"
        return BlockError(message, errno.EIO)

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
        """Leave the image clean: bitmaps stored, frees applied, the dirty bit gone."""
        if self._bitmaps is not None:
            self._bitmaps.store()
        self.flush()
        self.refcounts.write_back()
        if self._marked_dirty:
            self.file.flush()
            self.update_header(incompatible=self.header.incompatible & ~fmt.Incompatible.DIRTY)

    def check(self, *, repair: str | None = None,
              report: Callable[[str], None] = lambda line: None) -> CheckResult:
        """Check the image's consistency, and mend it if asked ("leaks" or "all")."""
        from .qcow2_check import check_image

        return check_image(self, repair=repair, report=report)

    @property
    def data_file_name(self) -> str:
        """The external data file as the header names it."""
        name = self.header.extension(fmt.EXT_DATA_FILE) or b""
        return name.decode(errors="surrogateescape")

    refcount_cache_size = REFCOUNT_CACHE_BYTES

    def use_refcounts(self, refcounts: Refcounts) -> None:
        """Count with another structure (its width was changed)."""
        refcounts.on_corrupt = self.corrupted
        self.refcounts = refcounts
        self._writer = None

    # ---- bitmaps ----

    def bitmap_names(self) -> list[str]:
        return self.bitmaps.names() if self.has_bitmaps else []

    def bitmap_status(self, name: str, offset: int, length: int) -> list[tuple[int, bool]]:
        if not self.has_bitmaps:
            return super().bitmap_status(name, offset, length)
        return self.bitmaps.status(name, offset, length)


def fill_zeroes(part: memoryview) -> None:
    """Zero a buffer without making a zero buffer of its size."""
    step = len(ZERO_BLOCK)
    for start in range(0, len(part) - step + 1, step):
        part[start : start + step] = ZERO_BLOCK
    rest = len(part) % step
    if rest:
        part[-rest:] = ZERO_BLOCK[:rest]


def read_header(file: BlockDevice) -> fmt.Header:
    """The header of an image."""
    head = file.pread(0, 4096)
    if not fmt.is_qcow2(head):
        raise ImageFormatError("Image is not in qcow2 format")
    bits = int.from_bytes(head[20:24], "big")
    if 12 < bits <= fmt.MAX_CLUSTER_BITS:
        head = file.pread(0, 1 << bits)
    return fmt.parse_header(head)


def validate_header(header: fmt.Header, file: BlockDevice, *, lenient: bool = False) -> None:
    """Refuse what we can't handle or what a sane image can't hold; ImageFormatError and kin."""
    if header.incompatible & ~fmt.KNOWN_INCOMPATIBLE:
        raise NotSupported(f"Unsupported qcow2 feature(s): {fmt.unknown_features(header)}")
    if header.crypt_method:
        raise NotSupported("Encrypted qcow2 images are not supported")
    if header.compression_type >= len(fmt.COMPRESSION_TYPES):
        raise NotSupported(f"qcow2: unknown compression type: {header.compression_type}")
    extended = bool(header.incompatible & fmt.Incompatible.EXTENDED_L2)
    if extended and header.cluster_bits < 14:
        raise ImageFormatError("Extended L2 entries need clusters of at least 16 KiB")
    cluster = 1 << header.cluster_bits

    def check_table(offset: int, length: int, maximum: int, what: str) -> None:
        if length > maximum:
            raise ImageFormatError(f"{what} too large")
        if offset & (cluster - 1) or offset + length > 1 << 63:
            raise ImageFormatError(f"{what} offset invalid")
        if offset + length > file.size + (MAX_TAIL if not lenient else 1 << 63):
            raise ImageFormatError(f"{what} lies beyond the end of the image")

    check_table(header.refcount_table_offset, header.refcount_table_clusters * cluster,
                fmt.MAX_REFTABLE_BYTES, "Reference count table")
    if header.refcount_table_clusters == 0 and not lenient:
        raise ImageFormatError("Image does not contain a reference count table")
    if header.nb_snapshots > fmt.MAX_SNAPSHOTS:
        raise ImageFormatError("Snapshot table too large")
    check_table(header.snapshots_offset, header.nb_snapshots * 40,
                fmt.MAX_SNAPSHOT_TABLE_BYTES, "Snapshot table")
    check_table(header.l1_table_offset, header.l1_size * 8, fmt.MAX_L1_BYTES, "Active L1 table")
    span_bits = header.cluster_bits * 2 - (4 if extended else 3)
    if header.size >> 63 or header.size >> span_bits >= 1 << 31:
        raise ImageFormatError("Image is too big")
    if header.l1_size < -(-header.size >> span_bits):
        raise ImageFormatError("L1 table is too small")


MAX_TAIL = 1 << 21  # a table may end in a cluster the file does not fill


def _open_data_file(file: BlockDevice, header: fmt.Header, flags: OpenFlags
                    ) -> BlockDevice | None:
    from .open import open_node

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
