"""A PS/2 keyboard as seen from its connector: commands in, scan codes and answers out.

Command numbers: IBM PS/2 Hardware Interface Technical Reference, "Keyboard and Auxiliary Device".
Keys come in as set 2 codes, which the 8042 translates; where software selects another set they are
sent in that. Nothing is repeated while a key is held: who holds it repeats it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import IntEnum

from pytcg.hw.input.scan_codes import BREAK, SET3_BREAKS, set_1, set_3
from pytcg.hw.state import State, load, save

ACK = 0xFA
RESEND = 0xFE
SELF_TEST_PASSED = 0xAA
OVERRUN = 0x00
IDENTITY = (0xAB, 0x83)
BUFFER_SIZE = 16
"""Key codes the keyboard holds; answers to commands have more room."""
MOST_ANSWERS = 64


class Command(IntEnum):
    """Bytes from the system; those in TAKES_ARGUMENT are followed by another."""

    SET_LEDS = 0xED
    ECHO = 0xEE
    SCAN_CODE_SET = 0xF0
    IDENTIFY = 0xF2
    TYPEMATIC = 0xF3
    ENABLE = 0xF4
    DISABLE = 0xF5
    DEFAULTS = 0xF6
    ALL_TYPEMATIC = 0xF7
    ALL_MAKE_BREAK = 0xF8
    ALL_MAKE = 0xF9
    ALL_TYPEMATIC_MAKE_BREAK = 0xFA
    KEY_TYPEMATIC = 0xFB
    KEY_MAKE_BREAK = 0xFC
    KEY_MAKE = 0xFD
    RESEND = 0xFE
    RESET = 0xFF


TAKES_ARGUMENT = {
    Command.SET_LEDS, Command.SCAN_CODE_SET, Command.TYPEMATIC, Command.KEY_TYPEMATIC,
    Command.KEY_MAKE_BREAK, Command.KEY_MAKE,
}  # fmt: skip
MAKE_BREAK = {Command.ALL_MAKE_BREAK, Command.ALL_TYPEMATIC_MAKE_BREAK, Command.KEY_MAKE_BREAK}
"""After these keys say when they go up; it counts in set 3 only."""


def _nothing() -> None:
    """The listener of an unplugged keyboard."""


class Ps2Keyboard:
    """The device. `on_data` tells the controller that `queue` has become non-empty."""

    _FIELDS = ("queue", "enabled", "leds", "scan_code_set", "typematic", "awaiting", "last_sent",
               "breaks")  # fmt: skip

    def __init__(self) -> None:
        self.on_data: Callable[[], None] = _nothing
        self.queue: deque[int] = deque()
        self.leds = 0
        self.awaiting = 0  # the command whose argument comes next; 0 = none
        self.last_sent = SELF_TEST_PASSED
        self._defaults()

    def _defaults(self) -> None:
        self.enabled = True
        self.scan_code_set = 2
        self.typematic = 0x2B  # 10.9 characters a second after 500 ms
        self.breaks = bytearray(code in SET3_BREAKS for code in range(256))  # in set 3

    def reset(self) -> None:
        """Power-on: the self test passes and says so."""
        self._reset()
        self.queue.append(SELF_TEST_PASSED)

    def key(self, codes: bytes) -> None:
        """A key goes down or up: its set 2 code, all bytes or, when there's no room, none."""
        codes = self._in_set(codes)
        if not self.enabled or not codes:
            return
        if len(self.queue) + len(codes) < BUFFER_SIZE:
            self.queue.extend(codes)
        elif not self.queue or self.queue[-1] != OVERRUN:
            self.queue.append(OVERRUN)
        self.on_data()

    def _in_set(self, codes: bytes) -> bytes:
        """The codes as software wants them."""
        if self.scan_code_set == 2 or not codes:
            return codes
        if self.scan_code_set == 1:
            return set_1(codes)
        code, down = set_3(codes)
        if down:
            return bytes((code,))
        return bytes((BREAK, code)) if self.breaks[code] else b""

    def take(self) -> int:
        """The next byte for the controller; the queue must not be empty."""
        self.last_sent = self.queue.popleft()
        return self.last_sent

    def write(self, value: int) -> None:
        """A byte from the system: a command or the argument of one."""
        if len(self.queue) >= MOST_ANSWERS:
            return  # nobody reads the answers: it takes no more commands
        command, self.awaiting = self.awaiting, 0
        if command and value < Command.SET_LEDS:
            self._argument(command, value)
        else:
            # A command byte in place of an argument ends the first command.
            self._command(value)
        self.on_data()

    def state(self) -> State:
        return save(self, 1, self._FIELDS)

    def restore(self, state: State) -> None:
        load(self, state, 1, self._FIELDS)

    def _reset(self) -> None:
        self.queue.clear()
        self.leds = self.awaiting = 0
        self._defaults()

    def _command(self, value: int) -> None:
        match value:
            case Command.ECHO:
                self.queue.append(Command.ECHO)
                return
            case Command.RESEND:
                self.queue.append(self.last_sent)
                return
            case Command.RESET:
                self._reset()
                self.queue.extend((ACK, SELF_TEST_PASSED))
                return
            case Command.IDENTIFY:
                self.queue.extend((ACK, *IDENTITY))
                return
            case Command.ENABLE:
                self.queue.clear()
                self.enabled = True
            case Command.DEFAULTS | Command.DISABLE:
                self.queue.clear()
                self._defaults()
                self.enabled = value == Command.DEFAULTS
            case _ if value in TAKES_ARGUMENT:
                self.awaiting = value
            case _ if not Command.ALL_TYPEMATIC <= value <= Command.ALL_TYPEMATIC_MAKE_BREAK:
                self.queue.append(RESEND)
                return
            case _:
                self.breaks[:] = bytes((value in MAKE_BREAK,)) * 256
        self.queue.append(ACK)

    def _argument(self, command: int, value: int) -> None:
        match command:
            case Command.SET_LEDS:
                self.leds = value & 7
            case Command.TYPEMATIC:
                self.typematic = value & 0x7F
            case Command.SCAN_CODE_SET:
                self._select_set(value)
                return
            case Command.KEY_TYPEMATIC | Command.KEY_MAKE_BREAK | Command.KEY_MAKE:
                self.breaks[value] = command in MAKE_BREAK
        self.queue.append(ACK)

    def _select_set(self, value: int) -> None:
        if value == 0:
            self.queue.extend((ACK, self.scan_code_set))
        elif value <= 3:
            self.scan_code_set = value
            self.queue.append(ACK)
        else:
            self.queue.append(RESEND)
