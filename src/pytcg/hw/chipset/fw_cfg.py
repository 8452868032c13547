"""fw_cfg: how the machine tells its firmware of itself (QEMU's docs/specs/fw_cfg).

Items are numbered; the one at FILE_DIR lists those that have names. They are read byte by byte from
the data register, or by DMA, whose command lies in guest memory.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from enum import IntEnum, IntFlag
from typing import Final, Protocol

from pytcg.hw.bits import register_bits
from pytcg.hw.pci.device import DmaError
from pytcg.hw.state import State, load, save

DMA_SIGNATURE: Final = 0x51454D5520434647  # "QEMU CFG"
FILE_FIRST: Final = 0x20
FILE_NAME_SIZE: Final = 56
CHUNK: Final = 1 << 16


class Key(IntEnum):
    """Items without a name."""

    SIGNATURE = 0x00
    ID = 0x01
    UUID = 0x02
    RAM_SIZE = 0x03
    NOGRAPHIC = 0x04
    NB_CPUS = 0x05
    KERNEL_ADDRESS = 0x07
    KERNEL_SIZE = 0x08
    INITRD_ADDRESS = 0x0A
    INITRD_SIZE = 0x0B
    BOOT_MENU = 0x0E
    MAX_CPUS = 0x0F
    KERNEL_DATA = 0x11
    INITRD_DATA = 0x12
    COMMAND_LINE_ADDRESS = 0x13
    COMMAND_LINE_SIZE = 0x14
    COMMAND_LINE_DATA = 0x15
    SETUP_ADDRESS = 0x16
    SETUP_SIZE = 0x17
    SETUP_DATA = 0x18
    FILE_DIR = 0x19
    IRQ0_OVERRIDE = 0x8002


@register_bits
class Features(IntFlag):
    """The ID item."""

    TRADITIONAL = 1
    DMA = 2


@register_bits
class Control(IntFlag):
    """The command word of a DMA access; the upper half is the key to select."""

    ERROR = 0x01
    READ = 0x02
    SKIP = 0x04
    SELECT = 0x08
    WRITE = 0x10


class Memory(Protocol):
    """Guest memory; DmaError where there is none."""

    def dma_read(self, address: int, length: int) -> bytes: ...

    def dma_write(self, address: int, data: bytes) -> None: ...


class FwCfg:
    """The device. `read_data`, `select`, `write_dma` are its registers."""

    _FIELDS = ("key", "offset", "dma_address")

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._items: dict[int, bytes] = {}
        self._files: dict[str, bytes] = {}
        self._numbers: dict[str, int] = {}
        self._makers: list[Callable[[], None]] = []
        self.key = self.offset = self.dma_address = 0
        self.add(Key.SIGNATURE, b"QEMU")
        self.add(Key.ID, int(Features.TRADITIONAL | Features.DMA).to_bytes(4, "little"))

    # --- the board's side ----------------------------------------------------------------------

    def add(self, key: int, value: bytes) -> None:
        """An item by number."""
        self._items[key] = value

    def add_file(self, name: str, value: bytes) -> None:
        """An item by name; its number follows from the order of all names."""
        if len(name) >= FILE_NAME_SIZE:
            raise ValueError(f"fw_cfg: file name '{name}' is too long")
        self._files[name] = value

    def before_reset(self, make: Callable[[], None]) -> None:
        """Call this at each reset, to add what depends on the machine as it then is."""
        self._makers.append(make)

    def file(self, name: str) -> bytes:
        """A file's contents; KeyError."""
        return self._files[name]

    def reset(self) -> None:
        """Power-on: the files are numbered anew, as QEMU numbers them: by name."""
        for make in self._makers:
            make()
        entries = b""
        for key, name in enumerate(sorted(self._files), FILE_FIRST):
            data = self._items[key] = self._files[name]
            entries += struct.pack(">LHH56s", len(data), key, 0, name.encode())
        self._items[Key.FILE_DIR] = len(self._files).to_bytes(4, "big") + entries
        self.key = self.offset = self.dma_address = 0

    # --- registers -----------------------------------------------------------------------------

    def select(self, key: int) -> None:
        """The selector register."""
        self.key, self.offset = key, 0

    def read_data(self) -> int:
        """The data register: the next byte of the item, 0 behind its end."""
        item = self._item()
        value = item[self.offset] if self.offset < len(item) else 0
        self.offset += 1
        return value

    def read_dma(self, offset: int, size: int) -> int:
        """The DMA address register reads as a signature; big-endian, as is all of DMA."""
        shift = 8 * (8 - offset - size)
        value = DMA_SIGNATURE >> shift & (1 << 8 * size) - 1
        return int.from_bytes(value.to_bytes(size, "big"), "little")

    def write_dma(self, offset: int, size: int, value: int) -> None:
        """A 32-bit half of the DMA address; the lower one starts the access."""
        if size != 4:
            return
        half = int.from_bytes(value.to_bytes(4, "little"), "big")
        if offset == 0:
            self.dma_address = half << 32
        elif offset == 4:
            address, self.dma_address = self.dma_address | half, 0
            self._access(address)

    def _item(self) -> bytes:
        return self._items.get(self.key, b"")

    def _access(self, address: int) -> None:
        try:
            command = self._memory.dma_read(address, 16)
        except DmaError:
            return  # nowhere to say so
        control, length, target = struct.unpack(">LLQ", command)
        if control & Control.SELECT:
            self.select(control >> 16)
        status = Control(0)
        try:
            self._transfer(control, length, target)
        except DmaError:
            status = Control.ERROR
        self._memory.dma_write(address, int(status).to_bytes(4, "big"))

    def _transfer(self, control: int, length: int, target: int) -> None:
        if control & Control.READ:
            self._send(length, target)
        elif control & Control.WRITE:
            raise DmaError("no item can be written")
        elif control & Control.SKIP:
            self.offset += length

    def _send(self, length: int, target: int) -> None:
        """Bytes of the item, then zeroes: in pieces, as a guest may ask for 4 GiB of them."""
        item = self._item()
        while length:
            size = min(length, CHUNK)
            piece = item[self.offset : self.offset + size]
            self._memory.dma_write(target, piece.ljust(size, b"\0"))
            self.offset += size
            target += size
            length -= size

    # --- saved state ---------------------------------------------------------------------------

    def state(self) -> State:
        return save(self, 1, self._FIELDS)

    def restore(self, state: State) -> None:
        load(self, state, 1, self._FIELDS)
