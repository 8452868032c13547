"""A way into a machine's disk for somebody beside the guest: an export, held as the guest is."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from pytcg.block.device import BlockDevice, Extent
from pytcg.block.filters.filter import Reference


class Gate(Reference):
    """A disk that is a user of another one, from any number of threads. Closes nothing."""

    def __init__(self, below: BlockDevice) -> None:
        super().__init__(below)
        self._active = self._held = 0
        self._changed = threading.Condition()

    @property
    def device(self) -> BlockDevice:
        """What it stands on."""
        return self.below

    @device.setter
    def device(self, below: BlockDevice) -> None:
        self._stand_on(below)

    def hold(self) -> None:
        """Keep new requests waiting; return when none is under way."""
        with self._changed:
            self._held += 1
            self._changed.wait_for(lambda: not self._active)

    def let_go(self) -> None:
        """Undo one `hold`."""
        with self._changed:
            self._held -= 1
            self._changed.notify_all()

    @contextmanager
    def _request(self) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: not self._held)
            self._active += 1
        try:
            yield
        finally:
            with self._changed:
                self._active -= 1
                self._changed.notify_all()

    def host_range(self, offset: int, length: int) -> tuple[int, int] | None:
        return None  # the file may change under whoever remembers it

    def pread(self, offset: int, length: int) -> bytes:
        with self._request():
            return self.below.pread(offset, length)

    def read_into(self, offset: int, buffer: memoryview) -> None:
        with self._request():
            self.below.read_into(offset, buffer)

    def pwrite(self, offset: int, data: bytes | bytearray | memoryview, *, fua: bool = False
               ) -> None:
        with self._request():
            self.below.pwrite(offset, data, fua=fua)

    def write_zeroes(self, offset: int, length: int, *, may_unmap: bool = True,
                     fua: bool = False) -> None:
        with self._request():
            self.below.write_zeroes(offset, length, may_unmap=may_unmap, fua=fua)

    def discard(self, offset: int, length: int) -> None:
        with self._request():
            self.below.discard(offset, length)

    def flush(self) -> None:
        with self._request():
            self.below.flush()

    def status_at(self, offset: int, length: int) -> Extent:
        with self._request():
            return self.below.status_at(offset, length)

    def layer_status(self, offset: int, length: int) -> Extent:
        with self._request():
            return self.below.layer_status(offset, length)
