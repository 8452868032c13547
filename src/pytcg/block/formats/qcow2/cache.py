"""Write-back caches of qcow2's metadata tables, bounded, in host byte order.

A table is cached in slices of at most 64 KiB, so that a lookup in a 2 MiB table reads little.
Order between the caches (refcounts before L2 before L1) is the device's: see qcow2.py.
"""

from __future__ import annotations

import sys
from array import array
from collections import OrderedDict
from collections.abc import Callable

from pytcg.block.device import BlockDevice

SLICE_BYTES = 1 << 16
_SWAP = sys.byteorder == "little"


def from_disk(data: bytes, typecode: str = "Q") -> array[int]:
    """Big-endian bytes as a table of integers."""
    table = array(typecode, data)
    if _SWAP:
        table.byteswap()
    return table


def to_disk(table: array[int]) -> bytes:
    """A table of integers as big-endian bytes."""
    if not _SWAP or table.itemsize == 1:
        return table.tobytes()
    swapped = table[:]
    swapped.byteswap()
    return swapped.tobytes()


class Slice:
    """A cached piece of a table and the range of its entries that the disk lacks."""

    __slots__ = ("dirty_from", "dirty_to", "offset", "table")

    def __init__(self, offset: int, table: array[int]) -> None:
        self.offset = offset
        self.table = table
        self.dirty_from = self.dirty_to = 0


class TableCache:
    """Slices by host offset, the least recently used dropped first."""

    def __init__(self, file: BlockDevice, slice_bytes: int, typecode: str, capacity: int,
                 clean: Callable[[], None], *, load_event: str, update_event: str) -> None:
        """``clean`` is called to write everything back when a dirty slice must go.

        The events are those that blkdebug knows reading and writing a slice by.
        """
        self._file = file
        self.slice_bytes = slice_bytes
        self._typecode = typecode
        self._capacity = max(4, capacity // slice_bytes)
        self._clean = clean
        self._load_event = load_event
        self._update_event = update_event
        self.slices: OrderedDict[int, Slice] = OrderedDict()
        self._dirty: dict[int, Slice] = {}

    @property
    def is_dirty(self) -> bool:
        """Whether anything waits for write_back."""
        return bool(self._dirty)

    def get(self, offset: int) -> Slice:
        """The slice at a host offset (a multiple of the slice size)."""
        found = self.slices.get(offset)
        if found is not None:
            self.slices.move_to_end(offset)
            return found
        self._file.debug_event(self._load_event)
        data = self._file.pread(offset, self.slice_bytes)
        return self._insert(Slice(offset, from_disk(data, self._typecode)))

    def create(self, offset: int, table: array[int]) -> Slice:
        """Put a new slice in, dirty as a whole, without reading what it replaces."""
        made = Slice(offset, table)
        self.mark(made, 0, len(table))
        return self._insert(made)

    def _insert(self, made: Slice) -> Slice:
        if len(self.slices) >= self._capacity and made.offset not in self.slices:
            oldest = next(iter(self.slices))
            if oldest in self._dirty:
                self._clean()
            self.slices.pop(oldest, None)
        self.slices[made.offset] = made
        return made

    def mark(self, part: Slice, start: int, stop: int) -> None:
        """Entries [start, stop) of the slice were changed."""
        if part.dirty_to == 0:
            part.dirty_from, part.dirty_to = start, stop
            self._dirty[part.offset] = part
        else:
            part.dirty_from = min(part.dirty_from, start)
            part.dirty_to = max(part.dirty_to, stop)

    def write_back(self) -> None:
        """Write all dirty entries; what fails stays dirty."""
        for offset in sorted(self._dirty):
            part = self._dirty[offset]
            table = part.table
            changed = table[part.dirty_from : part.dirty_to]
            self._file.debug_event(self._update_event)
            self._file.pwrite(offset + part.dirty_from * table.itemsize, to_disk(changed))
            part.dirty_from = part.dirty_to = 0
            del self._dirty[offset]

    def forget(self, offset: int, length: int) -> None:
        """Drop slices in a freed host range: their content is void."""
        for start in range(offset, offset + length, self.slice_bytes):
            self.slices.pop(start, None)
            self._dirty.pop(start, None)

    def drop_clean(self) -> None:
        """Forget everything; only after write_back."""
        self.slices.clear()
