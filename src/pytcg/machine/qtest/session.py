"""The qtest protocol on a character device: port and memory accesses, the clock, interrupts.

Lines of words; numbers as C writes them; each line gets one that begins with OK, FAIL or ERR
(QEMU's "docs/devel/testing/qtest"). What QEMU aborts on is answered with ERR here.
"""

from __future__ import annotations

import base64
import binascii
import time
from collections.abc import Callable
from typing import IO, Final

from pytcg.chardev.base import Chardev
from pytcg.chardev.registry import Chardevs
from pytcg.machine import pc_map as at
from pytcg.machine.board.interrupts import Interrupts
from pytcg.machine.loop import HostClock, MainLoop
from pytcg.machine.pc import Pc
from pytcg.machine.qtest.clock import SteppedClock
from pytcg.softmmu.ram import RamError

SIZES: Final = {"b": 1, "w": 2, "l": 4, "q": 8}
ROOM: Final = 65536
PIECE: Final = 8  # bytes of a device's window that are one access
Words = list[str]


class QtestError(Exception):
    """A line that can't be done; the text is the answer."""


class QtestSession:
    """The front-end of `-qtest`'s character device."""

    def __init__(self, board: Pc, loop: MainLoop, chardev: Chardev, log: IO[str] | None) -> None:
        self._board = board
        self._clock: HostClock = loop.clock
        self._chardev = chardev
        self._log = log
        self._began = time.monotonic()
        self._partial = b""
        self._intercepted: str | None = None
        self._levels: dict[int, bool] = {}

    def start(self, chardevs: Chardevs) -> None:
        """Begin to serve."""
        chardevs.connect(self._chardev, self)

    # --- the character device's side -----------------------------------------------------------

    def can_receive(self) -> int:
        """As much as comes."""
        return ROOM

    def receive(self, data: bytes) -> int:
        """Bytes of the client; device lock held."""
        *lines, self._partial = (self._partial + data).split(b"\n")
        for line in lines:
            text = line.decode(errors="replace")
            self._note("R", f" {text}\n")
            if words := text.split():
                self._send(self._answer(words))
        return len(data)

    def receive_break(self) -> None:
        """Nothing to a test."""

    def _send(self, text: str) -> None:
        self._note("S", f" {text}\n")
        self._chardev.write(text.encode() + b"\n")

    def _note(self, way: str, text: str) -> None:
        if self._log is not None:
            self._log.write(f"[{way} +{time.monotonic() - self._began:.6f}]{text}")

    def _answer(self, words: Words) -> str:
        name, *given = words
        try:
            if (found := _COMMANDS.get(name)) is not None:
                return found(self, given)
            if name[:-1] in _ACCESSES and name[-1] in SIZES:
                return _ACCESSES[name[:-1]](self, SIZES[name[-1]], *map(_number, given))
        except QtestError as error:
            return str(error)
        except (TypeError, ValueError, binascii.Error):
            return f"ERR invalid arguments of '{name}'"
        return f"FAIL Unknown command '{name}'"

    # --- ports and memory ----------------------------------------------------------------------

    def _in(self, size: int, port: int) -> str:
        return f"OK {self._board.cpu_bus.read_port(port & 0xFFFF, size):#06x}"

    def _out(self, size: int, port: int, value: int) -> str:
        self._board.cpu_bus.write_port(port & 0xFFFF, size, value & ((1 << size * 8) - 1))
        return "OK"

    def _load(self, size: int, address: int) -> str:
        return f"OK {int.from_bytes(self._fetch(address, size), 'little'):#018x}"

    def _store(self, size: int, address: int, value: int) -> str:
        self._put(address, (value & ((1 << size * 8) - 1)).to_bytes(size, "little"))
        return "OK"

    def _fetch(self, address: int, length: int) -> bytes:
        """Bytes as the processor would load them."""
        try:
            return self._board.memory.read(address, length)
        except RamError:
            return b"".join(self._load_piece(*each) for each in _pieces(address, length))

    def _load_piece(self, address: int, size: int) -> bytes:
        try:
            return self._board.memory.read(address, size)
        except RamError:
            return self._board.cpu_bus.read_mmio(address, size).to_bytes(size, "little")

    def _put(self, address: int, data: bytes) -> None:
        for place, size in _pieces(address, len(data)):
            piece = data[place - address : place - address + size]
            try:
                self._board.memory.store(place, piece)
            except RamError:
                self._board.cpu_bus.write_mmio(place, size, int.from_bytes(piece, "little"))

    def _read(self, words: Words) -> str:
        address, length = map(_number, words)
        return f"OK 0x{self._fetch(address, length).hex()}"

    def _write(self, words: Words) -> str:
        address, length, text = _number(words[0]), _number(words[1]), words[2]
        if len(text) < 3:
            return "ERR invalid argument size"
        data = bytes.fromhex(text[2 : 2 + 2 * length])
        self._put(address, data + bytes(length - len(data)))
        return "OK"

    def _read_base64(self, words: Words) -> str:
        address, length = map(_number, words)
        return f"OK {base64.b64encode(self._fetch(address, length)).decode()}"

    def _write_base64(self, words: Words) -> str:
        address, length, text = _number(words[0]), _number(words[1]), words[2]
        self._put(address, base64.b64decode(text)[:length])
        return "OK"

    def _memset(self, words: Words) -> str:
        address, length, value = map(_number, words)
        self._put(address, bytes([value & 0xFF]) * length)
        return "OK"

    # --- the clock -----------------------------------------------------------------------------

    def _stepped(self) -> SteppedClock:
        if not isinstance(self._clock, SteppedClock):
            raise QtestError("FAIL Unknown command: the clock runs by itself without -accel qtest")
        return self._clock

    def _step(self, words: Words) -> str:
        clock = self._stepped()
        if words:
            clock.advance(clock.now() + _number(words[0]))
        elif (deadline := clock.next_deadline()) is not None:
            clock.advance(deadline)
        return f"OK {clock.now()}"

    def _set(self, words: Words) -> str:
        clock = self._stepped()
        clock.advance(_number(words[0]))
        return f"OK {clock.now()}"

    # --- interrupts ----------------------------------------------------------------------------

    def _intercept_in(self, words: Words) -> str:
        [path] = words
        interrupts = self._board.interrupts
        if path.rpartition("/")[2] != "ioapic" or not isinstance(interrupts, Interrupts):
            return "FAIL Unknown device"
        if self._intercepted is None:
            self._intercepted = path
            interrupts.ioapic.on_pin = self._pin
        return "OK" if self._intercepted == path else "FAIL IRQ intercept already enabled"

    def _pin(self, pin: int, level: bool) -> None:
        pin = at.IRQ_TIMER if pin == at.TIMER_PIN else pin  # as QEMU counts
        if self._levels.get(pin, False) != level:
            self._levels[pin] = level
            self._send(f"IRQ {'raise' if level else 'lower'} {pin}")

    def _drive(self, words: Words) -> str:
        path, _, number, level = words
        if path.rpartition("/")[2] != "ioapic":
            return "FAIL Unknown device"
        self._board.interrupts.set_pin(_number(number), _number(level) != 0)
        return "OK"


def _number(text: str) -> int:
    """As strtoul reads it with base 0."""
    if text.startswith("0") and text.isdecimal():
        return int(text, 8)
    return int(text, 0)


def _pieces(address: int, length: int) -> list[tuple[int, int]]:
    """(address, size) of naturally aligned accesses."""
    found, end = [], address + length
    while address < end:
        size = PIECE
        while address % size or address + size > end:
            size //= 2
        found.append((address, size))
        address += size
    return found


_ACCESSES: Final[dict[str, Callable[..., str]]] = {
    "in": QtestSession._in, "out": QtestSession._out, "read": QtestSession._load,
    "write": QtestSession._store,
}  # fmt: skip
_COMMANDS: Final[dict[str, Callable[[QtestSession, Words], str]]] = {
    "read": QtestSession._read, "write": QtestSession._write, "memset": QtestSession._memset,
    "b64read": QtestSession._read_base64, "b64write": QtestSession._write_base64,
    "clock_step": QtestSession._step, "clock_set": QtestSession._set,
    "irq_intercept_in": QtestSession._intercept_in, "set_irq_in": QtestSession._drive,
    "irq_intercept_out": lambda session, words: "FAIL Unknown device",
    "endianness": lambda session, words: "OK little",
}  # fmt: skip
