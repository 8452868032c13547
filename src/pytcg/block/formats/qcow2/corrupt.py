"""qcow2 corruption, said and marked: QEMU's messages, and which metadata a write would hit."""

from __future__ import annotations

import sys

from pytcg.block.formats.qcow2 import format as fmt
from pytcg.block.formats.qcow2.snapshot_table import snapshots_length
from pytcg.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytcg.block.formats.qcow2.device import Qcow2Device
    from pytcg.block.formats.qcow2.l2 import ClusterMap


def number(value: int) -> str:
    """A number as C's %#x prints it."""
    return f"{value:#x}" if value else "0"


def announce(message: str, *, fatal: bool) -> None:
    """Say it on stderr; an image's user has to know whatever becomes of the request."""
    if fatal:
        text = f"Marking image as corrupt: {message}; further corruption"
    else:
        text = f"Image is corrupt: {message}; further non-fatal corruption"
    print(f"qcow2: {text} events will be suppressed", file=sys.stderr, flush=True)


def unaligned_cluster(cluster_map: ClusterMap, word: int, guest: int) -> str:
    """A data cluster's L2 entry that can't be."""
    host = number(word & fmt.OFFSET_MASK)
    if cluster_map.writing is None or not word & fmt.COPIED:
        return f"Cluster allocation offset {host} unaligned ({_place(cluster_map, guest)})"
    what = "Preallocated zero" if word & fmt.ZERO else "Data"
    return (f"{what} cluster offset {host} unaligned (guest offset: "
            f"{number(cluster_map.writing)})")


def foreign_cluster(cluster_map: ClusterMap, host: int, guest: int) -> str:
    """An L2 entry that points elsewhere in an external data file."""
    return (f"External data file host cluster offset {number(host)} does not match guest cluster "
            f"offset: {number(guest)}, L2 index: "
            f"{number((guest >> cluster_map.cluster_bits) % cluster_map.run_entries)})")


def invalid_cluster(cluster_map: ClusterMap, guest: int) -> str:
    """An L2 entry whose subcluster bits contradict each other."""
    gap = " " if cluster_map.writing is None else ""
    return f"Invalid cluster entry found {gap}({_place(cluster_map, guest)})"


def _place(cluster_map: ClusterMap, guest: int) -> str:
    cluster = guest >> cluster_map.cluster_bits
    table = cluster_map.l2_offset(cluster // cluster_map.l2_entries)
    return f"L2 offset: {number(table)}, L2 index: {number(cluster % cluster_map.run_entries)}"


def overlapped(device: Qcow2Device, first: int, last: int) -> str:
    """What lies in host clusters [first, last], by QEMU's names and in its order of search."""
    start, end = first << device.header.cluster_bits, (last + 1) << device.header.cluster_bits
    for name, offset, length in _sections(device):
        if length and offset < end and start < offset + length:
            return name
    return "image metadata"


def _sections(device: Qcow2Device) -> Iterator[tuple[str, int, int]]:
    header, cluster = device.header, device.cluster_size
    yield "qcow2_header", 0, cluster
    yield "active L1 table", device.map.l1_offset, len(device.map.l1) * 8
    yield "refcount table", device.refcounts.table_offset, len(device.refcounts.table) * 8
    if device.snapshots:
        yield ("snapshot table", header.snapshots_offset,
               snapshots_length(device.snapshots))
    for entry in device.snapshots:
        yield "inactive L1 table", entry.l1_table_offset, entry.l1_size * 8
    for word in device.map.l1:
        if word & fmt.OFFSET_MASK:
            yield "active L2 table", word & fmt.OFFSET_MASK, cluster
    for word in device.refcounts.table:
        if word:
            yield "refcount block", word & fmt.REFTABLE_MASK, cluster
    for offset in inactive_tables(device):
        yield "inactive L2 table", offset, cluster
    if device.has_bitmaps:
        yield "bitmap directory", *device.bitmaps.directory


def inactive_tables(device: Qcow2Device) -> Iterator[int]:
    """Host offsets of the L2 tables of all snapshots."""
    from pytcg.block.formats.qcow2.snapshot import load_l1

    for entry in device.snapshots:
        for word in load_l1(device, entry):
            if word & fmt.OFFSET_MASK:
                yield word & fmt.OFFSET_MASK
