"""How large a host file an image would need."""

from __future__ import annotations

import errno
import os

from pytcg.block.device import BlockDevice, BlockError, NotSupported
from pytcg.block.formats.qcow2.create import CreateOptions, l1_entries
from pytcg.block.formats.qcow2.device import Qcow2Device
from pytcg.block.formats.qcow2.format import MAX_L1_BYTES
from pytcg.typed import NamedTuple


class Measurement(NamedTuple):
    """Bytes: for the data there is, for a full disk, and for the source's bitmaps."""

    required: int
    fully_allocated: int
    bitmaps: int | None = None


def _round_up(value: int, unit: int) -> int:
    return -(-value // unit) * unit


def refcount_bytes(clusters: int, cluster: int, bits: int) -> int:
    """The refcount table and blocks for so many clusters and for themselves."""
    per_block = cluster * 8 // bits
    blocks = table = 0
    while True:
        new_blocks = -(-(clusters + table + blocks) // per_block)
        new_table = -(-new_blocks // (cluster // 8))
        if (new_blocks, new_table) == (blocks, table):
            return (blocks + table) * cluster
        blocks, table = new_blocks, new_table


def full_size(size: int, options: CreateOptions) -> int:
    """The file size of a fully allocated qcow2 image."""
    cluster, word = options.cluster_size, 16 if options.extended_l2 else 8
    data = _round_up(size, cluster)
    l2_bytes = _round_up(data // cluster * word, cluster)
    l1_bytes = _round_up(l2_bytes // cluster * 8, cluster)
    metadata = cluster + l2_bytes + l1_bytes
    metadata += refcount_bytes((metadata + data) // cluster, cluster, options.refcount_bits)
    return metadata + data


def _allocated(source: BlockDevice, cluster: int) -> int:
    """Bytes of the target's clusters that the source's data touches."""
    total = offset = 0
    while offset < source.size:
        try:
            extent = source.status_at(offset, source.size - offset)
        except BlockError as error:
            raise BlockError(f"Unable to get block status: {os.strerror(error.errno)}",
                             error.errno) from None
        end = offset + extent.length
        if not extent.zero:
            total += _round_up(end, cluster) - offset // cluster * cluster
            end = _round_up(end, cluster)
        offset = end
    return total


def _bitmap_bytes(source: Qcow2Device, cluster: int) -> int:
    total = directory = 0
    for bitmap in source.bitmaps.bitmaps:
        entry = bitmap.entry
        bits = -(-source.size // (1 << entry.granularity_bits))
        clusters = _round_up(-(-bits // 8), cluster) // cluster
        total += clusters * cluster + _round_up(clusters * 8, cluster)
        directory += _round_up(24 + len(entry.name.encode()), 8)
    return total + _round_up(directory, cluster)


def measure(driver: str, options: CreateOptions, source: BlockDevice | None) -> Measurement:
    """Measure an image of ``options.size`` bytes, or one that holds ``source``'s content."""
    size = source.size if source is not None else options.size
    if driver == "raw":
        return Measurement(size, size)
    if driver != "qcow2":
        raise NotSupported(f"Block driver '{driver}' does not support size measurement")
    if l1_entries(options._replace(size=size)) * 8 > MAX_L1_BYTES:
        raise BlockError("The image size is too large (try using a larger cluster size)",
                         errno.EINVAL)
    options._replace(size=size).check()
    cluster = options.cluster_size
    whole = full_size(size, options)
    data = 0
    if options.preallocation in ("falloc", "full"):
        data = _round_up(size, cluster)
    elif source is not None:
        data = _allocated(source, cluster)
    bitmaps = None
    if isinstance(source, Qcow2Device) and source.header.version >= 3 and options.version >= 3:
        bitmaps = _bitmap_bytes(source, cluster) if source.has_bitmaps else 0
    return Measurement(whole - _round_up(size, cluster) + data, whole, bitmaps)
