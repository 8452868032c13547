"""A port of a virtio console: a serial line that has a name, and that both ends open and close."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol

from pytcg.hw.pci.device import DmaError
from pytcg.hw.virtio.chain import Chain, RingError

if TYPE_CHECKING:
    from pytcg.hw.virtio.device import Virtqueue
    from pytcg.hw.virtio.serial import VirtioSerial

CHUNK: Final = 4096  # bytes handed to the host at once, so that `full` is looked at in between
ROOM: Final = 4096  # bytes of buffers that are taken from the ring in advance


class Wire(Protocol):
    """The host's end, as character devices have it: never blocks, says when it is full."""

    frontend_open: bool

    def write(self, data: bytes) -> None: ...

    def full(self) -> bool: ...

    def accept_input(self) -> None: ...


class SerialPort:
    """One port; it is its wire's front-end. ``name`` is what the guest finds it by."""

    def __init__(self, wire: Wire | None, name: str = "", *, console: bool = False) -> None:
        self.name = name
        self.console = console
        self.host_open = console  # somebody is at the host's end; consoles always have one
        self.guest_open = False
        self.on_guest_open: Callable[[bool], None] = lambda is_open: None
        self.size: tuple[int, int] | None = None  # columns and rows
        self._wire = wire
        self._device: VirtioSerial | None = None
        self._input: Virtqueue | None = None
        self._output: Virtqueue | None = None
        self._empty: deque[Chain] = deque()  # buffers for input, taken and not yet filled
        self._held: tuple[Chain, int] | None = None  # what the wire had no room for, from where

    def plug(self, device: VirtioSerial, queues: tuple[Virtqueue, Virtqueue]) -> None:
        """The device's side: the queue to the guest and the one from it."""
        self._device = device
        self._input, self._output = queues

    def unplug(self) -> None:
        """Leave the device; its buffers are the driver's again by then."""
        if self._device is not None:
            self._device.remove(self)
        self.reset()

    @property
    def wire(self) -> Wire | None:
        """What is at the host's end."""
        return self._wire

    def reset(self) -> None:
        """The driver is gone, and whatever buffers it gave."""
        self._held = None
        self._empty.clear()
        self.set_guest_open(is_open=False)

    # --- the host's end ------------------------------------------------------------------------

    def set_host_open(self, *, is_open: bool) -> None:
        """A peer came or went: the guest hears of it."""
        if self.host_open != is_open and not self.console:
            self.host_open = is_open
            if self._device is not None:
                self._device.tell_open(self)
        self.serve_output()

    def can_receive(self) -> int:
        """Bytes that the guest has buffers for; none as long as nobody reads there."""
        device, queue = self._device, self._input
        if device is None or queue is None or not device.running:
            return 0
        if device.multiport and not self.guest_open:
            return 0
        room = sum(chain.to_write for chain in self._empty)
        while room < ROOM and (chain := queue.pop_or_wait()) is not None:
            self._empty.append(chain)
            room += chain.to_write
        return room

    def receive(self, data: bytes) -> int:
        """Bytes from the host, no more than there is room for; returns how many were taken."""
        device, queue = self._device, self._input
        taken = 0
        while device is not None and queue is not None and taken < len(data) and self._empty:
            chain = self._empty.popleft()
            piece = data[taken : taken + chain.to_write]
            try:
                chain.write(piece)
            except DmaError:
                device.fail()
                break
            taken += len(piece)
            queue.push(chain, len(piece))
        return taken

    def receive_break(self) -> None:
        """There is none on these lines."""

    def emergency(self, data: bytes) -> None:
        """A character that bypasses the rings."""
        if self._wire is not None:
            self._wire.write(data)

    # --- the guest's end -----------------------------------------------------------------------

    def set_guest_open(self, *, is_open: bool) -> None:
        """A program of the guest opened or closed the port."""
        if self.guest_open != is_open:
            self.guest_open = is_open
            if self._wire is not None:
                self._wire.frontend_open = is_open or self.console
            self.on_guest_open(is_open)
        if is_open and self._wire is not None:
            self._wire.accept_input()

    def input_offered(self) -> None:
        """The driver gave buffers for what comes from the host."""
        if self._wire is not None:
            self._wire.accept_input()

    def serve_output(self) -> None:
        """Hand what the guest wrote to the wire until that is full; then it waits in the ring."""
        queue = self._output
        if queue is None or self._device is None:
            return
        try:
            while True:
                held = self._held or self._next(queue)
                self._held = None
                if held is None:
                    return
                if not self._send(queue, *held):
                    return
        except (RingError, DmaError):
            self._held = None
            self._device.fail()

    def _next(self, queue: Virtqueue) -> tuple[Chain, int] | None:
        chain = queue.pop_or_wait()
        return None if chain is None else (chain, 0)

    def _send(self, queue: Virtqueue, chain: Chain, start: int) -> bool:
        """Whether the whole of it went out. Without a peer it is lost, as on any serial line."""
        while start < chain.to_read and self._wire is not None and self.host_open:
            if self._wire.full():
                self._held = chain, start
                return False
            step = min(CHUNK, chain.to_read - start)
            self._wire.write(chain.read(start, step))
            start += step
        queue.push(chain, 0)
        return True
