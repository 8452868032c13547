"""qcow2's internal snapshots: create, apply, delete, and loading one as a read-only disk."""

from __future__ import annotations

import errno
import time
from array import array
from collections.abc import Iterator

from pytcg.block.device import BlockError
from pytcg.block.formats.qcow2 import format as fmt
from pytcg.block.formats.qcow2.cache import from_disk, to_disk
from pytcg.block.formats.qcow2.compress import compressed_extent
from pytcg.block.formats.qcow2.snapshot_table import SnapshotEntry, pack_snapshots, snapshots_length
from pytcg.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from pytcg.block.formats.qcow2.device import Qcow2Device

BATCH = 1 << 16


def find_snapshot(device: Qcow2Device, wanted: str) -> SnapshotEntry:
    """The snapshot of an ID, else of a name; BlockError if there is neither."""
    for key in ("id", "name"):
        for entry in device.snapshots:
            if getattr(entry, key) == wanted:
                return entry
    raise BlockError("snapshot not found", errno.ENOENT)


def _entry_words(table: array[int], words: int) -> array[int]:
    return table if words == 1 else table[::2]


def _references(device: Qcow2Device, word: int) -> tuple[int, int]:
    """(first host cluster, count) that an L2 entry refers to; count 0 if none."""
    bits = device.header.cluster_bits
    if word & fmt.COMPRESSED:
        offset, length = compressed_extent(word & (fmt.COMPRESSED - 1), bits)
        first = offset >> bits
        return first, ((offset + length - 1) >> bits) - first + 1
    if word & fmt.OFFSET_MASK and device.data_file is device.file:
        return (word & fmt.OFFSET_MASK) >> bits, 1
    return 0, 0


def _host_runs(device: Qcow2Device, l1: array[int]) -> Iterator[tuple[int, int]]:
    """(first host cluster, count) of everything an L1 table refers to, its L2 tables too."""
    bits = device.header.cluster_bits
    for entry in l1:
        offset = entry & fmt.OFFSET_MASK
        if not offset:
            continue
        start = length = 0
        table = from_disk(device.file.pread(offset, device.cluster_size))
        for word in _entry_words(table, device.map.words):
            first, count = _references(device, word)
            if count == 1 and first == start + length and length:
                length += 1
                continue
            if length:
                yield start, length
            start, length = first, count
        if length:
            yield start, length
        yield offset >> bits, 1  # after its entries: freeing a cluster may discard it


def _count(device: Qcow2Device, l1: array[int], delta: int) -> None:
    """Change the refcounts of everything under an L1 table, all or nothing."""
    done: list[tuple[int, int]] = []
    try:
        for first, count in _host_runs(device, l1):
            device.refcounts.add(first, count, delta)
            if delta > 0:
                done.append((first, count))
    except BlockError:
        for first, count in done:
            device.refcounts.add(first, count, -delta)
        raise


def update_copied(device: Qcow2Device) -> None:
    """Set COPIED in the active tables exactly where the refcount is one."""
    cluster_map, refcounts = device.map, device.refcounts
    bits = device.header.cluster_bits
    for index, entry in enumerate(cluster_map.l1):
        offset = entry & fmt.OFFSET_MASK
        if not offset:
            continue
        only = refcounts.get(offset >> bits) == 1
        new = offset | (fmt.COPIED if only else 0)
        if new != entry:
            cluster_map.l1[index] = new
            cluster_map.dirty_l1.add(index)
        for start in range(offset, offset + device.cluster_size, cluster_map.slice_bytes):
            _update_slice(device, start)


def _update_slice(device: Qcow2Device, offset: int) -> None:
    part = device.map.cache.get(offset)
    external = device.data_file is not device.file
    if not any(part.table):
        return
    for position in range(0, len(part.table), device.map.words):
        word = part.table[position]
        if word & fmt.COMPRESSED or not word & fmt.OFFSET_MASK or external:
            continue
        only = device.refcounts.get((word & fmt.OFFSET_MASK) >> device.header.cluster_bits) == 1
        new = word & ~fmt.COPIED | (fmt.COPIED if only else 0)
        if new != word:
            device.map.cache.get(offset)  # refcount look-ups must not have evicted it
            part.table[position] = new
            device.map.cache.mark(part, position, position + 1)


def store_table(device: Qcow2Device, entries: list[SnapshotEntry]) -> None:
    """Write a new snapshot table and point the header at it."""
    cluster = device.cluster_size
    old_offset, old_clusters = device.header.snapshots_offset, 0
    if device.snapshots:
        old_clusters = -(-snapshots_length(device.snapshots) // cluster)
    table = pack_snapshots(entries)
    if len(table) > fmt.MAX_SNAPSHOT_TABLE_BYTES or len(entries) > fmt.MAX_SNAPSHOTS:
        raise BlockError("Snapshot table too large", errno.EFBIG)
    offset = 0
    if entries:
        clusters = -(-len(table) // cluster)
        offset = device.writer.allocate_metadata(clusters)
        device.file.pwrite(offset, table + bytes(clusters * cluster - len(table)))
    device.write_metadata()
    device.refcounts.write_back()
    device.file.flush()
    device.update_header(nb_snapshots=len(entries), snapshots_offset=offset)
    device.snapshots = [entry._replace(extra_size=24 + len(entry.extra)) for entry in entries]
    if old_clusters:
        device.writer.free_metadata(old_offset, old_clusters)


def _require_internal(device: Qcow2Device) -> None:
    if device.data_file is not device.file:
        raise BlockError("Operation not supported", errno.ENOTSUP)
    device.check_range(0, 0, write=True)


def create_snapshot(device: Qcow2Device, name: str, *, vm_state_size: int = 0,
                    vm_clock: int = 0) -> SnapshotEntry:  # fmt: skip
    """Freeze the disk's present content, and a machine's state behind it, under ``name``."""
    _require_internal(device)
    with device.lock:
        device.flush()
        cluster_map, cluster = device.map, device.cluster_size
        length = len(cluster_map.l1) * 8
        clusters = max(1, -(-length // cluster))
        copy = array("Q", [entry & ~fmt.COPIED for entry in cluster_map.l1])
        _count(device, cluster_map.l1, 1)
        try:
            offset = device.writer.allocate_metadata(clusters)
            device.file.pwrite(offset, to_disk(copy) + bytes(clusters * cluster - length))
        finally:
            update_copied(device)
        number = 1 + max((int(entry.id) for entry in device.snapshots
                          if entry.id.isascii() and entry.id.isdigit()), default=0)
        seconds, nanoseconds = divmod(time.time_ns(), 10**9)
        entry = SnapshotEntry(offset, len(copy), str(number), name, seconds, nanoseconds,
                              vm_clock, vm_state_size, device.header.size, icount=0)
        store_table(device, [*device.snapshots, entry])
        device.flush()
        return entry


def load_l1(device: Qcow2Device, entry: SnapshotEntry) -> array[int]:
    """A snapshot's L1 table; BlockError if it can't be one."""
    if entry.l1_size * 8 > fmt.MAX_L1_BYTES:
        raise BlockError("Snapshot L1 table too large", errno.EFBIG)
    if entry.l1_table_offset % device.cluster_size:
        raise BlockError("Snapshot L1 table offset invalid", errno.EINVAL)
    return from_disk(device.file.pread(entry.l1_table_offset, entry.l1_size * 8))


def apply_snapshot(device: Qcow2Device, wanted: str) -> None:
    """Take the disk back to a snapshot."""
    _require_internal(device)
    with device.lock:
        entry = find_snapshot(device, wanted)
        device.flush()
        if entry.disk_size != device.header.size:
            device.truncate(entry.disk_size)
        l1 = load_l1(device, entry)
        cluster_map = device.map
        if len(l1) > len(cluster_map.l1):
            from pytcg.block.formats.qcow2.resize import grow_l1

            grow_l1(device, len(l1))
        old = cluster_map.l1[:]
        _count(device, l1, 1)
        device.refcounts.write_back()
        device.file.flush()
        cluster_map.cache.drop_clean()
        for index in range(len(old)):
            word = l1[index] & ~fmt.COPIED if index < len(l1) else 0
            cluster_map.l1[index] = word
            cluster_map.dirty_l1.add(index)
        device.file.pwrite(cluster_map.l1_offset, to_disk(cluster_map.l1))
        device.file.flush()
        _count(device, old, -1)
        device.writer.tables_changed()
        device.decompressor.forget()
        update_copied(device)
        device.flush()
        device.refcounts.write_back()


def delete_snapshot(device: Qcow2Device, wanted: str) -> None:
    """Forget a snapshot and free what it alone held."""
    _require_internal(device)
    with device.lock:
        entry = find_snapshot(device, wanted)
        device.flush()
        l1 = load_l1(device, entry)
        kept = [other for other in device.snapshots if other is not entry]
        store_table(device, kept)
        _count(device, l1, -1)
        clusters = -(-entry.l1_size * 8 // device.cluster_size)
        if clusters:
            device.refcounts.add(entry.l1_table_offset >> device.header.cluster_bits, clusters,
                                 -1)
        device.writer.tables_changed()
        device.decompressor.forget()
        update_copied(device)
        device.flush()
        device.refcounts.write_back()


def load_snapshot(device: Qcow2Device, wanted: str) -> None:
    """Make a read-only device show a snapshot's content."""
    entry = find_snapshot(device, wanted)
    with device.lock:
        device.read_only = True
        device.map.l1 = load_l1(device, entry)
        device.show_size(entry.disk_size)
