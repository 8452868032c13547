"""The common configuration structure of the modern transport (virtio 1.2, 4.1.4.3)."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Final

from pytcg.hw.virtio.device import Feature, Virtqueue

if TYPE_CHECKING:
    from pytcg.hw.virtio.pci import VirtioPci

COMMON_SIZE: Final = 0x3C
LOW: Final = 0xFFFFFFFF


class Reg(IntEnum):
    """Registers; the addresses of a queue are two double words each."""

    DEVICE_FEATURE_SELECT = 0x00
    DEVICE_FEATURE = 0x04
    DRIVER_FEATURE_SELECT = 0x08
    DRIVER_FEATURE = 0x0C
    CONFIG_MSIX_VECTOR = 0x10
    NUM_QUEUES = 0x12
    DEVICE_STATUS = 0x14
    CONFIG_GENERATION = 0x15
    QUEUE_SELECT = 0x16
    QUEUE_SIZE = 0x18
    QUEUE_MSIX_VECTOR = 0x1A
    QUEUE_ENABLE = 0x1C
    QUEUE_NOTIFY_OFF = 0x1E
    QUEUE_DESC = 0x20
    QUEUE_DRIVER = 0x28
    QUEUE_DEVICE = 0x30


ADDRESSES: Final = {Reg.QUEUE_DESC: "table", Reg.QUEUE_DRIVER: "driver", Reg.QUEUE_DEVICE: "used"}


class CommonRegisters:
    """The driver's view of features, status and queues."""

    FIELDS = ("device_select", "driver_select", "queue_select")

    def __init__(self, card: VirtioPci) -> None:
        self._card = card
        self._device = card.device
        self.device_select = self.driver_select = self.queue_select = 0

    @property
    def _queue(self) -> Virtqueue | None:
        queues = self._device.queues
        return queues[self.queue_select] if self.queue_select < len(queues) else None

    def read(self, offset: int, size: int) -> int:
        """A register, or a part of one."""
        for reg in reversed(Reg):
            if reg <= offset:
                value = self._value(reg) >> (offset - reg) * 8
                return value & (1 << size * 8) - 1
        return 0

    def _value(self, reg: Reg) -> int:
        device, queue = self._device, self._queue
        if reg == Reg.DEVICE_FEATURE:
            return _half(device.features, self.device_select)
        if reg == Reg.DRIVER_FEATURE:
            return _half(device.driver_features, self.driver_select)
        fixed = {
            Reg.DEVICE_FEATURE_SELECT: self.device_select,
            Reg.DRIVER_FEATURE_SELECT: self.driver_select,
            Reg.CONFIG_MSIX_VECTOR: device.config_vector,
            Reg.NUM_QUEUES: len(device.queues),
            Reg.DEVICE_STATUS: device.status,
            Reg.CONFIG_GENERATION: device.config_generation,
            Reg.QUEUE_SELECT: self.queue_select,
        }
        if reg in fixed:
            return fixed[reg]
        if queue is None:
            return 0
        if reg in ADDRESSES:
            address: int = getattr(queue, ADDRESSES[reg])
            return address
        return {Reg.QUEUE_SIZE: queue.size, Reg.QUEUE_MSIX_VECTOR: queue.vector,
                Reg.QUEUE_ENABLE: int(queue.enabled), Reg.QUEUE_NOTIFY_OFF: queue.index,
                }[reg]  # fmt: skip

    def write(self, offset: int, size: int, value: int) -> None:
        """Store to a register; addresses may be written whole or by halves."""
        device = self._device
        if offset == Reg.DEVICE_FEATURE_SELECT:
            self.device_select = value
        elif offset == Reg.DRIVER_FEATURE_SELECT:
            self.driver_select = value
        elif offset == Reg.DRIVER_FEATURE:
            if self.driver_select < 2 and not device.running:
                shift = 32 * self.driver_select
                kept = device.driver_features & ~(LOW << shift)
                device.driver_features = kept | (value & LOW) << shift
        elif offset == Reg.CONFIG_MSIX_VECTOR:
            device.config_vector = self._card.valid_vector(value)
        elif offset == Reg.DEVICE_STATUS:
            self._write_status(value & 0xFF)
        elif offset == Reg.QUEUE_SELECT:
            self.queue_select = value
        elif self._queue is not None:
            self._write_queue(self._queue, offset, size, value)

    def _write_status(self, value: int) -> None:
        self._device.set_status(value)
        if not value:
            self._card.take_isr()
            self.queue_select = 0

    def _write_queue(self, queue: Virtqueue, offset: int, size: int, value: int) -> None:
        if offset == Reg.QUEUE_MSIX_VECTOR:
            queue.vector = self._card.valid_vector(value)
        elif queue.enabled:  # the driver must not change it now
            return
        elif offset == Reg.QUEUE_SIZE:
            packed = self._device.has(Feature.RING_PACKED)
            if 0 < value <= queue.largest and (packed or not value & value - 1):
                queue.size = value
        elif offset == Reg.QUEUE_ENABLE and value == 1:
            queue.enable(self._card)
        for reg, name in ADDRESSES.items():
            if reg <= offset and offset + size <= reg + 8 and size >= 4:
                shift = (offset - reg) * 8
                kept = getattr(queue, name) & ~((1 << size * 8) - 1 << shift)
                setattr(queue, name, (kept | value << shift) & (1 << 64) - 1)


def _half(features: int, select: int) -> int:
    return features >> 32 * select & LOW if select < 2 else 0
