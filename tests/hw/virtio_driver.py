"""A guest's side of virtio over PCI: enough of a driver to test devices with."""

from __future__ import annotations

import struct

from hw.dma import DmaBytes
from pytcg.hw.pci.config import Command
from pytcg.hw.pci.config import Reg as Pci
from pytcg.hw.virtio.modern import Reg
from pytcg.hw.virtio.pci import DEVICE, ISR, NOTIFY, VirtioPci

MEMORY = 1 << 20
TABLE, DRIVER, USED, INDIRECT, DATA = 0x1000, 0x2000, 0x3000, 0x4000, 0x10000
LANE = 0x20000  # between the rings of two queues
NEXT, WRITE, IS_INDIRECT = 1, 2, 4


class Slot(DmaBytes):
    """What a card finds: memory, and a pin that is looked at."""

    def __init__(self) -> None:
        super().__init__(MEMORY)
        self.pin = False

    def map_bar(self, bar: object) -> None: ...

    def unmap_bar(self, bar: object) -> None: ...

    def set_pin(self, device: object, level: bool) -> None:
        self.pin = level

    def deliver(self, address: int, data: int) -> None: ...


class Driver:
    """Sets a queue up and talks to it; ``features`` are those it accepts.

    ``beside`` is the driver of another queue of the same card: memory and state are shared then.
    """

    size = 8

    def __init__(self, card: VirtioPci, features: int, queue: int = 0,
                 beside: Driver | None = None) -> None:  # fmt: skip
        self.card = card
        self.queue = queue
        self.packed = bool(features >> 34 & 1)
        self.next = 0
        self.used = 0
        self.wrap = self.used_wrap = 1
        self.base = queue * LANE if beside is not None else 0
        if beside is None:
            self.slot = Slot()
            self._start(features)
        else:
            self.slot = beside.slot
        self._enable()
        if beside is None:
            self.put(Reg.DEVICE_STATUS, 1, 15)

    def _start(self, features: int) -> None:
        self.card.host = self.slot
        self.card.reset()
        self.card.write_config(Pci.COMMAND, 2, Command.MEMORY | Command.BUS_MASTER)
        for status in (1, 3):
            self.put(Reg.DEVICE_STATUS, 1, status)
        for half in (0, 1):
            self.put(Reg.DRIVER_FEATURE_SELECT, 4, half)
            self.put(Reg.DRIVER_FEATURE, 4, features >> 32 * half & 0xFFFFFFFF)
        self.put(Reg.DEVICE_STATUS, 1, 11)
        assert self.get(Reg.DEVICE_STATUS, 1) == 11

    def _enable(self) -> None:
        self.put(Reg.QUEUE_SELECT, 2, self.queue)
        self.put(Reg.QUEUE_SIZE, 2, self.size)
        for reg, address in ((Reg.QUEUE_DESC, TABLE), (Reg.QUEUE_DRIVER, DRIVER),
                             (Reg.QUEUE_DEVICE, USED)):  # fmt: skip
            self.put(reg, 4, self.base + address)
            self.put(reg + 4, 4, 0)
        self.put(Reg.QUEUE_ENABLE, 2, 1)

    def get(self, reg: int, size: int) -> int:
        return self.card._read(reg, size)

    def put(self, reg: int, size: int, value: int) -> None:
        self.card._write(reg, size, value)

    def config(self, offset: int, size: int) -> int:
        return self.card._read(DEVICE + offset, size)

    @property
    def broken(self) -> bool:
        return bool(self.get(Reg.DEVICE_STATUS, 1) & 0x40)

    def isr(self) -> int:
        return self.card._read(ISR, 1)

    def kick(self) -> None:
        self.card._write(NOTIFY + 4 * self.queue, 2, self.queue)

    def store(self, address: int, format: str, *values: int) -> None:
        struct.pack_into(format, self.slot.memory, address, *values)

    def offer(self, buffers: list[tuple[int, int, bool]], *, indirect: bool = False) -> None:
        """(address, length, device writes) descriptors as one chain, and a kick."""
        if self.packed:
            self._offer_packed(buffers, indirect=indirect)
        else:
            self._offer_split(buffers, indirect=indirect)
        self.kick()

    def _offer_split(self, buffers: list[tuple[int, int, bool]], *, indirect: bool) -> None:
        table = self.base + (INDIRECT if indirect else TABLE)
        last = len(buffers) - 1
        for index, (address, length, writes) in enumerate(buffers):
            flags = (NEXT if index < last else 0) | (WRITE if writes else 0)
            self.store(table + 16 * index, "<QLHH", address, length, flags, index + 1)
        if indirect:
            self.store(self.base + TABLE, "<QLHH", table, 16 * len(buffers), IS_INDIRECT, 0)
        self.store(self.base + DRIVER + 4 + 2 * (self.next % self.size), "<H", 0)
        self.next = self.next + 1 & 0xFFFF
        self.store(self.base + DRIVER + 2, "<H", self.next)

    def _offer_packed(self, buffers: list[tuple[int, int, bool]], *, indirect: bool) -> None:
        rows = [(address, length, WRITE if writes else 0) for address, length, writes in buffers]
        if indirect:
            for index, (address, length, flags) in enumerate(rows):
                self.store(self.base + INDIRECT + 16 * index, "<QLHH", address, length, 0, flags)
            rows = [(self.base + INDIRECT, 16 * len(rows), IS_INDIRECT)]
        for index, (address, length, flags) in enumerate(rows):
            flags |= NEXT if index < len(rows) - 1 else 0
            flags |= 0x80 if self.wrap else 0x8000
            self.store(self.base + TABLE + 16 * self.next, "<QLHH", address, length, 5, flags)
            self.next += 1
            if self.next == self.size:
                self.next, self.wrap = 0, self.wrap ^ 1
        self.taken = len(rows)

    def finished(self) -> int | None:
        """The written length of the next used buffer, None if there is none."""
        memory = self.slot.memory
        if not self.packed:
            if struct.unpack_from("<H", memory, self.base + USED + 2)[0] == self.used:
                return None
            at = self.base + USED + 4 + 8 * (self.used % self.size)
            self.used = self.used + 1 & 0xFFFF
            length: int = struct.unpack_from("<LL", memory, at)[1]
            return length
        at = self.base + TABLE + 16 * self.used
        _, length, identity, flags = struct.unpack_from("<QLHH", memory, at)
        if {bool(flags & 0x80), bool(flags & 0x8000)} != {bool(self.used_wrap)}:
            return None
        assert identity == 5
        self.used += self.taken
        if self.used >= self.size:
            self.used, self.used_wrap = self.used - self.size, self.used_wrap ^ 1
        return int(length)
