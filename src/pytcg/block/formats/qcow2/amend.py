"""qcow2: changing an existing image's options."""

from __future__ import annotations

import errno
import mmap

from pytcg.block.device import BlockError
from pytcg.block.formats.qcow2 import format as fmt
from pytcg.block.formats.qcow2.cache import from_disk
from pytcg.block.formats.qcow2.refcount import Refcounts
from pytcg.typed import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytcg.block.formats.qcow2.device import Qcow2Device

_COMPAT = {"0.10": 2, "v2": 2, "1.1": 3, "v3": 3}


def amend(device: Qcow2Device, values: dict[str, Any]) -> None:
    """Apply amended options (typed as in CreateValues); BlockError for what can't be changed."""
    header = device.header
    version = header.version
    if "compat" in values:
        if values["compat"] not in _COMPAT:
            raise BlockError(f"Unknown compatibility level {values['compat']}", errno.EINVAL)
        version = _COMPAT[values["compat"]]
    _refuse_fixed(device, values)
    _refuse_for_v2(device, version, values)
    if version > header.version:
        _upgrade(device)
    if "refcount_bits" in values and values["refcount_bits"] != device.refcounts.bits:
        change_refcount_width(device, values["refcount_bits"])
    _change_data_file(device, values)
    if "lazy_refcounts" in values:
        _set_lazy(device, on=values["lazy_refcounts"])
    if "size" in values:
        device.truncate(values["size"])
    if version < header.version:
        _downgrade(device)
    device.flush()


def _refuse_fixed(device: Qcow2Device, values: dict[str, Any]) -> None:
    if values.get("data_file_raw") and not device.data_file_is_raw:
        raise BlockError("data-file-raw cannot be set on existing images", errno.EINVAL)
    if "data_file" in values and device.data_file is device.file:
        raise BlockError("data-file can only be set for images that use an external data file",
                         errno.EINVAL)
    bits = values.get("refcount_bits", device.refcounts.bits)
    if bits & (bits - 1) or not 1 <= bits <= 64:
        raise BlockError("Refcount width must be a power of two and may not exceed 64 bits",
                         errno.EINVAL)


def _change_data_file(device: Qcow2Device, values: dict[str, Any]) -> None:
    if values.get("data_file_raw") is False:
        device.update_header(autoclear=device.header.autoclear & ~fmt.Autoclear.DATA_FILE_RAW)
    name = values.get("data_file")
    if name is not None:
        device.update_header(extensions=device.header.with_extension(
            fmt.EXT_DATA_FILE, name.encode() or None).extensions)


def _refuse_for_v2(device: Qcow2Device, version: int, values: dict[str, Any]) -> None:
    if version >= 3:
        return
    if values.get("lazy_refcounts") and not device.lazy_refcounts:
        raise BlockError("Lazy refcounts only supported with compatibility level 1.1 and above "
                         "(use compat=1.1 or greater)", errno.EINVAL)
    bits = values.get("refcount_bits", device.refcounts.bits)
    if bits != 16 and bits != device.refcounts.bits:
        raise BlockError("Refcount widths other than 16 bits require compatibility level 1.1 or "
                         "above (use compat=1.1 or greater)", errno.EINVAL)


def _upgrade(device: Qcow2Device) -> None:
    if any(entry.extra_size < 16 for entry in device.snapshots):  # version 3 asks for more
        from pytcg.block.formats.qcow2.snapshot import store_table

        store_table(device, device.snapshots)
    device.update_header(version=3)


def _set_lazy(device: Qcow2Device, *, on: bool) -> None:
    bit = int(fmt.Compatible.LAZY_REFCOUNTS)
    bits = device.header.compatible | bit if on else device.header.compatible & ~bit
    if not on:
        device.flush()
        device.refcounts.write_back()
        device.file.flush()
        device.update_header(incompatible=device.header.incompatible & ~fmt.Incompatible.DIRTY)
    device.update_header(compatible=bits)
    device.lazy_refcounts = on


def _downgrade(device: Qcow2Device) -> None:
    """To version 2, which has neither zero clusters nor feature bits."""
    if device.refcounts.bits != 16:
        raise BlockError("compat=0.10 requires refcount_bits=16", errno.ENOTSUP)
    if device.data_file is not device.file:
        raise BlockError("Cannot downgrade an image with a data file", errno.ENOTSUP)
    _check_snapshots(device)
    if device.lazy_refcounts:
        _set_lazy(device, on=False)
    incompatible = device.header.incompatible & ~fmt.Incompatible.COMPRESSION
    if incompatible:
        raise BlockError("Cannot downgrade an image with incompatible features "
                         f"{int(incompatible):#x} set", errno.ENOTSUP)
    if device.has_bitmaps:
        raise BlockError("Cannot downgrade an image with bitmaps", errno.ENOTSUP)
    offset = 0
    while offset < device.size:
        extent = device.layer_status(offset, device.size - offset)
        if extent.compressed and device.header.compression_type:
            raise _compressed_otherwise()
        if extent.zero and not extent.data:
            _expand_zeroes(device, offset, extent.length)
        offset += extent.length
    device.flush()
    device.update_header(version=2, incompatible=0, compatible=0, autoclear=0, compression_type=0,
                         unknown_fields=b"")


def _check_snapshots(device: Qcow2Device) -> None:
    """Version 2's snapshots have neither sizes of their own nor zero clusters."""
    from pytcg.block.formats.qcow2.snapshot import load_l1

    for entry in device.snapshots:
        if entry.disk_size != device.size or entry.vm_state_size >> 32:
            raise BlockError("Internal snapshots prevent downgrade of image", errno.ENOTSUP)
        for word in load_l1(device, entry):
            offset = word & fmt.OFFSET_MASK
            table = from_disk(device.file.pread(offset, device.cluster_size)) if offset else ()
            if device.header.compression_type and any(l2 & fmt.COMPRESSED for l2 in table):
                raise _compressed_otherwise()
            if any(l2 & fmt.ZERO and not l2 & fmt.COMPRESSED for l2 in table):
                raise BlockError("Cannot downgrade an image with zero clusters in a snapshot",
                                 errno.ENOTSUP)


def _compressed_otherwise() -> BlockError:
    return BlockError("Cannot downgrade an image with zstd compression type and existing "
                      "compressed clusters", errno.ENOTSUP)


def _expand_zeroes(device: Qcow2Device, start: int, length: int) -> None:
    end = -(-(start + length) // device.cluster_size) * device.cluster_size
    if device.backing is None:
        device.writer.clearer.discard_fully(start, end)  # unallocated reads as zeroes too
        return
    step = min(length, 1 << 20)
    for offset in range(start, start + length, step):
        device.pwrite(offset, bytes(min(step, start + length - offset)))


def change_refcount_width(device: Qcow2Device, bits: int) -> None:
    """Write a refcount structure of another width and switch to it."""
    with device.lock:
        device.flush()
        old = device.refcounts
        old.write_back()
        clusters = max(-(-device.file.size // device.cluster_size), old.last_used() + 1)
        counts = memoryview(mmap.mmap(-1, max(8, clusters * 8))).cast("Q")
        for start in range(0, clusters, 1 << 14):
            for index, value in enumerate(old.read_run(start, min(1 << 14, clusters - start))):
                counts[start + index] = value
        for cluster in old.own:
            counts[cluster] -= 1
        for cluster, count in enumerate(counts):
            if count >> bits:
                raise BlockError(f"Cannot decrease refcount entry width to {bits} bits: Cluster at "
                                 f"offset {cluster * device.cluster_size:#x} has a refcount of "
                                 f"{count}", errno.EINVAL)
        header = device.header._replace(refcount_order=bits.bit_length() - 1)
        new = Refcounts(device.file, header, device.refcount_cache_size, device.write_metadata,
                        device.update_header)
        offset, table = new.build(counts, clusters)
        device.file.flush()
        device.update_header(refcount_order=header.refcount_order, refcount_table_offset=offset,
                             refcount_table_clusters=len(table) * 8 // device.cluster_size)
        new.replace_table(offset, table)
        device.use_refcounts(new)
