"""A PS/2 mouse: IntelliMouse with a wheel, and Explorer with five buttons, where software asks.

Commands and packets: IBM PS/2 Hardware Interface Technical Reference, "Auxiliary Device". The
knocks that switch the wheel and the further buttons on are Microsoft's: three sample rates in a
row. Movement counts are the host's pixels; scaling 2:1 works on stream packets.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import IntEnum, IntFlag
from typing import Final

from pytcg.hw.bits import register_bits
from pytcg.hw.state import State, load, save

ACK, RESEND, SELF_TEST_PASSED = 0xFA, 0xFE, 0xAA
PLAIN, WHEEL, FIVE_BUTTONS = 0, 3, 4
KNOCKS: Final[dict[tuple[int, ...], int]] = {(200, 100, 80): WHEEL, (200, 200, 80): FIVE_BUTTONS}
MOST_BYTES: Final = 64
"""Bytes that wait: when more would, movement adds up until there is room."""
RATES: Final = (10, 20, 40, 60, 80, 100, 200)
SCALED: Final = (0, 1, 1, 3, 6, 9)
"""What 2:1 scaling makes of the first counts; twice as much of the others."""


class Command(IntEnum):
    """Bytes from the system."""

    SCALING_1 = 0xE6
    SCALING_2 = 0xE7
    RESOLUTION = 0xE8
    STATUS = 0xE9
    STREAM = 0xEA
    READ = 0xEB
    END_WRAP = 0xEC
    WRAP = 0xEE
    REMOTE = 0xF0
    IDENTIFY = 0xF2
    RATE = 0xF3
    ENABLE = 0xF4
    DISABLE = 0xF5
    DEFAULTS = 0xF6
    RESEND = 0xFE
    RESET = 0xFF


@register_bits
class Button(IntFlag):
    """What is pressed."""

    LEFT = 0x01
    RIGHT = 0x02
    MIDDLE = 0x04
    SIDE = 0x08
    EXTRA = 0x10


def _nothing() -> None:
    """The listener of an unplugged mouse."""


class Ps2Mouse:
    """The device. `on_data` tells the controller that `queue` has become non-empty."""

    _FIELDS = ("queue", "enabled", "remote", "wrap", "scaling", "resolution", "rate", "kind",
               "rates", "awaiting", "last_sent", "buttons", "sent_buttons", "dx", "dy",
               "dz")  # fmt: skip

    def __init__(self) -> None:
        self.on_data: Callable[[], None] = _nothing
        self.queue: deque[int] = deque()
        self.last_sent = SELF_TEST_PASSED
        self.buttons = 0
        self._reset()

    def _defaults(self) -> None:
        self.enabled = self.remote = self.scaling = self.wrap = False
        self.resolution, self.rate = 2, 100  # 4 counts a millimetre
        self.awaiting = 0  # the command whose argument comes next
        self._still()

    def _reset(self) -> None:
        self.queue.clear()
        self.kind = PLAIN
        self.rates: deque[int] = deque(maxlen=3)  # set last
        self._defaults()

    def _still(self) -> None:
        self.dx = self.dy = self.dz = 0
        self.sent_buttons = self.buttons

    def reset(self) -> None:
        """Power-on: the self test passes and says so."""
        self._reset()
        self.queue.extend((SELF_TEST_PASSED, PLAIN))

    def state(self) -> State:
        return save(self, 1, self._FIELDS)

    def restore(self, state: State) -> None:
        load(self, state, 1, self._FIELDS)
        self.rates = deque(self.rates, 3)

    # --- the user's side -----------------------------------------------------------------------

    def move(self, dx: int, dy: int, dz: int = 0) -> None:
        """Counts to the right, down, and of the wheel towards the user."""
        self.dx += dx
        self.dy -= dy
        self.dz += dz
        self._stream()

    def press(self, buttons: int) -> None:
        """The `Button`s that are down now."""
        self.buttons = buttons
        self._stream()

    def _stream(self) -> None:
        """Report while there is something and room for it."""
        if not self.enabled or self.remote or self.wrap:
            return
        while self._pending() and len(self.queue) < MOST_BYTES:
            self._packet()
        self.on_data()

    def _pending(self) -> bool:
        moved = self.dx or self.dy or (self.dz and self.kind != PLAIN)
        return bool(moved) or self.buttons != self.sent_buttons

    def _packet(self) -> None:
        """Three or four bytes; what doesn't fit is left for the next."""
        dx, dy = (max(-256, min(255, value)) for value in (self.dx, self.dy))
        dz = max(-8, min(7, self.dz))
        self.dx, self.dy, self.dz = self.dx - dx, self.dy - dy, self.dz - dz
        self.sent_buttons = self.buttons
        if self.scaling and not self.remote:
            dx, dy = _scaled(dx), _scaled(dy)
        first = 0x08 | self.buttons & 7 | (dx < 0) << 4 | (dy < 0) << 5
        self.queue.extend((first, dx & 0xFF, dy & 0xFF))
        if self.kind == WHEEL:
            self.queue.append(dz & 0xFF)
        elif self.kind == FIVE_BUTTONS:
            self.queue.append(dz & 0x0F | self.buttons >> 3 << 4)

    # --- the controller's side -----------------------------------------------------------------

    def take(self) -> int:
        """The next byte for the controller; the queue must not be empty."""
        self.last_sent = self.queue.popleft()
        if not self.queue:
            self._stream()
        return self.last_sent

    def write(self, value: int) -> None:
        """A byte from the system: a command or the argument of one."""
        if len(self.queue) >= MOST_BYTES:
            self.queue.clear()  # nobody reads: a command ends a report
        command, self.awaiting = self.awaiting, 0
        if self.wrap and value not in (Command.END_WRAP, Command.RESET):
            self.queue.append(value)
        elif command:
            self._argument(command, value)
        else:
            self._command(value)
        self.on_data()

    def _argument(self, command: int, value: int) -> None:
        if command == Command.RATE and value in RATES:
            self.rate = value
            self.rates.append(value)
            self.kind = KNOCKS.get(tuple(self.rates), self.kind)
        elif command == Command.RESOLUTION and value <= 3:
            self.resolution = value
        else:
            self.awaiting = command
            self.queue.append(RESEND)
            return
        self.queue.append(ACK)

    def _command(self, value: int) -> None:
        if value == Command.RESEND:
            self.queue.append(self.last_sent)
            return
        if value not in set(Command):
            self.queue.append(RESEND)
            return
        self.queue.clear()
        self.queue.append(ACK)
        match value:
            case Command.RESET:
                self._reset()
                self.queue.extend((ACK, SELF_TEST_PASSED, PLAIN))
            case Command.DEFAULTS:
                self._defaults()
            case Command.ENABLE | Command.DISABLE:
                self.enabled = value == Command.ENABLE
                self._still()
            case Command.RATE | Command.RESOLUTION:
                self.awaiting = value
            case Command.SCALING_1 | Command.SCALING_2:
                self.scaling = value == Command.SCALING_2
            case Command.STREAM | Command.REMOTE:
                self.remote = value == Command.REMOTE
                self._still()
            case Command.WRAP | Command.END_WRAP:
                self.wrap = value == Command.WRAP
            case Command.IDENTIFY:
                self.queue.append(self.kind)
            case Command.STATUS:
                self.queue.extend((self._status(), self.resolution, self.rate))
            case Command.READ:
                self._packet()

    def _status(self) -> int:
        pressed = self.buttons
        buttons = (pressed & Button.LEFT) << 2 | (pressed & Button.MIDDLE) >> 1
        buttons |= (pressed & Button.RIGHT) >> 1
        return buttons | self.scaling << 4 | self.enabled << 5 | self.remote << 6


def _scaled(count: int) -> int:
    size = abs(count)
    made = SCALED[size] if size < len(SCALED) else min(2 * size, 255)
    return -made if count < 0 else made
