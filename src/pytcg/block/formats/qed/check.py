"""Checking a QED image: every cluster in the file has one user, and every user a cluster."""

from __future__ import annotations

from array import array

from pytcg.block.check_result import CheckResult
from pytcg.block.device import BlockError, NotSupported
from pytcg.block.formats.qed.format import FEATURE_NEED_CHECK
from pytcg.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from pytcg.block.formats.qed.device import QedDevice

MAX_CLUSTERS = 1 << 28


def check_qed(image: QedDevice, *, repair: bool) -> CheckResult:
    """Check, and with ``repair`` forget clusters and tables that are nowhere."""
    check = _Check(image, repair=repair)
    check.run()
    result = check.result
    if repair and image.needs_check and not (result.corruptions or result.check_errors):
        image.file.flush()
        image.set_features(image.header.features & ~FEATURE_NEED_CHECK)
    return result


class _Check:
    def __init__(self, image: QedDevice, *, repair: bool) -> None:
        self._image, self._repair = image, repair
        self._cluster = image.block_size
        self.result = CheckResult()
        self.result.total_clusters = -(-image.size // self._cluster)
        clusters = image.end // self._cluster
        if clusters > MAX_CLUSTERS:
            raise NotSupported("The image file is too large to check")
        self._used = bytearray(clusters)

    def run(self) -> None:
        """Check the tables, then look for clusters that nothing refers to."""
        image, header = self._image, self._image.header
        self._use(header.l1_offset, header.table_clusters)
        lost = False
        for index, table in enumerate(image.l1):
            if not table:
                continue
            if not image.holds_table(table):
                lost = True
                self._bad(image.l1, index)
            elif self._use(table, header.table_clusters):
                self._check_table(table)
        if lost and self._repair:
            image.write_table(header.l1_offset, image.l1)
        self.result.leaks = self._used.count(0, header.header_clusters)

    def _check_table(self, offset: int) -> None:
        image, result = self._image, self.result
        try:
            entries = image.tables.get(offset)
        except BlockError:
            result.check_errors += 1
            return
        lost, last = False, 0
        for index, cluster in enumerate(entries):
            if cluster <= 1:
                continue
            result.allocated_clusters += 1
            if last and last + self._cluster != cluster:
                result.fragmented_clusters += 1
            last = cluster
            if image.holds(cluster):
                self._use(cluster, 1)
            else:
                lost = True
                self._bad(entries, index)
        if lost and self._repair:
            image.write_table(offset, entries)

    def _bad(self, table: array[int], index: int) -> None:
        if self._repair:
            table[index] = 0
            self.result.corruptions_fixed += 1
        else:
            self.result.corruptions += 1

    def _use(self, offset: int, count: int) -> bool:
        """Note a reference; whether it is the first to all of these clusters."""
        first = offset // self._cluster
        taken = sum(self._used[first : first + count])
        self._used[first : first + count] = b"\1" * count
        self.result.corruptions += taken
        return not taken
