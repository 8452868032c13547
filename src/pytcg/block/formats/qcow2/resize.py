"""qcow2: changing the disk's size."""

from __future__ import annotations

import errno
from array import array

from pytcg.block.device import BlockError
from pytcg.block.formats.qcow2 import format as fmt
from pytcg.block.formats.qcow2.cache import to_disk
from pytcg.block.formats.qcow2.l2 import ALL_ALLOCATED
from pytcg.block.formats.qcow2.preallocate import preallocate
from pytcg.block.formats.qcow2.refcount_shape import give_back_blocks
from pytcg.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from pytcg.block.formats.qcow2.device import Qcow2Device

SECTOR = 512


def resize(device: Qcow2Device, size: int, preallocation: str = "off") -> None:
    """Set the guest-visible size, in sectors; shrinking discards what is cut off."""
    if size % SECTOR:
        raise BlockError(f"The new size must be a multiple of {SECTOR}", errno.EINVAL)
    if device.data_file_is_raw and preallocation == "off" and size > device.header.size:
        preallocation = "metadata"  # see create_qcow2
    with device.lock:
        old = device.header.size
        if device.snapshots and device.header.version < 3:
            raise BlockError("Can't resize a v2 image which has snapshots", errno.ENOTSUP)
        entries = -(-size // device.map.table_span)
        if entries * 8 > fmt.MAX_L1_BYTES or size >> 63:
            raise BlockError("Failed to grow the L1 table: File too large", errno.EFBIG)
        device.flush()
        if device.has_bitmaps:
            device.bitmaps.resize(size)
        if size < old:
            _shrink(device, size)
        else:
            if entries > len(device.map.l1):
                grow_l1(device, entries)
            device.update_header(size=size)
        if device.has_bitmaps:
            device.bitmaps.store()
        if size > old:
            _fill_growth(device, old, size, preallocation)
        device.flush()
        if device.data_file is not device.file:
            device.data_file.truncate(size)


def _shrink(device: Qcow2Device, size: int) -> None:
    cluster = device.cluster_size
    start = -(-size // cluster) * cluster
    end = -(-device.header.size // cluster) * cluster
    if size % cluster and size < device.size:
        tail = min(start, device.size) - size
        device.writer.clearer.write_zeroes(size, tail, may_unmap=True)
    device.writer.clearer.discard_fully(start, end)
    device.flush()
    entries = -(-size // device.map.table_span)
    for index in range(entries, len(device.map.l1)):
        offset = device.map.l2_offset(index)
        if offset:
            device.map.l1[index] = 0
            device.map.dirty_l1.add(index)
            device.map.cache.forget(offset, cluster)
            device.writer.free_metadata(offset, 1)
    device.flush()
    device.update_header(size=size)
    _drop_tail(device)


def _drop_tail(device: Qcow2Device) -> None:
    """Cut the file after the last used cluster."""
    device.flush()
    give_back_blocks(device.refcounts)
    device.refcounts.write_back()
    device.file.flush()  # a table in what is cut off may no longer be in force
    cluster = -(-device.file.size // device.cluster_size)
    while cluster and not device.refcounts.get(cluster - 1):
        cluster -= 1
    if cluster * device.cluster_size < device.file.size:
        device.file.truncate(cluster * device.cluster_size)


def _fill_growth(device: Qcow2Device, old: int, size: int, preallocation: str) -> None:
    """New space reads as zeroes, even where a longer backing file would show."""
    if preallocation != "off":
        preallocate(device, old, size, preallocation)
    if device.backing is None or device.backing.size <= old:
        return
    if preallocation in ("off", "metadata") or device.data_file is not device.file:
        device.writer.clearer.write_zeroes(old, size - old, may_unmap=False)
    elif device.map.extended:  # the clusters are zero, but only their subclusters can say so
        for cluster in range(old & -device.cluster_size, size, device.cluster_size):
            device.map.set_bitmap(cluster, ALL_ALLOCATED)


def grow_l1(device: Qcow2Device, entries: int) -> None:
    """Move the active L1 table to a larger one."""
    cluster_map, cluster = device.map, device.cluster_size
    device.flush()
    old_offset, old_clusters = cluster_map.l1_offset, -(-len(cluster_map.l1) * 8 // cluster)
    clusters = max(1, -(-entries * 8 // cluster))
    grown = cluster_map.l1 + array("Q", [0]) * (entries - len(cluster_map.l1))
    device.file.debug_event("l1_grow_alloc_table")
    offset = device.writer.allocate_metadata(clusters)
    device.file.debug_event("l1_grow_write_table")
    device.file.pwrite(offset, to_disk(grown) + bytes(clusters * cluster - entries * 8))
    device.refcounts.write_back()
    device.file.flush()
    device.file.debug_event("l1_grow_activate_table")
    device.update_header(l1_table_offset=offset, l1_size=entries)
    cluster_map.l1, cluster_map.l1_offset = grown, offset
    if old_clusters:
        device.writer.free_metadata(old_offset, old_clusters)
