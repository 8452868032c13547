"""The ``null-co`` and ``null-aio`` protocols: a disk that keeps nothing."""

from __future__ import annotations

import errno
import time

from pytcg.block.device import BlockDevice, BlockError, Extent
from pytcg.block.json_name import json_name
from pytcg.typed import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytcg.block.open import OpenFlags


class NullDevice(BlockDevice):
    """Takes every write and forgets it; what is read is zeroes, or whatever was in memory."""

    def __init__(self, driver: str, size: int, *, read_zeroes: bool = False,
                 latency: float = 0.0, read_only: bool = False) -> None:
        """``latency`` is how long a request takes, in seconds."""
        self.format_name = driver
        self.filename = f"{driver}://"
        self.read_only = read_only
        self._size = size
        self._read_zeroes = read_zeroes
        self._latency = latency

    @property
    def size(self) -> int:
        return self._size

    @property
    def allocated_size(self) -> int:
        return 0

    def _serve(self, offset: int, length: int, *, write: bool = False) -> None:
        self.check_range(offset, length, write=write)
        if self._latency:
            time.sleep(self._latency)

    def read_into(self, offset: int, buffer: memoryview) -> None:
        self._serve(offset, len(buffer))
        if self._read_zeroes:
            buffer[:] = bytes(len(buffer))

    def pwrite(self, offset: int, data: bytes | bytearray | memoryview, *, fua: bool = False
               ) -> None:
        self._serve(offset, len(data), write=True)

    def write_zeroes(self, offset: int, length: int, *, may_unmap: bool = True,
                     fua: bool = False) -> None:
        self._serve(offset, length, write=True)

    def layer_status(self, offset: int, length: int) -> Extent:
        return Extent(length, False, self._read_zeroes, offset=offset, filename=self.filename)

    def flush(self) -> None:
        self._serve(0, 0)


def open_null(driver: str, flags: OpenFlags) -> NullDevice:
    """Open with the options ``size``, ``latency-ns`` and ``read-zeroes``."""
    latency = flags.take_size("latency-ns", 0)
    if latency >> 63:
        raise BlockError("latency-ns is invalid", errno.EINVAL)
    flags.take("filename")
    given: dict[str, Any] = {name: flags.options[name] for name in ("size", "read-zeroes")
                             if name in flags.options}
    made = NullDevice(driver, flags.take_size("size", 1 << 30),
                      read_zeroes=flags.take_bool("read-zeroes", False), latency=latency / 1e9,
                      read_only=flags.read_only)
    if isinstance(given.get("size"), int):  # in numbers, as QMP has them
        made.filename = json_name({"driver": driver, **given})
    return made


class NoMedium(BlockDevice):
    """Where an image was: every request fails with ENOMEDIUM."""

    format_name = "null-co"

    def __init__(self, size: int) -> None:
        self._size = size

    @property
    def size(self) -> int:
        return self._size

    def read_into(self, offset: int, buffer: memoryview) -> None:
        self._fail()

    def pwrite(self, offset: int, data: bytes | bytearray | memoryview, *, fua: bool = False
               ) -> None:
        self._fail()

    def write_zeroes(self, offset: int, length: int, *, may_unmap: bool = True,
                     fua: bool = False) -> None:
        self._fail()

    def discard(self, offset: int, length: int) -> None:
        self._fail()

    def layer_status(self, offset: int, length: int) -> Extent:
        return Extent(length, data=False, zero=True)

    def flush(self) -> None:
        self._fail()

    def _fail(self) -> None:
        raise BlockError("No medium found", errno.ENOMEDIUM)
