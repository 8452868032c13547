"""qcow2 reference counts: how often each host cluster is used, and allocation by them.

Clusters are counted up before anything points at them and counted down only after nothing on
disk does: frees wait in a list until the tables that dropped the cluster are durable.
"""

from __future__ import annotations

import errno
from array import array

from pytcg.block.device import BlockError
from pytcg.block.formats.qcow2.cache import Slice
from pytcg.block.formats.qcow2.refcount_table import RefcountTable

REFCOUNT_CACHE_BYTES = 4 << 20
MAX_HOST_OFFSET = 1 << 56


class Refcounts(RefcountTable):
    """Changing refcounts, and the allocator of host clusters."""

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
        if self.discard_freed and offset < self.file.size:
            self.file.discard(offset, self.cluster_size)

    # ---- allocating ----
    #
    # Clusters are given out as QEMU does, so that images get its layout: from the first hole that
    # is large enough; a refcount block that a run needs lies behind the run.

    def allocate(self, count: int) -> int:
        """Host offset of ``count`` free contiguous clusters, now counted once each."""
        self.file.debug_event("cluster_alloc")
        while True:
            start = self._find_free(count)
            if (start + count) << self.cluster_bits > MAX_HOST_OFFSET:
                raise BlockError("File too large", errno.EFBIG)
            index = self._missing_block(start, count)
            if index < 0:
                break
            self._free_hint = start + count
            self._add_block(index)
            self._free_hint = min(self._free_hint, start)
        self.add(start, count, 1)
        self._free_hint = start + count  # holes too small are left to those who free beside them
        return start << self.cluster_bits

    def allocate_at(self, offset: int, count: int) -> int:
        """Count up to ``count`` clusters at a host offset, as long as they are free: how many."""
        first = offset >> self.cluster_bits
        while True:
            got = count
            if self._last_used(first, count) >= 0:
                got = next(index for index in range(count) if self.get(first + index))
            index = self._missing_block(first, got)
            if index < 0:
                break
            if first <= (home := self._next_free(self._free_hint)):
                self._free_hint = max(home, index * self.block_entries)
            self._add_block(index)  # perhaps in one of these clusters, the block's own
            self._free_hint = min(self._free_hint, first)
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
                start += self.block_entries - start % self.block_entries
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

    def counts_next(self, count: int) -> bool:
        """Whether the refcount blocks for the next ``count`` clusters are there, as a rule."""
        return self._missing_block(self._free_hint, count) < 0

    def _missing_block(self, start: int, count: int) -> int:
        """The first refcount block that is missing to count a run; -1 if none is."""
        for index in range(start // self.block_entries,
                           (start + count - 1) // self.block_entries + 1):
            if self.block_offset(index) == 0:
                return index
        return -1

    def _add_block(self, index: int) -> None:
        """Make refcount block ``index``, or one that must be there first: then ask again."""
        home = self._next_free(self._free_hint)
        if home == 0:
            raise self.on_corrupt("Preventing invalid allocation of refcount block at offset 0")
        self._free_hint = home + 1
        own = home // self.block_entries
        if own != index and not self.block_offset(own):
            self._add_block(own)
        elif index < len(self.table):
            try:
                self.create_block(index, home)
                self.add(home, 1, 1)
            except BaseException:
                self.forget_block(index, home)
                raise
        else:
            from pytcg.block.formats.qcow2.refcount_shape import cover

            cover(self, (max(index, own) + 1) * self.block_entries, block=(index, home))

    def create_block(self, index: int, home: int) -> None:
        """Let the cluster ``home``, not counted yet, be refcount block ``index``."""
        self.file.debug_event("refblock_alloc")
        self.file.debug_event("refblock_alloc_write")
        empty = array(self._typecode, bytes(self._slice_bytes))
        offset = home << self.cluster_bits
        for start in range(offset, offset + self.cluster_size, self._slice_bytes):
            self.cache.create(start, empty[:])
        self.table[index] = offset
        self.dirty_table.add(index)
        self.own.add(home)

    def forget_block(self, index: int, home: int) -> None:
        """Block ``index`` in the cluster ``home`` is no more; the table in memory says so."""
        self.table[index] = 0
        self.dirty_table.discard(index)
        self.own.discard(home)
        self.cache.forget(home << self.cluster_bits, self.cluster_size)

    # ---- writing back ----

    @property
    def is_dirty(self) -> bool:
        """Whether memory holds counts the disk lacks."""
        return self.cache.is_dirty or bool(self.dirty_table)

    def write_back(self) -> None:
        """Write blocks, then the table entries that point at new ones."""
        self.cache.write_back()
        if not self.dirty_table:
            return
        self.file.flush()
        for index in sorted(self.dirty_table):
            self.file.debug_event("refblock_alloc_hookup")
            self.file.pwrite(self.table_offset + index * 8,
                              self.table[index].to_bytes(8, "big"))
        self.dirty_table.clear()

    def replace_table(self, offset: int, table: array[int]) -> None:
        """Use another, already durable table (repairs and amend)."""
        self.table_offset, self.table = offset, table
        self.dirty_table.clear()
        self.own = self.own_clusters()
        self.cache.drop_clean()
        self._free_hint = 0


def _is_zero(table: array[int]) -> bool:
    return not table.tobytes().strip(b"\0")


def _first_zero(table: array[int], start: int) -> int:
    """The first zero entry from ``start``, -1 if there is none.

    By bytes.find: array.index makes an int object of every entry it passes.
    """
    if table[start] == 0:  # as it is behind the last allocation
        return start
    size = table.itemsize
    data, zero = table.tobytes(), bytes(size)
    position = data.find(zero, start * size)
    while position >= 0 and position % size:
        position = data.find(zero, position + 1)
    return position // size if position >= 0 else -1
