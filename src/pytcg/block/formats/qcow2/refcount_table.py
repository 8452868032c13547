"""qcow2 reference counts as they are stored: the table, its blocks, entries of any width."""

from __future__ import annotations

import errno
from array import array
from collections.abc import Callable

from pytcg.block.device import BlockDevice, BlockError, ImageFormatError
from pytcg.block.formats.qcow2 import format as fmt
from pytcg.block.formats.qcow2.cache import SLICE_BYTES, Slice, TableCache, from_disk, to_disk

_TYPECODES = {8: "B", 16: "H", 32: "I", 64: "Q"}


class RefcountTable:
    """The refcount table and its blocks, for reading; Refcounts changes them."""

    def __init__(self, file: BlockDevice, header: fmt.Header, capacity: int,
                 clean: Callable[[], None], update_header: Callable[..., None]) -> None:
        """``update_header(**fields)`` durably rewrites header fields (the table may move)."""
        self.file = file
        self.update_header = update_header
        self.cluster_bits = header.cluster_bits
        self.cluster_size = 1 << header.cluster_bits
        self.bits = 1 << header.refcount_order
        self.maximum = (1 << self.bits) - 1
        self.block_entries = self.cluster_size * 8 // self.bits
        self._typecode = _TYPECODES.get(self.bits, "B")
        self._slice_bytes = min(self.cluster_size, SLICE_BYTES)
        self._slice_entries = self._slice_bytes * 8 // self.bits
        self.cache = TableCache(file, self._slice_bytes, self._typecode, capacity, clean,
                                load_event="refblock_load",
                                update_event="refblock_update_part")
        self.table_offset = header.refcount_table_offset
        table_bytes = header.refcount_table_clusters << self.cluster_bits
        file.debug_event("reftable_load")
        self.table: array[int] = from_disk(file.pread(self.table_offset, table_bytes))
        self.own = self.own_clusters()  # host clusters of the table and its blocks
        self.dirty_table: set[int] = set()
        self._free_hint = 0  # where to look for free clusters, as a rule the lowest
        self.never_used = -(-file.size // self.cluster_size)  # clusters from here read as zero
        self.discard_freed = False
        self.on_corrupt: Callable[[str], BlockError] = ImageFormatError

    def own_clusters(self) -> set[int]:
        first = self.table_offset >> self.cluster_bits
        own = set(range(first, first + (len(self.table) * 8 >> self.cluster_bits)))
        own.update(entry >> self.cluster_bits for entry in self.table if entry)
        return own

    # ---- reading ----

    def block_offset(self, index: int) -> int:
        """Host offset of refcount block ``index``; 0 if there is none."""
        if index >= len(self.table):
            return 0
        entry = self.table[index]
        offset = entry & fmt.REFTABLE_MASK
        if offset & (self.cluster_size - 1):
            raise self.on_corrupt(f"Refblock offset {offset:#x} unaligned (reftable index: "
                                  f"{f'{index:#x}' if index else 0})")
        return offset

    def _slice_of(self, cluster: int) -> tuple[Slice, int] | None:
        index, entry = divmod(cluster, self.block_entries)
        offset = self.block_offset(index)
        if not offset:
            return None
        part, entry = divmod(entry, self._slice_entries)
        return self.cache.get(offset + part * self._slice_bytes), entry

    def get(self, cluster: int) -> int:
        """The refcount of a host cluster (an index, not an offset)."""
        found = self._slice_of(cluster)
        return 0 if found is None else self._load(found[0], found[1])

    def _load(self, part: Slice, entry: int) -> int:
        if self.bits >= 8:
            return part.table[entry]
        per_byte = 8 // self.bits
        return part.table[entry // per_byte] >> entry % per_byte * self.bits & self.maximum

    def _store(self, part: Slice, entry: int, value: int) -> None:
        if self.bits < 8:
            per_byte = 8 // self.bits
            shift = entry % per_byte * self.bits
            entry //= per_byte
            value = part.table[entry] & ~(self.maximum << shift) | value << shift
        part.table[entry] = value
        self.cache.mark(part, entry, entry + 1)

    def count_used(self, clusters: int, limit: int, *, start: int = 0) -> int:
        """How many clusters before number ``clusters`` are used; counting stops at ``limit``."""
        used, cluster = 0, start
        while cluster < clusters and used < limit:
            found = self._slice_of(cluster)
            if found is None:
                cluster += self.block_entries - cluster % self.block_entries
                continue
            part, entry = found
            here = min(clusters - cluster, self._slice_entries - entry)
            if self.bits >= 8:
                used += here - part.table[entry : entry + here].count(0)
            else:
                used += sum(self._load(part, entry + index) != 0 for index in range(here))
            cluster += here
        return used

    def read_run(self, cluster: int, count: int) -> list[int]:
        """The refcounts of ``count`` clusters."""
        found: list[int] = []
        while count:
            here = self._slice_of(cluster)
            if here is None:
                step = min(count, self.block_entries - cluster % self.block_entries)
                found.extend([0] * step)
            else:
                part, entry = here
                step = min(count, self._slice_entries - entry)
                if self.bits >= 8:
                    found.extend(part.table[entry : entry + step])
                else:
                    found.extend(self._load(part, entry + index) for index in range(step))
            cluster += step
            count -= step
        return found

    def run_array(self, cluster: int, count: int) -> array[int] | None:
        """Like read_run, as one array; None if the run is not in a single slice."""
        found = self._slice_of(cluster)
        if found is None or self.bits < 8 or found[1] + count > self._slice_entries:
            return None
        return found[0].table[found[1] : found[1] + count]

    def build(self, counts: memoryview, clusters: int) -> tuple[int, array[int]]:
        """Write new blocks and a table for these counts behind cluster ``clusters``.

        Returns the table's host offset and content; nothing refers to it yet.
        """
        blocks = table_clusters = 0
        while True:  # the structure counts itself too
            total = clusters + blocks + table_clusters
            needed = -(-total // self.block_entries)
            needed_table = -(-needed * 8 // self.cluster_size)
            if (needed, needed_table) == (blocks, table_clusters):
                break
            blocks, table_clusters = needed, needed_table
        table = array("Q", bytes(table_clusters << self.cluster_bits))
        entries = self.block_entries
        for index in range(blocks):
            start = index * entries
            values = counts[start : min(start + entries, clusters)].tolist() if (
                start < clusters) else []
            own = max(0, min(total, start + entries) - max(start, clusters))
            values += [1] * own
            values += [0] * (entries - len(values))
            table[index] = (clusters + index) << self.cluster_bits
            self.file.pwrite(table[index], self._pack(values))
        offset = (clusters + blocks) << self.cluster_bits
        self.file.pwrite(offset, to_disk(table))
        return offset, table

    def write_block(self, offset: int, values: list[int]) -> None:
        """Write a refcount block that nothing refers to yet."""
        values = values + [0] * (self.block_entries - len(values))
        self.file.pwrite(offset, self._pack(values))

    def _pack(self, values: list[int]) -> bytes:
        if max(values) > self.maximum:
            raise BlockError("Refcount exceeds the maximum of its width", errno.EINVAL)
        if self.bits >= 8:
            return to_disk(array(self._typecode, values))
        per_byte = 8 // self.bits
        packed = bytearray(len(values) // per_byte)
        for index, value in enumerate(values):
            packed[index // per_byte] |= value << index % per_byte * self.bits
        return bytes(packed)

    def _last_in(self, start: int, used_bytes: int) -> int:
        entries = -(-used_bytes * 8 // self.bits)
        return next(cluster for cluster in range(start + entries - 1, start - 1, -1)
                    if self.get(cluster))

    def last_used(self) -> int:
        """The highest cluster with a refcount, -1 if there is none."""
        for index in range(len(self.table) - 1, -1, -1):
            last = self.last_used_in(index)
            if last >= 0:
                return last
        return -1

    def last_used_in(self, index: int) -> int:
        """The highest cluster with a refcount in block ``index``, -1 if there is none."""
        if not self.block_offset(index):
            return -1
        start = index * self.block_entries
        for part in range(self.block_entries // self._slice_entries - 1, -1, -1):
            found = self._slice_of(start + part * self._slice_entries)
            used = len(found[0].table.tobytes().rstrip(b"\0")) if found else 0
            if used:  # the last used byte holds the last used entries
                return self._last_in(start + part * self._slice_entries, used)
        return -1
