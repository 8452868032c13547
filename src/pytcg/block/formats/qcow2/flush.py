"""qcow2 write-back: metadata reaches the disk in an order that survives power cuts.

Order on disk, so that a power cut at any moment leaves at worst leaked clusters: refcounts of
new clusters, then L2 tables that point at them, then L1 entries that point at new tables; then
refcounts of what was dropped. Between them the file is flushed.
"""

from __future__ import annotations

import errno

from pytcg.block.device import BlockError
from pytcg.block.formats.qcow2 import format as fmt
from pytcg.block.formats.qcow2.read import Qcow2Reading
from pytcg.typed import Any

SECTOR = 512


class Qcow2Flushing(Qcow2Reading):
    """The half of a qcow2 device that writes back; Qcow2Device sets it up."""

    lazy_refcounts: bool
    pending_frees = 0  # clusters that wait to be counted down
    _announced = False  # corruption
    _frees: list[tuple[int, int, int]]  # (newest request then, first cluster, count)

    def free_later(self, cluster: int, count: int) -> None:
        """Drop a reference to host clusters once the disk no longer points at them."""
        self._frees.append((self._sequence, cluster, count))
        self.pending_frees += count

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
        self.file.debug_event("cluster_free")
        for _, cluster, count in ready:
            self.pending_frees -= count
            self.refcounts.add(cluster, count, -1)

    def flush(self) -> None:
        if self.read_only:
            return
        with self.lock:
            self.file.debug_event("flush_to_os")
            self.write_metadata()
            self.file.debug_event("flush_to_disk")
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
        new = fmt.arrange_extensions(self.header._replace(**fields))
        packed = fmt.pack_header(new)
        old_length = min(self.cluster_size, 4096)
        self.file.pwrite(0, packed + bytes(max(0, old_length - len(packed))))
        self.file.flush()
        self.header = new
        self._size = new.size & -SECTOR

    def corrupted(self, message: str, *, fatal: bool = True) -> BlockError:
        """Say so once, and mark the image unless it is read-only: the error to raise.

        A marked image takes no more requests.
        """
        fatal = fatal and not self.read_only
        marked = bool(self.header.incompatible & fmt.Incompatible.CORRUPT)
        if not self._announced or (fatal and not marked):
            from pytcg.block.formats.qcow2.corrupt import announce

            self._announced = True
            announce(message, fatal=fatal)
        if fatal:
            if self.header.version >= 3:
                self.update_header(incompatible=self.header.incompatible
                                   | fmt.Incompatible.CORRUPT)
            self.read_only = True
            self._size = 0
        return BlockError("Input/output error", errno.EIO)

    def check_range(self, offset: int, length: int, *, write: bool = False) -> None:
        if self._announced and self._size == 0:
            raise BlockError("No medium found", errno.ENOMEDIUM)
        super().check_range(offset, length, write=write)
