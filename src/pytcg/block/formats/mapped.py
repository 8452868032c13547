"""What the formats with a table of blocks have in common: runs of blocks, reading, allocation."""

from __future__ import annotations

import errno
import os
import sys
import threading
from array import array
from collections import OrderedDict
from collections.abc import Callable

from pytcg.block.device import BlockDevice, BlockError, Extent, ImageFormatError
from pytcg.typed import NamedTuple

SECTOR = 512
MAX_TABLE_BYTES = 64 << 20
CACHED_TABLES = 64
MAX_RUN_BLOCKS = 1 << 16


class Block(NamedTuple):
    """One block of the disk: DATA at ``host`` of ``file``, or zero, absent or compressed."""

    data: bool
    zero: bool
    host: int = 0
    load: Callable[[], bytes] | None = None  # for compressed blocks: the plain content


ABSENT = Block(False, False)
ZERO = Block(False, True)


def table_of(data: bytes, typecode: str, *, big: bool = False) -> array[int]:
    """Bytes as a table of integers of the given byte order."""
    table = array(typecode, data)
    if big == (sys.byteorder == "little"):
        table.byteswap()
    return table


def read_table(file: BlockDevice, offset: int, entries: int, typecode: str, *,
               big: bool = False, what: str = "Block table") -> array[int]:
    """Read a table; ImageFormatError if it is too large or outside the file."""
    length = entries * array(typecode).itemsize
    if length > MAX_TABLE_BYTES:
        raise ImageFormatError(f"{what} too large")
    if offset < 0 or offset + length > file.size + SECTOR:
        raise ImageFormatError(f"{what} lies beyond the end of the image")
    return table_of(file.pread(offset, length), typecode, big=big)


class TableLru:
    """Second-level tables, the last used few kept."""

    def __init__(self, load: Callable[[int], array[int]]) -> None:
        self._load = load
        self._tables: OrderedDict[int, array[int]] = OrderedDict()

    def get(self, offset: int) -> array[int]:
        """The table at a host offset."""
        table = self._tables.get(offset)
        if table is None:
            table = self._tables[offset] = self._load(offset)
            bound = min(CACHED_TABLES, MAX_TABLE_BYTES // (len(table) * table.itemsize or 1))
            if len(self._tables) > max(1, bound):
                self._tables.popitem(last=False)
        return table

    def forget(self) -> None:
        """Read everything anew."""
        self._tables.clear()


class MappedImage(BlockDevice):
    """An image whose disk is cut into blocks of ``block_size`` bytes."""

    has_zero_init = True
    writable_format = False

    def __init__(self, file: BlockDevice, size: int, block_size: int) -> None:
        self.file: BlockDevice = file
        self.filename = file.filename
        self.read_only = file.read_only
        self.cluster_size = self.block_size = block_size
        self._size = size
        self._lock = threading.RLock()
        if not self.writable_format and not self.read_only:
            raise BlockError(f"The '{self.format_name}' format is read-only here; open the image "
                             "read-only", errno.EROFS)

    def block(self, index: int) -> Block:
        """Where block ``index`` is."""
        raise NotImplementedError

    def host_file(self, index: int) -> BlockDevice:
        """The file that holds block ``index``."""
        return self.file

    def allocate(self, index: int, content: bytes) -> None:
        """Give block ``index`` a place and this content (formats that can be written)."""
        raise BlockError(os.strerror(errno.EROFS), errno.EROFS)

    def fill(self, index: int, inside: int, part: memoryview) -> None:
        """Write a part of block ``index``, which has no place yet."""
        if len(part) == self.block_size:
            self.allocate(index, bytes(part))
            return
        whole = bytearray(self.block_size)
        start = index * self.block_size
        inside_disk = min(self.block_size, self._size - start)
        self.read_into(start, memoryview(whole)[:inside_disk])
        whole[inside : inside + len(part)] = part
        self.allocate(index, bytes(whole))

    @property
    def size(self) -> int:
        return self._size

    def read_into(self, offset: int, buffer: memoryview) -> None:
        self.check_range(offset, len(buffer))
        while buffer:
            index, inside = divmod(offset, self.block_size)
            part = buffer[: self.block_size - inside]
            with self._lock:
                block = self.block(index)
            self._read_block(block, index, inside, offset, part)
            offset, buffer = offset + len(part), buffer[len(part) :]

    def _read_block(self, block: Block, index: int, inside: int, offset: int, part: memoryview
                    ) -> None:
        if block.load is not None:
            plain = block.load()
            part[:] = plain[inside : inside + len(part)]
        elif block.data:
            self.host_file(index).read_into(block.host + inside, part)
        else:
            shown = 0
            if not block.zero and self.backing is not None:
                shown = max(0, min(len(part), self.backing.size - offset))
                if shown:
                    self.backing.read_into(offset, part[:shown])
            part[shown:] = bytes(len(part) - shown)

    def layer_status(self, offset: int, length: int) -> Extent:
        index, inside = divmod(offset, self.block_size)
        with self._lock:
            first = self.block(index)
            got = self.block_size - inside
            stop = min(length, got + MAX_RUN_BLOCKS * self.block_size)  # else this takes long
            while got < stop and not first.load:
                index += 1
                following = self.block(index)
                expected = first.host + index * self.block_size - (offset - inside)
                if (following[:2] != first[:2] or following.load
                        or (first.data and following.host != expected)
                        or self.host_file(index) is not self.host_file(index - 1)):
                    break
                got += self.block_size
        index = offset // self.block_size
        extent = Extent(min(got, length), first.data, first.zero, first.data or first.zero,
                        compressed=first.load is not None)
        if first.data and first.load is None:
            extent = extent._replace(offset=first.host + inside,
                                     filename=self.host_file(index).filename)
        return extent

    def pwrite(self, offset: int, data: bytes | bytearray | memoryview, *, fua: bool = False
               ) -> None:
        self.check_range(offset, len(data), write=True)
        rest = memoryview(data).cast("B")
        while rest:
            index, inside = divmod(offset, self.block_size)
            part = rest[: self.block_size - inside]
            with self._lock:
                block = self.block(index)
                if block.data and block.load is None:
                    self.host_file(index).pwrite(block.host + inside, part)
                else:
                    self.fill(index, inside, part)
            offset, rest = offset + len(part), rest[len(part) :]
        if fua:
            self.flush()

    def write_zeroes(self, offset: int, length: int, *, may_unmap: bool = True,
                     fua: bool = False) -> None:
        self.check_range(offset, length, write=True)
        end = offset + length
        while offset < end:
            extent = self.status_at(offset, end - offset)
            step = extent.length
            if not extent.zero:
                step = min(step, 1 << 20)
                self.pwrite(offset, bytes(step))
            offset += step
        if fua:
            self.flush()

    def status_at(self, offset: int, length: int) -> Extent:
        extent = super().status_at(offset, length)
        if not extent.data and not self.supports_backing:  # absent blocks are zero blocks
            extent = extent._replace(zero=True, present=True)
        return extent

    def flush(self) -> None:
        self.file.flush()
