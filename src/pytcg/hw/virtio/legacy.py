"""The legacy transport's registers in I/O space (virtio 1.2, 4.1.4.10)."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Final

from pytcg.hw.virtio.device import Feature, Virtqueue

if TYPE_CHECKING:
    from pytcg.hw.virtio.pci import VirtioPci

LEGACY_SIZE: Final = 128
PAGE: Final = 4096  # alignment of the used ring, and the unit of queue addresses
ONLY_MODERN: Final = (1 << 32) - 1


class Reg(IntEnum):
    """Registers; the vectors are there while MSI-X is on."""

    HOST_FEATURES = 0
    GUEST_FEATURES = 4
    QUEUE_PFN = 8
    QUEUE_SIZE = 12
    QUEUE_SELECT = 14
    QUEUE_NOTIFY = 16
    STATUS = 18
    ISR = 19
    CONFIG_VECTOR = 20
    QUEUE_VECTOR = 22


class LegacyRegisters:
    """A driver of before 1.0: features of 32 bits, rings in one piece at a page number."""

    FIELDS = ("select",)

    def __init__(self, card: VirtioPci) -> None:
        self._card = card
        self._device = card.device
        self.select = 0

    @property
    def _queue(self) -> Virtqueue | None:
        queues = self._device.queues
        return queues[self.select] if self.select < len(queues) else None

    @property
    def _config_at(self) -> int:
        msix = self._card.msix
        return 24 if msix is not None and msix.enabled else 20

    def read(self, offset: int, size: int) -> int:
        """A register."""
        if offset >= self._config_at:
            return self._card.read_device(offset - self._config_at, size)
        device, queue = self._device, self._queue
        if offset == Reg.ISR:
            return self._card.take_isr()
        value = {
            Reg.HOST_FEATURES: device.features & ONLY_MODERN | 1 << Feature.ANY_LAYOUT,
            Reg.GUEST_FEATURES: device.driver_features,
            Reg.QUEUE_PFN: queue.table // PAGE if queue and queue.enabled else 0,
            Reg.QUEUE_SIZE: queue.largest if queue else 0,
            Reg.QUEUE_SELECT: self.select,
            Reg.STATUS: device.status,
            Reg.CONFIG_VECTOR: device.config_vector,
            Reg.QUEUE_VECTOR: queue.vector if queue else 0xFFFF,
        }.get(offset, 0)  # type: ignore[call-overload]
        return int(value) & (1 << size * 8) - 1

    def write(self, offset: int, size: int, value: int) -> None:
        """Store to a register."""
        device, queue = self._device, self._queue
        if offset >= self._config_at:
            self._card.write_device(offset - self._config_at, size, value)
        elif offset == Reg.GUEST_FEATURES:
            device.driver_features = value & ~(1 << Feature.ANY_LAYOUT)
        elif offset == Reg.QUEUE_SELECT:
            self.select = value
        elif offset == Reg.QUEUE_NOTIFY:
            self._card.notify_queue(value)
        elif offset == Reg.STATUS:
            device.set_status(value & 0xFF)
            if not value:
                self._card.take_isr()
        elif offset == Reg.CONFIG_VECTOR:
            device.config_vector = self._card.valid_vector(value)
        elif queue is not None and offset == Reg.QUEUE_VECTOR:
            queue.vector = self._card.valid_vector(value)
        elif queue is not None and offset == Reg.QUEUE_PFN:
            self._place(queue, value * PAGE)

    def _place(self, queue: Virtqueue, address: int) -> None:
        if not address:
            queue.reset()
            return
        queue.table = address
        queue.driver = address + 16 * queue.size
        end = queue.driver + 2 * queue.size + 6
        queue.used = -(-end // PAGE) * PAGE
        queue.enable(self._card)
