"""qcow2: giving guest clusters host clusters before anything is written to them."""

from __future__ import annotations

import errno

from pytcg.block.device import BlockError
from pytcg.block.formats.qcow2 import format as fmt
from pytcg.block.formats.qcow2.refcount_shape import cover
from pytcg.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from pytcg.block.formats.qcow2.device import Qcow2Device


def preallocate(device: Qcow2Device, start: int, end: int, mode: str) -> None:
    """Map every cluster of the range to a host cluster; ``full`` and ``falloc`` fill them."""
    if mode not in ("metadata", "falloc", "full"):
        raise BlockError(f"Unsupported preallocation mode '{mode}'", errno.EINVAL)
    external = device.data_file is not device.file
    if mode == "metadata" or external:
        _preallocate_metadata(device, start, end)
    else:
        _preallocate_data(device, start, end, mode)
    device.flush()
    if external:
        device.data_file.truncate(max(end, device.data_file.size), preallocation=mode
                                  if mode != "metadata" else "off")


def _preallocate_metadata(device: Qcow2Device, start: int, end: int) -> None:
    """Host clusters as writes would allocate them, and a file long enough for them."""
    cluster = device.cluster_size
    position, stop = start & -cluster, -(-end // cluster) * cluster
    if position < start and device.backing is not None and not device.map.word(position):
        # A cluster of its own must not hide what the backing file showed before the old end.
        device.writer.store(position, memoryview(device.pread(position, start - position)))
    while position < stop:
        position = _fill_slice(device, position, stop)
    if device.data_file is device.file:
        length = -(-device.file.size // cluster) * cluster
        last = device.refcounts.last_used() + 1
        device.file.truncate(max(length, last * cluster))


def _preallocate_data(device: Qcow2Device, start: int, end: int, mode: str) -> None:
    """One run of host clusters behind the file's end, with blocks that the host reserved."""
    cluster, bits, refcounts = device.cluster_size, device.header.cluster_bits, device.refcounts
    first = start & -cluster
    count = -(-(end - first) // cluster)
    tables = -(-count // device.map.l2_entries) + 1
    device.flush()
    host = cover(refcounts, refcounts.last_used() + 1, count + tables, exact=True) << bits
    if refcounts.allocate_at(host, count) != count:
        raise BlockError("Could not preallocate: the clusters are in use", errno.EIO)
    device.file.truncate(host + count * cluster, preallocation=mode)
    if start > first:  # the cluster that held the old end moves along
        device.file.pwrite(host, device.pread(first, start - first))
    _link(device, first, host, count)


def _fill_slice(device: Qcow2Device, start: int, end: int) -> int:
    """Give clusters without an L2 entry host clusters, up to a slice's end: where it ended."""
    bits = device.header.cluster_bits
    span = device.map.slice_entries << bits
    end = min(end, (start // span + 1) * span)
    with device.lock:
        device.writer.prepare()
        device.map.writable(start)
        words = device.map.first_words(start, (end - start) >> bits)
        position = 0
        while position < len(words):
            if words[position]:
                position += 1
                continue
            stop = position + _zeroes_from(words, position)
            while position < stop:
                position += _allocate(device, start + (position << bits), stop - position)
    return end


def _zeroes_from(words: list[int], position: int) -> int:
    """How many words from ``position`` on are zero."""
    rest = words[position:] if position else words
    if not any(rest):
        return len(rest)
    return next(index for index, word in enumerate(rest) if word)


def _allocate(device: Qcow2Device, guest: int, count: int) -> int:
    """Allocate and link up to ``count`` clusters: how many."""
    bits, refcounts = device.header.cluster_bits, device.refcounts
    external = device.data_file is not device.file
    if not external and not refcounts.counts_next(count):  # QEMU's pieces, with refcount blocks
        entries = device.map.run_entries
        count = min(count, entries - (guest >> bits) % entries)
    unused = refcounts.never_used << bits
    host, count = device.writer.allocate_data(guest, count)
    if host < unused and not external:  # it may hold old content
        device.file.write_zeroes(host, count << bits, may_unmap=False)
    _link(device, guest, host, count)
    return count


def _link(device: Qcow2Device, guest: int, host: int, count: int) -> None:
    """Point L2 entries at new host clusters; subclusters stay as they are."""
    bits, step = device.header.cluster_bits, device.map.slice_entries
    while count:
        here = min(count, step - (guest >> bits) % step)
        first = host | fmt.COPIED
        words = list(range(first, first + (here << bits), device.cluster_size))
        old = device.map.set_words(guest, words)
        if any(old):
            for word in filter(None, old):
                device.writer.drop_word(word)
        guest, host, count = guest + (here << bits), host + (here << bits), count - here
