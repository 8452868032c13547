"""I/O limits by leaky buckets, with bursts and groups of disks: QEMU's ``throttling.*``.

The parameters and what they mean: QEMU's docs/throttle.txt.
"""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable, Mapping

from pytcg.block.device import BlockDevice, BlockError
from pytcg.block.filters.filter import Filter
from pytcg.block.json_name import json_name, options_of
from pytcg.typed import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pytcg.block.open import OpenFlags

KINDS = ("bps-total", "bps-read", "bps-write", "iops-total", "iops-read", "iops-write")
SLACK = 0.1  # seconds' worth of units that a bucket without a burst takes at once
TURN = 0.25  # seconds at most until one that waits for its turn asks whether it has to
INSTANT = 1e-6  # seconds: a shorter wait is none
LARGEST = 10**15


class Limit(NamedTuple):
    """One kind's limit: ``average`` units a second or 0, ``burst`` units for ``length`` seconds."""

    average: int = 0
    burst: int = 0
    length: int = 1


class Limits(NamedTuple):
    """What a disk or a group of them may do in a second."""

    of: Mapping[str, Limit]  # by kind
    iops_size: int = 0  # a larger request counts as several; 0: each is one

    @property
    def any(self) -> bool:
        """Whether there is one at all."""
        return any(limit.average for limit in self.of.values())

    def told(self) -> dict[str, int]:
        """All of them, by the names that `parse` takes."""
        told = {"iops-size": self.iops_size}
        for kind, limit in self.of.items():
            told |= {kind: limit.average, f"{kind}-max": limit.burst,
                     f"{kind}-max-length": limit.length}
        return told

    @classmethod
    def parse(cls, options: Mapping[str, int]) -> Limits:
        """From QEMU's names, without their prefix: ``bps-total``, ``iops-read-max``, …

        Raises BlockError for values that contradict each other.
        """
        names = {f"{kind}{part}" for kind in KINDS for part in ("", "-max", "-max-length")}
        for name in options:
            if name not in names and name != "iops-size":
                raise _refusal(f"Invalid parameter '{name}'")
        limits = {kind: Limit(options.get(kind, 0), options.get(f"{kind}-max", 0),
                              options.get(f"{kind}-max-length", 1)) for kind in KINDS}
        for limit in limits.values():
            _check(limit)
        for unit in ("bps", "iops"):
            both = [limits[f"{unit}-{way}"][:2] != (0, 0) for way in ("total", "read", "write")]
            if both[0] and any(both[1:]):
                raise _refusal("bps/iops/max total values and read/write values cannot be used at "
                               "the same time")
        size = options.get("iops-size", 0)
        if size and not any(limits[kind].average for kind in KINDS[3:]):
            raise _refusal("iops size requires an iops value to be set")
        return cls(limits, size)


def _refusal(message: str) -> BlockError:
    return BlockError(message, errno.EINVAL)


def _check(limit: Limit) -> None:
    if not (0 <= limit.average <= LARGEST and 0 <= limit.burst <= LARGEST):
        raise _refusal(f"bps/iops/max values must be within [0, {LARGEST}]")
    if limit.length < 1:
        raise _refusal("the burst length cannot be 0")
    if limit.length > 1 and not limit.burst:
        raise _refusal("burst length set without burst rate")
    if limit.burst * limit.length > LARGEST:
        raise _refusal("burst length too high for this burst rate")
    if limit.burst and not limit.average:
        raise _refusal("bps_max/iops_max require corresponding bps/iops values")
    if limit.burst and limit.burst < limit.average:
        raise _refusal("bps_max/iops_max cannot be lower than bps/iops")


class LeakyBucket:
    """Fills by what is done and leaks the average rate; over its rim one has to wait.

    With bursts the rim is what a whole burst may do, and a second level, which leaks the burst's
    rate, keeps the burst itself even.
    """

    def __init__(self, limit: Limit) -> None:
        self.limit = limit
        self._level = 0.0
        self._burst_level = 0.0

    def leak(self, seconds: float) -> None:
        """Time went by."""
        self._level = max(0.0, self._level - seconds * self.limit.average)
        self._burst_level = max(0.0, self._burst_level - seconds * self.limit.burst)

    def fill(self, amount: float) -> None:
        """Something was done."""
        self._level += amount
        self._burst_level += amount

    def delay(self) -> float:
        """Seconds until more may be done."""
        average, burst, length = self.limit
        if not average:
            return 0.0
        rim = burst * length if burst else average * SLACK
        over = (self._level - rim) / average
        if length > 1:
            over = max(over, self._burst_level / burst - SLACK)
        return over if over > INSTANT else 0.0


class ThrottleGroup:
    """Limits that one or more disks keep together; requests of one direction take turns."""

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic,
                 sleep: Callable[[float], None] = time.sleep) -> None:
        self._clock, self._sleep = clock, sleep
        self._lock = threading.Lock()
        self._turns = {"read": threading.Lock(), "write": threading.Lock()}
        self.set(limits)

    def set(self, limits: Limits) -> None:
        """Keep other limits from now on; what was done before is forgotten."""
        with self._lock:
            self.limits = limits
            self._buckets = {kind: LeakyBucket(limit) for kind, limit in limits.of.items()}
            self._then = self._clock()

    def admit(self, way: str, length: int, hurry: Callable[[float], bool] | None = None) -> None:
        """Wait until ``length`` bytes may be read or written, and count them.

        ``hurry`` sleeps in place of the group's own, as long as it likes; True lets the request go.
        """
        turn = self._turns[way]
        while not turn.acquire(timeout=TURN):
            if hurry is not None and hurry(0):
                return
        try:
            while delay := self._try(way, length):
                if hurry is None:
                    self._sleep(delay)
                elif hurry(delay):
                    return
        finally:
            turn.release()

    def _try(self, way: str, length: int) -> float:
        """Count a request if it may go; else the seconds to wait."""
        with self._lock:
            now = self._clock()
            for bucket in self._buckets.values():
                bucket.leak(now - self._then)
            self._then = now
            concerned = [(unit, self._buckets[f"{unit}-{which}"])
                         for unit in ("bps", "iops") for which in ("total", way)]
            delay = max(bucket.delay() for _, bucket in concerned)
            if not delay:
                for unit, bucket in concerned:
                    bucket.fill(length if unit == "bps" else self._requests(length))
            return delay

    def _requests(self, length: int) -> float:
        size = self.limits.iops_size
        return max(1.0, length / size) if size else 1.0


class Throttle(Filter):
    """A disk under a group's limits; a request over them waits in its own thread."""

    def __init__(self, below: BlockDevice, group: ThrottleGroup, name: str = "") -> None:
        super().__init__(below)
        self.format_name = "throttle"
        self.filename = json_name({"driver": "throttle", "throttle-group": name,
                                   "file": options_of(below)})
        self.group = group

    def keep_to(self, group: ThrottleGroup) -> None:
        """Be under another group's limits."""
        self.group = group

    def pread(self, offset: int, length: int) -> bytes:
        self.group.admit("read", length)
        return self.below.pread(offset, length)

    def read_into(self, offset: int, buffer: memoryview) -> None:
        self.group.admit("read", len(buffer))
        self.below.read_into(offset, buffer)

    def pwrite(self, offset: int, data: bytes | bytearray | memoryview, *, fua: bool = False
               ) -> None:
        self.group.admit("write", len(data))
        self.below.pwrite(offset, data, fua=fua)

    def write_zeroes(self, offset: int, length: int, *, may_unmap: bool = True,
                     fua: bool = False) -> None:
        self.group.admit("write", length)
        self.below.write_zeroes(offset, length, may_unmap=may_unmap, fua=fua)

    def discard(self, offset: int, length: int) -> None:
        self.group.admit("write", length)
        self.below.discard(offset, length)


def open_filter(below: BlockDevice, flags: OpenFlags) -> BlockDevice:
    """Open with the option ``throttle-group``."""
    name = flags.take("throttle-group")
    if name is None:
        raise _refusal("Please specify a throttle group")
    if name not in flags.groups:
        raise _refusal(f"Throttle group '{name}' does not exist")
    return Throttle(below, flags.groups[name], name)
