"""qcow2: making ranges read as zeroes, and discarding them, through the L2 tables."""

from __future__ import annotations

from collections.abc import Callable

from pytcg.block.formats.qcow2 import format as fmt
from pytcg.block.formats.qcow2.l2 import ALL_ZEROES, Kind
from pytcg.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from pytcg.block.formats.qcow2.device import Qcow2Device
    from pytcg.block.formats.qcow2.write import Writer


MAX_BOUNCE = 16 << 20


class Clearer:
    """The part of a qcow2 device's writing half that stores no data."""

    def __init__(self, device: Qcow2Device, writer: Writer) -> None:
        self._device = device
        self._writer = writer
        self._map = device.map
        self._external = device.data_file is not device.file
        self._cluster = device.cluster_size
        self._bits = device.header.cluster_bits

    def write_zeroes(self, offset: int, length: int, *, may_unmap: bool) -> None:
        """Make a range read as zeroes, by zero clusters where whole (sub)clusters are meant."""
        if self._device.has_bitmaps:
            self._device.bitmaps.mark_dirty(offset, length)
        end = offset + length
        sub = 1 << self._map.sub_bits
        start, stop = -(-offset // sub) * sub, end & -sub
        if start > stop and end < self._device.size:  # within one subcluster
            self._zero_part(offset, end, may_unmap)
            return
        if offset < start:
            self._zero_part(offset, min(start, end), may_unmap)
        self._zero_aligned(start, stop, may_unmap)
        if max(start, stop) == end:
            return
        if end == self._device.size and start <= stop:
            self._zero_slice(stop, end, may_unmap)
        elif start <= stop:
            self._zero_part(stop, end, may_unmap)

    def _zero_aligned(self, start: int, stop: int, may_unmap: bool) -> None:
        """Zero whole subclusters; a compressed cluster among them makes it a write of zeroes."""
        while start < stop:
            end = stop
            if self._map.extended and (self._is_compressed(start) or self._is_compressed(stop)):
                end = min(stop, start + MAX_BOUNCE)
                self._write_plain_zeroes(start, end)
            else:
                self._each_slice(start, end, lambda a, b: self._zero_slice(a, b, may_unmap))
            start = end

    def _is_compressed(self, edge: int) -> bool:
        """Whether a cluster that only a part of is meant is a compressed one."""
        return bool(edge % self._cluster and self._map.word(edge) & fmt.COMPRESSED)

    def _zero_part(self, start: int, end: int, may_unmap: bool) -> None:
        """Zero less than a subcluster; if the rest of it is zero too, then as a whole."""
        sub = 1 << self._map.sub_bits
        low, high = start & -sub, -(-end // sub) * sub
        bound = min(high, self._device.size)
        with self._device.lock:  # until it is done: the rest could be written to meanwhile
            while self._writer.wait_for(low, high):
                pass
            run = self._map.lookup(start, 1)
            if (run.kind not in (Kind.DATA, Kind.COMPRESSED)
                    and self._writer.reads_zero(low, start)
                    and self._writer.reads_zero(end, bound)):
                self._zero_slice(low, high, may_unmap)
                return
        self._write_plain_zeroes(start, end)

    def _write_plain_zeroes(self, start: int, end: int) -> None:
        zeroes = memoryview(bytes(min(end - start, MAX_BOUNCE)))
        while start < end:
            done = min(end - start, MAX_BOUNCE)
            self._writer.store(start, zeroes[:done])
            start += done

    def _each_slice(self, start: int, end: int, act: Callable[[int, int], None]) -> None:
        """Call ``act(low, high)`` for the parts of a range that lie in one L2 slice each."""
        span = self._map.slice_entries << self._bits
        while start < end:
            stop = min(end, (start // span + 1) * span)
            act(start, stop)
            start = stop

    def _zero_slice(self, start: int, end: int, may_unmap: bool) -> None:
        device = self._device
        if device.header.version < 3:  # it has no zero clusters
            if device.backing is None:
                self._discard_slice(start, -(-end // self._cluster) * self._cluster)
            else:
                self._write_plain_zeroes(start, min(end, device.size))
            return
        if device.data_file_is_raw:
            device.data_file.write_zeroes(start, min(end, device.size) - start)
            may_unmap = False
        with device.lock:
            self._writer.prepare()
            while self._writer.wait_for(start, end):
                pass
            end = self._rounded_end(start, end)
            first, last = -(-start // self._cluster), end // self._cluster
            self._map.writable(start)
            if first > last:
                parts = [(start, end)]
            else:
                parts = [(start, first * self._cluster), (last * self._cluster, end)]
                self._zero_whole(first * self._cluster, last - first, may_unmap)
            for part in parts:
                self._zero_subclusters(*part)

    def _rounded_end(self, start: int, end: int) -> int:
        """At the disk's end its last cluster is zeroed as a whole, if its beginning is."""
        base = (end - 1) & -self._cluster
        if end < self._device.size:
            return end
        if start <= base:
            return base + self._cluster
        return -(-end >> self._map.sub_bits) << self._map.sub_bits

    def _zero_whole(self, start: int, count: int, may_unmap: bool) -> None:
        if count == 0:
            return
        words = self._map.first_words(start, count)
        plain = 0 if self._map.extended else fmt.ZERO
        new = []
        for word in words:
            hosted = word & fmt.OFFSET_MASK or (self._external and word & fmt.COPIED)
            keep = hosted and not may_unmap and not word & fmt.COMPRESSED
            new.append(word | plain if keep else plain)
        if new != words:  # else the table need not be written
            self._map.set_words(start, new)
        for index in range(count):
            if words[index] and not new[index] & fmt.OFFSET_MASK:
                self._writer.drop_word(words[index])
            if self._map.extended:
                self._map.set_bitmap(start + index * self._cluster, ALL_ZEROES)

    def _zero_subclusters(self, start: int, end: int) -> None:
        """Zero some subclusters of one cluster, which is not compressed."""
        if start == end:
            return
        base = start & -self._cluster
        bits = self._map.sub_bits
        mask = (1 << ((end - base) >> bits)) - (1 << ((start - base) >> bits))
        bitmap = self._map.bitmap(start)
        self._map.set_bitmap(start, bitmap & ~mask | mask << 32)

    def discard(self, offset: int, length: int) -> None:
        """Free whole clusters in the range; they read as zeroes afterwards."""
        device = self._device
        end = offset + length
        start, stop = -(-offset // self._cluster) * self._cluster, end & -self._cluster
        if end == device.size:
            stop = -(-end // self._cluster) * self._cluster
        if device.header.version < 3 and device.backing is not None:
            return  # without zero clusters the backing file would show through
        if start < stop:
            if device.has_bitmaps:
                device.bitmaps.mark_dirty(start, min(stop, device.size) - start)
            self._each_slice(start, stop, self._discard_slice)

    def _discard_slice(self, start: int, end: int, *, full: bool = False) -> None:
        device = self._device
        if device.data_file_is_raw and not full:
            device.data_file.discard(start, min(end, device.size) - start)
        with device.lock:
            self._writer.prepare()
            while self._writer.wait_for(start, end):
                pass
            shows_backing = device.backing is not None and not full
            if full and self._map.find(start) is None:
                return
            self._map.writable(start)
            count = (end - start) >> self._bits
            words = self._map.first_words(start, count)
            plain = fmt.ZERO if device.header.version >= 3 and not self._map.extended else 0
            new = []
            for word in words:
                hosted = word & (fmt.OFFSET_MASK | fmt.COMPRESSED | fmt.COPIED)
                new.append(0 if full else plain if hosted or shows_backing else word)
            if new != words:
                self._map.set_words(start, new)
            self._drop_discarded(start, words, full=full, shows_backing=shows_backing)

    def _drop_discarded(self, start: int, words: list[int], *, full: bool,
                        shows_backing: bool) -> None:
        for index, word in enumerate(words):
            if word:
                self._writer.drop_word(word)
            if self._map.extended:
                cluster = start + index * self._cluster
                if full:
                    self._map.set_bitmap(cluster, 0)
                elif word or shows_backing:
                    self._map.set_bitmap(cluster, ALL_ZEROES)

    def discard_fully(self, start: int, end: int) -> None:
        """Make clusters unallocated, so that a backing file shows (commit, resize)."""
        self._each_slice(start, end, lambda low, high: self._discard_slice(low, high, full=True))
