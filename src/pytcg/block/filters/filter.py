"""Filters over a disk: what to do with discards and zero writes."""

from __future__ import annotations

import errno
from collections.abc import Sequence

from pytcg.block.device import BlockDevice, BlockError, Extent
from pytcg.block.zeroes import is_zero

DISCARD_MODES = ("ignore", "off", "unmap", "on")
DETECT_ZEROES_MODES = ("off", "on", "unmap")


class Filter(BlockDevice):
    """A disk that passes everything on to the disk below; filters override what they change."""

    is_filter = True

    def __init__(self, below: BlockDevice) -> None:
        self._stand_on(below)

    def _stand_on(self, below: BlockDevice) -> None:
        self.below = below
        self.file = below
        self.format_name = below.format_name
        self.filename = below.filename
        self.read_only = below.read_only
        self.probed = below.probed
        self.cluster_size = below.cluster_size
        self.request_alignment = below.request_alignment
        self.has_zero_init = below.has_zero_init

    def replace_child(self, old: BlockDevice, new: BlockDevice) -> None:
        if self.below is old:
            self._stand_on(new)

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


class Thin(Filter):
    """What stands between a disk and its user without being a node itself."""

    @property
    def node(self) -> BlockDevice:
        return self.below.node

    def host_range(self, offset: int, length: int) -> tuple[int, int] | None:
        return self.below.host_range(offset, length)


class RequestPolicy(Thin):
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
        self.detects = detect_zeroes

    def read_now(self, offset: int, buffers: Sequence[memoryview]) -> bool:
        return self.below.read_now(offset, buffers)

    def write_now(self, offset: int, buffers: Sequence[memoryview]) -> bool:
        return self.detects == "off" and self.below.write_now(offset, buffers)

    def pwrite(self, offset: int, data: bytes | bytearray | memoryview, *, fua: bool = False
               ) -> None:
        if self.detects != "off" and data:
            plain = data if isinstance(data, bytes | bytearray) else bytes(data)
            if is_zero(plain, 0, len(plain)):
                self.below.write_zeroes(offset, len(plain), may_unmap=self.detects == "unmap",
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


def zeroes_fast(device: BlockDevice) -> bool:
    """Whether zeroing is more than writing zeroes, as far as the kind of device tells."""
    while isinstance(device, Filter):
        device = device.below
    return type(device).write_zeroes is not BlockDevice.write_zeroes


class Reference(Thin):
    """A disk that belongs to somebody else: closing this leaves it open."""

    def debug_event(self, event: str) -> None:
        self.below.debug_event(event)

    def close(self) -> None:
        """It is whose name it has that closes it."""
