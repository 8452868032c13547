"""``blkdebug``: a filter that makes requests fail or wait, and narrows what is asked below.

Formats above it tell their steps by debug_event(); its rules act on them. Requests are split and
padded by its limits as if the disk below demanded that.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pytcg.block.device import BlockDevice, BlockError, Extent
from pytcg.block.filters.blkdebug_rules import Rules, read_rules
from pytcg.block.filters.filter import Filter
from pytcg.block.formats.raw import RawDevice
from pytcg.block.json_name import json_name, options_of
from pytcg.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from pytcg.block.open import OpenFlags

MAX_LIMIT = (1 << 31) - 1
_LIMITS: dict[str, tuple[str, ...]] = {  # each a multiple of the ones named
    "align": (),
    "max-transfer": ("align",),
    "opt-write-zero": ("align",),
    "max-write-zero": ("align", "opt-write-zero"),
    "opt-discard": ("align",),
    "max-discard": ("align", "opt-discard"),
}


class Blkdebug(Filter):
    """The filter; ``limits`` by option name, 0 or missing for none."""

    debugged = True

    def __init__(self, below: BlockDevice, rules: Rules, limits: dict[str, int]) -> None:
        super().__init__(below)
        self.format_name = "blkdebug"
        self.rules = rules
        self._align = max(1, limits.get("align", 0), below.request_alignment)
        self.request_alignment = self._align
        self._max_transfer = limits.get("max-transfer") or MAX_LIMIT
        self._zero_unit = max(self._align, limits.get("opt-write-zero", 0))
        self._max_zero = limits.get("max-write-zero") or MAX_LIMIT // self._zero_unit * (
            self._zero_unit)
        self._discard_unit = max(self._align, limits.get("opt-discard", 0))
        self._max_discard = limits.get("max-discard") or MAX_LIMIT // self._discard_unit * (
            self._discard_unit)
        self._busy: list[tuple[int, int]] = []  # aligned ranges being written
        self._changed = threading.Condition()
        self._unflushed = False  # whether anything was written since the last flush

    @property
    def allocated_size(self) -> int | None:
        return None

    def debug_event(self, event: str) -> None:
        self.rules.event(event)

    # ---- reading ----

    def pread(self, offset: int, length: int) -> bytes:
        low, high = self._widened(offset, length)
        pieces = []
        for start in range(low, high, self._max_transfer):
            step = min(self._max_transfer, high - start)
            self.rules.check(start, step, "read")
            pieces.append(self.below.pread(start, step))
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        return data[offset - low : offset - low + length]

    def read_into(self, offset: int, buffer: memoryview) -> None:
        buffer[:] = self.pread(offset, len(buffer))

    def layer_status(self, offset: int, length: int) -> Extent:
        self.rules.check(offset, length, "block-status")
        return self.below.layer_status(offset, length)

    def status_at(self, offset: int, length: int) -> Extent:
        self.rules.check(offset, length, "block-status")
        return self.below.status_at(offset, length)

    def _widened(self, offset: int, length: int) -> tuple[int, int]:
        return offset & -self._align, -(-(offset + length) // self._align) * self._align

    # ---- writing ----

    def pwrite(self, offset: int, data: bytes | bytearray | memoryview, *, fua: bool = False
               ) -> None:
        if not len(data):
            return
        with self._writing(offset, len(data)) as (low, high):
            whole = data
            if (low, high) != (offset, offset + len(data)):
                whole = self._filled_up(low, high, offset, data)
            self.debug_event("pwritev")
            view = memoryview(whole)
            for start in range(0, high - low, self._max_transfer):
                part = view[start : start + self._max_transfer]
                self.rules.check(low + start, len(part), "write")
                self.below.pwrite(low + start, part)
            self.debug_event("pwritev_done")
        if fua:
            self.flush()

    def _filled_up(self, low: int, high: int, offset: int,
                   data: bytes | bytearray | memoryview) -> bytes:
        """Data with what surrounds it in its blocks: a read before the write."""
        head, tail = offset - low, high - offset - len(data)
        merged = high - low == self._align
        before = after = b""
        if head or merged:
            before = self._read_for_write(low, [name for name, part in (
                ("head", head), ("tail", tail if merged else 0)) if part])[:head]
        if tail:
            after = self._read_for_write(high - self._align, [] if merged else ["tail"])[-tail:]
        return b"".join((before, data, after))

    def _read_for_write(self, start: int, ends: list[str]) -> bytes:
        for end in ends:
            self.debug_event(f"pwritev_rmw_{end}")
        data = self.pread(start, self._align)
        for end in ends:
            self.debug_event(f"pwritev_rmw_after_{end}")
        return data

    @contextmanager
    def _writing(self, offset: int, length: int) -> Iterator[tuple[int, int]]:
        """Claim the blocks of a write, so that another can't come between its read and its write.

        Yields their bounds.
        """
        low, high = self._widened(offset, length)
        with self._changed:
            while self._align > 1 and any(a < high and low < b for a, b in self._busy):
                self._changed.wait()
            self._busy.append((low, high))
        self._unflushed = True
        try:
            yield low, high
        finally:
            with self._changed:
                self._busy.remove((low, high))
                self._changed.notify_all()

    def write_zeroes(self, offset: int, length: int, *, may_unmap: bool = True,
                     fua: bool = False) -> None:
        def zero(start: int, step: int) -> None:
            self._unflushed = True
            self.debug_event("pwritev_zero")
            self.rules.check(start, step, "write-zeroes")
            self.below.write_zeroes(start, step, may_unmap=may_unmap)

        _split(offset, length, self._zero_unit, self._max_zero, zero,
               lambda start, step: self.pwrite(start, bytes(step)))
        if fua:
            self.flush()

    def discard(self, offset: int, length: int) -> None:
        def drop(start: int, step: int) -> None:
            self._unflushed = True
            self.rules.check(start, step, "discard")
            self.below.discard(start, step)

        low = -(-offset // self._align) * self._align  # less than a block can't be discarded
        high = (offset + length) // self._align * self._align
        _split(low, max(0, high - low), self._discard_unit, self._max_discard, drop, drop)

    def flush(self) -> None:
        if self._unflushed:  # as in QEMU, where no flush gets here without a write before it
            self.rules.check(0, 0, "flush")
            self.below.flush()
            self._unflushed = False


def _split(offset: int, length: int, unit: int, limit: int, aligned: Callable[[int, int], None],
           rest: Callable[[int, int], None]) -> None:
    """Call ``aligned`` for the whole units of a range, ``limit`` at a time, ``rest`` for others."""
    end = offset + length
    low, high = -(-offset // unit) * unit, end // unit * unit
    if low >= high:
        if length:
            rest(offset, length)
        return
    if offset < low:
        rest(offset, low - offset)
    for start in range(low, high, limit):
        aligned(start, min(limit, high - start))
    if high < end:
        rest(high, end - high)


class EventfulRaw(RawDevice):
    """A raw image over blkdebug, which tells it of its requests."""

    debugged = True

    def debug_event(self, event: str) -> None:
        self.file.debug_event(event)

    def pread(self, offset: int, length: int) -> bytes:
        self.debug_event("read_aio")
        return super().pread(offset, length)

    def read_into(self, offset: int, buffer: memoryview) -> None:
        self.debug_event("read_aio")
        super().read_into(offset, buffer)

    def pwrite(self, offset: int, data: bytes | bytearray | memoryview, *, fua: bool = False
               ) -> None:
        self.debug_event("write_aio")
        super().pwrite(offset, data, fua=fua)


def open_filter(below: BlockDevice, flags: OpenFlags) -> BlockDevice:
    """Open with the options ``config``, ``inject-error``, ``set-state`` and the limits."""
    given = dict(flags.options)
    config = flags.take("config")
    config = None if config is None else str(config)  # JSON may name the file by a number
    rules = Rules(read_rules(config, flags.options))
    limits = {name: flags.take_size(name, 0) for name in _LIMITS}
    _check_limits(limits, below.request_alignment)
    device = Blkdebug(below, rules, limits)
    image = options_of(below)
    if given.keys() <= {"config"} and image.get("file", image).keys() == {"driver", "filename"}:
        device.filename = f"blkdebug:{config or ''}:{below.location}"
    else:
        device.filename = json_name({"driver": "blkdebug", **given, "image": image})
    device.debug_event("none")
    return device


def _check_limits(limits: dict[str, int], below: int) -> None:
    for name, units in _LIMITS.items():
        value = limits[name]
        unit = max(1, below, *(limits[other] for other in units))
        fits = not value & (value - 1) if name == "align" else value % unit == 0
        if value and (value >= MAX_LIMIT or not fits):
            raise BlockError(f"Cannot meet constraints with {name} {value}", errno.EINVAL)
