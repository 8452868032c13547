"""virtio keyboards, mice and tablets, driven over PCI and by a console."""

from __future__ import annotations

import struct
import threading

from hw.virtio_driver import DATA, Driver
from pytcg.hw.input.ps2_keyboard import Ps2Keyboard
from pytcg.hw.input.ps2_mouse import Ps2Mouse
from pytcg.hw.virtio.input import VirtioInput, VirtioKeyboard, VirtioMouse, VirtioTablet
from pytcg.hw.virtio.pci import DEVICE, VirtioPci
from pytcg.ui.console import Console
from pytcg.ui.keys import EVDEV, SCAN_CODES

ONE = 1 << 32
SYN, KEY, REL, ABS, LED = 0, 1, 2, 3, 0x11


class Guest:
    """A driver of events and LEDs."""

    def __init__(self, device: VirtioInput) -> None:
        self.device = device
        self.card = VirtioPci(device, 0x098000)
        self.events = Driver(self.card, ONE)
        self.leds = Driver(self.card, ONE, queue=1, beside=self.events)

    def fact(self, select: int, subselect: int = 0) -> bytes:
        self.card._write(DEVICE, 1, select)
        self.card._write(DEVICE + 1, 1, subselect)
        length = self.events.config(2, 1)
        return bytes(self.events.config(8 + at, 1) for at in range(length))

    def take(self, count: int) -> list[tuple[int, ...]]:
        """Offer buffers one by one; the events that come."""
        found = []
        for _ in range(count):
            self.events.offer([(DATA, 8, True)])
            while self.events.finished() is not None:
                found.append(struct.unpack_from("<HHl", self.events.slot.memory, DATA))
        return found


def test_what_they_are() -> None:
    tablet = Guest(VirtioTablet("no. 7"))
    assert tablet.fact(1) == b"QEMU Virtio Tablet" and tablet.fact(2) == b"no. 7"
    assert tablet.fact(3) == struct.pack("<4H", 6, 0x0627, 3, 1)
    assert tablet.fact(0x11, ABS) == b"\3" and tablet.fact(0x11, REL) == b"\0\1"
    assert tablet.fact(0x12, 1) == struct.pack("<5L", 0, 0x7FFF, 0, 0, 0)
    assert tablet.fact(0x12, 2) == tablet.fact(0x55) == b""
    keys = Guest(VirtioKeyboard(range(1, 128))).fact(0x11, KEY)
    assert keys == b"\xfe" + b"\xff" * 15


def test_events_wait_for_buffers_and_end_with_syn() -> None:
    guest = Guest(VirtioTablet())
    guest.device.point(5, 6, 0, 1)  # type: ignore[attr-defined]
    assert guest.take(4) == [(ABS, 0, 5), (ABS, 1, 6), (KEY, 0x110, 1), (SYN, 0, 0)]
    guest.device.point(5, 6, 2, 2)  # type: ignore[attr-defined]
    assert guest.take(6) == [(ABS, 0, 5), (ABS, 1, 6), (REL, 8, -2), (KEY, 0x110, 0),
                             (KEY, 0x111, 1), (SYN, 0, 0)]  # fmt: skip


def test_a_driver_that_takes_nothing_loses_events_not_memory() -> None:
    guest = Guest(VirtioMouse())
    for _ in range(5000):
        guest.device.move(1, 0, 0, 0)  # type: ignore[attr-defined]
    assert len(guest.device.waiting) <= 1024
    guest.card.reset()
    guest.device.move(1, 0, 0, 0)  # type: ignore[attr-defined]
    assert not guest.device.waiting


def test_leds_are_heard_of_and_state_is_kept() -> None:
    guest = Guest(VirtioKeyboard(range(1, 128)))
    guest.events.store(DATA, "<HHL", LED, 1, 1)
    guest.leds.offer([(DATA, 8, False)])
    assert guest.device.leds == 2
    guest.device.key(30, down=True)  # type: ignore[attr-defined]
    saved = guest.card.state()
    other = Guest(VirtioKeyboard(range(1, 128)))
    other.card.restore(saved)
    assert other.device.leds == 2 and list(other.device.waiting) == list(guest.device.waiting)


def test_a_console_uses_those_whose_drivers_run() -> None:
    devices = VirtioKeyboard(range(1, 128)), VirtioTablet(), VirtioMouse()
    keyboard, mouse = Ps2Keyboard(), Ps2Mouse()
    console = Console(threading.RLock(), None, keyboard, mouse, devices)  # type: ignore[arg-type]
    console.key("a", down=True)
    assert list(keyboard.queue) == [0x1C] and not console.absolute and console.leds == 0
    guests = [Guest(device) for device in devices]
    console.key("a", down=False)
    assert guests[0].take(2) == [(KEY, 30, 0), (SYN, 0, 0)] and len(keyboard.queue) == 1
    assert console.absolute
    console.point_at(639, 0, (640, 480), 0)
    assert guests[1].take(3) == [(ABS, 0, 0x7FFF), (ABS, 1, 0), (SYN, 0, 0)]
    console.point(-3, 0, 4)
    assert guests[2].take(3) == [(REL, 0, -3), (KEY, 0x112, 1), (SYN, 0, 0)]
    devices[0].leds = 0b001
    assert console.leds == 2


def test_every_key_has_a_code_of_linux() -> None:
    assert set(EVDEV) == {*SCAN_CODES, "print", "pause"}
    assert len(set(EVDEV.values())) == len(EVDEV) and EVDEV["f12"] == 88 and EVDEV["less"] == 86
