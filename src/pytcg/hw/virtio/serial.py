"""virtio-console: serial ports and consoles, many on one device (virtio 1.2, 5.3)."""

from __future__ import annotations

import struct
from collections import deque
from enum import IntEnum
from typing import Final

from pytcg.hw.pci.device import DmaError
from pytcg.hw.state import State as Saved
from pytcg.hw.state import StateError
from pytcg.hw.virtio.chain import Chain
from pytcg.hw.virtio.device import VirtioDevice, Virtqueue
from pytcg.hw.virtio.serial_port import SerialPort

MOST_PORTS: Final = 511  # a device has 1024 queues
PORT_QUEUE: Final = 128
CONTROL_QUEUE: Final = 32
CONTROL_IN, CONTROL_OUT = 2, 3
CONTROL: Final = struct.Struct("<LHH")  # port, event, value
EMERGENCY_AT: Final = 8  # in the configuration
MOST_WAITING: Final = 1024  # control messages that the driver has given no buffers for


class Bit(IntEnum):
    """Feature bits."""

    SIZE = 0
    MULTIPORT = 1
    EMERG_WRITE = 2


class Event(IntEnum):
    """Control messages (5.3.6.2)."""

    DEVICE_READY = 0
    DEVICE_ADD = 1
    DEVICE_REMOVE = 2
    PORT_READY = 3
    CONSOLE_PORT = 4
    RESIZE = 5
    PORT_OPEN = 6
    PORT_NAME = 7


class VirtioSerial(VirtioDevice):
    """Up to ``max_ports`` ports. Port 0 is kept for a console: drivers without MULTIPORT know it.

    Queues: port 0's two, the control queues, then two for each further port.
    """

    kind = 3

    def __init__(self, max_ports: int = 31, *, emergency_write: bool = True) -> None:
        self.max_ports = max_ports
        self.ports: dict[int, SerialPort] = {}
        self.queue_sizes = (PORT_QUEUE, PORT_QUEUE, CONTROL_QUEUE, CONTROL_QUEUE,
                            *(PORT_QUEUE,) * (2 * max_ports - 2))  # fmt: skip
        self.own_features = bool(emergency_write) << Bit.EMERG_WRITE
        if max_ports > 1:
            self.own_features |= 1 << Bit.MULTIPORT
        self.waiting: deque[bytes] = deque()
        super().__init__()

    # --- ports ---------------------------------------------------------------------------------

    def state(self) -> Saved:
        """Not there yet: a port keeps buffers that it has taken."""
        raise StateError("a machine with virtio-serial ports can't be saved")

    def add(self, port: SerialPort, number: int) -> None:
        """Put a port in; the number is free and below `max_ports`."""
        first = 0 if number == 0 else 2 * number + 2
        self.ports[number] = port
        port.plug(self, (self.queues[first], self.queues[first + 1]))
        if port.console and number == 0:
            self.own_features |= 1 << Bit.SIZE
        self._tell(number, Event.DEVICE_ADD, 1)

    def remove(self, port: SerialPort) -> None:
        """Take a port out."""
        number = self.number_of(port)
        del self.ports[number]
        self._tell(number, Event.DEVICE_REMOVE, 1)

    def number_of(self, port: SerialPort) -> int:
        """By which the guest knows it."""
        return next(number for number, known in self.ports.items() if known is port)

    @property
    def multiport(self) -> bool:
        """Whether ports are opened and closed by control messages."""
        return self.has(Bit.MULTIPORT)

    def reset(self) -> None:
        super().reset()
        self.waiting.clear()
        for port in self.ports.values():
            port.reset()

    def started(self) -> None:
        """A driver without MULTIPORT has port 0 open from now on."""
        if not self.multiport and 0 in self.ports:
            self.ports[0].set_guest_open(is_open=True)

    # --- configuration -------------------------------------------------------------------------

    def config(self) -> bytes:
        columns, rows = (self.ports[0].size if 0 in self.ports else None) or (0, 0)
        return struct.pack("<HHLL", columns, rows, self.max_ports, 0)

    def write_config(self, offset: int, data: bytes) -> None:
        """The emergency write: a character for the first console, past the queues."""
        if self.own_features >> Bit.EMERG_WRITE & 1 and offset == EMERGENCY_AT:
            for port in self.ports.values():
                if port.console:
                    port.emergency(data[:1])
                    return

    def resize(self, port: SerialPort, columns: int, rows: int) -> None:
        """A console's terminal has another size."""
        port.size = columns, rows
        number = self.number_of(port)
        if self.multiport:
            # Linux reads the rows first, and the specification's text has the columns first.
            self._tell(number, Event.RESIZE, 0, struct.pack("<HH", rows, columns))
        if number == 0:
            self.changed()

    # --- queues --------------------------------------------------------------------------------

    def notified(self, queue: Virtqueue) -> None:
        if queue.index == CONTROL_IN:
            self._flush()
        elif queue.index == CONTROL_OUT:
            queue.take_all(self._control)
        else:
            number = queue.index // 2 - (queue.index > CONTROL_OUT)
            port = self.ports.get(number)
            if port is None:
                return
            if queue.index % 2:
                port.serve_output()
            else:
                port.input_offered()

    # --- control -------------------------------------------------------------------------------

    def tell_open(self, port: SerialPort) -> None:
        """The host's end of a port was opened or closed."""
        self._tell(self.number_of(port), Event.PORT_OPEN, port.host_open)

    def _control(self, chain: Chain) -> None:
        data = chain.read(0, min(chain.to_read, CONTROL.size))
        if len(data) == CONTROL.size:
            number, event, value = CONTROL.unpack(data)
            if event == Event.DEVICE_READY:
                if value:
                    for known in self.ports:
                        self._tell(known, Event.DEVICE_ADD, 1)
            elif number in self.ports:
                self._port_event(number, event, value)
        self.queues[CONTROL_OUT].push(chain, 0)

    def _port_event(self, number: int, event: int, value: int) -> None:
        port = self.ports[number]
        if event == Event.PORT_OPEN:
            port.set_guest_open(is_open=bool(value))
        elif event == Event.PORT_READY and value:
            if port.console:
                self._tell(number, Event.CONSOLE_PORT, 1)
            if port.name:
                self._tell(number, Event.PORT_NAME, 1, port.name.encode())
            if port.size is not None:
                self.resize(port, *port.size)
            if port.host_open:
                self._tell(number, Event.PORT_OPEN, 1)

    def _tell(self, number: int, event: int, value: int, more: bytes = b"") -> None:
        if self.multiport and self.running and len(self.waiting) < MOST_WAITING:
            self.waiting.append(CONTROL.pack(number, event, value) + more)
            self._flush()

    def _flush(self) -> None:
        """Give the driver the messages that there are buffers for."""
        queue = self.queues[CONTROL_IN]
        while self.waiting:
            chain = queue.pop_or_wait()
            if chain is None:
                return
            message = self.waiting.popleft()[: chain.to_write]
            try:
                chain.write(message)
            except DmaError:
                self.fail()
                return
            queue.push(chain, len(message))
