"""qcow2 mapping: from guest offsets to host clusters through the L1 and L2 tables.

With extended L2 entries an entry is two words: the cluster's, and a bitmap whose low half says
which of the 32 subclusters are allocated and whose high half says which read as zeroes.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable

from pytcg.block.device import BlockDevice, BlockError, ImageFormatError
from pytcg.block.formats.qcow2 import format as fmt
from pytcg.block.formats.qcow2.cache import SLICE_BYTES, Slice, TableCache, from_disk, to_disk
from pytcg.typed import NamedTuple

RUN_BYTES = 4096
L2_CACHE_BYTES = 32 << 20  # QEMU's default bound
ALL_ALLOCATED = 0xFFFF_FFFF
ALL_ZEROES = 0xFFFF_FFFF << 32


class Kind:
    """What a (sub)cluster is."""

    UNALLOCATED = 0  # reads from the backing file
    ZERO = 1  # reads as zeroes, no host cluster
    ZERO_ALLOCATED = 2  # reads as zeroes, has a host cluster
    DATA = 3
    COMPRESSED = 4
    UNALLOCATED_HOSTED = 5  # reads from the backing file, but its cluster has a host cluster


class Run(NamedTuple):
    """Guest bytes of one kind whose host bytes, if any, are contiguous."""

    kind: int
    host: int  # host offset of the first byte; for COMPRESSED the entry's descriptor
    length: int
    copied: bool


class ClusterMap:
    """The active L1 table and a cache of its L2 tables."""

    def __init__(self, file: BlockDevice, header: fmt.Header, capacity: int,
                 clean: Callable[[], None]) -> None:
        self._file = file
        self.cluster_bits = header.cluster_bits
        self.cluster_size = 1 << header.cluster_bits
        self.extended = bool(header.incompatible & fmt.Incompatible.EXTENDED_L2)
        self.external = bool(header.incompatible & fmt.Incompatible.DATA_FILE)
        self.words = 2 if self.extended else 1
        self.sub_bits = self.cluster_bits - 5 if self.extended else self.cluster_bits
        self.l2_entries = self.cluster_size // (8 * self.words)
        self.slice_bytes = min(self.cluster_size, SLICE_BYTES)
        self.slice_entries = self.slice_bytes // (8 * self.words)
        # What one allocation may span. It is QEMU's slice of a table, so that clusters lie alike.
        self.run_entries = min(self.cluster_size, RUN_BYTES) // (8 * self.words)
        self._l2_bits = self.l2_entries.bit_length() - 1
        self._slice_bits = self.slice_entries.bit_length() - 1
        self.table_span = self.l2_entries << self.cluster_bits  # guest bytes per L2 table
        self.cache = TableCache(file, self.slice_bytes, "Q", capacity, clean,
                                load_event="l2_load", update_event="l2_update")
        self.l1_offset = header.l1_table_offset
        self.l1: array[int] = array("Q")
        self.dirty_l1: set[int] = set()
        self.on_corrupt: Callable[[str], BlockError] = ImageFormatError
        self.writing: int | None = None  # where a write is being planned
        self.allocate: Callable[[], int]  # a cluster for an L2 table
        self.grow: Callable[[int], None]  # the L1 table, to so many entries at least
        self.free: Callable[[int], None]

    def load_l1(self, offset: int, entries: int) -> None:
        """Read the active L1 table."""
        self.l1_offset = offset
        self.l1 = from_disk(self._file.pread(offset, entries * 8))
        self.dirty_l1.clear()

    # ---- reading ----

    def l2_offset(self, index: int) -> int:
        """Host offset of L2 table ``index``, 0 if there is none."""
        if index >= len(self.l1):
            return 0
        offset = self.l1[index] & fmt.OFFSET_MASK
        if offset & (self.cluster_size - 1):
            raise self.on_corrupt(f"L2 table offset {offset:#x} unaligned (L1 index: "
                                  f"{f'{index:#x}' if index else 0})")
        return offset

    def find(self, offset: int) -> tuple[Slice, int] | None:
        """The cached slice and the entry number in it for a guest offset."""
        cluster = offset >> self.cluster_bits
        index, entry = divmod(cluster, self.l2_entries)
        table = self.l2_offset(index)
        if not table:
            return None
        part, entry = divmod(entry, self.slice_entries)
        return self.cache.get(table + part * self.slice_bytes), entry

    def peek(self, offset: int) -> int:
        """The L2 entry for ``offset`` if its slice is cached, else 0; plain entries only.

        The short way for small reads: see bench/disk.py, "random reads".
        """
        cluster = offset >> self.cluster_bits
        entry = cluster & (self.l2_entries - 1)
        index = cluster >> self._l2_bits
        if index >= len(self.l1):
            return 0
        base = self.l1[index] & fmt.OFFSET_MASK
        part = self.cache.slices.get(base + (entry >> self._slice_bits) * self.slice_bytes)
        if part is None:
            return 0
        return part.table[entry & (self.slice_entries - 1)]

    def lookup(self, offset: int, length: int) -> Run:
        """The run that starts at ``offset``, at most ``length`` long, at least a byte."""
        found = self.find(offset)
        if found is None:
            span = self.table_span - offset % self.table_span
            return Run(Kind.UNALLOCATED, 0, min(length, span), False)
        if self.extended:
            return self._lookup_subclusters(found[0].table, found[1], offset, length)
        table, entry = found[0].table, found[1]
        word = table[entry]
        inside = offset & (self.cluster_size - 1)
        kind, host = self._classify(word, offset - inside)
        step = self.cluster_size if kind in (Kind.DATA, Kind.ZERO_ALLOCATED) else 0
        got = self.cluster_size - inside
        last = min(len(table), entry + ((inside + length - 1) >> self.cluster_bits) + 1)
        if kind != Kind.COMPRESSED:
            expected = word
            for index in range(entry + 1, last):
                expected += step
                if table[index] != expected:
                    break
                got += self.cluster_size
            host += inside if step else 0
        return Run(kind, host, min(got, length), bool(word & fmt.COPIED))

    def lookup_now(self, offset: int, length: int) -> Run | None:
        """As `lookup`; None where that would read a table, or have to say that one is damaged."""
        heard, self.on_corrupt = self.on_corrupt, ImageFormatError
        try:
            index, entry = divmod(offset >> self.cluster_bits, self.l2_entries)
            table = self.l2_offset(index)
            part = table + entry // self.slice_entries * self.slice_bytes
            return self.lookup(offset, length) if not table or part in self.cache.slices else None
        except ImageFormatError:
            return None
        finally:
            self.on_corrupt = heard

    def _classify(self, word: int, guest: int) -> tuple[int, int]:
        if word & fmt.COMPRESSED:
            return Kind.COMPRESSED, word & (fmt.COMPRESSED - 1)
        host = word & fmt.OFFSET_MASK
        if host & (self.cluster_size - 1):
            from pytcg.block.formats.qcow2.corrupt import unaligned_cluster

            raise self.on_corrupt(unaligned_cluster(self, word, guest))
        if self.external and host and host != guest:
            from pytcg.block.formats.qcow2.corrupt import foreign_cluster

            raise self.on_corrupt(foreign_cluster(self, host, guest))
        hosted = host or (self.external and word & fmt.COPIED)
        if word & fmt.ZERO and not self.extended:
            return (Kind.ZERO_ALLOCATED if hosted else Kind.ZERO), host
        return (Kind.DATA if hosted else Kind.UNALLOCATED), host

    def _subcluster_kind(self, kind: int, bitmap: int, sub: int, guest: int) -> int:
        if kind == Kind.COMPRESSED:
            return kind
        allocated, zero = bitmap >> sub & 1, bitmap >> sub + 32 & 1
        if (allocated and zero) or (allocated and kind == Kind.UNALLOCATED):
            from pytcg.block.formats.qcow2.corrupt import invalid_cluster

            raise self.on_corrupt(invalid_cluster(self, guest))
        if zero:
            return Kind.ZERO_ALLOCATED if kind == Kind.DATA else Kind.ZERO
        if kind == Kind.DATA and not allocated:
            return Kind.UNALLOCATED_HOSTED
        return kind

    def _lookup_subclusters(self, table: array[int], entry: int, offset: int, length: int
                            ) -> Run:
        inside = offset & (self.cluster_size - 1)
        whole, host = self._classify(table[2 * entry], offset - inside)
        if whole == Kind.COMPRESSED:
            return Run(whole, host, min(length, self.cluster_size - inside), False)
        copied = bool(table[2 * entry] & fmt.COPIED)
        sub, sub_size = inside >> self.sub_bits, 1 << self.sub_bits
        kind = self._subcluster_kind(whole, table[2 * entry + 1], sub, offset)
        got = sub_size - (inside & (sub_size - 1))
        base = host
        while got < length:
            sub += 1
            if sub == fmt.SUBCLUSTERS:
                entry, sub = entry + 1, 0
                if 2 * entry >= len(table):
                    break
                next_whole, next_base = self._classify(
                    table[2 * entry], (offset + got) & -self.cluster_size)
                expected = base + self.cluster_size if whole == Kind.DATA else 0
                if (next_whole != whole or next_base != expected
                        or bool(table[2 * entry] & fmt.COPIED) != copied):
                    break
                base = next_base
            if self._subcluster_kind(whole, table[2 * entry + 1], sub, offset + got) != kind:
                break
            got += sub_size
        hosted = whole == Kind.DATA
        return Run(kind, host + inside if hosted else 0, min(got, length), copied)

    def needs_allocation(self, offset: int, length: int) -> tuple[int, int]:
        """(clusters from ``offset``'s that can't be written in place, their reusable host or -1).

        There is a host when the first cluster has one of its own: then those are counted whose
        own follow it.
        """
        found = self.find(offset)
        clusters = ((offset & (self.cluster_size - 1)) + length - 1 >> self.cluster_bits) + 1
        clusters = min(clusters, self.run_entries - (offset >> self.cluster_bits)
                       % self.run_entries)
        if found is None:
            return clusters, -1
        table, entry = found[0].table, found[1]
        count = 0
        for index in range(entry, entry + clusters):
            word = table[index * self.words]
            hosted = self.external or word & fmt.OFFSET_MASK
            if word & fmt.COPIED and not word & fmt.COMPRESSED and hosted:
                if count == 0:
                    return self._own_run(table, index, clusters), word & fmt.OFFSET_MASK
                break
            count += 1
        return count, -1

    def own_beyond(self, offset: int, length: int, run: Run) -> bool:
        """Whether clusters that merely aren't DATA yet continue a DATA run in the host file."""
        if self.extended or self.external:
            return False
        count, _ = self.needs_allocation(offset, length)
        return (offset & -self.cluster_size) + (count << self.cluster_bits) > offset + run.length

    def _own_run(self, table: array[int], entry: int, clusters: int) -> int:
        """How many clusters from an entry on have contiguous host clusters of their own."""
        if self.extended or self.external:
            return 1
        expected = table[entry] & ~fmt.ZERO
        for count in range(1, clusters):
            expected += self.cluster_size
            if table[entry + count] & ~fmt.ZERO != expected:
                return count
        return clusters

    # ---- changing ----

    def writable(self, offset: int) -> tuple[Slice, int]:
        """Like find(), with an L2 table of our own that may be changed."""
        index = (offset >> self.cluster_bits) // self.l2_entries
        if index >= len(self.l1):
            self.grow(index + 1)
        word = self.l1[index]
        if not word & fmt.OFFSET_MASK:
            self._new_table(index)
        elif not word & fmt.COPIED:
            self._copy_table(index)
        found = self.find(offset)
        assert found is not None
        return found

    def _new_table(self, index: int) -> None:
        offset = self.allocate()
        self._file.debug_event("l2_alloc_write")
        empty = array("Q", bytes(self.slice_bytes))
        for start in range(offset, offset + self.cluster_size, self.slice_bytes):
            self.cache.create(start, empty[:])
        self.l1[index] = offset | fmt.COPIED
        self.dirty_l1.add(index)

    def _copy_table(self, index: int) -> None:
        """A snapshot shares the table: take a copy."""
        old = self.l2_offset(index)
        offset = self.allocate()
        self._file.debug_event("l2_alloc_cow_read")
        for start in range(0, self.cluster_size, self.slice_bytes):
            self.cache.create(offset + start, self.cache.get(old + start).table[:])
        self._file.debug_event("l2_alloc_write")
        self.l1[index] = offset | fmt.COPIED
        self.dirty_l1.add(index)
        self.free(old)

    def set_words(self, offset: int, words: list[int]) -> list[int]:
        """Replace the entries' first words from a cluster on (within a slice): the old ones."""
        part, entry = self.writable(offset)
        table = part.table
        if self.words == 1:
            old = table[entry : entry + len(words)].tolist()
            table[entry : entry + len(words)] = array("Q", words)
        else:
            old = [table[2 * index] for index in range(entry, entry + len(words))]
            for index, word in enumerate(words, entry):
                table[2 * index] = word
        self.cache.mark(part, entry * self.words, (entry + len(words)) * self.words)
        return old

    def bitmap(self, offset: int) -> int:
        """The subcluster bitmap of the cluster at ``offset`` (extended L2 only)."""
        found = self.find(offset)
        return 0 if found is None else found[0].table[2 * found[1] + 1]

    def set_bitmap(self, offset: int, bitmap: int) -> None:
        """Replace a subcluster bitmap (extended L2 only)."""
        part, entry = self.writable(offset)
        if part.table[2 * entry + 1] != bitmap:
            part.table[2 * entry + 1] = bitmap
            self.cache.mark(part, 2 * entry + 1, 2 * entry + 2)

    def first_words(self, offset: int, count: int) -> list[int]:
        """The first words of ``count`` entries within one slice."""
        found = self.find(offset)
        if found is None:
            return [0] * count
        start = found[1] * self.words
        return found[0].table[start : start + count * self.words : self.words].tolist()

    def word(self, offset: int) -> int:
        """The first word of the entry for ``offset``; 0 without a table."""
        found = self.find(offset)
        return 0 if found is None else found[0].table[found[1] * self.words]

    # ---- writing back ----

    def write_l1(self) -> None:
        """Write the changed L1 entries; their tables must be durable."""
        for index in sorted(self.dirty_l1):
            self._file.debug_event("l1_update")
            self._file.pwrite(self.l1_offset + index * 8, to_disk(self.l1[index : index + 1]))
        self.dirty_l1.clear()
