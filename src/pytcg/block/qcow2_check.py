"""qcow2 consistency check and repair: count all references, compare with the refcounts."""

from __future__ import annotations

import errno
import mmap
from array import array
from collections.abc import Callable

from pytcg.typed import TYPE_CHECKING

from . import qcow2_format as fmt
from .check_result import CheckResult
from .device import BlockError
from .qcow2_cache import from_disk, to_disk
from .qcow2_compress import compressed_extent

if TYPE_CHECKING:
    from .qcow2 import Qcow2Device
    from .qcow2_check_fast import FastChecks

FAST_FROM = 1 << 16  # clusters from which numpy is worth its import
MAX_CLUSTERS = 1 << 30  # four bytes of (lazily committed) memory each
Report = Callable[[str], None]


def check_image(device: Qcow2Device, *, repair: str | None = None,
                report: Report = lambda line: None) -> CheckResult:
    """Check; with ``repair`` "leaks" or "all" mend what is wrong. ``report`` gets a line each."""
    with device.lock:
        device.flush()
        checker = _Checker(device, repair, report)
        checker.run()
        return checker.result


class _Checker:
    """One pass over an image."""

    def __init__(self, device: Qcow2Device, repair: str | None, report: Report) -> None:
        self.device = device
        self.file = device.file
        self.bits = device.header.cluster_bits
        self.cluster = device.cluster_size
        self.result = CheckResult()
        self.fix_leaks = repair in ("leaks", "all")
        self.fix_all = repair == "all"
        self.report = report
        self.rebuild = False
        self.structure: list[int] = []  # clusters counted for the refcount structure itself
        self.clusters = -(-self.file.size // self.cluster)
        if self.clusters > MAX_CLUSTERS:
            raise BlockError("The image file is too large to be checked", errno.EFBIG)
        memory = mmap.mmap(-1, max(4, self.clusters * 4))
        self.expected = memoryview(memory).cast("I")
        self.fast: FastChecks | None = None
        if self.clusters > FAST_FROM:
            from .qcow2_check_fast import FastChecks

            self.fast = FastChecks(self.expected, device)
        self.mismatches = False

    def run(self) -> None:
        device = self.device
        header = device.header
        self.result.total_clusters = -(-device.size // self.cluster)
        self._count(0, self.cluster)
        self._count_l1(device.map.l1_offset, device.map.l1, active=True)
        for entry in device.snapshots:
            self._count_snapshot(entry)
        if header.nb_snapshots:
            self._count(header.snapshots_offset, len(fmt.pack_snapshots(device.snapshots)))
        if device.has_bitmaps:
            self._count_bitmaps()
        self._count_refcount_structures()
        try:
            self._compare()
            if self.rebuild and self.fix_all:
                self._rebuild()
            self._check_copied()
        except BlockError as error:  # e.g. a refcount block that can't be found
            self.result.check_errors += 1
            self.report(f"ERROR {error}")
        if self.fix_all and not self.result.check_errors:
            self._clear_marks()

    # ---- counting ----

    def _corrupt(self, message: str) -> None:
        self.result.corruptions += 1
        self.report(message)

    def _count(self, offset: int, length: int) -> None:
        """Something refers to host bytes [offset, offset + length)."""
        if length == 0:
            return
        first, last = offset >> self.bits, (offset + length - 1) >> self.bits
        if last >= self.clusters:
            self._corrupt("ERROR: counting reference for region exceeding the end of the file by "
                          f"one cluster or more: offset {offset:#x} size {length:#x}")
            return
        for cluster in range(first, last + 1):
            self.expected[cluster] += 1

    def _count_snapshot(self, entry: fmt.SnapshotEntry) -> None:
        if entry.l1_table_offset % self.cluster:
            self._corrupt(f"ERROR snapshot {entry.id} ({entry.name}) l1_offset="
                          f"{entry.l1_table_offset:#x}: L1 table is not cluster aligned; snapshot "
                          "table entry corrupted")
        elif entry.l1_size * 8 > fmt.MAX_L1_BYTES:
            self._corrupt(f"ERROR snapshot {entry.id} ({entry.name}) l1_size="
                          f"{entry.l1_size:#x}: L1 table is too large; snapshot table entry "
                          "corrupted")
        else:
            l1 = from_disk(self.file.pread(entry.l1_table_offset, entry.l1_size * 8))
            self._count_l1(entry.l1_table_offset, l1, active=False)

    def _count_l1(self, l1_offset: int, l1: array[int], *, active: bool) -> None:
        self._count(l1_offset, len(l1) * 8)
        for index, entry in enumerate(l1):
            if not entry:
                continue
            if entry & fmt.L1_RESERVED:
                self._corrupt(f"ERROR found L1 entry with reserved bits set: {entry:x}")
            offset = entry & fmt.OFFSET_MASK
            self._count(offset, self.cluster)
            if offset % self.cluster:
                self._corrupt(f"ERROR l2_offset={offset:#x}: Table is not cluster aligned; L1 "
                              f"entry corrupted (L1 index {index})")
            elif offset + self.cluster <= self.clusters << self.bits:
                data = self.file.pread(offset, self.cluster)
                if not (self.fast and self.fast.count_l2(data, self.result, active=active)):
                    self._count_l2(from_disk(data), offset, active=active)

    def _count_l2(self, table: array[int], l2_offset: int, *, active: bool) -> None:
        words = self.device.map.words
        external = self.device.data_file is not self.file
        expected, clusters = self.expected, self.clusters
        mask, low, bits = fmt.OFFSET_MASK, self.cluster - 1, self.bits
        allocated = fragmented = following = 0
        for position in range(0, len(table), words):
            word = table[position]
            host = word & mask
            if word & fmt.COMPRESSED:
                self._count_compressed(word, active=active)
                continue
            if not host and not (external and word & fmt.COPIED):
                continue
            if words == 2 and table[position + 1] >> 32 & table[position + 1]:
                self._corrupt(f"ERROR offset={host:x}: Allocated cluster has corrupted subcluster "
                              "allocation bitmap")
            if host & low:
                self._misaligned(word, host, l2_offset + position * 8)
                continue
            allocated += 1
            if following and host != following:
                fragmented += 1
            following = host + low + 1
            if external:
                continue
            cluster = host >> bits
            if cluster < clusters:
                expected[cluster] += 1
            else:
                self._count(host, self.cluster)
        if active:
            self.result.allocated_clusters += allocated
            self.result.fragmented_clusters += fragmented

    def _misaligned(self, word: int, host: int, entry_offset: int) -> None:
        what = "Preallocated cluster" if word & fmt.ZERO else "Data cluster"
        if self.fix_all and word & fmt.ZERO:
            self.report(f"Repairing offset={host:x}: {what} is not properly aligned; L2 entry "
                        "corrupted.")
            self.file.pwrite(entry_offset, fmt.ZERO.to_bytes(8, "big"))
            self.device.map.cache.drop_clean()
            self.result.corruptions_fixed += 1
            return
        self._corrupt(f"ERROR offset={host:x}: {what} is not properly aligned; L2 entry "
                      "corrupted.")

    def _count_compressed(self, word: int, *, active: bool) -> None:
        if word & fmt.COPIED:
            self._corrupt(f"ERROR: coffset={word & fmt.OFFSET_MASK:#x}: copied flag must never be "
                          "set for compressed clusters")
        if self.device.data_file is not self.file:
            self._corrupt("ERROR compressed cluster in an image with an external data file")
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

    def _count_refcount_structures(self) -> None:
        refcounts = self.device.refcounts
        first = refcounts.table_offset >> self.bits
        last = first + (len(refcounts.table) * 8 >> self.bits)
        self._count(refcounts.table_offset, len(refcounts.table) * 8)
        if last <= self.clusters:
            self.structure += range(first, last)
        for index, entry in enumerate(refcounts.table):
            offset = entry & fmt.REFTABLE_MASK
            if not entry:
                continue
            if entry & fmt.REFTABLE_RESERVED:
                self._corrupt(f"ERROR refcount table entry {index} has reserved bits set")
            if offset % self.cluster:
                self._corrupt(f"ERROR refcount block {index} is not cluster aligned; refcount "
                              "table entry corrupted")
                self.rebuild = True
            elif offset >> self.bits >= self.clusters:
                self._corrupt(f"ERROR refcount block {index} is outside image")
                self.rebuild = True
            else:
                self.expected[offset >> self.bits] += 1
                self.structure.append(offset >> self.bits)
                if self.expected[offset >> self.bits] != 1:
                    self._corrupt(f"ERROR refcount block {index} refcount="
                                  f"{self.expected[offset >> self.bits]}")
                    self.rebuild = True

    # ---- comparing ----

    def _compare(self) -> None:
        refcounts = self.device.refcounts
        highest = -1
        cluster = 0
        step = 1 << 12
        while cluster < self.clusters:
            stop = min(self.clusters, cluster + step)
            if self.fast and not self.rebuild and self.fast.same(cluster, stop):
                last = self.fast.last_used(cluster, stop)
                highest = last if last >= 0 else highest
                cluster = stop
                continue
            expected = self.expected[cluster:stop].tolist()
            if self.rebuild and self.fix_all:  # all counts will be written anew
                actual = expected
            else:
                actual = refcounts.read_run(cluster, stop - cluster)
            if actual != expected:
                self.mismatches = True
                for index in range(stop - cluster):
                    if actual[index] != expected[index]:
                        self._mismatch(cluster + index, actual[index], expected[index])
            for index in range(stop - cluster - 1, -1, -1):
                if actual[index] or expected[index]:
                    highest = cluster + index
                    break
            cluster = stop
        self.result.image_end_offset = (highest + 1) << self.bits

    def _mismatch(self, cluster: int, actual: int, expected: int) -> None:
        leak = actual > expected
        fixing = self.fix_leaks if leak else self.fix_all
        missing = not self.device.refcounts.has_block(cluster)
        if missing and fixing:
            self.rebuild = True
        verb = "Repairing" if fixing else ("Leaked" if leak else "ERROR")
        self.report(f"{verb} cluster {cluster} refcount={actual} reference={expected}")
        if fixing and not missing:
            if expected > self.device.refcounts.maximum:
                self.result.check_errors += 1
                return
            self.device.refcounts.set(cluster, expected)
            if leak:
                self.result.leaks_fixed += 1
            else:
                self.result.corruptions_fixed += 1
        elif fixing:
            self.result.corruptions_fixed += 1
        elif leak:
            self.result.leaks += 1
        else:
            self.result.corruptions += 1

    # ---- COPIED flags ----

    def _check_copied(self) -> None:
        cluster_map = self.device.map
        for index, entry in enumerate(cluster_map.l1):
            offset = entry & fmt.OFFSET_MASK
            if not offset or offset % self.cluster or offset >> self.bits >= self.clusters:
                continue
            refcount = self.device.refcounts.get(offset >> self.bits)
            if (refcount == 1) != bool(entry & fmt.COPIED):
                fixed = self._copied_error(f"OFLAG_COPIED L2 cluster: l1_index={index} "
                                           f"l1_entry={entry:x} refcount={refcount}")
                if fixed:
                    cluster_map.l1[index] = entry ^ fmt.COPIED
                    cluster_map.dirty_l1.add(index)
            self._check_copied_l2(offset)
        if self.fix_all:
            self.device.flush()

    def _check_copied_l2(self, offset: int) -> None:
        data = self.file.pread(offset, self.cluster)
        if self.fast and not self.mismatches and self.fast.copied_right(data):
            return
        if self.device.data_file is not self.file:
            return
        table = from_disk(data)
        # Without mismatches the refcounts are what was counted, and that is sooner looked up.
        count = self.device.refcounts.get if self.mismatches else self.expected.__getitem__
        mask, low, bits = fmt.OFFSET_MASK, self.cluster - 1, self.bits
        changed = False
        for position in range(0, len(table), self.device.map.words):
            word = table[position]
            host = word & mask
            if not host or word & fmt.COMPRESSED or host & low:
                continue
            refcount = count(host >> bits) if host >> bits < self.clusters else 0
            if (refcount == 1) == (word >= fmt.COPIED):
                continue
            if self._copied_error(f"OFLAG_COPIED data cluster: l2_entry={word:x} "
                                  f"refcount={refcount}"):
                table[position] = word ^ fmt.COPIED
                changed = True
        if changed:
            self.file.pwrite(offset, to_disk(table))
            self.device.map.cache.drop_clean()

    def _copied_error(self, message: str) -> bool:
        """Count it, as fixed or not; whether to fix."""
        if self.fix_all:
            self.report(f"Repairing {message}")
            self.result.corruptions_fixed += 1
        else:
            self._corrupt(f"ERROR {message}")
        return self.fix_all

    # ---- mending ----

    def _rebuild(self) -> None:
        """Write a whole new refcount structure behind the image and switch to it."""
        self.report("Rebuilding refcount structure")
        device, refcounts = self.device, self.device.refcounts
        for cluster in self.structure:
            self.expected[cluster] -= 1
        offset, table = refcounts.build(self.expected, self.clusters)
        self.file.flush()
        device.update_header(refcount_table_offset=offset,
                             refcount_table_clusters=len(table) * 8 >> self.bits)
        refcounts.replace_table(offset, table)
        self.result.corruptions_fixed += self.result.corruptions
        self.result.corruptions = 0
        self.rebuild = False

    def _clear_marks(self) -> None:
        device = self.device
        device.flush()
        device.refcounts.write_back()
        device.file.flush()
        marks = fmt.Incompatible.DIRTY | fmt.Incompatible.CORRUPT
        if device.header.incompatible & marks and not self.result.corruptions:
            device.update_header(incompatible=device.header.incompatible & ~marks)
