"""Finding zeroes in buffers."""

from __future__ import annotations

from collections.abc import Iterator

from pytcg.block.device import ZERO_BLOCK
from pytcg.typed import TYPE_CHECKING

if TYPE_CHECKING:
    import mmap

    Buffer = bytes | bytearray | mmap.mmap


def is_zero(data: Buffer, start: int, stop: int) -> bool:
    """Whether data[start:stop] is all zero bytes; compares in C."""
    step = len(ZERO_BLOCK)
    while start < stop:
        if data[start]:
            return False
        end = min(start + step, stop)
        if data[start:end] != ZERO_BLOCK[: end - start]:
            return False
        start = end
    return True


def split_zeroes(data: Buffer, offset: int, unit: int, length: int
                 ) -> Iterator[tuple[int, int, bool]]:
    """(start, stop, has data) runs of data[:length] at disk ``offset``, in aligned units."""
    zero_unit = ZERO_BLOCK if unit == len(ZERO_BLOCK) else bytes(unit)
    start = position = 0
    while position < length:
        zero, stop = _next_zero_run(data, offset, position, length, zero_unit)
        if zero > start:
            yield start, zero, True
        if stop > zero:
            yield zero, stop, False
        start = position = stop


def _next_zero_run(data: Buffer, offset: int, position: int, length: int,
                   zero_unit: bytes) -> tuple[int, int]:
    """The next run of aligned zero units from ``position``; an empty one at the end if none."""
    unit = len(zero_unit)
    while position < length:
        step = unit - (offset + position) % unit  # to the unit's end
        if step < unit or position + unit > length:  # a piece of a unit
            if is_zero(data, position, min(position + step, length)):
                break
            position = min(position + step, length)
            continue
        whole = position + (length - position) // unit * unit
        position = _first_zero_unit(data, position, whole, zero_unit)
        if position < whole:
            break
    stop = position
    while stop < length:
        end = min(length, stop + unit - (offset + stop) % unit)
        if not is_zero(data, stop, end):
            break
        stop = end
    return min(position, length), stop


def _first_zero_unit(data: Buffer, position: int, stop: int, zero_unit: bytes) -> int:
    """The first zero unit at ``position`` or whole units after it; ``stop`` if there is none."""
    unit = len(zero_unit)
    heads = data[position:stop:unit]  # few units start with a zero: only those are looked at
    index = heads.find(0)
    while index >= 0:
        start = position + index * unit
        if data[start : start + unit] == zero_unit:
            return start
        index = heads.find(0, index + 1)
    return stop
