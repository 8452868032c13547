"""The first half of a qcow2 check: count how often each host cluster is referred to."""

from __future__ import annotations

import errno
import mmap
from array import array
from collections.abc import Callable

from pytcg.block.check_result import CheckResult
from pytcg.block.device import BlockError
from pytcg.block.formats.qcow2 import format as fmt
from pytcg.block.formats.qcow2.cache import from_disk
from pytcg.block.formats.qcow2.compress import compressed_extent
from pytcg.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from pytcg.block.formats.qcow2.check_fast import FastChecks
    from pytcg.block.formats.qcow2.device import Qcow2Device
    from pytcg.block.formats.qcow2.snapshot_table import SnapshotEntry

FAST_FROM = 1 << 16  # clusters from which numpy is worth its import
MAX_CLUSTERS = 1 << 30  # four bytes of (lazily committed) memory each
Report = Callable[[str], None]


class ReferenceCounter:
    """Counts in ``expected``, by host cluster; what can't be is reported and counted."""

    def __init__(self, device: Qcow2Device, repair: str | None, report: Report) -> None:
        self.device = device
        self.file = device.file
        self.bits = device.header.cluster_bits
        self.cluster = device.cluster_size
        self.external = device.data_file is not device.file
        self.result = CheckResult()
        self.fix_leaks = repair in ("leaks", "all")
        self.fix_all = repair == "all"
        self.report = report
        self.rebuild = False  # the refcount structure can't be mended in place
        self.expected: memoryview
        self.fast: FastChecks | None = None
        self.start_over()

    def start_over(self) -> None:
        """Forget all counts."""
        self.clusters = -(-self.file.size // self.cluster)
        if self.clusters > MAX_CLUSTERS:
            raise BlockError("The image file is too large to be checked", errno.EFBIG)
        # Room for a last cluster the file doesn't reach and for a new refcount structure
        room = self.clusters + self.clusters * 3 // self.device.refcounts.block_entries + 1024
        self.expected = memoryview(mmap.mmap(-1, room * 4)).cast("I")
        if self.clusters > FAST_FROM:
            from pytcg.block.formats.qcow2.check_fast import FastChecks

            self.fast = FastChecks(self.expected, self.clusters, self.device)

    def count_all(self, *, fix: bool) -> None:
        """Count every reference; with ``fix`` zero clusters that can't be are mended."""
        device = self.device
        header = device.header
        self._fix_zeroes = fix
        self._count(0, self.cluster)
        self._count_l1(device.map.l1_offset, device.map.l1, active=True)
        if self.external and device.snapshots:
            self.corrupt(f"ERROR {len(device.snapshots)} snapshots in image with data file")
        for entry in device.snapshots:
            self._count_snapshot(entry)
        if device.snapshots:
            from pytcg.block.formats.qcow2.snapshot_table import snapshots_length

            self._count(header.snapshots_offset, snapshots_length(device.snapshots))
        table = device.refcounts.table
        self._count(device.refcounts.table_offset, len(table) * 8)
        if device.has_bitmaps:
            self._count_bitmaps()
        for index, word in enumerate(table):
            if word:
                self._count_refcount_block(index, word)
        self._report_overflows()

    def _report_overflows(self) -> None:
        """More references than the refcounts' width can tell."""
        maximum = self.device.refcounts.maximum
        most = self.fast.most() if self.fast else max(self.expected[: self.clusters], default=0)
        if most <= maximum:
            return
        for cluster in range(self.clusters):
            for _ in range(max(0, self.expected[cluster] - maximum)):
                self.corrupt(
                    f"ERROR: overflow cluster offset={cluster << self.bits:#x}\n"
                    "Use qemu-img amend to increase the refcount entry width or qemu-img convert "
                    "to create a clean copy if the image cannot be opened for writing")
            self.expected[cluster] = min(self.expected[cluster], maximum)

    def corrupt(self, message: str) -> None:
        self.result.corruptions += 1
        self.report(message)

    def _count(self, offset: int, length: int) -> None:
        """Something refers to host bytes [offset, offset + length)."""
        if length == 0:
            return
        if offset + length - self.file.size >= self.cluster:
            self.corrupt("ERROR: counting reference for region exceeding the end of the file by "
                         f"one cluster or more: offset {offset:#x} size {length:#x}")
            return
        first, last = offset >> self.bits, (offset + length - 1) >> self.bits
        self.clusters = max(self.clusters, last + 1)
        for cluster in range(first, last + 1):
            self.expected[cluster] += 1

    def _count_snapshot(self, entry: SnapshotEntry) -> None:
        if entry.l1_table_offset % self.cluster:
            self.corrupt(f"ERROR snapshot {entry.id} ({entry.name}) l1_offset="
                         f"{entry.l1_table_offset:#x}: L1 table is not cluster aligned; snapshot "
                         "table entry corrupted")
        elif entry.l1_size * 8 > fmt.MAX_L1_BYTES:
            self.corrupt(f"ERROR snapshot {entry.id} ({entry.name}) l1_size="
                         f"{entry.l1_size:#x}: L1 table is too large; snapshot table entry "
                         "corrupted")
        else:
            l1 = from_disk(self.file.pread(entry.l1_table_offset, entry.l1_size * 8))
            self._count_l1(entry.l1_table_offset, l1, active=False)

    def _count_l1(self, l1_offset: int, l1: array[int], *, active: bool) -> None:
        self._count(l1_offset, len(l1) * 8)
        for entry in l1:
            if not entry:
                continue
            if entry & fmt.L1_RESERVED:
                self.corrupt(f"ERROR found L1 entry with reserved bits set: {entry:x}")
            offset = entry & fmt.OFFSET_MASK
            self._count(offset, self.cluster)
            if offset % self.cluster:
                self.corrupt(f"ERROR l2_offset={offset:x}: Table is not cluster aligned; L1 "
                             "entry corrupted")
            if offset < self.file.size:
                data = self.file.pread(offset, self.cluster)
                if not (self.fast and self.fast.count_l2(data, self.result, active=active)):
                    self._count_l2(from_disk(data), offset, active=active)

    def _count_l2(self, table: array[int], l2_offset: int, *, active: bool) -> None:
        words = self.device.map.words
        expected, clusters = self.expected, self.clusters
        mask, low, bits = fmt.OFFSET_MASK, self.cluster - 1, self.bits
        allocated = fragmented = following = cluster = 0
        next_word = -1
        for position in range(0, len(table), words):
            word = table[position]
            if word == next_word and cluster + 1 < clusters:  # most often a run goes on
                cluster += 1
                expected[cluster] += 1
                allocated += 1
                following += self.cluster
                next_word += self.cluster
                continue
            bitmap = table[position + 1] if words == 2 else 0
            if not word | bitmap:
                continue
            host = word & mask
            if word & fmt.COMPRESSED:
                self._count_compressed(word, position // words, bitmap, active=active)
                continue
            if word & fmt.L2_RESERVED:
                self.corrupt(f"ERROR found l2 entry with reserved bits set: {word:x}")
            if not host and not (self.external and word & fmt.COPIED):
                if bitmap & 0xFFFF_FFFF:
                    self.corrupt("ERROR: Unallocated cluster has non-zero subcluster allocation "
                                 "map")
                continue
            if bitmap >> 32 & bitmap:
                self.corrupt(f"ERROR offset={host:x}: Allocated cluster has corrupted subcluster "
                             "allocation bitmap")
            if host & low and self._misaligned(word, bitmap, l2_offset + position * 8):
                continue
            allocated += 1
            if following and host != following:
                fragmented += 1
            following = host + low + 1
            if self.external:
                continue
            cluster = host >> bits
            if cluster < clusters and not host & low:
                expected[cluster] += 1
                next_word = word + self.cluster if words == 1 else -1
            else:
                self._count(host, self.cluster)
        if active:
            self.result.allocated_clusters += allocated
            self.result.fragmented_clusters += fragmented

    def _misaligned(self, word: int, bitmap: int, entry_offset: int) -> bool:
        """Report an entry with an offset that can't be; whether it refers to nothing now."""
        host = word & fmt.OFFSET_MASK
        extended = self.device.map.extended
        holds_data = bool(bitmap & 0xFFFF_FFFF) if extended else not word & fmt.ZERO
        if holds_data:
            self.corrupt(f"ERROR offset={host:x}: Data cluster is not properly aligned; L2 entry "
                         "corrupted.")
            return False
        what = "Preallocated cluster is not properly aligned; L2 entry corrupted."
        if not self._fix_zeroes:
            self.corrupt(f"ERROR offset={host:x}: {what}")
            return False
        self.report(f"Repairing offset={host:x}: {what}")
        self.file.pwrite(entry_offset, (0 if extended else fmt.ZERO).to_bytes(8, "big"))
        self.device.map.cache.drop_clean()
        self.result.corruptions_fixed += 1
        return True

    def _count_compressed(self, word: int, index: int, bitmap: int, *, active: bool) -> None:
        if word & fmt.COPIED:
            word &= ~fmt.COPIED
            descriptor = word & (1 << 62 - (self.bits - 8)) - 1
            self.corrupt(f"ERROR: coffset=0x{descriptor:x}: copied flag must never be set for "
                         "compressed clusters")
        if self.external:
            self.corrupt(f"ERROR compressed cluster {index} with data file, entry=0x{word:x}")
            return
        if bitmap:
            self.corrupt(f"ERROR compressed cluster {index} with non-zero subcluster allocation "
                         f"bitmap, entry=0x{word:x}")
            return
        offset, length = compressed_extent(word & (fmt.COMPRESSED - 1), self.bits)
        self._count(offset, length)
        if active:
            self.result.allocated_clusters += 1
            self.result.compressed_clusters += 1
            self.result.fragmented_clusters += 1  # by nature

    def _count_bitmaps(self) -> None:
        bitmaps = self.device.bitmaps
        offset, size = bitmaps.directory
        self._count(offset, size)
        for bitmap in bitmaps.bitmaps:
            entry = bitmap.entry
            self._count(entry.table_offset, entry.table_size * 8)
            for word in bitmaps.table(bitmap):
                if word & fmt.OFFSET_MASK:
                    self._count(word & fmt.OFFSET_MASK, self.cluster)

    def _count_refcount_block(self, index: int, entry: int) -> None:
        offset = entry & fmt.REFTABLE_MASK
        cluster = offset >> self.bits
        if entry & fmt.REFTABLE_RESERVED:
            self.corrupt(f"ERROR refcount table entry {index} has reserved bits set")
        elif offset % self.cluster:
            self.corrupt(f"ERROR refcount block {index} is not cluster aligned; refcount table "
                         "entry corrupted")
        elif cluster >= self.clusters:
            self.corrupt(f"ERROR refcount block {index} is outside image")
        else:
            self._count(offset, self.cluster)
            if self.expected[cluster] == 1:
                return
            self.corrupt(f"ERROR refcount block {index} refcount={self.expected[cluster]}")
        self.rebuild = True
