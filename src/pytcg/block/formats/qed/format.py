"""QED's header, and making images.

Reference: docs/interop/qed_spec.txt of the QEMU project. Integers are little-endian.
"""

from __future__ import annotations

import errno
import struct

from pytcg.block.device import BlockDevice, BlockError, ImageFormatError, NotSupported
from pytcg.block.protocols.posix import PosixFile
from pytcg.typed import Any, NamedTuple

MAGIC = b"QED\0"
FEATURE_BACKING, FEATURE_NEED_CHECK, FEATURE_RAW_BACKING = 1, 2, 4
KNOWN_FEATURES = 7
MIN_CLUSTER, MAX_CLUSTER, DEFAULT_CLUSTER = 4096, 64 << 20, 65536
MAX_TABLE_CLUSTERS, DEFAULT_TABLE_CLUSTERS = 16, 4
MAX_NAME = 1023
_HEADER = struct.Struct("<4sIIIQQQQQII")


class Header(NamedTuple):
    """The header; the features that others set are kept."""

    cluster_size: int
    table_clusters: int
    header_clusters: int
    features: int
    compatible: int
    autoclear: int
    l1_offset: int
    size: int
    name_offset: int = 0
    name_length: int = 0

    @property
    def table_bytes(self) -> int:
        """Bytes of an L1 or L2 table."""
        return self.cluster_size * self.table_clusters

    @property
    def max_size(self) -> int:
        """Bytes that the two levels of tables cover."""
        return (self.table_bytes // 8) ** 2 * self.cluster_size

    def pack(self) -> bytes:
        """The bytes of the header."""
        return _HEADER.pack(MAGIC, *self)

    def with_backing(self, name: bytes | None, *, raw: bool) -> Header:
        """The header that names this backing file, right behind itself."""
        features = self.features & ~(FEATURE_BACKING | FEATURE_RAW_BACKING)
        if name is None:
            return self._replace(features=features, name_offset=0, name_length=0)
        if _HEADER.size + len(name) > self.header_clusters * self.cluster_size:
            raise BlockError("Backing file name too long", errno.ENOSPC)
        features |= FEATURE_BACKING | (FEATURE_RAW_BACKING if raw else 0)
        return self._replace(features=features, name_offset=_HEADER.size, name_length=len(name))


def is_power_within(value: int, low: int, high: int) -> bool:
    """Whether a value is a power of two within these bounds."""
    return low <= value <= high and not value & (value - 1)


def read_header(file: BlockDevice) -> Header:
    """Read and check a header; the tables aren't looked at."""
    magic, *fields = _HEADER.unpack_from(file.pread(0, 512))
    header = Header._make(fields)
    if magic != MAGIC:
        raise ImageFormatError("Image not in QED format")
    if header.features & ~KNOWN_FEATURES:
        raise NotSupported(f"Unsupported QED features: {header.features & ~KNOWN_FEATURES:x}")
    if not is_power_within(header.cluster_size, MIN_CLUSTER, MAX_CLUSTER):
        raise ImageFormatError("QED cluster size is invalid")
    if not is_power_within(header.table_clusters, 1, MAX_TABLE_CLUSTERS):
        raise ImageFormatError("QED table size is invalid")
    if header.size % 512 or header.size > header.max_size or header.size >> 63:
        raise ImageFormatError("QED image size is invalid")
    end = header.header_clusters * header.cluster_size
    if (header.l1_offset % header.cluster_size or header.l1_offset < end
            or header.l1_offset + header.table_bytes > file.size):
        raise ImageFormatError("QED table offset is invalid")
    if header.features & FEATURE_BACKING and header.name_offset + header.name_length > end:
        raise ImageFormatError("QED backing filename offset is invalid")
    return header


def create_qed(path: str, size: int, values: dict[str, Any]) -> None:
    """Make an image; ``values`` are the create options."""
    cluster = values.get("cluster_size", DEFAULT_CLUSTER)
    tables = values.get("table_size", DEFAULT_TABLE_CLUSTERS)
    if not is_power_within(cluster, MIN_CLUSTER, MAX_CLUSTER):
        raise BlockError(f"QED cluster size must be within range [{MIN_CLUSTER}, {MAX_CLUSTER}] "
                         "and power of 2", errno.EINVAL)
    if not is_power_within(tables, 1, MAX_TABLE_CLUSTERS):
        raise BlockError(f"QED table size must be within range [1, {MAX_TABLE_CLUSTERS}] and "
                         "power of 2", errno.EINVAL)
    header = Header(cluster, tables, 1, 0, 0, 0, cluster, size)
    if size > header.max_size:
        raise BlockError("QED image size must be a non-zero multiple of cluster size and less "
                         f"than {header.max_size} bytes", errno.EINVAL)
    name = values.get("backing_file")
    encoded = name.encode(errors="surrogateescape") if name else b""
    if encoded:
        header = header.with_backing(encoded, raw=values.get("backing_fmt") == "raw")
    with PosixFile.create(path) as file:
        file.truncate(cluster + header.table_bytes)
        file.pwrite(0, header.pack() + encoded)
