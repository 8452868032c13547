"""cloop, the compressed loop device of Knoppix, for reading: zlib streams one after the other.

Integers are big-endian.
"""

from __future__ import annotations

import errno
import os
import zlib

from pytcg.block.device import BlockDevice, BlockError, ImageFormatError
from pytcg.block.formats.mapped import Block, MappedImage, read_table
from pytcg.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from pytcg.block.open import OpenFlags

HEADER_AT, OFFSETS_AT = 128, 136
MAX_BLOCK = 64 << 20
MAX_OFFSETS_BYTES = 512 << 20
MAX_BLOCKS = 0xFFFFFFFE // 8


class CloopDevice(MappedImage):
    """A cloop image."""

    format_name = "cloop"

    def __init__(self, file: BlockDevice) -> None:
        head = file.pread(HEADER_AT, 8)
        block_size, blocks = int.from_bytes(head[:4], "big"), int.from_bytes(head[4:], "big")
        if block_size % 512:
            raise ImageFormatError(f"block_size {block_size} must be a multiple of 512")
        if block_size == 0:
            raise ImageFormatError("block_size cannot be zero")
        if block_size > MAX_BLOCK:
            raise ImageFormatError(f"block_size {block_size} must be {MAX_BLOCK >> 20} MB or less")
        if blocks > MAX_BLOCKS:
            raise ImageFormatError(f"n_blocks {blocks} must be {MAX_BLOCKS} or less")
        if (blocks + 1) * 8 > MAX_OFFSETS_BYTES:
            raise ImageFormatError("image requires too many offsets, try increasing block size")
        super().__init__(file, blocks * block_size, block_size)
        self.cluster_size = 0
        self._offsets = read_table(file, OFFSETS_AT, blocks + 1, "Q", big=True)
        self._last: tuple[int, bytes] | None = None
        for index in range(1, blocks + 1):
            length = self._offsets[index] - self._offsets[index - 1]
            if length < 0:
                raise ImageFormatError("offsets not monotonically increasing at index "
                                       f"{index}, image file is corrupt")
            if length > 2 * MAX_BLOCK:
                raise ImageFormatError(f"invalid compressed block size at index {index}, image "
                                       "file is corrupt")

    @classmethod
    def open(cls, file: BlockDevice, flags: OpenFlags) -> CloopDevice:
        """Open an image."""
        return cls(file)

    def block(self, index: int) -> Block:
        return Block(True, False, 0, lambda: self._inflate(index))

    def _inflate(self, index: int) -> bytes:
        if self._last is not None and self._last[0] == index:
            return self._last[1]
        start = self._offsets[index]
        packed = self.file.pread(start, self._offsets[index + 1] - start)
        try:
            plain = zlib.decompressobj().decompress(packed, self.block_size)
        except zlib.error:
            plain = b""
        if len(plain) != self.block_size:
            raise BlockError(os.strerror(errno.EIO))
        self._last = (index, plain)
        return plain
