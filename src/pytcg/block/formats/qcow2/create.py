"""Making qcow2 images."""

from __future__ import annotations

import errno
from array import array

from pytcg.block.device import BlockDevice, BlockError
from pytcg.block.formats.qcow2 import format as fmt
from pytcg.block.formats.qcow2.cache import to_disk
from pytcg.block.formats.qcow2.device import Qcow2Device
from pytcg.typed import NamedTuple

SECTOR = 512


class CreateOptions(NamedTuple):
    """The options of ``qemu-img create -f qcow2``."""

    size: int
    cluster_size: int = 65536
    version: int = 3
    refcount_bits: int = 16
    lazy_refcounts: bool = False
    extended_l2: bool = False
    compression_type: str = "zlib"
    backing_file: str | None = None
    backing_format: str | None = None
    data_file: str | None = None
    data_file_raw: bool = False
    preallocation: str = "off"

    def check(self) -> None:
        """BlockError for options that can't be, in QEMU's words."""
        def refuse(message: str) -> None:
            raise BlockError(message, errno.EINVAL)

        modern = "compatibility level 1.1 and above (use version=v3 or greater)"
        if self.extended_l2 and self.version < 3:
            refuse(f"Extended L2 entries are only supported with {modern}")
        size = self.cluster_size
        if size & (size - 1) or not 512 <= size <= 1 << 21:
            refuse("Cluster size must be a power of two between 512 and 2048k")
        if self.extended_l2 and size < 16384:
            refuse("Extended L2 entries are only supported with cluster sizes of at least "
                   "16384 bytes")
        if self.backing_file and self.preallocation != "off" and not self.extended_l2:
            refuse("Backing file and preallocation can only be used at the same time if "
                   "extended_l2 is on")
        if self.backing_format and not self.backing_file:
            refuse("Backing format cannot be used without backing file")
        if self.version < 3 and self.lazy_refcounts:
            refuse(f"Lazy refcounts only supported with {modern}")
        bits = self.refcount_bits
        if bits & (bits - 1) or not 1 <= bits <= 64:
            refuse("Refcount width must be a power of two and may not exceed 64 bits")
        if self.version < 3 and bits != 16:
            refuse("Different refcount widths than 16 bits require compatibility level 1.1 "
                   "or above (use version=v3 or greater)")
        if self.data_file_raw and not self.data_file:
            refuse("data-file-raw requires data-file")
        if self.data_file_raw and self.backing_file:
            refuse("Backing file and data-file-raw cannot be used at the same time")
        if self.version < 3 and self.data_file:
            refuse(f"External data files are only supported with {modern}")
        if self.version < 3 and self.compression_type != "zlib":
            refuse(f"Non-zlib compression type is only supported with {modern}")
        if l1_entries(self) * 8 > fmt.MAX_L1_BYTES or self.size >> 63:
            raise BlockError("Could not resize image: Failed to grow the L1 table: File too large",
                             errno.EFBIG)


def l1_entries(options: CreateOptions) -> int:
    """How many L1 entries the guest size needs."""
    words = 2 if options.extended_l2 else 1
    span = options.cluster_size // (8 * words) * options.cluster_size
    return -(-options.size // span)


def build_header(options: CreateOptions) -> fmt.Header:
    """The header of a new image: refcount table in cluster 1, its block in 2, L1 from 3."""
    cluster_bits = options.cluster_size.bit_length() - 1
    incompatible = 0
    if options.data_file:
        incompatible |= fmt.Incompatible.DATA_FILE
    if options.compression_type != "zlib":
        incompatible |= fmt.Incompatible.COMPRESSION
    if options.extended_l2:
        incompatible |= fmt.Incompatible.EXTENDED_L2
    header = fmt.Header(
        options.version, options.backing_file, cluster_bits, options.size, l1_entries(options),
        0, 1 << cluster_bits, 1, 0, 0, incompatible=incompatible,
        compatible=fmt.Compatible.LAZY_REFCOUNTS if options.lazy_refcounts else 0,
        autoclear=fmt.Autoclear.DATA_FILE_RAW if options.data_file_raw else 0,
        refcount_order=options.refcount_bits.bit_length() - 1,
        compression_type=fmt.COMPRESSION_TYPES.index(options.compression_type))
    if options.backing_format:
        header = header.with_extension(fmt.EXT_BACKING_FORMAT, options.backing_format.encode())
    if options.data_file:
        header = header.with_extension(fmt.EXT_DATA_FILE, options.data_file.encode())
    return fmt.arrange_extensions(header)


def create_qcow2(file: BlockDevice, options: CreateOptions, *,
                 data_file: BlockDevice | None = None) -> None:
    """Write an empty image into ``file`` (empty); ``data_file`` is opened and stays open."""
    options.check()
    header = build_header(options)
    cluster = options.cluster_size
    table = array("Q", [2 * cluster])
    # Whole clusters: holes among them would make the image look preallocated (_is_preallocated).
    file.pwrite(0, fmt.pack_header(header).ljust(cluster, b"\0"))
    file.pwrite(cluster, to_disk(table) + bytes(cluster - 8))
    file.pwrite(2 * cluster, _first_block(options.refcount_bits, cluster))
    device = Qcow2Device(file, header._replace(l1_size=0), data_file=data_file, read_only=False)
    clusters = -(-header.l1_size * 8 // cluster)
    if clusters:
        offset = device.writer.allocate_metadata(clusters)
        file.write_zeroes(offset, header.l1_size * 8, may_unmap=False)
        device.write_metadata()
        device.refcounts.write_back()
        device.update_header(l1_table_offset=offset, l1_size=header.l1_size)
        device.map.load_l1(offset, header.l1_size)
    # A raw data file must read the same through the tables: they have to be there.
    preallocation = options.preallocation
    if options.data_file_raw and preallocation == "off":
        preallocation = "metadata"
    if preallocation != "off":
        from pytcg.block.formats.qcow2.preallocate import preallocate

        preallocate(device, 0, options.size, preallocation)
    if data_file is not None:
        data_file.truncate(options.size)
    device.flush()
    device.refcounts.write_back()
    device.set_read_only(True)  # no longer marked dirty


def _first_block(bits: int, cluster: int) -> bytes:
    """A refcount block that counts the first three clusters."""
    if bits >= 8:
        return (1).to_bytes(bits // 8, "big") * 3 + bytes(cluster - 3 * bits // 8)
    packed = sum(1 << index * bits for index in range(3))
    return packed.to_bytes(2, "little") + bytes(cluster - 2)
