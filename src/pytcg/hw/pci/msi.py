"""Message signalled interrupts: MSI, one message, and MSI-X, a table in a BAR (PCI 3.0, 6.8)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from pytcg.hw.pci.bar import Bar, Read, Write
from pytcg.hw.pci.config import ConfigSpace
from pytcg.hw.state import State, load, save

CAP_MSI: Final = 0x05
CAP_MSIX: Final = 0x11
MSI_ENABLE: Final = 0x0001
MSI_64: Final = 0x0080
MSIX_ENABLE: Final = 0x8000
MSIX_MASK_ALL: Final = 0x4000
ENTRY: Final = 16  # bytes: address (8), data (4), vector control (4)
MASKED: Final = 1

Deliver = Callable[[int, int], None]
"""A memory write of a message: (address, data)."""


class Msi:
    """The MSI capability with a 64-bit address and one message."""

    def __init__(self, config: ConfigSpace, deliver: Deliver) -> None:
        self._config = config
        self._deliver = deliver
        self._at = at = config.add_capability(CAP_MSI, 14)
        config.define(at + 2, 2, MSI_64, writable=MSI_ENABLE)
        config.define(at + 4, 4, writable=0xFFFFFFFC)
        config.define(at + 8, 4, writable=0xFFFFFFFF)
        config.define(at + 12, 2, writable=0xFFFF)

    @property
    def enabled(self) -> bool:
        """Whether messages take the place of the pin."""
        return bool(self._config.get(self._at + 2, 2) & MSI_ENABLE)

    def notify(self) -> None:
        """Send the message, if enabled."""
        if self.enabled:
            self._deliver(self._config.get(self._at + 4, 8), self._config.get(self._at + 12, 2))


class MsiX:
    """The MSI-X capability; its table and its pending bits lie in ``bar``, over what is there."""

    def __init__(self, config: ConfigSpace, deliver: Deliver, bar: Bar, vectors: int,
                 table: int, pba: int) -> None:
        pba_size = (vectors + 63) // 64 * 8
        if not 1 <= vectors <= 2048 or (table | pba) & 7:
            raise ValueError(f"MSI-X: {vectors} vectors at {table:#x} and {pba:#x}")
        if max(table + vectors * ENTRY, pba + pba_size) > bar.size:
            raise ValueError(f"MSI-X: table and pending bits don't fit into BAR {bar.index}")
        self._config = config
        self._deliver = deliver
        self._table_at, self._pba_at, self._pba_size = table, pba, pba_size
        self.vectors = vectors
        self.table = bytearray(vectors * ENTRY)
        self.pending = 0
        self._at = at = config.add_capability(CAP_MSIX, 12)
        config.define(at + 2, 2, vectors - 1, writable=MSIX_ENABLE | MSIX_MASK_ALL)
        config.define(at + 4, 4, table | bar.index)
        config.define(at + 8, 4, pba | bar.index)
        bar.read, bar.write = self._reader(bar.read), self._writer(bar.write)
        self.reset()

    def reset(self) -> None:
        """All vectors masked, nothing pending."""
        self.table[:] = (bytes(ENTRY - 4) + MASKED.to_bytes(4, "little")) * self.vectors
        self.pending = 0

    @property
    def enabled(self) -> bool:
        """Whether messages take the place of the pin."""
        return bool(self._config.get(self._at + 2, 2) & MSIX_ENABLE)

    def masked(self, vector: int) -> bool:
        """By the function's bit or by the vector's own."""
        everything = self._config.get(self._at + 2, 2) & MSIX_MASK_ALL
        return bool(everything or self.table[vector * ENTRY + 12] & MASKED)

    def notify(self, vector: int) -> None:
        """Send a vector's message, or keep it pending while it is masked."""
        if not self.enabled:
            return
        if self.masked(vector):
            self.pending |= 1 << vector
            return
        self.pending &= ~(1 << vector)
        entry = self.table[vector * ENTRY : (vector + 1) * ENTRY]
        self._deliver(int.from_bytes(entry[:8], "little"), int.from_bytes(entry[8:12], "little"))

    def sync(self) -> None:
        """After masks changed: what waited and may go now, goes."""
        for vector in range(self.vectors if self.pending and self.enabled else 0):
            if self.pending >> vector & 1 and not self.masked(vector):
                self.notify(vector)

    def _reader(self, below: Read) -> Read:
        def read(offset: int, size: int) -> int:
            at = offset - self._table_at
            if 0 <= at < len(self.table):
                return int.from_bytes(self.table[at : at + size], "little")
            at = offset - self._pba_at
            if 0 <= at < self._pba_size:
                return self.pending >> at * 8 & (1 << size * 8) - 1
            return below(offset, size)

        return read

    def _writer(self, below: Write) -> Write:
        def write(offset: int, size: int, value: int) -> None:
            at = offset - self._table_at
            if 0 <= at <= len(self.table) - size:
                self.table[at : at + size] = value.to_bytes(size, "little")
                self.sync()
            elif not 0 <= offset - self._pba_at < self._pba_size:
                below(offset, size, value)

        return write

    def state(self) -> State:
        return save(self, 1, ("table", "pending"))

    def restore(self, state: State) -> None:
        load(self, state, 1, ("table", "pending"))
