"""qcow2's compressed clusters: raw deflate or zstd, packed to 512-byte sectors."""

from __future__ import annotations

import zlib
from collections import OrderedDict

from pytcg.block.device import BlockDevice, BlockError, NotSupported
from pytcg.block.formats.qcow2 import format as fmt
from pytcg.typed import Any

SECTOR = 512
_CACHED_CLUSTERS_BYTES = 4 << 20


def _zstd() -> Any:
    try:
        import zstandard
    except ImportError:
        raise NotSupported("zstd compression needs the 'zstandard' package") from None
    return zstandard


def descriptor_shift(cluster_bits: int) -> int:
    """Bits of a compressed entry that hold the host offset; sector count above them."""
    return 62 - (cluster_bits - 8)


def compressed_extent(descriptor: int, cluster_bits: int) -> tuple[int, int]:
    """(host offset, bytes up to the end of the last sector) of a compressed cluster."""
    shift = descriptor_shift(cluster_bits)
    offset = descriptor & ((1 << shift) - 1)
    sectors = (descriptor >> shift) + 1
    return offset, sectors * SECTOR - offset % SECTOR


def compress(data: bytes | memoryview, kind: int) -> bytes:
    """Compress one cluster the way QEMU's readers want it (a 4 KiB window for deflate)."""
    if fmt.COMPRESSION_TYPES[kind] == "zstd":
        return bytes(_zstd().ZstdCompressor().compress(data))
    stream = zlib.compressobj(zlib.Z_DEFAULT_COMPRESSION, zlib.DEFLATED, -12, 9)
    return stream.compress(data) + stream.flush()


def decompress(data: bytes, kind: int, size: int) -> bytes:
    """Decompress to exactly ``size`` bytes; BlockError if that can't be."""
    try:
        if fmt.COMPRESSION_TYPES[kind] == "zstd":
            stream = _zstd().ZstdDecompressor(max_window_size=1 << 27).stream_reader(data)
            plain = bytes(stream.read(size))
        else:
            plain = zlib.decompressobj(-15).decompress(data, size)
    except (zlib.error, ValueError) as error:
        raise BlockError(f"Could not decompress cluster: {error}") from None
    except Exception as error:
        if type(error).__name__ != "ZstdError":  # zstandard may be absent
            raise
        raise BlockError(f"Could not decompress cluster: {error}") from None
    if len(plain) != size:
        raise BlockError("Could not decompress cluster: the data is too short")
    return plain


class Decompressor:
    """Reads compressed clusters, keeping the last few: guests read in less than a cluster."""

    def __init__(self, file: BlockDevice, header: fmt.Header) -> None:
        self._file = file
        self._bits = header.cluster_bits
        self._kind = header.compression_type
        self._capacity = max(1, _CACHED_CLUSTERS_BYTES >> self._bits)
        self._cache: OrderedDict[int, bytes] = OrderedDict()

    def cluster(self, descriptor: int) -> bytes:
        """The plain content of the cluster with this L2 descriptor."""
        plain = self._cache.get(descriptor)
        if plain is None:
            offset, length = compressed_extent(descriptor, self._bits)
            plain = decompress(self._file.pread(offset, length), self._kind, 1 << self._bits)
            self._cache[descriptor] = plain
            while len(self._cache) > self._capacity:
                try:
                    self._cache.popitem(last=False)
                except KeyError:  # another thread emptied it
                    break
        return plain

    def forget(self) -> None:
        """Clusters were freed: descriptors may come to mean something else."""
        self._cache.clear()
