"""Writing qcow2's compressed clusters: each behind the one before, many in a host cluster."""

from __future__ import annotations

import errno

from pytcg.block.device import BlockError
from pytcg.block.formats.qcow2 import format as fmt
from pytcg.block.formats.qcow2.compress import SECTOR, compress, descriptor_shift
from pytcg.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from pytcg.block.formats.qcow2.device import Qcow2Device


def pack(device: Qcow2Device, data: bytes | bytearray | memoryview) -> bytes | None:
    """A cluster's compressed form; None if that would not be smaller."""
    padded = bytes(data) + bytes(device.cluster_size - len(data))
    packed = compress(padded, device.header.compression_type)
    return packed if len(packed) < device.cluster_size else None


def write_packed(device: Qcow2Device, offset: int, data: bytes | bytearray | memoryview,
                 packed: bytes | None) -> None:
    """Store a whole cluster compressed; as it is if ``packed`` (from pack) is None."""
    cluster, writer = device.cluster_size, device.writer
    if offset % cluster or len(data) not in (cluster, device.size - offset):
        raise BlockError("Compressed writes must be whole clusters", errno.EINVAL)
    if device.data_file is not device.file:
        raise BlockError("Compressed writes need the image's own data area", errno.ENOTSUP)
    if packed is None:
        writer.write(offset, memoryview(data))
        return
    if device.has_bitmaps:
        device.bitmaps.mark_dirty(offset, len(data))
    with device.lock:
        writer.prepare()
        while writer.wait_for(offset, offset + cluster):
            pass
        device.map.writable(offset)
        host = _allocate(device, len(packed))
        device.file.debug_event("write_compressed")
        device.file.pwrite(host, packed)
        _link(device, offset, host, len(packed))


def _link(device: Qcow2Device, offset: int, host: int, length: int) -> None:
    sectors = (host + length - 1) // SECTOR - host // SECTOR
    shift = descriptor_shift(device.header.cluster_bits)
    old = device.map.set_words(offset, [fmt.COMPRESSED | sectors << shift | host])[0]
    if device.map.extended:
        device.map.set_bitmap(offset, 0)
    if old:
        device.writer.drop_word(old)


def _allocate(device: Qcow2Device, length: int) -> int:
    """Host offset for compressed bytes, behind the ones before where that is possible."""
    writer, counts, bits = device.writer, device.refcounts, device.header.cluster_bits
    at = writer.packed_at
    cluster, room = at >> bits, -at % device.cluster_size
    fits = room and counts.get(cluster) < counts.maximum
    if fits and length > room:
        fits = counts.allocate_at((cluster + 1) << bits, 1) == 1
    if fits:
        counts.add(cluster, 1, 1)
    else:
        at = counts.allocate(1)
        writer.refuse_start(at, "compressed cluster")
    writer.refuse_overlap(at, length)
    writer.packed_at = at + length
    return at
