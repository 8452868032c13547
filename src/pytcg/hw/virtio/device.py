"""What all virtio devices have: features, status, queues, configuration (virtio 1.2, chapter 2).

A device is a subclass of `VirtioDevice`; a transport (`pci.py`) carries it. Nothing a driver puts
into a ring raises beyond here: what may not be there makes the device ask for a reset.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum, IntFlag
from typing import Final, Protocol

from pytcg.hw.bits import register_bits
from pytcg.hw.pci.device import DmaError
from pytcg.hw.state import State, StateError, load, save
from pytcg.hw.virtio.chain import Chain, Memory, RingError
from pytcg.hw.virtio.packed import PackedRing
from pytcg.hw.virtio.split import SplitRing

NO_VECTOR: Final = 0xFFFF


@register_bits
class Status(IntFlag):
    """Device status (2.1)."""

    ACKNOWLEDGE = 0x01
    DRIVER = 0x02
    DRIVER_OK = 0x04
    FEATURES_OK = 0x08
    NEEDS_RESET = 0x40
    FAILED = 0x80


class Feature(IntEnum):
    """Bits of all devices (chapter 6)."""

    NOTIFY_ON_EMPTY = 24
    ANY_LAYOUT = 27
    INDIRECT_DESC = 28
    EVENT_IDX = 29
    VERSION_1 = 32
    RING_PACKED = 34


class Transport(Memory, Protocol):
    """How a device reaches memory and its driver."""

    def queue_interrupt(self, vector: int) -> None:
        """Buffers were used."""
        ...

    def config_interrupt(self) -> None:
        """Configuration or status changed."""
        ...


class Virtqueue:
    """One queue: what the driver told of it, and its ring while it is in use."""

    def __init__(self, device: VirtioDevice, index: int, size: int) -> None:
        self._device = device
        self.index = index
        self._taking = self._untold = False
        self.largest = size
        self.reset()

    def reset(self) -> None:
        """As after power-on."""
        self.size = self.largest
        self.table = self.driver = self.used = 0
        self.vector = NO_VECTOR
        self.ring: SplitRing | PackedRing | None = None

    _FIELDS = ("size", "table", "driver", "used", "vector")

    def state(self) -> State:
        """Where its ring is, and how far it came; every buffer taken has been given back."""
        kept = save(self, 1, self._FIELDS)
        return kept if self.ring is None else kept | {"ring": self.ring.state()}

    def restore(self, state: State, memory: Memory) -> None:
        """The device's features come first."""
        load(self, state, 1, self._FIELDS)
        self.ring = None
        if "ring" in state:
            self.enable(memory)
            assert self.ring is not None
            self.ring.restore(state["ring"])

    @property
    def enabled(self) -> bool:
        """Whether the driver set it up."""
        return self.ring is not None

    def enable(self, memory: Memory) -> None:
        """The driver set it up."""
        device = self._device
        packed = device.has(Feature.RING_PACKED)
        self.ring = (PackedRing if packed else SplitRing)(
            memory, self.size, self.table, self.driver, self.used,
            indirect=device.has(Feature.INDIRECT_DESC), event_index=device.has(Feature.EVENT_IDX),
        )  # fmt: skip

    def pop(self) -> Chain | None:
        """The next buffer; None if there is none, or the device needs a reset."""
        if self.ring is None or not self._device.running:
            return None
        try:
            return self.ring.pop()
        except (RingError, DmaError):
            self._device.fail()
            return None

    def pop_or_wait(self) -> Chain | None:
        """As `pop`, for queues that are not emptied at once: after None the driver notifies."""
        chain = self.pop()
        if chain is None:
            self._ask(wanted=True)
            chain = self.pop()  # one that came in between has no notification
        return chain

    def take_all(self, serve: Callable[[Chain], None]) -> None:
        """Serve every buffer there is; ask for notifications when there are no more.

        For what is given back meanwhile the driver hears once, at the end.
        """
        self._taking, self._untold = True, False
        try:
            self._take_all(serve)
        except (RingError, DmaError):
            self._device.fail()
        finally:
            self._taking = False
        if self._untold:
            self._tell()

    def _take_all(self, serve: Callable[[Chain], None]) -> None:
        chain: Chain | None = None
        while True:
            self._ask(wanted=False)
            if chain is not None:
                serve(chain)
            while (chain := self.pop()) is not None:
                serve(chain)
            self._ask(wanted=True)
            if (chain := self.pop()) is None:  # one that came in between has no notification
                return

    def _ask(self, *, wanted: bool) -> None:
        if self.ring is None or not self._device.running:
            return
        try:
            self.ring.ask_notification(wanted=wanted)
        except DmaError:
            self._device.fail()

    def push(self, chain: Chain, written: int, *, notify: bool = True) -> None:
        """Give a buffer back, and tell the driver if it wants to know."""
        if self.ring is None or not self._device.running:
            return
        try:
            self.ring.push(chain, written)
        except DmaError:
            self._device.fail()
            return
        if notify and self._taking:
            self._untold = True
        elif notify:
            self._tell()

    def _tell(self) -> None:
        """Interrupt, if the driver wants to hear of what was given back."""
        if self.ring is None or not self._device.running:
            return
        try:
            if self.ring.wants_interrupt():
                self._device.interrupt(self)
        except DmaError:
            self._device.fail()


class VirtioDevice:
    """See the module's text. ``kind`` is the device ID of chapter 5."""

    kind: int
    queue_sizes: tuple[int, ...]
    own_features: int = 0

    def __init__(self) -> None:
        self.transport: Transport | None = None
        self.options = 1 << Feature.INDIRECT_DESC | 1 << Feature.EVENT_IDX
        self.queues = [Virtqueue(self, index, size) for index, size in enumerate(self.queue_sizes)]
        self.generation = 0  # completions of an older one are late
        self.status = 0
        self.driver_features = 0
        self.config_vector = NO_VECTOR
        self.config_generation = 0

    # --- for subclasses ------------------------------------------------------------------------

    def config(self) -> bytes:
        """The configuration space."""
        return b""

    def write_config(self, offset: int, data: bytes) -> None:
        """The driver stores to it."""

    def notified(self, queue: Virtqueue) -> None:
        """The driver offered buffers."""

    def started(self) -> None:
        """DRIVER_OK."""

    # --- features and status -------------------------------------------------------------------

    @property
    def features(self) -> int:
        """What the device offers."""
        return self.own_features | self.options

    def has(self, bit: int) -> bool:
        """Whether a feature was negotiated."""
        return bool(self.driver_features >> bit & 1)

    @property
    def running(self) -> bool:
        """Whether it serves its queues."""
        return bool(self.status & Status.DRIVER_OK and not self.status & Status.NEEDS_RESET)

    def reset(self) -> None:
        """The driver wrote 0 to the status, or the bus was reset."""
        self.generation += 1
        self.status = 0
        self.driver_features = 0
        self.config_vector = NO_VECTOR
        for queue in self.queues:
            queue.reset()

    def set_status(self, value: int) -> None:
        """The driver's store."""
        if not value:
            self.reset()
            return
        before = self.status
        self.status = value & ~Status.NEEDS_RESET | before & Status.NEEDS_RESET
        if self.driver_features & ~self.features:
            self.status &= ~Status.FEATURES_OK
        if self.status & ~before & Status.DRIVER_OK:
            self.started()

    # --- saved state ---------------------------------------------------------------------------

    _COMMON = ("options", "status", "driver_features", "config_vector", "config_generation")
    _FIELDS: tuple[str, ...] = ()

    def state(self) -> State:
        """Registers and queues, and what subclasses name in `_FIELDS` or add."""
        return save(self, 1, (*self._COMMON, *self._FIELDS)) | {
            "queues": [queue.state() for queue in self.queues]}

    def restore(self, state: State) -> None:
        load(self, state, 1, (*self._COMMON, *self._FIELDS))
        self.generation += 1
        if len(state["queues"]) != len(self.queues):
            raise StateError(f"{type(self).__name__}: {len(state['queues'])} queues")
        assert self.transport is not None
        for queue, saved in zip(self.queues, state["queues"], strict=True):
            queue.restore(saved, self.transport)

    def fail(self) -> None:
        """The driver broke the rules: no queue is served until it resets the device."""
        if not self.status & Status.NEEDS_RESET:
            self.status |= Status.NEEDS_RESET
            self.changed()

    def changed(self) -> None:
        """Tell the driver that configuration or status are new."""
        self.config_generation = self.config_generation + 1 & 0xFF
        if self.status & Status.DRIVER_OK and self.transport is not None:
            self.transport.config_interrupt()

    def interrupt(self, queue: Virtqueue) -> None:
        """Tell the driver of used buffers."""
        if self.transport is not None:
            self.transport.queue_interrupt(queue.vector)
