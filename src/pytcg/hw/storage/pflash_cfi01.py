"""Parallel NOR flash with Intel's command set (CFI primary command set 0001h), 8 bits wide.

While it reads as an array the board shows its bytes as memory; stores, which are commands, come
here. In every other mode the board sends loads here, too. Programming clears bits, erasing a block
sets them: Intel's 28FxxxJ3 datasheet, 290667.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum, IntFlag
from typing import Final

from pytcg.hw.bits import register_bits
from pytcg.hw.state import State, load, save

BLOCK: Final = 4096
BUFFER: Final = 256


class Command(IntEnum):
    """What a store begins."""

    ERASE = 0x20
    PROGRAM = 0x10
    PROGRAM_ALTERNATE = 0x40
    CLEAR_STATUS = 0x50
    LOCK = 0x60
    READ_STATUS = 0x70
    READ_ID = 0x90
    CFI_QUERY = 0x98
    CONFIRM = 0xD0
    WRITE_BUFFER = 0xE8
    READ_ARRAY = 0xFF


@register_bits
class Status(IntFlag):
    """The status register."""

    PROGRAM_ERROR = 0x10
    ERASE_ERROR = 0x20
    READY = 0x80


SEQUENCE_ERROR: Final = Status.PROGRAM_ERROR | Status.ERASE_ERROR


class PflashCfi01:
    """``view`` holds the bytes, a multiple of BLOCK; they are written only through commands.

    ``on_mode(array)`` is called when the array appears or goes, ``on_store(offset, length)`` after
    bytes changed. A read-only flash refuses to program and erase.
    """

    _FIELDS = ("mode", "status", "pending", "left", "start", "buffer")

    def __init__(self, view: memoryview, on_mode: Callable[[bool], None],
                 on_store: Callable[[int, int], None], *, read_only: bool = False) -> None:
        self._view = view
        self._on_mode = on_mode
        self._on_store = on_store
        self._read_only = read_only
        self._query = query_table(len(view))
        self.buffer = bytearray(BUFFER)
        self.reset()

    def reset(self) -> None:
        """RP#: reads the array."""
        self.mode = int(Command.READ_ARRAY)
        self.status = int(Status.READY)
        self.pending = 0  # the command whose further cycles are due
        self.left = self.start = 0  # of a buffered write: bytes due, or -1 before their count
        self._on_mode(True)

    @property
    def is_array(self) -> bool:
        """Whether loads see the bytes."""
        return self.mode == Command.READ_ARRAY

    def read(self, offset: int, size: int) -> int:
        """A load in any mode."""
        if self.is_array:
            return int.from_bytes(self._view[offset : offset + size], "little")
        if self.mode == Command.READ_ID:
            return 0  # as QEMU's, which names neither maker nor part
        if self.mode == Command.CFI_QUERY:
            at = offset & 0xFF
            return int.from_bytes(self._query[at : at + size], "little")
        return int.from_bytes(bytes([self.status]) * size, "little")

    def write(self, offset: int, size: int, value: int) -> None:
        """A store: a command, or what the last one waits for."""
        was_array = self.is_array
        for index in range(size):
            byte = value >> 8 * index & 0xFF
            if self.pending:
                self._go_on(offset + index, byte)
            else:
                self._begin(byte)
        if self.is_array != was_array:
            self._on_mode(self.is_array)

    def _begin(self, command: int) -> None:
        match command:
            case Command.PROGRAM | Command.PROGRAM_ALTERNATE | Command.ERASE | Command.LOCK:
                self.pending, self.mode = command, Command.READ_STATUS
            case Command.WRITE_BUFFER:
                self.pending, self.mode, self.left = command, Command.READ_STATUS, -1
            case Command.CLEAR_STATUS:
                # A chip would stay READY; EDK II takes a flash that does for something else, as
                # QEMU's reads 0 until the next operation is over.
                self.status, self.mode = 0, Command.READ_ARRAY
            case Command.READ_STATUS | Command.READ_ID | Command.CFI_QUERY:
                self.mode = command
            case _:  # READ_ARRAY, and what other makers' software tries
                self.mode = Command.READ_ARRAY

    def _go_on(self, offset: int, value: int) -> None:
        self.status |= Status.READY
        match self.pending:
            case Command.PROGRAM | Command.PROGRAM_ALTERNATE:
                self._program(offset, bytes([value]))
                self.pending = 0
            case Command.ERASE:
                if value == Command.CONFIRM:
                    self._erase(offset)
                else:
                    self.status |= SEQUENCE_ERROR
                self.pending = 0
            case Command.LOCK:  # block locks are not kept
                self.pending = 0
            case _:
                self._fill_buffer(offset, value)

    def _fill_buffer(self, offset: int, value: int) -> None:
        """A buffered write: the count less one, the bytes, the confirmation."""
        if self.left < 0:
            self.left = value + 1
            self.start = -1
            self.buffer[:] = b"\xff" * BUFFER
        elif self.left:
            if self.start < 0:
                self.start = offset & -BUFFER
            if self.start <= offset < self.start + BUFFER:
                self.buffer[offset - self.start] = value
            else:
                self.status |= Status.PROGRAM_ERROR
            self.left -= 1
        else:
            if value == Command.CONFIRM and not self.status & Status.PROGRAM_ERROR:
                self._program(self.start, bytes(self.buffer))
            else:
                self.status |= Status.PROGRAM_ERROR
            self.pending = 0

    def _program(self, offset: int, data: bytes) -> None:
        if self._read_only:
            self.status |= Status.PROGRAM_ERROR
            return
        old = self._view[offset : offset + len(data)]
        new = bytes(before & after for before, after in zip(old, data, strict=False))
        if new != old:
            self._view[offset : offset + len(new)] = new
            self._on_store(offset, len(new))

    def _erase(self, offset: int) -> None:
        if self._read_only:
            self.status |= Status.ERASE_ERROR
            return
        start = offset & -BLOCK
        self._view[start : start + BLOCK] = b"\xff" * BLOCK
        self._on_store(start, BLOCK)

    def state(self) -> State:
        return save(self, 1, self._FIELDS)

    def restore(self, state: State) -> None:
        load(self, state, 1, self._FIELDS)
        self._on_mode(self.is_array)


def query_table(size: int) -> bytes:
    """What CFI_QUERY shows (JEDEC JESD68.01): geometry and typical times."""
    table = bytearray(256)
    table[0x10:0x17] = b"QRY\x01\x00\x31\x00"
    table[0x1B:0x1D] = 0x45, 0x55  # VCC from 4.5 V to 5.5 V
    table[0x1F:0x27] = 7, 7, 10, 0, 4, 4, 4, 0
    table[0x27] = (size - 1).bit_length()
    table[0x28] = 2  # 8 or 16 bits
    table[0x2A] = BUFFER.bit_length() - 1
    table[0x2C] = 1  # one region of equal blocks
    table[0x2D:0x2F] = (size // BLOCK - 1 & 0xFFFF).to_bytes(2, "little")
    table[0x2F:0x31] = (BLOCK // 256).to_bytes(2, "little")
    table[0x31:0x36] = b"PRI10"
    return bytes(table)
