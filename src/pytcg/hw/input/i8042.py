"""Intel 8042 as the PC's keyboard controller, with connectors for a keyboard and a mouse.

Commands and bits: IBM PS/2 Hardware Interface Technical Reference, "Keyboard and Auxiliary Device
Controller". Bytes sent to a mouse that is not plugged in come back as a time-out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import IntEnum, IntFlag

from pytcg.hw.bits import register_bits
from pytcg.hw.input.ps2_keyboard import RESEND, Ps2Keyboard
from pytcg.hw.input.ps2_mouse import Ps2Mouse
from pytcg.hw.input.scan_codes import BREAK, SET2_TO_SET1
from pytcg.hw.line import Line
from pytcg.hw.state import State, load, save


@register_bits
class Status(IntFlag):
    """Status register, port 64h."""

    OBF = 0x01
    IBF = 0x02
    SYS = 0x04
    A2 = 0x08
    INH = 0x10
    AUX_OBF = 0x20
    TIMEOUT = 0x40
    PARITY = 0x80


@register_bits
class Mode(IntFlag):
    """Controller command byte (RAM address 0)."""

    KBD_INT = 0x01
    AUX_INT = 0x02
    SYS = 0x04
    DISABLE_KBD = 0x10
    DISABLE_AUX = 0x20
    TRANSLATE = 0x40


@register_bits
class OutputPort(IntFlag):
    """Output port P2."""

    NOT_RESET = 0x01
    A20 = 0x02
    OBF = 0x10
    AUX_OBF = 0x20


class Command(IntEnum):
    """Bytes written to port 64h; 20h-3Fh and 60h-7Fh read and write the controller's RAM."""

    DISABLE_AUX = 0xA7
    ENABLE_AUX = 0xA8
    TEST_AUX = 0xA9
    SELF_TEST = 0xAA
    TEST_KBD = 0xAB
    DISABLE_KBD = 0xAD
    ENABLE_KBD = 0xAE
    READ_INPUT_PORT = 0xC0
    READ_OUTPUT_PORT = 0xD0
    WRITE_OUTPUT_PORT = 0xD1
    WRITE_KBD_OBUF = 0xD2
    WRITE_AUX_OBUF = 0xD3
    WRITE_AUX = 0xD4
    DISABLE_A20 = 0xDD
    ENABLE_A20 = 0xDF
    READ_TEST_INPUTS = 0xE0


TAKES_DATA = {
    Command.WRITE_OUTPUT_PORT, Command.WRITE_KBD_OBUF, Command.WRITE_AUX_OBUF, Command.WRITE_AUX,
}  # fmt: skip

MOST_REPLIES = 16


class I8042:
    """The controller. Registers: 0 = data (port 60h), 1 = status and command (64h)."""

    _FIELDS = (
        "ram", "output_port", "pending", "replies", "obuf", "obf", "aux", "after_break",
        "last_was_command",
    )  # fmt: skip

    def __init__(self, on_reset: Callable[[], None], keyboard: Ps2Keyboard | None = None,
                 mouse: Ps2Mouse | None = None) -> None:  # fmt: skip
        self._on_reset = on_reset
        self.keyboard = keyboard or Ps2Keyboard()
        self.mouse = mouse
        self.irq1, self.irq12 = Line(), Line()
        self.a20 = Line(level=True)
        self._clear()
        self.keyboard.on_data = self._sync
        if mouse is not None:
            mouse.on_data = self._sync

    def _clear(self) -> None:
        self.ram = bytearray(32)
        self.ram[0] = Mode.DISABLE_AUX | Mode.TRANSLATE
        self.output_port = OutputPort.NOT_RESET | OutputPort.A20
        self.pending = 0  # the command that waits for a byte at port 60h; 0 = none
        self.replies: deque[int] = deque()  # the controller's own bytes; Status bits << 8
        self.obuf, self.obf = 0, False
        self.aux = Status(0)  # AUX_OBF and TIMEOUT that go with obuf
        self.after_break = self.last_was_command = False

    def reset(self) -> None:
        self._clear()
        self.keyboard.reset()
        if self.mouse is not None:
            self.mouse.reset()
            self.mouse.queue.clear()  # the controller was in reset too when it reported
        self._sync()

    def read(self, reg: int) -> int:
        if reg:
            return self._status()
        value, self.obf = self.obuf, False
        # The lines drop between two bytes, so that each byte has its own edge at the 8259.
        self._set_interrupts()
        self._sync()
        return value

    def write(self, reg: int, value: int) -> None:
        value &= 0xFF
        self.last_was_command = bool(reg)
        if reg:
            self._command(value)
        elif self.pending:
            command, self.pending = self.pending, 0
            self._data(command, value)
        else:
            self._mode(Mode.DISABLE_KBD, on=False)
            self.keyboard.write(value)
        self._sync()

    def state(self) -> State:
        mouse = {} if self.mouse is None else {"mouse": self.mouse.state()}
        return save(self, 1, self._FIELDS) | {"keyboard": self.keyboard.state()} | mouse

    def restore(self, state: State) -> None:
        load(self, state, 1, self._FIELDS)
        self.keyboard.restore(state["keyboard"])
        if self.mouse is not None:
            self.mouse.restore(state["mouse"])
        self._sync()

    def _status(self) -> Status:
        status = Status.INH | self.aux | (Status.OBF if self.obf else Status(0))
        status |= Status.SYS if self.ram[0] & Mode.SYS else Status(0)
        return status | Status.A2 if self.last_was_command else status

    def _mode(self, bit: Mode, *, on: bool) -> None:
        self.ram[0] = self.ram[0] | bit if on else self.ram[0] & ~bit

    def _command(self, value: int) -> None:
        self.pending = 0
        match value:
            case _ if 0x20 <= value < 0x40:
                self._reply(self.ram[value & 0x1F])
            case _ if 0x60 <= value < 0x80 or value in TAKES_DATA:
                self.pending = value
            case Command.DISABLE_AUX | Command.ENABLE_AUX:
                self._mode(Mode.DISABLE_AUX, on=value == Command.DISABLE_AUX)
            case Command.DISABLE_KBD | Command.ENABLE_KBD:
                self._mode(Mode.DISABLE_KBD, on=value == Command.DISABLE_KBD)
            case Command.SELF_TEST:
                self._mode(Mode.SYS, on=True)
                self._reply(0x55)
            case Command.TEST_KBD | Command.TEST_AUX | Command.READ_TEST_INPUTS:
                self._reply(0x00)
            case Command.READ_INPUT_PORT:
                self._reply(0x80)  # keyboard not inhibited
            case Command.READ_OUTPUT_PORT:
                self._reply(self._read_output_port())
            case Command.DISABLE_A20 | Command.ENABLE_A20:
                a20 = OutputPort.A20 if value == Command.ENABLE_A20 else OutputPort(0)
                self._write_output_port(self.output_port & ~OutputPort.A20 | a20)
            case _ if value >= 0xF0 and not value & 1:
                self._on_reset()  # pulses the output bits that are 0; bit 0 is the CPU's reset

    def _data(self, command: int, value: int) -> None:
        match command:
            case Command.WRITE_OUTPUT_PORT:
                self._write_output_port(value)
            case Command.WRITE_KBD_OBUF:
                self._reply(value)
            case Command.WRITE_AUX_OBUF:
                self._reply(value | Status.AUX_OBF << 8)
            case Command.WRITE_AUX:
                self._mode(Mode.DISABLE_AUX, on=False)
                if self.mouse is not None:
                    self.mouse.write(value)
                else:
                    self._reply(RESEND | (Status.AUX_OBF | Status.TIMEOUT) << 8)
            case _:
                self.ram[command & 0x1F] = value

    def _reply(self, value: int) -> None:
        """Queue a byte of the controller's own; what nobody reads for long is lost."""
        if len(self.replies) < MOST_REPLIES:
            self.replies.append(value)

    def _read_output_port(self) -> int:
        port = self.output_port
        if self.obf:
            port |= OutputPort.AUX_OBF if self.aux & Status.AUX_OBF else OutputPort.OBF
        return port

    def _write_output_port(self, value: int) -> None:
        self.output_port = OutputPort(value & ~(OutputPort.OBF | OutputPort.AUX_OBF) & 0xFF)
        self.a20.drive(bool(value & OutputPort.A20))
        if not value & OutputPort.NOT_RESET:
            self._on_reset()

    def _fill_output_buffer(self) -> None:
        """Move the next byte into the free output buffer: the controller's own go first."""
        while not self.obf:
            if self.replies:
                reply = self.replies.popleft()
                self.obuf, self.aux, self.obf = reply & 0xFF, Status(reply >> 8), True
            elif self.keyboard.queue and not self.ram[0] & Mode.DISABLE_KBD:
                self._take_scan_code(self.keyboard.take())
            elif self.mouse and self.mouse.queue and not self.ram[0] & Mode.DISABLE_AUX:
                self.aux = Status.AUX_OBF
                self.obf = True  # first: taking a byte may bring the next, and us here again
                self.obuf = self.mouse.take()
            else:
                return

    def _take_scan_code(self, code: int) -> None:
        """One byte of the keyboard; translation swallows the break prefix F0h."""
        self.aux = Status(0)
        if self.ram[0] & Mode.TRANSLATE:
            if code == BREAK:
                self.after_break = True
                return
            code = SET2_TO_SET1[code] if code < len(SET2_TO_SET1) else code
            code |= 0x80 if self.after_break else 0
            self.after_break = False
        self.obuf, self.obf = code, True

    def _set_interrupts(self) -> None:
        aux = bool(self.aux & Status.AUX_OBF)
        self.irq1.set(self.obf and not aux and bool(self.ram[0] & Mode.KBD_INT))
        self.irq12.set(self.obf and aux and bool(self.ram[0] & Mode.AUX_INT))

    def _sync(self) -> None:
        self._fill_output_buffer()
        self._set_interrupts()
        self.a20.set(bool(self.output_port & OutputPort.A20))
