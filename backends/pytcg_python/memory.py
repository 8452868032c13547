"""Host memory as the Python back-end sees it: buffers mapped at addresses, nothing else."""

from __future__ import annotations

import struct
from collections.abc import Callable

_PAGE_BITS = 16
_FORMATS = {1: struct.Struct("<B"), 2: struct.Struct("<H"), 4: struct.Struct("<I"),
            8: struct.Struct("<Q")}  # fmt: skip


class HostFault(Exception):
    """IR did what would crash a real host."""


class WildAccess(HostFault):
    """An access outside every mapped buffer."""

    def __init__(self, address: int, size: int):
        super().__init__(f"wild access: {size} bytes at {address:#x}")
        self.address = address
        self.size = size


class Memory:
    """Maps address ranges to memoryviews; little-endian loads and stores of 1 to 16 bytes."""

    def __init__(self) -> None:
        self._ranges: list[tuple[int, int, memoryview]] = []
        self._pages: dict[int, tuple[int, int, memoryview]] = {}
        self._unpack: dict[int, Callable[..., tuple[int, ...]]] = {
            size: format_.unpack_from for size, format_ in _FORMATS.items()
        }
        self._pack = {size: format_.pack_into for size, format_ in _FORMATS.items()}

    def map(self, address: int, buffer: memoryview) -> None:
        """Make ``buffer`` the memory at ``address``; a new mapping hides older ones."""
        view = buffer.cast("B") if buffer.format != "B" or buffer.ndim != 1 else buffer
        self._ranges.insert(0, (address, address + len(view), view))
        self._pages.clear()

    def unmap(self, address: int) -> None:
        """Forget the mapping that starts at ``address``."""
        self._ranges = [r for r in self._ranges if r[0] != address]
        self._pages.clear()

    def _find(self, address: int, size: int) -> tuple[int, int, memoryview]:
        for found in self._ranges:
            if found[0] <= address and address + size <= found[1]:
                self._pages[address >> _PAGE_BITS] = found
                return found
        raise WildAccess(address, size)

    def _place(self, address: int, size: int) -> tuple[memoryview, int]:
        found = self._pages.get(address >> _PAGE_BITS)
        if found is None or not (found[0] <= address and address + size <= found[1]):
            found = self._find(address, size)
        return found[2], address - found[0]

    def load(self, address: int, size: int) -> int:
        view, offset = self._place(address, size)
        unpack = self._unpack.get(size)
        if unpack is not None:
            return unpack(view, offset)[0]
        return int.from_bytes(view[offset:offset + size], "little")

    def fill(self, address: int, byte: int, size: int) -> None:
        """Set ``size`` bytes."""
        view, offset = self._place(address, size)
        view[offset:offset + size] = bytes([byte]) * size

    def store(self, address: int, size: int, value: int) -> None:
        view, offset = self._place(address, size)
        pack = self._pack.get(size)
        if pack is not None:
            pack(view, offset, value)
        else:
            view[offset:offset + size] = value.to_bytes(size, "little")
