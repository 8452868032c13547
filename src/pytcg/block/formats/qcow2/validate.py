"""qcow2 headers: reading one and refusing what can't be right or can't be handled."""

from __future__ import annotations

from pytcg.block.device import BlockDevice, ImageFormatError, NotSupported
from pytcg.block.formats.qcow2 import format as fmt

MAX_TAIL = 1 << 21  # a table may end in a cluster the file does not fill


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
    if not lenient:
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
