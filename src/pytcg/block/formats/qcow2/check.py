"""qcow2 consistency check and repair: count all references, compare with the refcounts."""

from __future__ import annotations

import errno
import os

from pytcg.block.check_result import CheckError, CheckResult
from pytcg.block.device import BlockError
from pytcg.block.formats.qcow2 import format as fmt
from pytcg.block.formats.qcow2.cache import from_disk, to_disk
from pytcg.block.formats.qcow2.check_count import ReferenceCounter, Report
from pytcg.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from pytcg.block.formats.qcow2.device import Qcow2Device


def check_image(device: Qcow2Device, *, repair: str | None = None,
                report: Report = lambda line: None) -> CheckResult:
    """Check; with ``repair`` "leaks" or "all" mend what is wrong. ``report`` gets a line each."""
    with device.lock:
        device.flush()
        checker = _Checker(device, repair, report)
        checker.run()
        return checker.result


def repair_dirty(device: Qcow2Device) -> None:
    """What opening an image for writing does that was not closed properly."""
    import sys

    result = check_image(device, repair="all", report=lambda line: print(line, file=sys.stderr))
    if result.check_errors:
        raise BlockError(f"Could not repair dirty image: {os.strerror(errno.EIO)}", errno.EIO)


class _Checker(ReferenceCounter):
    """One pass over an image."""

    def __init__(self, device: Qcow2Device, repair: str | None, report: Report) -> None:
        super().__init__(device, repair, report)
        self.mismatches = False

    def run(self) -> None:
        device = self.device
        self.result.total_clusters = -(-device.size // self.cluster)
        incomplete = self._read_snapshots() + self._check_snapshot_table()
        self.count_all(fix=self.fix_all)
        device.refcounts.on_corrupt = self._bad_table
        try:
            if not self._settle_refcounts():
                return
            self._check_copied()
        finally:
            device.refcounts.on_corrupt = device.corrupted
        if incomplete and self.fix_all:
            from pytcg.block.formats.qcow2.snapshot import store_table

            store_table(device, device.snapshots)
            self.result.corruptions_fixed += incomplete
        else:
            self.result.corruptions += incomplete
        clean = not self.result.check_errors and not self.result.corruptions
        if self.fix_leaks and clean:
            self._clear_marks()

    def _read_snapshots(self) -> int:
        """Take the table from the disk: how many entries must be written anew."""
        device = self.device
        if not device.header.nb_snapshots:
            return 0
        from pytcg.block.formats.qcow2.snapshot_table import TableRepair, reread

        repair = TableRepair(self.report) if self.fix_all else None
        try:
            device.snapshots = reread(device.file, device.header, repair)
        except BlockError as error:
            raise CheckError(str(error), error.errno) from None
        if repair is None:
            return 0
        if repair.entries:  # what they held is a leak now
            device.update_header(nb_snapshots=len(device.snapshots))
            self.result.corruptions_fixed += repair.entries
        return repair.trimmed

    def _check_snapshot_table(self) -> int:
        """How many entries lack what version 3 asks for; they are counted by the caller."""
        if self.device.header.version < 3:
            return 0
        found = [index for index, entry in enumerate(self.device.snapshots)
                 if entry.extra_size < 16]
        for index in found:
            verb = "Repairing" if self.fix_all else "ERROR"
            self.report(f"{verb} snapshot table entry {index} is incomplete")
        return len(found)

    def _bad_table(self, message: str) -> BlockError:
        """Announce it, but go on: here is where it may be mended."""
        device = self.device
        before = device.read_only
        error = device.corrupted(message)
        device.read_only = before
        device.show_size(device.header.size)
        return error

    # ---- refcounts ----

    def _settle_refcounts(self) -> bool:
        """Compare, and mend what may be; False if the check ends here."""
        before = self.result.copy()
        self._compare(fix_leaks=False, fix_all=False)
        if self.rebuild and self.fix_all:
            self._rebuild()
        elif self.rebuild and self.fix_leaks:
            self.report("ERROR need to rebuild refcount structures")
            self.result.check_errors += 1
            return False
        elif self.fix_leaks and (self.result.leaks or self.result.corruptions):
            self.result = before
            self._compare(fix_leaks=True, fix_all=self.fix_all)
        return True

    def _compare(self, *, fix_leaks: bool, fix_all: bool) -> None:
        highest = 0
        step = 1 << 12
        for cluster in range(0, self.clusters, step):
            stop = min(self.clusters, cluster + step)
            if self.fast and not self.rebuild and self.fast.same(cluster, stop):
                highest = max(highest, self.fast.last_used(cluster, stop))
                continue
            expected = self.expected[cluster:stop].tolist()
            actual = self._refcounts(cluster, stop)
            if actual != expected:
                self.mismatches = True
                for index in range(stop - cluster):
                    count = actual[index]
                    if count is not None and count != expected[index]:
                        self._mismatch(cluster + index, count, expected[index],
                                       fix_leaks=fix_leaks, fix_all=fix_all)
            used = (index for index in range(stop - cluster - 1, -1, -1)
                    if actual[index] or (expected[index] and actual[index] is not None))
            highest = max(highest, cluster + next(used, -cluster))
        self.result.image_end_offset = (highest + 1) << self.bits

    def _refcounts(self, cluster: int, stop: int) -> list[int | None]:
        """Refcounts on disk; None where there is no telling."""
        refcounts = self.device.refcounts
        found: list[int | None] = []
        try:
            found.extend(refcounts.read_run(cluster, stop - cluster))
        except BlockError:
            found.clear()
            for each in range(cluster, stop):
                try:
                    found.append(refcounts.get(each))
                except BlockError as error:
                    self.report(f"Can't get refcount for cluster {each}: {error}")
                    self.result.check_errors += 1
                    found.append(None)
        return found

    def _mismatch(self, cluster: int, actual: int, expected: int, *, fix_leaks: bool,
                  fix_all: bool) -> None:
        leak = actual > expected
        fixing = fix_leaks if leak else fix_all
        if actual == 0:
            self.rebuild = True
            fixing = False
        verb = "Repairing" if fixing else ("Leaked" if leak else "ERROR")
        self.report(f"{verb} cluster {cluster} refcount={actual} reference={expected}")
        if fixing:
            self.device.refcounts.set(cluster, expected)
        if leak:
            self.result.leaks_fixed += fixing
            self.result.leaks += not fixing
        else:
            self.result.corruptions_fixed += fixing
            self.result.corruptions += not fixing

    def _rebuild(self) -> None:
        """Write a new refcount structure, count anew, and free the old one."""
        from pytcg.block.formats.qcow2.rebuild import rebuild_refcounts

        self.report("Rebuilding refcount structure")
        before = self.result
        rebuild_refcounts(self)
        self.result = after = before.copy()
        after.corruptions = after.leaks = 0
        after.allocated_clusters = after.fragmented_clusters = after.compressed_clusters = 0
        self.rebuild = False
        self.start_over()
        self.count_all(fix=False)
        self.result = CheckResult()
        self._compare(fix_leaks=True, fix_all=False)
        if self.rebuild:
            self.report("ERROR rebuilt refcount structure is still broken")
        fresh, self.result = self.result, after
        after.image_end_offset = fresh.image_end_offset
        after.corruptions_fixed += max(0, before.corruptions - after.corruptions)
        after.leaks_fixed += max(0, before.leaks - after.leaks)
        after.leaks += fresh.leaks

    # ---- COPIED flags ----

    def _check_copied(self) -> None:
        result = self.result
        self._fix_copied = self.fix_all or (self.fix_leaks and not (
            result.check_errors or result.corruptions or result.leaks))
        cluster_map = self.device.map
        for index, entry in enumerate(cluster_map.l1):
            offset = entry & fmt.OFFSET_MASK
            if not offset or offset >= self.file.size:
                continue
            refcount = self._refcount_or_none(offset)
            if refcount is None:
                continue
            if (refcount == 1) != bool(entry & fmt.COPIED):
                fixed = self._copied_error(f"OFLAG_COPIED L2 cluster: l1_index={index} "
                                           f"l1_entry={entry:x} refcount={refcount}")
                if fixed:
                    cluster_map.l1[index] = entry ^ fmt.COPIED
                    cluster_map.dirty_l1.add(index)
            self._check_copied_l2(offset)
        if self._fix_copied:
            self.device.flush()

    def _refcount_or_none(self, offset: int) -> int | None:
        try:
            return self.device.refcounts.get(offset >> self.bits)
        except BlockError:
            return None

    def _check_copied_l2(self, offset: int) -> None:
        data = self.file.pread(offset, self.cluster)
        if self.fast and not self.mismatches and self.fast.copied_right(data):
            return
        table = from_disk(data)
        trusted, expected = not self.mismatches, self.expected
        mask, bits, clusters = fmt.OFFSET_MASK, self.bits, self.clusters
        changed = False
        next_word, cluster = -1, 0
        for position in range(0, len(table), self.device.map.words):
            word = table[position]
            if word == next_word and cluster + 1 < clusters and expected[cluster + 1] == 1:
                cluster += 1  # most often a run goes on
                next_word += self.cluster
                continue
            host = word & mask
            if not host or word & fmt.COMPRESSED:
                continue
            refcount: int | None = 1
            if trusted and not self.external:  # what was counted is on disk, and sooner got
                refcount = expected[host >> bits] if host >> bits < clusters else 0
            elif not self.external:
                refcount = self._refcount_or_none(host)
            if refcount is None or (refcount == 1) == (word >= fmt.COPIED):
                if refcount == 1 and trusted and not self.external:
                    next_word, cluster = word + self.cluster, host >> bits
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
        if self._fix_copied:
            self.report(f"Repairing {message}")
            self.result.corruptions_fixed += 1
        else:
            self.corrupt(f"ERROR {message}")
        return self._fix_copied

    def _clear_marks(self) -> None:
        device = self.device
        device.flush()
        device.refcounts.write_back()
        device.file.flush()
        marks = fmt.Incompatible.DIRTY | fmt.Incompatible.CORRUPT
        if device.header.incompatible & marks:
            device.update_header(incompatible=device.header.incompatible & ~marks)
