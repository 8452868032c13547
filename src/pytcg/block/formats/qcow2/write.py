"""qcow2 writes: allocation with copy-on-write.

A request maps itself under the device's lock, moves data without it, and links new clusters
into the L2 tables under it again, so that requests overlap; two that allocate the same cluster
take turns.
"""

from __future__ import annotations

import errno

from pytcg.block.device import BlockError
from pytcg.block.formats.qcow2 import format as fmt
from pytcg.block.formats.qcow2.clear import Clearer
from pytcg.block.formats.qcow2.compress import compressed_extent
from pytcg.block.formats.qcow2.l2 import ALL_ALLOCATED, Kind, Run
from pytcg.typed import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pytcg.block.formats.qcow2.device import Qcow2Device

MAX_PENDING_BYTES = 8 << 20  # that much is flushed to be used again before the file grows


class Writer:
    """The half of a qcow2 device that changes it."""

    def __init__(self, device: Qcow2Device) -> None:
        self._device = device
        self._map = device.map
        self._refcounts = device.refcounts
        self._external = device.data_file is not device.file
        self._cluster = device.cluster_size
        self._bits = device.header.cluster_bits
        self._busy: list[tuple[int, int]] = []  # guest ranges being allocated
        self.packed_at = 0  # host offset where the next compressed cluster may go
        self._extends = device.file.has_zero_init  # beyond its end the file reads as zeroes
        self._metadata = self._find_metadata()
        self.clearer = Clearer(device, self)

    def _find_metadata(self) -> set[int]:
        """Host clusters of known tables: guest data must never be written there."""
        device, bits = self._device, self._bits
        header = device.header
        found = {0}
        found.update((entry & fmt.OFFSET_MASK) >> bits for entry in self._map.l1 if entry)
        tables = [(header.l1_table_offset, header.l1_size * 8)]
        if device.snapshots:
            from pytcg.block.formats.qcow2.snapshot_table import snapshots_length

            tables.append((header.snapshots_offset, snapshots_length(device.snapshots)))
        tables += ((entry.l1_table_offset, entry.l1_size * 8) for entry in device.snapshots)
        if device.overlap_check == "all":
            from pytcg.block.formats.qcow2.corrupt import inactive_tables

            tables += ((offset, self._cluster) for offset in inactive_tables(device))
        for offset, length in tables:
            found.update(range(offset >> bits, -(-(offset + length) // self._cluster)))
        return found

    def tables_changed(self) -> None:
        """Snapshots came or went: find out anew which clusters hold tables."""
        self._metadata = self._find_metadata()
        self.packed_at = 0  # the cluster being filled may have been a snapshot's alone

    # ---- allocation ----

    def prepare(self) -> None:
        device = self._device
        if device.read_only:
            raise BlockError(f"Block node '{device.filename}' is read-only", errno.EPERM)
        if device.lazy_refcounts:
            device.mark_dirty()
        if device.pending_frees << self._bits >= MAX_PENDING_BYTES:
            device.flush()

    def refuse_overlap(self, host: int, length: int) -> None:
        if self._device.overlap_check == "none" or not self._overlaps(host, length):
            return
        from pytcg.block.formats.qcow2.corrupt import overlapped

        name = overlapped(self._device, host >> self._bits, (host + length - 1) >> self._bits)
        raise self._device.corrupted(
            f"Preventing invalid write on metadata (overlaps with {name})")

    def _overlaps(self, host: int, length: int) -> bool:
        """Whether tables lie there."""
        clusters = range(host >> self._bits, (host + length - 1 >> self._bits) + 1)
        return not (self._metadata.isdisjoint(clusters)
                    and self._refcounts.own.isdisjoint(clusters))

    def in_place(self, run: Run) -> bool:
        """Whether a run can be written over, with nothing else to be done before; lock held."""
        device = self._device
        ready = device.is_dirty or not device.lazy_refcounts
        return (ready and run.kind == Kind.DATA and run.copied and not device.has_bitmaps
                and (self._external or not self._overlaps(run.host, run.length)))

    def allocate_metadata(self, clusters: int, what: str = "L2 table") -> int:
        """Host offset of new clusters for a table."""
        offset = self._refcounts.allocate(clusters)
        self.refuse_start(offset, what)
        self.refuse_overlap(offset, clusters << self._bits)
        if self._device.lazy_refcounts:
            self._refcounts.write_back()  # tables are always counted
        self._metadata.update(range(offset >> self._bits, (offset >> self._bits) + clusters))
        return offset

    def refuse_start(self, host: int, what: str) -> None:
        if host == 0:
            raise self._device.corrupted(f"Preventing invalid allocation of {what} at offset 0")

    def free_metadata(self, offset: int, clusters: int) -> None:
        """A table's clusters are no longer used (once the disk says so)."""
        first = offset >> self._bits
        self._metadata.difference_update(range(first, first + clusters))
        self._device.free_later(first, clusters)

    def allocate_data(self, guest: int, clusters: int, follow: int = 0) -> tuple[int, int]:
        """(host offset, clusters) for guest data: at ``follow`` as far as those are free."""
        if self._external:
            return guest, clusters
        got = self._refcounts.allocate_at(follow, clusters) if follow else 0
        host = follow if got else self._refcounts.allocate(clusters)
        self.refuse_overlap(host, (got or clusters) << self._bits)
        return host, got or clusters

    def wait_for(self, start: int, end: int) -> bool:
        """Wait (holding the lock) until nobody allocates in the range; True if it had to."""
        waited = False
        while any(low < end and start < high for low, high in self._busy):
            self._device.lock.wait()
            waited = True
        return waited

    def drop_word(self, word: int) -> None:
        """An L2 entry went away: count down what it pointed at, later."""
        if word & fmt.COMPRESSED:
            offset, length = compressed_extent(word & (fmt.COMPRESSED - 1), self._bits)
            first = offset >> self._bits
            last = (offset + length - 1) >> self._bits
            self._device.free_later(first, last - first + 1)
            self.packed_at = 0  # the cluster being filled may be this one
        elif word & fmt.OFFSET_MASK & (self._cluster - 1):
            self._device.corrupted(f"Cannot free unaligned cluster {word & fmt.OFFSET_MASK:#x}",
                                   fatal=False)
        elif word & fmt.OFFSET_MASK and not self._external:
            self._device.free_later((word & fmt.OFFSET_MASK) >> self._bits, 1)

    # ---- data ----

    def write(self, offset: int, data: memoryview) -> None:
        """Store guest data."""
        if self._device.has_bitmaps:
            self._device.bitmaps.mark_dirty(offset, len(data))
        self.store(offset, data)

    def store(self, offset: int, data: memoryview) -> None:
        """Store guest data whose range is dirty in the bitmaps already."""
        follow = 0
        while data:
            done, follow = self._write_some(offset, data, follow)
            offset += done
            data = data[done:]

    def _write_some(self, offset: int, data: memoryview, follow: int) -> tuple[int, int]:
        """Write some bytes, to new clusters at host offset ``follow`` if they are free.

        Returns how many, and the host offset behind them.
        """
        device = self._device
        with device.lock:
            self.prepare()
            plan = self._plan(offset, len(data), follow)
            token = device.begin()
        length = min(len(data), plan.end - offset)
        try:
            if plan.in_place:
                device.file.debug_event("write_aio")
                device.data_file.pwrite(plan.host, data[:length])
            else:
                self._fill(plan, offset, data[:length])
        finally:
            device.end(token)
            if not plan.in_place:
                with device.lock:
                    self._busy.remove((plan.start, plan.end))
                    device.lock.notify_all()
        return length, plan.host + plan.end - plan.start

    def _plan(self, offset: int, length: int, follow: int) -> _Plan:
        """Where the next bytes go; a range to allocate is claimed in ``_busy``."""
        start = offset & -self._cluster
        while True:
            self._map.writing = offset
            run = self._map.lookup(offset, length)
            self._map.writing = None
            if run.kind is Kind.DATA and run.copied and (
                    run.length == length or not self._map.own_beyond(offset, length, run)):
                if not self._external:
                    self.refuse_overlap(run.host, run.length)
                return _Plan(True, offset, offset + run.length, run.host)
            count, host = self._map.needs_allocation(offset, length)
            end = start + count * self._cluster
            if not self.wait_for(start, end):
                break
        fresh, blank = host < 0, False
        if fresh:
            self._map.writable(start)  # its table comes before it in the file, as in QEMU's
            unused = self._refcounts.never_used << self._bits
            host, count = self.allocate_data(start, count, follow)
            end = start + count * self._cluster
            blank = self._extends and not self._external and host >= unused
        elif not self._external:
            self.refuse_overlap(host, end - start)
        self._busy.append((start, end))
        return _Plan(False, start, end, host, fresh, blank)

    def _fill(self, plan: _Plan, offset: int, data: memoryview) -> None:
        """Write data and what surrounds it into the plan's clusters, then link them."""
        device, stop = self._device, offset + len(data)
        low, high = self._copy_bounds(plan, offset, stop)
        try:
            head = self._surroundings(low, offset, blank=plan.blank)
            tail = self._surroundings(stop, high, blank=plan.blank)
            base = plan.host - plan.start
            if plan.blank and high - low > len(head) + len(data) + len(tail):
                device.file.debug_event("cluster_alloc_space")
                # Reserve what stays unwritten: a hole would cost a fragmented file later.
                device.file.write_zeroes(base + low, high - low, may_unmap=False)
            whole = b"".join((head, data, tail)) if head or tail else data
            device.file.debug_event("write_aio")
            device.data_file.pwrite(base + offset - len(head), whole)
        except BaseException:
            if plan.fresh and not self._external:
                with device.lock:
                    device.free_later(plan.host >> self._bits,
                                      (plan.end - plan.start) >> self._bits)
            raise
        with device.lock:
            self._link(plan, low, high)

    def _copy_bounds(self, plan: _Plan, offset: int, stop: int) -> tuple[int, int]:
        """The range that must hold data afterwards: whole subclusters at least.

        A cluster that moves takes its allocated subclusters along. One that stays and holds data
        is left to others around this request's.
        """
        bits = self._map.sub_bits
        low, high = offset >> bits << bits, min(-(-stop >> bits) << bits, plan.end)
        if not (self._map.extended or plan.fresh):
            with self._device.lock:
                if not self._map.word(low) & fmt.ZERO:
                    low = offset
                if not self._map.word(high - self._cluster) & fmt.ZERO:
                    high = stop
        elif self._map.extended and plan.fresh:
            with self._device.lock:
                first, last = plan.start, plan.end - self._cluster
                held = self._held_subclusters(first)
                if held:
                    low = min(low, first + (((held & -held).bit_length() - 1) << bits))
                held = self._held_subclusters(last)
                high = max(high, last + (held.bit_length() << bits))
        return low, high

    def _held_subclusters(self, cluster: int) -> int:
        """Those of a cluster with data in a host cluster (or all, packed), as bits."""
        word = self._map.word(cluster)
        if word & fmt.COMPRESSED:
            return ALL_ALLOCATED
        return self._map.bitmap(cluster) & ALL_ALLOCATED if word & fmt.OFFSET_MASK else 0

    def _surroundings(self, start: int, end: int, *, blank: bool) -> bytes:
        """Old guest content of a range; empty if it is zero and ``blank`` space holds zero."""
        if start >= end:
            return b""
        device = self._device
        vm_state = start >= device.vm_state_offset
        stop = end if vm_state else min(end, device.size)
        if blank and not vm_state and (start >= stop or self.reads_zero(start, stop)):
            return b""
        old = bytearray(end - start)
        if stop > start:
            device.file.debug_event("cow_read")
            device.read_range(start, memoryview(old)[: stop - start])
        return bytes(old)

    def reads_zero(self, start: int, end: int) -> bool:
        """Whether the range surely reads as zeroes, going by the map."""
        while start < end:
            extent = self._device.status_at(start, end - start)
            if not extent.zero:
                return False
            start += extent.length
        return True

    def _link(self, plan: _Plan, low: int, high: int) -> None:
        """Point the plan's L2 entries at its clusters; [low, high) holds data."""
        count = (plan.end - plan.start) >> self._bits
        words = [plan.host + index * self._cluster | fmt.COPIED for index in range(count)]
        old = self._map.set_words(plan.start, words)
        for word, new in zip(old, words, strict=True):
            if word and (word ^ new) & ~(fmt.COPIED | fmt.ZERO):
                self.drop_word(word)
        if self._map.extended:
            for index in range(count):
                self._mark_data(plan.start + index * self._cluster, low, high, old[index])

    def _mark_data(self, cluster: int, low: int, high: int, old: int) -> None:
        """In one extended entry: the subclusters within [low, high) hold data now."""
        first = max(0, low - cluster) >> self._map.sub_bits
        last = min(self._cluster, high - cluster) >> self._map.sub_bits
        mask = (1 << last) - (1 << first)
        bitmap = 0 if old & fmt.COMPRESSED else self._map.bitmap(cluster)
        self._map.set_bitmap(cluster, (bitmap | mask) & ~(mask << 32))


class _Plan(NamedTuple):
    """What one step of a write does: in place, or into clusters [start, end) at ``host``."""

    in_place: bool
    start: int
    end: int
    host: int
    fresh: bool = False  # the host clusters are new
    blank: bool = False  # and read as zeroes
