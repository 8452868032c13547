"""Dirty bitmaps of a running machine's nodes: which chunks were written since they were cleared.

A node marks in each of its bitmaps what is about to change (`BlockDevice.check_range`); all else is
done while no request is under way. A job that works on what a bitmap says *freezes* it: the job has
the bits of that moment, the bitmap goes on with none, and gets them back if the job fails.
"""

from __future__ import annotations

import errno
import threading

from pytcg.block.device import BlockDevice, BlockError
from pytcg.typed import Any

LEAST_GRANULARITY = 4096
MOST_GRANULARITY = 64 << 10
MAX_NAME = 1023


class DirtyBitmap:
    """One bitmap, of a disk of ``size`` bytes; bit n is for the n-th chunk, lowest bit first."""

    persistent = False
    inconsistent = False
    read_only = False

    def __init__(self, name: str, size: int, granularity: int, *, enabled: bool = True) -> None:
        self.name = name
        self.size = size
        self.granularity = granularity
        self.enabled = enabled
        self.frozen: bytearray | None = None
        """What a job has taken."""
        self.exported = 0  # times
        self._lock = threading.Lock()
        self._bits = bytearray(-(-size // (granularity * 8)))

    @property
    def bits(self) -> bytearray:
        """Those that are set now."""
        return self._bits

    @property
    def busy(self) -> bool:
        """Whether a job or an export works on it."""
        return self.frozen is not None or self.exported > 0

    @property
    def count(self) -> int:
        """Bytes of all dirty chunks, those that a job has taken if there is one."""
        bits = self.bits if self.frozen is None else self.frozen
        return int.from_bytes(bits, "little").bit_count() * self.granularity

    def mark(self, offset: int, length: int) -> None:
        """A write happens."""
        if self.enabled:
            self.add(offset, length)

    def add(self, offset: int, length: int) -> None:
        """Set the bits of a range, enabled or not."""
        end = min(offset + length, self.size)
        if offset < end:
            with self._lock:
                set_bits(self.bits, offset // self.granularity, -(-end // self.granularity))

    def change(self) -> None:
        """Called before anything but `mark` changes it."""

    def set_enabled(self, on: bool, /) -> None:
        """Let it follow writes, or not."""
        self.change()
        self.enabled = on

    def put(self, bits: bytes | bytearray) -> None:
        """Have just these bits."""
        self.change()
        with self._lock:
            self.bits[:] = bits

    def clear(self) -> None:
        """All clean."""
        self.put(bytes(len(self.bits)))

    def merge(self, bits: bytes | bytearray, granularity: int) -> None:
        """Add what another bitmap has."""
        self.change()
        if granularity == self.granularity:
            with self._lock:
                both = int.from_bytes(self.bits, "little") | int.from_bytes(bits, "little")
                self.bits[:] = both.to_bytes(len(self.bits), "little")
            return
        for first, stop in runs_of(bits):
            self.add(first * granularity, (stop - first) * granularity)

    def freeze(self) -> None:
        """Give the bits to a job."""
        self.frozen = bytearray(self.bits)
        self.clear()

    def thaw(self, *, back: bool) -> None:
        """The job is over; ``back``: it has not done its work."""
        frozen, self.frozen = self.frozen, None
        if back and frozen is not None:
            self.merge(frozen, self.granularity)

    def status(self, offset: int, length: int) -> list[tuple[int, bool]]:
        """(length, dirty) runs that cover a range."""
        return runs_over(self.bits, self.granularity, offset, length)

    def resize(self, size: int) -> None:
        """The disk has another size; what is new is clean."""
        needed = -(-size // (self.granularity * 8))
        with self._lock:
            del self._bits[needed:]
            self._bits.extend(bytes(needed - len(self._bits)))
        self.size = size


def set_bits(bits: bytearray, first: int, stop: int) -> None:
    """Set bits [first, stop)."""
    while first < stop and first & 7:
        bits[first >> 3] |= 1 << (first & 7)
        first += 1
    whole = (stop - first) >> 3
    if whole > 0:
        bits[first >> 3 : (first >> 3) + whole] = b"\xff" * whole
        first += whole * 8
    while first < stop:
        bits[first >> 3] |= 1 << (first & 7)
        first += 1


def runs_over(bits: bytes | bytearray, granularity: int, offset: int, length: int
              ) -> list[tuple[int, bool]]:
    """(length, set) runs of a range of the disk."""
    runs: list[tuple[int, bool]] = []
    end = offset + length
    while offset < end:
        chunk = offset // granularity
        dirty = bool(bits[chunk >> 3] >> (chunk & 7) & 1)
        stop = min(end, (chunk + 1) * granularity)
        if chunk & 7 == 0 and bits[chunk >> 3] in (0, 0xFF):  # eight at once
            stop = min(end, (chunk + 8) * granularity)
        if runs and runs[-1][1] == dirty:
            runs[-1] = (runs[-1][0] + stop - offset, dirty)
        else:
            runs.append((stop - offset, dirty))
        offset = stop
    return runs


def runs_of(bits: bytes | bytearray) -> list[tuple[int, int]]:
    """[first, stop) of each run of bits that are set."""
    found: list[tuple[int, int]] = []
    for index, byte in enumerate(bits):
        for bit in range(8 if byte else 0):
            number = index * 8 + bit
            if byte >> bit & 1:
                if found and found[-1][1] == number:
                    found[-1] = found[-1][0], number + 1
                else:
                    found.append((number, number + 1))
    return found


def bitmaps_of(node: BlockDevice) -> list[DirtyBitmap]:
    """All of a node, those in its image included; BlockError."""
    names = {bitmap.name for bitmap in node.dirty}
    stored: Any = getattr(node, "stored_bitmaps", None)
    if stored is not None:
        for bitmap in stored():
            if bitmap.name not in names:
                node.dirty = (*node.dirty, bitmap)
    return list(node.dirty)


def find_bitmap(node: BlockDevice, name: str) -> DirtyBitmap:
    """By name; BlockError."""
    for bitmap in bitmaps_of(node):
        if bitmap.name == name:
            return bitmap
    raise BlockError(f"Dirty bitmap '{name}' not found", errno.ENOENT)


def check_usable(bitmap: DirtyBitmap, *, busy: bool = True, read_only: bool = True,
                 inconsistent: bool = True) -> None:
    """BlockError if a state that counts forbids what is asked."""
    name = bitmap.name
    if busy and bitmap.busy:
        raise BlockError(f"Bitmap '{name}' is currently in use by another operation and cannot be"
                         " used", errno.EBUSY)
    if read_only and bitmap.read_only:
        raise BlockError(f"Bitmap '{name}' is readonly and cannot be modified", errno.EPERM)
    if inconsistent and bitmap.inconsistent:
        raise BlockError(f"Bitmap '{name}' is inconsistent and cannot be used", errno.EINVAL)


def default_granularity(node: BlockDevice) -> int:
    """A cluster, where it isn't too small or too large."""
    if not node.cluster_size:
        return MOST_GRANULARITY
    return min(MOST_GRANULARITY, max(LEAST_GRANULARITY, node.cluster_size))


def add_bitmap(node: BlockDevice, name: str, granularity: int | None, *, persistent: bool,
               enabled: bool) -> DirtyBitmap:
    """Make one; BlockError."""
    if not name:
        raise BlockError("Bitmap name cannot be empty", errno.EINVAL)
    if granularity is None:
        granularity = default_granularity(node)
    if granularity & (granularity - 1) or granularity < 512:
        raise BlockError("Granularity must be power of 2 and at least 512", errno.EINVAL)
    if any(bitmap.name == name for bitmap in bitmaps_of(node)):
        raise BlockError(f"Bitmap already exists: {name}", errno.EEXIST)
    if len(name.encode()) > MAX_NAME:
        raise BlockError(f"Bitmap name too long: {name}", errno.EINVAL)
    if persistent:
        store: Any = getattr(node, "store_bitmap", None)
        if store is None or node.read_only:
            raise BlockError(f"Can't store persistent bitmaps to {node.node_name}: Operation not"
                             " supported", errno.ENOTSUP)
        made: DirtyBitmap = store(name, granularity)
        if not enabled:
            made.set_enabled(False)
    else:
        made = DirtyBitmap(name, node.size, granularity, enabled=enabled)
    node.dirty = (*node.dirty, made)
    return made


def remove_bitmap(node: BlockDevice, bitmap: DirtyBitmap) -> None:
    """Delete it, in the image, too; BlockError."""
    if bitmap.persistent:
        drop: Any = getattr(node, "drop_bitmap", None)
        drop(bitmap.name)
    node.dirty = tuple(each for each in node.dirty if each is not bitmap)
