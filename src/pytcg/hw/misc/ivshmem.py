"""QEMU's inter-VM shared memory card (its docs/specs/ivshmem-spec), revision 1.

BAR 0 has the registers, BAR 1 (doorbell cards) MSI-X, BAR 2 the memory. The pin does nothing: who
wants interrupts uses MSI-X.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import Final

from pytcg.hw.pci.bar import Backing, BarType
from pytcg.hw.pci.device import Identity, PciDevice

REGISTERS: Final = 0x100
MSIX_BAR: Final = 0x1000


class Reg(IntEnum):
    """Offsets in BAR 0; all are 32 bits wide."""

    INTERRUPT_MASK = 0
    INTERRUPT_STATUS = 4
    IV_POSITION = 8
    DOORBELL = 12


class Ivshmem(PciDevice):
    """The card. ``vectors`` 0: ivshmem-plain, which has no peers.

    ``ring(peer, vector)`` is called for a store to DOORBELL; `position` is the card's own id there.
    """

    identity = Identity(0x1AF4, 0x1110, class_code=0x050000, revision=1)

    def __init__(self, memory: Backing, vectors: int = 0,
                 ring: Callable[[int, int], object] = lambda peer, vector: None):  # fmt: skip
        super().__init__()
        self.position = 0
        self.memory = memory
        self._ring = ring
        self.add_bar(0, REGISTERS, BarType.MEMORY, self._read, self._write)
        if vectors:
            bar = self.add_bar(1, MSIX_BAR, BarType.MEMORY, lambda offset, size: 0,
                               lambda offset, size, value: None)  # fmt: skip
            self.add_msix(bar, vectors)
        self.add_memory_bar(2, BarType.MEMORY_64 | BarType.PREFETCH, memory)

    def _read(self, offset: int, size: int) -> int:
        """The interrupt registers are the pin's, and read as 0."""
        if offset & ~3 == Reg.IV_POSITION:
            return self.position >> 8 * (offset & 3) & (1 << 8 * size) - 1
        return 0

    def _write(self, offset: int, size: int, value: int) -> None:
        if offset == Reg.DOORBELL and size == 4:
            self._ring(value >> 16, value & 0xFFFF)

    def interrupt(self, vector: int) -> None:
        """A peer has rung."""
        if self.msix is not None and vector < self.msix.vectors:
            self.notify(vector)
