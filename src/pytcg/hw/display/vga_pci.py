"""The standard VGA as a PCI function, as QEMU's `VGA`: memory, registers, the BIOS in its ROM.

BAR 0 is the display memory; BAR 2 has the monitor's EDID, the VGA's registers at 400h and the VBE's
at 500h (QEMU, "docs/specs/standard-vga").
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Final

from pytcg.hw.display.edid import edid
from pytcg.hw.display.registers import Reg
from pytcg.hw.display.vbe import Dispi
from pytcg.hw.display.vga import Vga
from pytcg.hw.pci.bar import Backing
from pytcg.hw.pci.device import BarType, Identity, PciDevice

REGISTERS_SIZE: Final = 0x1000
VGA_REGISTERS: Final = 0x400
VGA_COUNT: Final = 0x20
DISPI_REGISTERS: Final = 0x500
DISPI_COUNT: Final = 2 * (Dispi.MEMORY_64K + 1)

_EDID: Final = edid()


class VgaPci(PciDevice):
    """The function; the chip is its own device on the reset line."""

    identity: ClassVar = Identity(0x1234, 0x1111, class_code=0x030000, revision=2)

    def __init__(self, vga: Vga, memory: Backing, rom: Backing | None) -> None:
        super().__init__()
        self._vga = vga
        self.on_look: Callable[[], None] = lambda: None
        """Called before an access to display memory that comes as a call."""
        bar = self.add_memory_bar(0, BarType.MEMORY | BarType.PREFETCH, memory)
        self._load, self._store = bar.read, bar.write
        bar.read, bar.write = self._read_memory, self._write_memory
        self.add_bar(2, REGISTERS_SIZE, BarType.MEMORY, self._read, self._write)
        if rom is not None:
            self.add_memory_rom(rom)

    def _read_memory(self, offset: int, size: int) -> int:
        self.on_look()
        return self._load(offset, size)

    def _write_memory(self, offset: int, size: int, value: int) -> None:
        self.on_look()
        self._store(offset, size, value)

    def _read(self, offset: int, size: int) -> int:
        if VGA_REGISTERS <= offset < VGA_REGISTERS + VGA_COUNT:
            reg = offset - VGA_REGISTERS + Reg.ATTRIBUTE
            return sum(self._vga.read(reg + i) << 8 * i for i in range(size))
        if DISPI_REGISTERS <= offset < DISPI_REGISTERS + DISPI_COUNT:
            value = self._vga.read_dispi(offset - DISPI_REGISTERS >> 1)
            return value >> 8 * (offset & 1) & (1 << 8 * size) - 1
        return int.from_bytes(_EDID[offset : offset + size], "little")

    def _write(self, offset: int, size: int, value: int) -> None:
        if VGA_REGISTERS <= offset < VGA_REGISTERS + VGA_COUNT:
            reg = offset - VGA_REGISTERS + Reg.ATTRIBUTE
            for i in range(size):
                self._vga.write(reg + i, value >> 8 * i & 0xFF)
        elif DISPI_REGISTERS <= offset < DISPI_REGISTERS + DISPI_COUNT and size == 2:
            self._vga.write_dispi(offset - DISPI_REGISTERS >> 1, value)
