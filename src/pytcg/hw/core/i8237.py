"""Intel 8237A DMA controllers, two of them as on an AT, with their page registers.

Datasheet 231466. Devices move data through a `DmaChannel`, which does at once what the controller
would do cycle by cycle; memory-to-memory transfers and the request register's software requests
are not there (no PC wires them up).
"""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import Final, Protocol

from pytcg.hw.bits import register_bits
from pytcg.hw.pci.device import DmaError
from pytcg.hw.state import State, load, save

CHANNELS: Final = 4
CASCADE: Final = 4  # channel 4: the first controller's way through the second


class Reg(IntEnum):
    """Registers behind the channels' addresses and counts (0 to 7)."""

    COMMAND = 8  # reads as the status
    REQUEST = 9
    SINGLE_MASK = 10
    MODE = 11
    CLEAR_FLIP_FLOP = 12
    MASTER_CLEAR = 13  # reads as the temporary register
    CLEAR_MASK = 14
    ALL_MASK = 15


@register_bits
class Command(IntFlag):
    """The command register."""

    DISABLE = 0x04


@register_bits
class Mode(IntFlag):
    """A channel's mode; bits 2 and 3 are the direction, 6 and 7 the kind."""

    WRITE = 0x04  # device to memory
    READ = 0x08  # memory to device; neither: verify
    AUTO = 0x10
    DECREMENT = 0x20


class Memory(Protocol):
    """Guest memory; DmaError where there is none."""

    def dma_read(self, address: int, length: int) -> bytes: ...

    def dma_write(self, address: int, data: bytes) -> None: ...


class I8237:
    """One controller. ``width`` is 1 or 2: bytes of a transfer, and the shift of its addresses."""

    _FIELDS = ("command", "status", "mask", "flip_flop", "modes", "base_address", "base_count",
               "address", "count", "pages")  # fmt: skip

    def __init__(self, memory: Memory, width: int) -> None:
        self._memory = memory
        self.width = width
        self.pages = bytearray(CHANNELS)
        self.reset()

    def reset(self) -> None:
        """RESET; addresses and counts, which the datasheet leaves open, become 0."""
        self.base_address, self.base_count = [0] * CHANNELS, [0] * CHANNELS
        self.address, self.count = [0] * CHANNELS, [0] * CHANNELS
        self.modes = [0] * CHANNELS
        self._master_clear()

    def _master_clear(self) -> None:
        """Everything masked; addresses stay."""
        self.command = self.status = 0
        self.mask = 0x0F
        self.flip_flop = False

    # --- registers -----------------------------------------------------------------------------

    def read(self, reg: int) -> int:
        """A byte register."""
        if reg < 2 * CHANNELS:
            words = self.count if reg & 1 else self.address
            value = words[reg >> 1] >> (8 if self.flip_flop else 0) & 0xFF
            self.flip_flop = not self.flip_flop
            return value
        if reg == Reg.COMMAND:
            value = self.status
            self.status &= 0xF0  # reading clears the terminal counts
            return value
        if reg == Reg.ALL_MASK:
            return self.mask | 0xF0
        return 0

    def write(self, reg: int, value: int) -> None:
        """Store a byte."""
        if reg < 2 * CHANNELS:
            self._write_word(reg, value)
            return
        match reg:
            case Reg.COMMAND:
                self.command = value
            case Reg.SINGLE_MASK:
                bit = 1 << (value & 3)
                self.mask = self.mask | bit if value & 4 else self.mask & ~bit
            case Reg.MODE:
                self.modes[value & 3] = value & 0xFC
            case Reg.CLEAR_FLIP_FLOP:
                self.flip_flop = False
            case Reg.MASTER_CLEAR:
                self._master_clear()
            case Reg.CLEAR_MASK:
                self.mask = 0
            case Reg.ALL_MASK:
                self.mask = value & 0x0F

    def _write_word(self, reg: int, value: int) -> None:
        base, present = ((self.base_count, self.count) if reg & 1
                         else (self.base_address, self.address))  # fmt: skip
        channel = reg >> 1
        word = base[channel]
        word = word & 0xFF | value << 8 if self.flip_flop else word & 0xFF00 | value
        base[channel] = present[channel] = word
        self.flip_flop = not self.flip_flop

    # --- transfers -----------------------------------------------------------------------------

    def request(self, channel: int, level: bool) -> None:
        """DREQ: seen in the status register."""
        bit = 0x10 << channel
        self.status = self.status | bit if level else self.status & ~bit

    def room(self, channel: int) -> int:
        """Bytes up to the terminal count; 0 while the channel is masked."""
        if self.mask >> channel & 1 or self.command & Command.DISABLE:
            return 0
        return (self.count[channel] + 1) * self.width

    def send(self, channel: int, length: int) -> tuple[bytes, bool]:
        """Memory to device: up to ``length`` bytes, and whether the terminal count was reached."""
        length = min(length, self.room(channel)) // self.width * self.width
        if self.modes[channel] & Mode.READ:
            data = b"".join(self._read(*piece) for piece in self._pieces(channel, length))
            if self.modes[channel] & Mode.DECREMENT:
                data = data[::-1]
        else:
            data = bytes(length)
        return data, self._advance(channel, length)

    def receive(self, channel: int, data: bytes) -> tuple[int, bool]:
        """Device to memory: how many bytes went, and whether the terminal count was reached."""
        length = min(len(data), self.room(channel)) // self.width * self.width
        if self.modes[channel] & Mode.WRITE:
            rest = data[:length]
            if self.modes[channel] & Mode.DECREMENT:
                rest = rest[::-1]
            for address, size in self._pieces(channel, length):
                self._write(address, rest[:size])
                rest = rest[size:]
        return length, self._advance(channel, length)

    def _pieces(self, channel: int, length: int) -> list[tuple[int, int]]:
        """Physical addresses and sizes, ascending: the address wraps within its page."""
        page = (self.pages[channel] & -self.width) << 16
        span = 0x10000 * self.width
        start = self.address[channel] * self.width
        if self.modes[channel] & Mode.DECREMENT:
            start = (start - length + self.width) % span
        first = min(length, span - start)
        pieces = [(page + start, first), (page, length - first)]
        return [piece for piece in pieces if piece[1]]

    def _read(self, address: int, length: int) -> bytes:
        try:
            return self._memory.dma_read(address, length)
        except DmaError:
            return b"\xff" * length

    def _write(self, address: int, data: bytes) -> None:
        try:
            self._memory.dma_write(address, data)
        except DmaError:
            return  # nobody takes it

    def _advance(self, channel: int, length: int) -> bool:
        units = length // self.width
        step = -units if self.modes[channel] & Mode.DECREMENT else units
        self.address[channel] = (self.address[channel] + step) & 0xFFFF
        done = units > self.count[channel]
        self.count[channel] = (self.count[channel] - units) & 0xFFFF
        if done:
            self.status |= 1 << channel
            if self.modes[channel] & Mode.AUTO:
                self.address[channel] = self.base_address[channel]
                self.count[channel] = self.base_count[channel]
            else:
                self.mask |= 1 << channel
        return done

    def state(self) -> State:
        return save(self, 1, self._FIELDS)

    def restore(self, state: State) -> None:
        load(self, state, 1, self._FIELDS)


class DmaChannel:
    """A device's end of one of the eight channels."""

    def __init__(self, controller: I8237, channel: int) -> None:
        self._controller = controller
        self._channel = channel

    def request(self, level: bool) -> None:
        """Drive DREQ."""
        self._controller.request(self._channel, level)

    def room(self) -> int:
        """Bytes the controller will move now."""
        return self._controller.room(self._channel)

    def send(self, length: int) -> tuple[bytes, bool]:
        """Bytes from memory, and whether it was the last: see `I8237.send`."""
        return self._controller.send(self._channel, length)

    def receive(self, data: bytes) -> tuple[int, bool]:
        """Bytes into memory: see `I8237.receive`."""
        return self._controller.receive(self._channel, data)


PAGE_PORTS: Final = {0x1: 2, 0x2: 3, 0x3: 1, 0x7: 0, 0x9: 6, 0xA: 7, 0xB: 5}


class DmaPages:
    """The page registers at 80h to 8Fh; those of no channel are storage (80h is the POST port)."""

    def __init__(self, low: I8237, high: I8237) -> None:
        self._low, self._high = low, high
        self.storage = bytearray(16)

    def reset(self) -> None:
        self.storage[:] = bytes(16)
        for controller in (self._low, self._high):
            controller.pages[:] = bytes(CHANNELS)

    def read(self, reg: int) -> int:
        """A page register."""
        if (channel := PAGE_PORTS.get(reg)) is None:
            return self.storage[reg]
        return self._of(channel).pages[channel % CHANNELS]

    def write(self, reg: int, value: int) -> None:
        """Store to a page register."""
        if (channel := PAGE_PORTS.get(reg)) is not None:
            self._of(channel).pages[channel % CHANNELS] = value
        else:
            self.storage[reg] = value

    def _of(self, channel: int) -> I8237:
        return self._high if channel >= CASCADE else self._low

    def state(self) -> State:
        return save(self, 1, ("storage",))

    def restore(self, state: State) -> None:
        load(self, state, 1, ("storage",))
