"""virtio-serial, driven over PCI: control messages, both directions, holding back, bad buffers."""

from __future__ import annotations

import random
import struct

from hw.virtio_driver import DATA, USED, Driver
from pytcg.hw.virtio.pci import VirtioPci
from pytcg.hw.virtio.serial import Event, VirtioSerial
from pytcg.hw.virtio.serial_port import SerialPort

VERSION_1, MULTIPORT, EMERGENCY, EVENT_IDX = 1 << 32, 1 << 1, 1 << 2, 1 << 29
NUMBER = 1
RECEIVE, SEND = 4, 5  # queues of port 1


class FakeWire:
    """A host's end that is full when told to be."""

    def __init__(self) -> None:
        self.frontend_open = False
        self.sent = b""
        self.is_full = False
        self.asked = 0

    def write(self, data: bytes) -> None:
        self.sent += data

    def full(self) -> bool:
        return self.is_full

    def accept_input(self) -> None:
        self.asked += 1


class Guest:
    """A driver with a port 1 named "agent", and buffers for control messages."""

    def __init__(self, features: int = MULTIPORT, *, console: bool = False, number: int = NUMBER
                 ) -> None:  # fmt: skip
        self.wire = FakeWire()
        self.port = SerialPort(self.wire, "agent", console=console)
        self.device = VirtioSerial(4)
        self.device.add(self.port, number)
        card = VirtioPci(self.device, 0x078000)
        self.from_control = Driver(card, VERSION_1 | features, queue=2)
        self.card = card
        self.to_control = Driver(card, 0, 3, self.from_control)
        self.input = Driver(card, 0, 2 * number + 2 if number else 0, self.from_control)
        self.output = Driver(card, 0, self.input.queue + 1, self.from_control)
        self.memory = self.input.slot.memory

    def control(self, event: int, value: int, number: int = NUMBER) -> None:
        at = self.to_control.base + DATA
        self.to_control.store(at, "<LHH", number, event, value)
        self.to_control.offer([(at, 8, False)])
        assert self.to_control.finished() == 0

    def messages(self) -> list[tuple[int, int, int, bytes]]:
        """The control messages that wait: port, event, value, more."""
        found = []
        at = self.from_control.base + DATA
        while self.device.waiting:
            self.from_control.offer([(at, 64, True)])
            length = self.from_control.finished()
            assert length is not None
            head = struct.unpack_from("<LHH", self.memory, at)
            found.append((*head, bytes(self.memory[at + 8 : at + length])))
        return found

    def send(self, data: bytes) -> int | None:
        at = self.output.base + DATA
        self.memory[at : at + len(data)] = data
        self.output.offer([(at, len(data), False)])
        return self.output.finished()


def test_a_port_is_announced_named_and_opened() -> None:
    guest = Guest()
    assert guest.from_control.config(0, 4) == 0 and guest.from_control.config(4, 4) == 4
    guest.control(Event.DEVICE_READY, 1)
    assert guest.messages() == [(1, Event.DEVICE_ADD, 1, b"")]
    guest = Guest()
    guest.control(Event.PORT_READY, 1)
    assert guest.messages() == [(1, Event.PORT_NAME, 1, b"agent")]


def test_the_guest_hears_of_the_peer_and_the_wire_of_the_guest() -> None:
    opened: list[bool] = []
    guest = Guest()
    guest.port.on_guest_open = opened.append
    guest.port.set_host_open(is_open=True)
    guest.port.set_host_open(is_open=False)
    assert guest.messages() == [(1, Event.PORT_OPEN, 1, b""), (1, Event.PORT_OPEN, 0, b"")]
    assert not guest.wire.frontend_open
    guest.control(Event.PORT_OPEN, 1)
    assert guest.wire.frontend_open and guest.wire.asked and opened == [True]
    guest.card.reset()
    assert not guest.wire.frontend_open and opened == [True, False]


def test_input_waits_for_an_open_port_and_buffers() -> None:
    guest = Guest()
    at = guest.input.base + DATA
    guest.input.offer([(at, 3, True)])
    assert guest.port.can_receive() == 0  # nobody has it open
    guest.control(Event.PORT_OPEN, 1)
    assert guest.port.can_receive() == 3
    guest.input.offer([(at + 16, 5, True)])
    assert guest.port.can_receive() == 8
    assert guest.port.receive(b"abcdef") == 6
    assert (guest.input.finished(), guest.input.finished()) == (3, 3)
    assert bytes(guest.memory[at : at + 3]) == b"abc"
    assert bytes(guest.memory[at + 16 : at + 19]) == b"def"
    assert guest.port.can_receive() == 0


def test_output_waits_for_a_full_wire_and_is_lost_without_a_peer() -> None:
    guest = Guest()
    assert guest.send(b"nobody hears") == 0 and guest.wire.sent == b""
    guest.port.set_host_open(is_open=True)
    assert guest.send(b"one") == 0 and guest.wire.sent == b"one"
    guest.wire.is_full = True
    assert guest.send(b"two") is None
    guest.wire.is_full = False
    guest.port.serve_output()
    assert guest.output.finished() == 0 and guest.wire.sent == b"onetwo"
    guest.wire.is_full = True
    assert guest.send(b"three") is None
    guest.port.set_host_open(is_open=False)  # who held it back has gone
    assert guest.output.finished() == 0 and guest.wire.sent == b"onetwo"


def test_drivers_with_event_indices_are_asked_for_each_notification() -> None:
    guest = Guest(features=MULTIPORT | EVENT_IDX)
    for queue in (guest.output, guest.input):
        event = queue.base + USED + 4 + 8 * queue.size
        for number in range(1, 4):
            queue.offer([(queue.base + DATA, 1, queue is guest.input)])
            if queue is guest.input:
                guest.control(Event.PORT_OPEN, 1)
                assert guest.port.can_receive()
                guest.port.receive(b"x")
                assert not guest.port.can_receive()
            assert struct.unpack_from("<H", guest.memory, event)[0] == number


def test_a_console_without_multiport_is_port_0() -> None:
    guest = Guest(features=EMERGENCY, console=True, number=0)
    assert guest.port.guest_open
    assert guest.send(b"login:") == 0 and guest.wire.sent == b"login:"
    guest.card.write_device(8, 4, ord("!"))
    assert guest.wire.sent == b"login:!"


def test_a_console_tells_its_size() -> None:
    guest = Guest(console=True)
    guest.device.resize(guest.port, 80, 25)
    assert guest.messages() == [(1, Event.RESIZE, 0, struct.pack("<HH", 25, 80))]
    guest = Guest(console=True, number=0)
    assert guest.device.features & 1
    guest.device.resize(guest.port, 132, 43)
    assert guest.from_control.config(0, 2) == 132 and guest.from_control.config(2, 2) == 43
    assert guest.from_control.isr() & 2


def test_buffers_that_lie_elsewhere_ask_for_a_reset() -> None:
    guest = Guest()
    guest.control(Event.PORT_OPEN, 1)
    guest.port.set_host_open(is_open=True)
    guest.output.offer([(1 << 40, 4, False)])
    assert guest.output.broken and guest.port.can_receive() == 0
    guest = Guest()
    guest.control(Event.PORT_OPEN, 1)
    guest.input.offer([(1 << 40, 4, True)])
    guest.port.receive(bytes(guest.port.can_receive()))
    assert guest.input.broken


def test_random_control_messages_never_raise() -> None:
    chance = random.Random(5)
    guest = Guest()
    for _ in range(2000):
        number = chance.choice((0, 1, 7, 1 << 31))
        guest.control(chance.randrange(10), chance.randrange(3), number)
        if not chance.randrange(20):
            guest.messages()
    assert not guest.to_control.broken
