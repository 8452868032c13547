"""Writing a whole new qcow2 refcount structure from counted references, as QEMU places it."""

from __future__ import annotations

from array import array

from pytcg.block.formats.qcow2.cache import to_disk
from pytcg.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from pytcg.block.formats.qcow2.check_count import ReferenceCounter


def rebuild_refcounts(counter: ReferenceCounter) -> None:
    """Write blocks and a table into free clusters of the image, and switch to them.

    The old structure still counts as used: the caller finds it leaked and frees it.
    """
    _Rebuilding(counter).run()


class _Rebuilding:
    def __init__(self, counter: ReferenceCounter) -> None:
        self._counter = counter
        self._expected = counter.expected
        self._refcounts = counter.device.refcounts
        self._entries = self._refcounts.block_entries
        self._per_cluster = counter.cluster // 8
        self._table = array("Q")
        self._end = counter.clusters

    def run(self) -> None:
        counter, device = self._counter, self._counter.device
        self._write_blocks(0, self._end)
        grown = True
        while grown:  # the table's own clusters may need one more block, and that a larger table
            clusters = len(self._table) // self._per_cluster
            start = self._allocate(clusters, 0)
            grown = self._write_blocks(start, start + clusters)
        counter.file.pwrite(start << counter.bits, to_disk(self._table))
        counter.file.flush()
        device.update_header(refcount_table_offset=start << counter.bits,
                             refcount_table_clusters=clusters)
        self._refcounts.replace_table(start << counter.bits, self._table)

    def _allocate(self, count: int, start: int) -> int:
        """The first run of unused clusters from ``start``, the image's end if there is none."""
        free = 0
        cluster = start
        while free < count:
            free = 0 if cluster < self._end and self._expected[cluster] else free + 1
            cluster += 1
        self._end = max(self._end, cluster)
        for used in range(cluster - count, cluster):
            self._expected[used] = 1
        return cluster - count

    def _write_blocks(self, start: int, stop: int) -> bool:
        """Write the blocks that count used clusters of a range; whether the table grew."""
        grown = False
        first_free = 0
        while start < stop:
            index = start // self._entries
            first = index * self._entries
            if not any(self._expected[start : min(stop, first + self._entries)]):
                start = first + self._entries
                continue
            if index >= len(self._table) or not self._table[index]:
                home = self._allocate(1, max(first_free, first))
                first_free = home + 1
                stop = max(stop, home + 1)
                if index >= len(self._table):
                    size = -(-(index + 1) // self._per_cluster) * self._per_cluster
                    self._table.extend([0] * (size - len(self._table)))
                    grown = True
                self._table[index] = home << self._counter.bits
            values = self._expected[first : first + self._entries].tolist()
            self._refcounts.write_block(self._table[index], values)
            start = first + self._entries
        return grown
