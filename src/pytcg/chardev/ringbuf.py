"""`ringbuf`: the guest's last output in memory, for `ringbuf-read`."""

from __future__ import annotations

from typing import Final

from pytcg.chardev.base import Chardev, ChardevError

DEFAULT_SIZE: Final = 65536


class RingBuffer(Chardev):
    """Keeps as many bytes as it is large, a power of two; older ones are lost."""

    def __init__(self, label: str, size: int = DEFAULT_SIZE) -> None:
        super().__init__(label)
        if size <= 0 or size & (size - 1):
            raise ChardevError("size of ringbuf chardev must be power of two")
        self.size = size
        self._data = bytearray()

    def description(self) -> str:
        return "ringbuf"

    def send(self, data: bytes) -> None:
        self._data += data
        del self._data[: -self.size]

    def read(self, size: int) -> bytes:
        """Take up to so many of the oldest bytes out."""
        taken = bytes(self._data[:size])
        del self._data[:size]
        return taken
