"""The check's inner loops for large images, with numpy; what looks odd goes the slow way."""

from __future__ import annotations

import numpy as np

from pytcg.block.formats.qcow2 import format as fmt
from pytcg.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from pytcg.block.check_result import CheckResult
    from pytcg.block.formats.qcow2.device import Qcow2Device


class FastChecks:
    """Counting and comparing over whole tables."""

    def __init__(self, expected: memoryview, clusters: int, device: Qcow2Device) -> None:
        self._clusters = clusters
        self._expected = np.frombuffer(expected, dtype=np.uint32)
        self._refcounts = device.refcounts
        self._bits = device.header.cluster_bits
        self._low = np.uint64(device.cluster_size - 1)
        self._cluster = device.cluster_size
        # Extended entries and external data files have rules of their own.
        self._applies = device.map.words == 1 and device.data_file is device.file

    def _hosts(self, data: bytes) -> tuple[np.ndarray, np.ndarray] | None:
        """(entries with a host cluster, their host offsets); None if any entry is odd."""
        table = np.frombuffer(data, dtype=">u8").astype(np.uint64)
        if not self._applies or np.any(table & np.uint64(fmt.COMPRESSED | fmt.L2_RESERVED)):
            return None
        hosts = table & np.uint64(fmt.OFFSET_MASK)
        used = hosts != 0
        hosts = hosts[used]
        if np.any(hosts & self._low):
            return None
        if len(hosts) and int(hosts.max()) >> self._bits >= self._clusters:
            return None
        return table[used], hosts

    def count_l2(self, data: bytes, result: CheckResult, *, active: bool) -> bool:
        """Count an L2 table's references; False if it has entries of a rarer kind."""
        found = self._hosts(data)
        if found is None:
            return False
        hosts = found[1]
        clusters = (hosts >> np.uint64(self._bits)).astype(np.int64)
        gaps = int(np.count_nonzero(np.diff(hosts) != self._cluster))
        if gaps == 0 and len(clusters):
            self._expected[clusters[0] : clusters[-1] + 1] += np.uint32(1)
        else:
            np.add.at(self._expected, clusters, np.uint32(1))
        if active:
            result.allocated_clusters += len(hosts)
            result.fragmented_clusters += gaps
        return True

    def copied_right(self, data: bytes) -> bool:
        """Whether COPIED is set exactly where one reference was counted."""
        found = self._hosts(data)
        if found is None:
            return False
        clusters = (found[1] >> np.uint64(self._bits)).astype(np.int64)
        copied = (found[0] & np.uint64(fmt.COPIED)) != 0
        return bool(np.array_equal(self._expected[clusters] == 1, copied))

    def same(self, start: int, stop: int) -> bool:
        """Whether refcounts and counted references agree on clusters [start, stop)."""
        actual = self._refcounts.run_array(start, stop - start)
        if actual is None:
            return False
        return bool(np.array_equal(np.asarray(actual), self._expected[start:stop]))

    def most(self) -> int:
        """The most references to one cluster."""
        return int(self._expected[: self._clusters].max())

    def last_used(self, start: int, stop: int) -> int:
        """The last cluster of the range with a reference, -1 if there is none."""
        used = np.flatnonzero(self._expected[start:stop])
        return start + int(used[-1]) if len(used) else -1
