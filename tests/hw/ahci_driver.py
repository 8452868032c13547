"""A guest's side of AHCI: enough of a driver to test ports with."""

from __future__ import annotations

import struct

from hw.virtio_driver import Slot
from pytcg.hw.pci.config import Command
from pytcg.hw.pci.config import Reg as Pci
from pytcg.hw.storage.ahci.hba import Ahci
from pytcg.hw.storage.ahci.regs import Cmd, Ghc, Hba, Port
from pytcg.hw.storage.ide_drive import IdeDrive

LIST, FISES, TABLE, DATA = 0x1000, 0x2000, 0x4000, 0x10000
TABLE_SIZE = 0x400


class Driver:
    """Brings port 0 up with a drive on it."""

    def __init__(self, drive: IdeDrive) -> None:
        self.card = Ahci()
        self.card.ports[0].connect(drive)
        self.slot = Slot()
        self.card.host = self.slot
        self.memory = self.slot.memory
        self.card.reset()
        self.card.write_config(Pci.COMMAND, 2, Command.MEMORY | Command.BUS_MASTER)
        self.hba_put(Hba.GHC, Ghc.AHCI | Ghc.INTERRUPTS)
        self.start()

    def start(self) -> None:
        """Places, reception, commands."""
        self.put(Port.CLB, LIST)
        self.put(Port.FB, FISES)
        self.put(Port.CMD, Cmd.RECEIVE)
        self.put(Port.SERR, 0xFFFFFFFF)
        self.put(Port.IS, 0xFFFFFFFF)
        self.put(Port.IE, 0xFFFFFFFF)
        self.put(Port.CMD, Cmd.RECEIVE | Cmd.START)

    def hba_get(self, reg: int, size: int = 4) -> int:
        return self.card.bars[1].read(reg, size)

    def hba_put(self, reg: int, value: int, size: int = 4) -> None:
        self.card.bars[1].write(reg, size, value)

    def get(self, reg: int) -> int:
        return self.hba_get(0x100 + reg)

    def put(self, reg: int, value: int) -> None:
        self.hba_put(0x100 + reg, value)

    def prepare(self, slot: int, command: int, spans: list[tuple[int, int]], *, lba: int = 0,
                count: int = 0, feature: int = 0, device: int = 0x40, packet: bytes = b"",
                is_command: bool = True, control: int = 0) -> None:  # fmt: skip
        """Fill a slot: (address, length) spans of data."""
        table = TABLE + slot * TABLE_SIZE
        at = lba.to_bytes(6, "little")
        fis = struct.pack("<BBBB3sB3sBHBB4x", 0x27, 0x80 if is_command else 0, command,
                          feature & 0xFF, at[:3], device, at[3:], feature >> 8, count, 0,
                          control)  # fmt: skip
        self.memory[table : table + 20] = fis
        self.memory[table + 0x40 : table + 0x50] = packet.ljust(16, b"\0")
        for number, (address, length) in enumerate(spans):
            struct.pack_into("<QLL", self.memory, table + 0x80 + 16 * number, address, 0,
                             length - 1)  # fmt: skip
        struct.pack_into("<HHLQ", self.memory, LIST + 32 * slot,
                         5 | (0x20 if packet else 0), len(spans), 0, table)  # fmt: skip

    def moved(self, slot: int = 0) -> int:
        """Bytes that the command's header says were moved."""
        found: int = struct.unpack_from("<L", self.memory, LIST + 32 * slot + 4)[0]
        return found

    def run(self, command: int, spans: list[tuple[int, int]], **fields: int | bytes) -> int:
        """Issue a command in slot 0; the task file."""
        self.prepare(0, command, spans, **fields)  # type: ignore[arg-type]
        self.put(Port.CI, 1)
        return self.get(Port.TFD)

    def acknowledge(self) -> int:
        """PxIS, taken back."""
        found = self.get(Port.IS)
        self.put(Port.IS, found)
        self.hba_put(Hba.IS, 1)
        return found
