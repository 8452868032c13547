"""qcow2 on disk: the structures and constants of the format's specification.

Reference: docs/interop/qcow2.txt of the QEMU project. All integers are big-endian.
"""

from __future__ import annotations

import struct

from pytcg.block.device import ImageFormatError, NotSupported
from pytcg.typed import NamedTuple

MAGIC = b"QFI\xfb"
V2_HEADER_LENGTH = 72
V3_HEADER_LENGTH = 112  # with the compression type and its padding

# Entries of L1, L2 and refcount tables
COPIED = 1 << 63  # refcount is exactly one: may be overwritten in place
COMPRESSED = 1 << 62
ZERO = 1
OFFSET_MASK = 0x00FF_FFFF_FFFF_FE00
L1_RESERVED = 0x7F00_0000_0000_01FF
L2_RESERVED = 0x3F00_0000_0000_01FE
REFTABLE_RESERVED = 0x1FF
REFTABLE_MASK = ~REFTABLE_RESERVED & (1 << 64) - 1

# Bounds that keep a hostile image's memory small, the ones QEMU has
MIN_CLUSTER_BITS, MAX_CLUSTER_BITS = 9, 21
MAX_L1_BYTES = 32 << 20
MAX_REFTABLE_BYTES = 8 << 20
MAX_SNAPSHOTS = 65536
MAX_SNAPSHOT_TABLE_BYTES = 64 << 20
MAX_SNAPSHOT_ENTRY = 40 + 1024 + 2 * 0xFFFF + 7  # its extra data, ID, name and padding
MAX_BACKING_NAME = 1023
MAX_BITMAPS = 65535
MAX_BITMAP_DIRECTORY_BYTES = 64 << 20
SUBCLUSTERS = 32


class Incompatible:
    """Feature bits whose meaning a reader must know."""

    DIRTY = 1
    CORRUPT = 2
    DATA_FILE = 4
    COMPRESSION = 8
    EXTENDED_L2 = 16


class Compatible:
    """Feature bits a reader may ignore."""

    LAZY_REFCOUNTS = 1


class Autoclear:
    """Feature bits a writer that doesn't know them must clear."""

    BITMAPS = 1
    DATA_FILE_RAW = 2


KNOWN_INCOMPATIBLE = (Incompatible.DIRTY | Incompatible.CORRUPT | Incompatible.DATA_FILE
                      | Incompatible.COMPRESSION | Incompatible.EXTENDED_L2)
FEATURE_NAMES = (
    (0, 0, "dirty bit"),
    (0, 1, "corrupt bit"),
    (0, 2, "external data file"),
    (0, 3, "compression type"),
    (0, 4, "extended L2 entries"),
    (1, 0, "lazy refcounts"),
    (2, 0, "bitmaps"),
    (2, 1, "raw external data"),
)

EXT_END = 0
EXT_BACKING_FORMAT = 0xE279_2ACA
EXT_FEATURE_NAMES = 0x6803_F857
EXT_BITMAPS = 0x2385_2875
EXT_CRYPTO = 0x0537_BE77
EXT_DATA_FILE = 0x4441_5441
EXTENSION_ORDER = (EXT_BACKING_FORMAT, EXT_DATA_FILE, EXT_CRYPTO, EXT_FEATURE_NAMES, EXT_BITMAPS)

COMPRESSION_TYPES = ("zlib", "zstd")

_V2 = struct.Struct(">4sIQIIQIIQQIIQ")
_V3 = struct.Struct(">QQQII")


class Header(NamedTuple):
    """The header's fixed fields, by the specification's names, and its extensions."""

    version: int
    backing_file: str | None
    cluster_bits: int
    size: int
    l1_size: int
    l1_table_offset: int
    refcount_table_offset: int
    refcount_table_clusters: int
    nb_snapshots: int
    snapshots_offset: int
    crypt_method: int = 0
    incompatible: int = 0
    compatible: int = 0
    autoclear: int = 0
    refcount_order: int = 4
    header_length: int = V3_HEADER_LENGTH
    compression_type: int = 0
    unknown_fields: bytes = b""  # header bytes past those we know, kept
    extensions: tuple[tuple[int, bytes], ...] = ()

    def extension(self, kind: int) -> bytes | None:
        """The data of the last extension of this kind, which is the one that counts."""
        return next((data for number, data in reversed(self.extensions) if number == kind), None)

    def with_extension(self, kind: int, data: bytes | None) -> Header:
        """This header with one extension set, or removed for None."""
        kept = [(number, old) for number, old in self.extensions if number != kind]
        if data is not None:
            kept.append((kind, data))
        return self._replace(extensions=tuple(sorted(kept, key=_extension_rank)))


def _extension_rank(extension: tuple[int, bytes]) -> int:
    # Unknown ones come last, in their old order.
    kind = extension[0]
    return EXTENSION_ORDER.index(kind) if kind in EXTENSION_ORDER else len(EXTENSION_ORDER)


def is_qcow2(head: bytes) -> bool:
    """Whether the image's first bytes say qcow2 (any version from 2)."""
    return head[:4] == MAGIC and int.from_bytes(head[4:8], "big") >= 2


def parse_header(image: bytes) -> Header:
    """Read the header from (at least) the first cluster; ImageFormatError if it is broken."""
    if len(image) < V2_HEADER_LENGTH or image[:4] != MAGIC:
        raise ImageFormatError("Image is not in qcow2 format")
    (_, version, backing_offset, backing_length, cluster_bits, size, crypt, l1_size, l1_offset,
     reftable, reftable_clusters, nb_snapshots, snapshots) = _V2.unpack_from(image)
    if version not in (2, 3):
        raise NotSupported(f"Unsupported qcow2 version {version}")
    if not MIN_CLUSTER_BITS <= cluster_bits <= MAX_CLUSTER_BITS:
        raise ImageFormatError(f"Unsupported cluster size: 2^{cluster_bits}")
    cluster = 1 << cluster_bits
    header = Header(version, None, cluster_bits, size, l1_size, l1_offset, reftable,
                    reftable_clusters, nb_snapshots, snapshots, crypt,
                    header_length=V2_HEADER_LENGTH)
    if version == 3:
        header = _parse_v3(header, image, cluster)
    if backing_offset > cluster:
        raise ImageFormatError("Invalid backing file offset")
    end = backing_offset or cluster
    header = header._replace(extensions=_parse_extensions(image[header.header_length : end]))
    if backing_offset:
        available = cluster - backing_offset
        if backing_length > min(MAX_BACKING_NAME, available):
            raise ImageFormatError("Backing file name too long")
        name = image[backing_offset : backing_offset + backing_length]
        header = header._replace(backing_file=name.decode(errors="surrogateescape"))
    return header


def _parse_v3(header: Header, image: bytes, cluster: int) -> Header:
    if len(image) < 104:
        raise ImageFormatError("qcow2 header too short")
    incompatible, compatible, autoclear, order, length = _V3.unpack_from(image, 72)
    if length < 104:
        raise ImageFormatError("qcow2 header too short")
    if length > cluster:
        raise ImageFormatError("qcow2 header exceeds cluster size")
    if order > 6:
        raise ImageFormatError("Reference count entry width too large; may not exceed 64 bits")
    compression = image[104] if length > 104 else 0
    if incompatible & Incompatible.COMPRESSION:
        if compression == 0:
            raise ImageFormatError("Compression type incompatible feature bit must not be set")
    elif compression:
        raise ImageFormatError("Compression type incompatible feature bit must be set")
    return header._replace(
        incompatible=incompatible, compatible=compatible, autoclear=autoclear,
        refcount_order=order, header_length=length, compression_type=compression,
        unknown_fields=image[V3_HEADER_LENGTH:length])


def _parse_extensions(area: bytes) -> tuple[tuple[int, bytes], ...]:
    found = []
    position = 0
    while position + 8 <= len(area):
        kind, length = struct.unpack_from(">II", area, position)
        position += 8
        if kind == EXT_END:
            break
        if length > len(area) - position:
            raise ImageFormatError("Header extension too large")
        found.append((kind, area[position : position + length]))
        position += -(-length // 8) * 8
    return tuple(found)


def feature_table() -> bytes:
    """The feature name extension: what our bits are called, for programs that lack them."""
    return b"".join(struct.pack(">BB46s", kind, bit, name.encode())
                    for kind, bit, name in FEATURE_NAMES)


def unknown_features(header: Header) -> str:
    """Names of the incompatible bits we lack, from the image's own table, or ""."""
    unknown = header.incompatible & ~KNOWN_INCOMPATIBLE
    tables = [data for kind, data in header.extensions if kind == EXT_FEATURE_NAMES]
    table = tables[-1] if tables else b""
    table += bytes(-len(table) % 48)
    names = []
    for position in range(0, len(table) - 47, 48):
        kind, bit, name = struct.unpack_from(">BB46s", table, position)
        if kind == 0 and bit < 64 and unknown >> bit & 1:
            unknown &= ~(1 << bit)
            names.append(name.split(b"\0")[0].decode(errors="replace"))
    if unknown:
        names.append(f"Unknown incompatible feature: {unknown:x}")
    return ", ".join(names)


def pack_header(header: Header) -> bytes:
    """The header cluster's content (not padded); ImageFormatError if it can't fit a cluster."""
    cluster = 1 << header.cluster_bits
    length = V2_HEADER_LENGTH
    if header.version >= 3:
        length = V3_HEADER_LENGTH + len(header.unknown_fields)
    parts = []
    for kind, data in header.extensions:
        parts.append(struct.pack(">II", kind, len(data)) + data + bytes(-len(data) % 8))
    parts.append(bytes(8))
    extensions = b"".join(parts)
    name = b""
    backing_offset = 0
    if header.backing_file is not None:
        name = header.backing_file.encode(errors="surrogateescape")
        if len(name) > MAX_BACKING_NAME:
            raise ImageFormatError("Backing file name too long")
        backing_offset = length + len(extensions)
    fixed = _V2.pack(MAGIC, header.version, backing_offset, len(name), header.cluster_bits,
                     header.size, header.crypt_method, header.l1_size, header.l1_table_offset,
                     header.refcount_table_offset, header.refcount_table_clusters,
                     header.nb_snapshots, header.snapshots_offset)
    if header.version >= 3:
        fixed += _V3.pack(header.incompatible, header.compatible, header.autoclear,
                          header.refcount_order, length)
        fixed += struct.pack(">B7x", header.compression_type) + header.unknown_fields
    packed = fixed + extensions + name
    if len(packed) > cluster:
        raise ImageFormatError("Header does not fit in a cluster")
    return packed


_EXTENSION_ORDER = (EXT_BACKING_FORMAT, EXT_DATA_FILE, EXT_CRYPTO, EXT_FEATURE_NAMES, EXT_BITMAPS)


def arrange_extensions(header: Header) -> Header:
    """The header's extensions as QEMU writes them: names of features unless clusters are small."""
    named = header.version >= 3 and header.cluster_bits > 12
    kept = [item for item in header.extensions if item[0] != EXT_FEATURE_NAMES]
    if named:
        kept.append((EXT_FEATURE_NAMES, feature_table()))
    kept.sort(key=lambda item: _EXTENSION_ORDER.index(item[0])
              if item[0] in _EXTENSION_ORDER else len(_EXTENSION_ORDER))
    return header._replace(extensions=tuple(kept))


class BitmapEntry(NamedTuple):
    """One entry of the bitmap directory."""

    table_offset: int
    table_size: int
    flags: int
    granularity_bits: int
    name: str
    extra: bytes = b""


BITMAP_IN_USE, BITMAP_AUTO, BITMAP_EXTRA_COMPATIBLE = 1, 2, 4
_BITMAP = struct.Struct(">QIIBBHI")


def parse_bitmap_directory(directory: bytes, count: int) -> list[BitmapEntry]:
    """Read ``count`` directory entries."""
    found = []
    position = 0
    for _ in range(count):
        if position + _BITMAP.size > len(directory):
            raise ImageFormatError("Broken bitmap directory")
        table, size, flags, kind, bits, name_length, extra_length = _BITMAP.unpack_from(
            directory, position)
        position += _BITMAP.size
        end = position + extra_length + name_length
        if end > len(directory) or kind != 1 or not 9 <= bits <= 31 or not name_length:
            raise ImageFormatError("Broken bitmap directory")
        name = directory[position + extra_length : end].decode(errors="replace")
        found.append(BitmapEntry(table, size, flags, bits, name,
                                 directory[position : position + extra_length]))
        position = -(-end // 8) * 8
    return found


def pack_bitmap_directory(entries: list[BitmapEntry]) -> bytes:
    """The bitmap directory's bytes."""
    directory = bytearray()
    for entry in entries:
        name = entry.name.encode()
        directory += _BITMAP.pack(entry.table_offset, entry.table_size, entry.flags, 1,
                                  entry.granularity_bits, len(name), len(entry.extra))
        directory += entry.extra + name
        directory += bytes(-len(directory) % 8)
    return bytes(directory)
