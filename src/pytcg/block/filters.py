"""Filters over a disk: what to do with discards and zero writes, and I/O limits."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable

from pytcg.typed import NamedTuple

from .device import BlockDevice, BlockError, Extent
from .zeroes import is_zero

DISCARD_MODES = ("ignore", "off", "unmap", "on")
DETECT_ZEROES_MODES = ("off", "on", "unmap")


class Filter(BlockDevice):
    """A disk that passes everything on to the disk below; filters override what they change."""

    is_filter = True

    def __init__(self, below: BlockDevice) -> None:
        self.below = below
        self.file = below
        self.format_name = below.format_name
        self.filename = below.filename
        self.read_only = below.read_only
        self.probed = below.probed
        self.cluster_size = below.cluster_size
        self.request_alignment = below.request_alignment
        self.has_zero_init = below.has_zero_init

    @property
    def size(self) -> int:
        return self.below.size

    @property
    def allocated_size(self) -> int | None:
        return self.below.allocated_size

    def pread(self, offset: int, length: int) -> bytes:
        return self.below.pread(offset, length)

    def read_into(self, offset: int, buffer: memoryview) -> None:
        self.below.read_into(offset, buffer)

    def pwrite(self, offset: int, data: bytes | bytearray | memoryview, *, fua: bool = False
               ) -> None:
        self.below.pwrite(offset, data, fua=fua)

    def write_zeroes(self, offset: int, length: int, *, may_unmap: bool = True,
                     fua: bool = False) -> None:
        self.below.write_zeroes(offset, length, may_unmap=may_unmap, fua=fua)

    def discard(self, offset: int, length: int) -> None:
        self.below.discard(offset, length)

    def layer_status(self, offset: int, length: int) -> Extent:
        return self.below.layer_status(offset, length)

    def status_at(self, offset: int, length: int) -> Extent:
        return self.below.status_at(offset, length)

    def cache_range(self, offset: int, length: int) -> None:
        self.below.cache_range(offset, length)

    def flush(self) -> None:
        self.below.flush()

    def truncate(self, size: int, *, preallocation: str = "off") -> None:
        self.below.truncate(size, preallocation=preallocation)

    def bitmap_names(self) -> list[str]:
        return self.below.bitmap_names()

    def bitmap_status(self, name: str, offset: int, length: int) -> list[tuple[int, bool]]:
        return self.below.bitmap_status(name, offset, length)


class RequestPolicy(Filter):
    """``discard=`` and ``detect-zeroes=`` of a drive."""

    def __init__(self, below: BlockDevice, *, discard: str = "unmap", detect_zeroes: str = "off"
                 ) -> None:
        if discard not in DISCARD_MODES:
            raise BlockError(f"Invalid discard option: {discard}", errno.EINVAL)
        if detect_zeroes not in DETECT_ZEROES_MODES:
            raise BlockError(f"Invalid detect-zeroes mode: {detect_zeroes}", errno.EINVAL)
        super().__init__(below)
        self._unmap = discard in ("unmap", "on")
        if detect_zeroes == "unmap" and not self._unmap:
            raise BlockError("setting detect-zeroes to unmap is not allowed without setting "
                             "discard operation to unmap", errno.EINVAL)
        self._detect = detect_zeroes

    def pwrite(self, offset: int, data: bytes | bytearray | memoryview, *, fua: bool = False
               ) -> None:
        if self._detect != "off" and data:
            plain = data if isinstance(data, bytes | bytearray) else bytes(data)
            if is_zero(plain, 0, len(plain)):
                self.below.write_zeroes(offset, len(plain), may_unmap=self._detect == "unmap",
                                        fua=fua)
                return
        self.below.pwrite(offset, data, fua=fua)

    def write_zeroes(self, offset: int, length: int, *, may_unmap: bool = True,
                     fua: bool = False) -> None:
        self.below.write_zeroes(offset, length, may_unmap=may_unmap and self._unmap, fua=fua)

    def discard(self, offset: int, length: int) -> None:
        if self._unmap:
            self.below.discard(offset, length)
        else:
            self.check_range(offset, length, write=True)


class Limits(NamedTuple):
    """QEMU's throttling.* values: a second's share of bytes and requests, 0 for no limit."""

    bps_total: int = 0
    bps_read: int = 0
    bps_write: int = 0
    iops_total: int = 0
    iops_read: int = 0
    iops_write: int = 0


class LeakyBucket:
    """One limit: fills by what is done, leaks ``rate`` a second, holds a tenth of a second."""

    def __init__(self, rate: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._clock = clock
        self._level = 0.0
        self._then = clock()

    def take(self, amount: int) -> float:
        """Account for ``amount``: the seconds to wait before doing it."""
        if not self._rate:
            return 0.0
        now = self._clock()
        self._level = max(0.0, self._level - (now - self._then) * self._rate)
        self._then = now
        wait = max(0.0, self._level / self._rate - 0.1)
        self._level += amount
        return wait


class Throttle(Filter):
    """I/O limits by leaky buckets; a request over the limit waits in its own thread."""

    def __init__(self, below: BlockDevice, limits: Limits,
                 clock: Callable[[], float] = time.monotonic,
                 sleep: Callable[[float], None] = time.sleep) -> None:
        super().__init__(below)
        self._lock = threading.Lock()
        self._sleep = sleep
        self._bytes = {kind: [LeakyBucket(limits.bps_total, clock)] for kind in "rw"}
        self._requests = {kind: [LeakyBucket(limits.iops_total, clock)] for kind in "rw"}
        self._bytes["w"][0] = self._bytes["r"][0]  # a total is shared by both directions
        self._requests["w"][0] = self._requests["r"][0]
        self._bytes["r"].append(LeakyBucket(limits.bps_read, clock))
        self._bytes["w"].append(LeakyBucket(limits.bps_write, clock))
        self._requests["r"].append(LeakyBucket(limits.iops_read, clock))
        self._requests["w"].append(LeakyBucket(limits.iops_write, clock))

    def _wait(self, kind: str, length: int) -> None:
        with self._lock:
            delay = max(*(bucket.take(length) for bucket in self._bytes[kind]),
                        *(bucket.take(1) for bucket in self._requests[kind]))
        if delay:
            self._sleep(delay)

    def pread(self, offset: int, length: int) -> bytes:
        self._wait("r", length)
        return self.below.pread(offset, length)

    def read_into(self, offset: int, buffer: memoryview) -> None:
        self._wait("r", len(buffer))
        self.below.read_into(offset, buffer)

    def pwrite(self, offset: int, data: bytes | bytearray | memoryview, *, fua: bool = False
               ) -> None:
        self._wait("w", len(data))
        self.below.pwrite(offset, data, fua=fua)

    def write_zeroes(self, offset: int, length: int, *, may_unmap: bool = True,
                     fua: bool = False) -> None:
        self._wait("w", length)
        self.below.write_zeroes(offset, length, may_unmap=may_unmap, fua=fua)


def zeroes_fast(device: BlockDevice) -> bool:
    """Whether zeroing is more than writing zeroes, as far as the kind of device tells."""
    while isinstance(device, Filter):
        device = device.below
    return type(device).write_zeroes is not BlockDevice.write_zeroes
