"""Where the PCI bus meets the board: windows, guest memory, interrupt messages."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from pytcg.exec.layout import STORES_DROPPED
from pytcg.hw.core.apic_bus import DeliveryMode, Destination, Trigger
from pytcg.hw.pci.bar import Bar
from pytcg.hw.pci.bus import DmaError
from pytcg.machine.bus import MmioBus, PortBus
from pytcg.softmmu.address_map import AddressMap, Mapped, Region
from pytcg.softmmu.ram import RamError

MESSAGES: Final = 0xFEE00000  # SDM vol. 3, 11.11: a write here is an interrupt
MESSAGES_MASK: Final = 0xFFF00000
LOGICAL: Final = 1 << 2
LEVEL: Final = 1 << 15

Send = Callable[[Destination, DeliveryMode, int, Trigger], None]


class PciSpaces:
    """BarSpace and DmaMemory of a board."""

    def __init__(self, ports: PortBus, mmio: MmioBus, memory: AddressMap) -> None:
        self._ports = ports
        self._mmio = mmio
        self._memory = memory

    def map_bar(self, bar: Bar) -> None:
        """Let a window answer where its register says; by calls where its memory is hidden."""
        assert bar.base is not None
        if bar.backing is not None:
            offset, stores = bar.backing.offset, STORES_DROPPED
            if bar.backing.writable:
                stores = offset
            self._memory.fill(bar, [Region(bar.base, bar.size, offset, stores)])
        bus = self._ports if bar.is_io else self._mmio
        bus.map_window(bar, bar.base, bar.size, bar.read, bar.write)

    def unmap_bar(self, bar: Bar) -> None:
        """Take a window away."""
        if bar.backing is not None:
            self._memory.fill(bar, [])
        (self._ports if bar.is_io else self._mmio).unmap_window(bar)

    def dma_read(self, address: int, length: int) -> bytes:
        """Bytes of RAM; DmaError."""
        try:
            return self._memory.read(address, length)
        except RamError as error:
            raise DmaError(str(error)) from error

    def dma_write(self, address: int, data: bytes) -> None:
        """Store to RAM; DmaError."""
        try:
            self._memory.store(address, data)
        except RamError as error:
            raise DmaError(str(error)) from error

    def dma_map(self, pieces: Iterable[tuple[int, int]]) -> Mapped | None:
        """Ranges of RAM in place; None where some are no plain RAM."""
        return self._memory.map(pieces)


def deliver_message(send: Send, address: int, data: int) -> None:
    """An interrupt message (SDM vol. 3, 11.11); what is written elsewhere reaches no processor."""
    if address & ~0xFFFFF == MESSAGES & MESSAGES_MASK:
        dest = Destination(address >> 12 & 0xFF, logical=bool(address & LOGICAL))
        trigger = Trigger.LEVEL if data & LEVEL else Trigger.EDGE
        send(dest, DeliveryMode(data >> 8 & 7), data & 0xFF, trigger)
