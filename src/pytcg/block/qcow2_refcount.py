"""qcow2 reference counts: how often each host cluster is used, and allocation by them.

Clusters are counted up before anything points at them and counted down only after nothing on
disk does: frees wait in a list until the tables that dropped the cluster are durable.
"""

from __future__ import annotations

import errno
from array import array
from collections.abc import Callable

from . import qcow2_format as fmt
from .device import BlockDevice, BlockError, ImageFormatError
from .qcow2_cache import SLICE_BYTES, Slice, TableCache, from_disk, to_disk

_TYPECODES = {8: "B", 16: "H", 32: "I", 64: "Q"}
MAX_HOST_OFFSET = 1 << 56


class Refcounts:
    """The refcount table, its blocks, and the allocator of host clusters."""

    def __init__(self, file: BlockDevice, header: fmt.Header, capacity: int,
                 clean: Callable[[], None], update_header: Callable[..., None]) -> None:
        """``update_header(**fields)`` durably rewrites header fields (the table may move)."""
        self._file = file
        self._update_header = update_header
        self.cluster_bits = header.cluster_bits
        self.cluster_size = 1 << header.cluster_bits
        self.bits = 1 << header.refcount_order
        self.maximum = (1 << self.bits) - 1
        self._block_entries = self.cluster_size * 8 // self.bits
        self._typecode = _TYPECODES.get(self.bits, "B")
        self._slice_bytes = min(self.cluster_size, SLICE_BYTES)
        self._slice_entries = self._slice_bytes * 8 // self.bits
        self.cache = TableCache(file, self._slice_bytes, self._typecode, capacity, clean)
        self.table_offset = header.refcount_table_offset
        table_bytes = header.refcount_table_clusters << self.cluster_bits
        self.table: array[int] = from_disk(file.pread(self.table_offset, table_bytes))
        self.own = self._own_clusters()  # host clusters of the table and its blocks
        self._dirty_table: set[int] = set()
        self._free_hint = 0  # where to look for free clusters, as a rule the lowest
        self.never_used = -(-file.size // self.cluster_size)  # clusters from here read as zero
        self.discard_freed = False
        self.on_corrupt: Callable[[str], BlockError] = ImageFormatError

    def _own_clusters(self) -> set[int]:
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
                                  f"{index:#x})")
        return offset

    def _slice_of(self, cluster: int) -> tuple[Slice, int] | None:
        index, entry = divmod(cluster, self._block_entries)
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

    def count_used(self, clusters: int, limit: int) -> int:
        """How many of the first ``clusters`` clusters are used; counting stops at ``limit``."""
        used = cluster = 0
        while cluster < clusters and used < limit:
            found = self._slice_of(cluster)
            if found is None:
                cluster += self._block_entries - cluster % self._block_entries
                continue
            part, entry = found
            here = min(clusters - cluster, self._slice_entries - entry)
            if self.bits >= 8:
                used += here - part.table[entry : entry + here].count(0)
            else:
                used += sum(self._load(part, entry + index) != 0 for index in range(here))
            cluster += here
        return used

    def has_block(self, cluster: int) -> bool:
        """Whether a refcount block counts this cluster."""
        return self.block_offset(cluster // self._block_entries) != 0

    def read_run(self, cluster: int, count: int) -> list[int]:
        """The refcounts of ``count`` clusters."""
        found: list[int] = []
        while count:
            here = self._slice_of(cluster)
            if here is None:
                step = min(count, self._block_entries - cluster % self._block_entries)
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
            needed = -(-total // self._block_entries)
            needed_table = -(-needed * 8 // self.cluster_size)
            if (needed, needed_table) == (blocks, table_clusters):
                break
            blocks, table_clusters = needed, needed_table
        table = array("Q", bytes(table_clusters << self.cluster_bits))
        entries = self._block_entries
        for index in range(blocks):
            start = index * entries
            values = counts[start : min(start + entries, clusters)].tolist() if (
                start < clusters) else []
            own = max(0, min(total, start + entries) - max(start, clusters))
            values += [1] * own
            values += [0] * (entries - len(values))
            table[index] = (clusters + index) << self.cluster_bits
            self._file.pwrite(table[index], self._pack(values))
        offset = (clusters + blocks) << self.cluster_bits
        self._file.pwrite(offset, to_disk(table))
        return offset, table

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
            if not self.block_offset(index):
                continue
            start = index * self._block_entries
            for part in range(self._block_entries // self._slice_entries - 1, -1, -1):
                found = self._slice_of(start + part * self._slice_entries)
                used = len(found[0].table.tobytes().rstrip(b"\0")) if found else 0
                if used:  # the last used byte holds the last used entries
                    return self._last_in(start + part * self._slice_entries, used)
        return -1

    # ---- changing ----

    def add(self, cluster: int, count: int, delta: int) -> None:
        """Change the refcounts of ``count`` clusters; going below 0 or over the width fails."""
        self.never_used = max(self.never_used, cluster + count)
        while count:
            found = self._slice_of(cluster)
            if found is None:
                raise self.on_corrupt(f"Cluster {cluster:#x} has no refcount block")
            part, entry = found
            here = min(count, self._slice_entries - entry)
            self._add_run(part, entry, cluster, here, delta)
            cluster += here
            count -= here

    def _add_run(self, part: Slice, entry: int, cluster: int, count: int, delta: int) -> None:
        """Change counts within one slice; at once where none of them hits a bound."""
        if self.bits >= 8:
            old = part.table[entry : entry + count]
            new = min(old) + delta, max(old) + delta
            if new[0] > 0 and new[1] <= self.maximum:
                if old[0] == max(old) == min(old):
                    changed = array(self._typecode, [old[0] + delta]) * count
                else:
                    changed = array(self._typecode, [value + delta for value in old])
                part.table[entry : entry + count] = changed
                self.cache.mark(part, entry, entry + count)
                return
        for index in range(count):
            self._add_one(part, entry + index, cluster + index, delta)

    def _add_one(self, part: Slice, entry: int, cluster: int, delta: int) -> None:
        value = self._load(part, entry) + delta
        if value < 0:
            raise self.on_corrupt(f"Refcount of cluster {cluster:#x} would be negative")
        if value > self.maximum:
            raise BlockError("Refcount exceeds the maximum of its width", errno.EINVAL)
        self._store(part, entry, value)
        if value == 0:
            self._release(cluster)

    def set(self, cluster: int, value: int) -> None:
        """Set one refcount (repairs only)."""
        found = self._slice_of(cluster)
        if found is None:
            raise self.on_corrupt(f"Cluster {cluster:#x} has no refcount block")
        self._store(found[0], found[1], value)
        if value == 0:
            self._release(cluster)

    def _release(self, cluster: int) -> None:
        self._free_hint = min(self._free_hint, cluster)
        offset = cluster << self.cluster_bits
        self.cache.forget(offset, self.cluster_size)
        if self.discard_freed and offset < self._file.size:
            self._file.discard(offset, self.cluster_size)

    # ---- allocating ----

    def allocate(self, count: int) -> int:
        """Host offset of ``count`` free contiguous clusters, now counted once each."""
        if 2 * count >= self._block_entries:
            return self._allocate_behind(count) << self.cluster_bits
        while True:
            start = self._find_free(count)
            if (start + count) << self.cluster_bits > MAX_HOST_OFFSET:
                raise BlockError("File too large", errno.EFBIG)
            if not self._make_blocks(start, count):
                break  # no refcount block had to take one of these clusters
        self.add(start, count, 1)
        self._free_hint = start + count  # holes too small are left to those who free beside them
        return start << self.cluster_bits

    def _allocate_behind(self, count: int) -> int:
        """Allocate behind all that is used: a run that long always meets new refcount blocks."""
        start = max(self.never_used, self.last_used() + 1)
        last = (start + 2 * count) // self._block_entries + 2
        if last >= len(self.table):
            self._grow_table(last + 1, start)
            start = self.never_used
        self._cover_own_area(start, count)
        return start

    def allocate_at(self, offset: int, count: int) -> int:
        """Count up to ``count`` clusters at a host offset, as long as they are free: how many."""
        first = offset >> self.cluster_bits
        got = 0
        while got < count and self.get(first + got) == 0:
            got += 1
        if got and self._make_blocks(first, got):
            return self.allocate_at(offset, count)
        self.add(first, got, 1)
        return got

    def _find_free(self, count: int) -> int:
        start = self._next_free(self._free_hint)
        while True:
            used = self._last_used(start, count)
            if used < 0:
                return start
            start = self._next_free(used + 1)

    def _last_used(self, start: int, count: int) -> int:
        """The last cluster of the first slice with a used one in the run; -1 if all are free."""
        end = start + count
        while start < end:
            found = self._slice_of(start)
            if found is None:  # the rest of this block's range is free
                start += self._block_entries - start % self._block_entries
                continue
            part, entry = found
            here = min(end - start, self._slice_entries - entry)
            if self.bits < 8:
                used = [index for index in range(here) if self._load(part, entry + index)]
            else:
                counts = part.table[entry : entry + here]
                used = [] if _is_zero(counts) else [index for index in range(here)
                                                    if counts[index]]
            if used:
                return start + used[-1]
            start += here
        return -1

    def _next_free(self, cluster: int) -> int:
        while (found := self._slice_of(cluster)) is not None:
            part, entry = found
            if self.bits >= 8:
                free = _first_zero(part.table, entry)
                if free >= 0:
                    return cluster - entry + free
                cluster += self._slice_entries - entry
            else:
                if self._load(part, entry) == 0:
                    return cluster
                cluster += 1
        return cluster

    def _make_blocks(self, start: int, count: int) -> bool:
        """Make missing refcount blocks for the clusters; True if one took a cluster of them."""
        took = False
        for index in range(start // self._block_entries,
                           (start + count - 1) // self._block_entries + 1):
            if self.block_offset(index) == 0:
                home = self.ensure_block(max(start, index * self._block_entries))
                took = took or start <= home < start + count
        return took

    def ensure_block(self, cluster: int) -> int:
        """Make the refcount block that counts ``cluster``; the cluster it lives in, -1 if old."""
        index = cluster // self._block_entries
        if self.block_offset(index):
            return -1
        if index >= len(self.table):
            self._grow_table(index + 1, cluster)
            if self.block_offset(index):
                return -1 if self.get(cluster) == 0 else cluster
        # The whole block's range is free, so the new block can describe itself.
        offset = cluster << self.cluster_bits
        self._create_block(index, offset)
        self.add(cluster, 1, 1)
        return cluster

    def _create_block(self, index: int, offset: int) -> None:
        empty = array(self._typecode, bytes(self._slice_bytes))
        for start in range(offset, offset + self.cluster_size, self._slice_bytes):
            self.cache.create(start, empty[:])
        self.table[index] = offset
        self._dirty_table.add(index)
        self.own.add(offset >> self.cluster_bits)

    def _grow_table(self, needed: int, cluster: int) -> None:
        """Move the table to a larger one that starts at ``cluster`` (all free from there)."""
        entries_per_cluster = self.cluster_size // 8
        wanted = max(needed, len(self.table) * 3 // 2)
        while True:
            clusters = -(-wanted // entries_per_cluster)
            last = (cluster + clusters + wanted // self._block_entries + 2) // self._block_entries
            if last < clusters * entries_per_cluster:
                break
            wanted = last + 1
        if clusters << self.cluster_bits > fmt.MAX_REFTABLE_BYTES:
            raise BlockError("File too large", errno.EFBIG)
        old_offset, old_clusters = self.table_offset, len(self.table) // entries_per_cluster
        self.table.extend([0] * (clusters * entries_per_cluster - len(self.table)))
        self.table_offset = cluster << self.cluster_bits
        self._cover_own_area(cluster, clusters)
        self.cache.write_back()
        self._file.pwrite(self.table_offset, to_disk(self.table))
        self._dirty_table.clear()
        self._file.flush()
        self._update_header(refcount_table_offset=self.table_offset,
                            refcount_table_clusters=clusters)
        self.own = self._own_clusters()
        self.add(old_offset >> self.cluster_bits, old_clusters, -1)

    def _cover_own_area(self, cluster: int, clusters: int) -> None:
        """Count the new table's clusters, placing the blocks for that right behind it."""
        index, home = cluster // self._block_entries, cluster + clusters
        while index * self._block_entries < home:
            if self.block_offset(index) == 0:
                self._create_block(index, home << self.cluster_bits)
                home += 1
            index += 1
        self.add(cluster, home - cluster, 1)

    # ---- writing back ----

    @property
    def is_dirty(self) -> bool:
        """Whether memory holds counts the disk lacks."""
        return self.cache.is_dirty or bool(self._dirty_table)

    def write_back(self) -> None:
        """Write blocks, then the table entries that point at new ones."""
        self.cache.write_back()
        if not self._dirty_table:
            return
        self._file.flush()
        for index in sorted(self._dirty_table):
            self._file.pwrite(self.table_offset + index * 8,
                              self.table[index].to_bytes(8, "big"))
        self._dirty_table.clear()

    def replace_table(self, offset: int, table: array[int]) -> None:
        """Use another, already durable table (repairs and amend)."""
        self.table_offset, self.table = offset, table
        self._dirty_table.clear()
        self.own = self._own_clusters()
        self.cache.drop_clean()
        self._free_hint = 0


def _is_zero(table: array[int]) -> bool:
    return not table.tobytes().strip(b"\0")


def _first_zero(table: array[int], start: int) -> int:
    """The first zero entry from ``start``, -1 if there is none.

    By bytes.find: array.index makes an int object of every entry it passes.
    """
    size = table.itemsize
    data, zero = table.tobytes(), bytes(size)
    position = data.find(zero, start * size)
    while position >= 0 and position % size:
        position = data.find(zero, position + 1)
    return position // size if position >= 0 else -1
