"""virtio-input: keyboards, mice, tablets (virtio 1.2, 5.8). Events are those of Linux's evdev."""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Iterable, Mapping
from enum import IntEnum
from typing import Final

from pytcg.hw.pci.device import DmaError
from pytcg.hw.state import State
from pytcg.hw.virtio.chain import Chain
from pytcg.hw.virtio.device import VirtioDevice, Virtqueue

EVENT: Final = struct.Struct("<HHL")  # type, code, value
MOST_WAITING: Final = 1024  # events for which the driver has given no buffers
MOST_FACTS: Final = 128  # bytes of a fact in the configuration
VIRTUAL_BUS, VENDOR = 0x06, 0x0627
ABSOLUTE_MAX: Final = 0x7FFF
LEFT, RIGHT, MIDDLE, SIDE, EXTRA = BUTTONS = range(0x110, 0x115)
X, Y, WHEEL = 0, 1, 8


class Type(IntEnum):
    """Kinds of events."""

    SYN = 0
    KEY = 1
    REL = 2
    ABS = 3
    LED = 0x11
    REP = 0x14


class Select(IntEnum):
    """What the driver asks for (5.8.2)."""

    NAME = 0x01
    SERIAL = 0x02
    IDS = 0x03
    PROPERTIES = 0x10
    EVENTS = 0x11
    AXIS = 0x12


def _bitmap(codes: Iterable[int]) -> bytes:
    return sum(1 << code for code in codes).to_bytes(MOST_FACTS, "little").rstrip(b"\0")


class VirtioInput(VirtioDevice):
    """Tells the driver events in buffers it offers; hears of LEDs."""

    kind = 18
    queue_sizes = (64, 64)
    name: str
    product: int

    def __init__(self, events: Mapping[Type, Iterable[int]], axes: Iterable[int] = (),
                 serial: str = "") -> None:  # fmt: skip
        facts: dict[tuple[int, int], bytes] = {
            (Select.NAME, 0): self.name.encode(), (Select.SERIAL, 0): serial.encode(),
            (Select.IDS, 0): struct.pack("<4H", VIRTUAL_BUS, VENDOR, self.product, 1),
        }
        facts |= {(Select.EVENTS, kind): _bitmap(codes) for kind, codes in events.items()}
        facts |= {(Select.AXIS, axis): struct.pack("<5L", 0, ABSOLUTE_MAX, 0, 0, 0)
                  for axis in axes}  # fmt: skip
        self._facts = facts
        self.select = self.subselect = 0
        self.waiting: deque[bytes] = deque()
        self.pressed = 0  # buttons, a bit for each of BUTTONS
        self.leds = 0
        super().__init__()

    _FIELDS = ("select", "subselect", "pressed", "leds")

    def state(self) -> State:
        return super().state() | {"waiting": [event.hex() for event in self.waiting]}

    def restore(self, state: State) -> None:
        super().restore({key: value for key, value in state.items() if key != "waiting"})
        self.waiting = deque(map(bytes.fromhex, state["waiting"]))

    def reset(self) -> None:
        super().reset()
        self.waiting.clear()
        self.select = self.subselect = self.pressed = self.leds = 0

    def config(self) -> bytes:
        fact = self._facts.get((self.select, self.subselect), b"")[:MOST_FACTS]
        head = bytes((self.select, self.subselect, len(fact)))
        return head.ljust(8, b"\0") + fact.ljust(MOST_FACTS, b"\0")

    def write_config(self, offset: int, data: bytes) -> None:
        """The driver says which fact it wants."""
        for at, byte in enumerate(data, offset):
            if at == 0:
                self.select = byte
            elif at == 1:
                self.subselect = byte

    def notified(self, queue: Virtqueue) -> None:
        if queue.index == 0:
            self._flush()
        else:
            queue.take_all(self._status)

    def _status(self, chain: Chain) -> None:
        if chain.to_read >= EVENT.size:
            kind, code, value = EVENT.unpack(chain.read(0, EVENT.size))
            if kind == Type.LED and code < 16:
                self.leds = self.leds & ~(1 << code) | bool(value) << code
        self.queues[1].push(chain, 0)

    def tell(self, events: list[tuple[int, int, int]]) -> None:
        """Events that belong together; a driver that takes none loses the oldest."""
        if not self.running or not events:
            return
        group = [EVENT.pack(kind, code, value & 0xFFFF_FFFF)
                 for kind, code, value in (*events, (Type.SYN, 0, 0))]  # fmt: skip
        if len(self.waiting) + len(group) > MOST_WAITING:
            self.waiting.clear()
        self.waiting.extend(group)
        self._flush()

    def _flush(self) -> None:
        queue = self.queues[0]
        while self.waiting and (chain := queue.pop_or_wait()) is not None:
            try:
                chain.write(self.waiting.popleft())
            except DmaError:
                self.fail()
                return
            queue.push(chain, EVENT.size)

    def _buttons(self, buttons: int) -> list[tuple[int, int, int]]:
        """What has changed since: bits are left, right, middle, side, extra."""
        changed, self.pressed = self.pressed ^ buttons, buttons
        return [(Type.KEY, code, buttons >> bit & 1)
                for bit, code in enumerate(BUTTONS) if changed >> bit & 1]  # fmt: skip


class VirtioKeyboard(VirtioInput):
    """Keys by evdev's codes."""

    name = "QEMU Virtio Keyboard"
    product = 1

    def __init__(self, codes: Iterable[int], serial: str = "") -> None:
        super().__init__({Type.KEY: codes, Type.LED: range(3), Type.REP: (0,)}, serial=serial)

    def key(self, code: int, *, down: bool) -> None:
        """A key goes down or up."""
        self.tell([(Type.KEY, code, int(down))])


class VirtioMouse(VirtioInput):
    """A mouse with a wheel and five buttons."""

    name = "QEMU Virtio Mouse"
    product = 2

    def __init__(self, serial: str = "") -> None:
        super().__init__({Type.KEY: BUTTONS, Type.REL: (X, Y, WHEEL)}, serial=serial)

    def move(self, dx: int, dy: int, wheel: int, buttons: int) -> None:
        """By pixels to the right and down, the wheel towards the user; what is pressed."""
        moved = ((X, dx), (Y, dy), (WHEEL, -wheel))
        self.tell([(Type.REL, axis, by) for axis, by in moved if by] + self._buttons(buttons))


class VirtioTablet(VirtioInput):
    """A pointer that knows its place."""

    name = "QEMU Virtio Tablet"
    product = 3

    def __init__(self, serial: str = "") -> None:
        super().__init__({Type.KEY: BUTTONS, Type.REL: (WHEEL,), Type.ABS: (X, Y)}, (X, Y), serial)

    def point(self, x: int, y: int, wheel: int, buttons: int) -> None:
        """At a place, whose numbers go to `ABSOLUTE_MAX`."""
        turned = [(Type.REL, WHEEL, -wheel)] if wheel else []
        self.tell([(Type.ABS, X, x), (Type.ABS, Y, y), *turned, *self._buttons(buttons)])
