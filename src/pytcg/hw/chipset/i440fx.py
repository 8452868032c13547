"""Intel 440FX: the host bridge, with PAM and SMRAM registers (82441FX datasheet, 290549).

DRAM timing, ECC and error registers are storage: there is nothing behind them to configure.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum, IntFlag
from typing import Final, NamedTuple

from pytcg.hw.bits import register_bits
from pytcg.hw.pci.config import HEADER, SIZE
from pytcg.hw.pci.device import Identity, PciDevice
from pytcg.hw.state import State


class Reg(IntEnum):
    """Registers with an effect (datasheet 3.2)."""

    DRAMT = 0x57  # its reset value is QEMU's, too
    PAM0 = 0x59
    PAM6 = 0x5F
    SMRAM = 0x72


@register_bits
class Pam(IntFlag):
    """Attributes of one segment of the memory from C0000h to FFFFFh: what DRAM answers."""

    NONE = 0
    READ = 1
    WRITE = 2


@register_bits
class Smram(IntFlag):
    """System management RAM control; C_BASE_SEG is fixed at A0000h."""

    BASE = 0x02
    G_SMRAME = 0x08
    D_LCK = 0x10
    D_CLS = 0x20
    D_OPEN = 0x40


class Segment(NamedTuple):
    """A part of the BIOS and expansion area, and who answers there."""

    base: int
    length: int
    pam: Pam


BIOS_SEGMENT: Final = (0xF0000, 0x10000)
SEGMENTS: Final = 12  # of 16 KiB from C0000h on, two a register from PAM1
SEGMENT_SIZE: Final = 0x4000
SEGMENTS_BASE: Final = 0xC0000
OPENED: Final = bytes([0x30, *[0x33] * 6])  # PAM0 to PAM6 with DRAM everywhere


class HostBridge(PciDevice):
    """A bridge with PAM registers at ``pam0`` and the SMRAM register at ``smram``."""

    def __init__(self, on_map: Callable[[], None], pam0: int, smram: int) -> None:
        super().__init__()
        self._on_map = on_map
        self._pam0, self._smram = pam0, smram
        self.config.define(HEADER, SIZE - HEADER, writable=(1 << 8 * (SIZE - HEADER)) - 1)
        self.config.define(smram, 1, Smram.BASE, writable=0xFF & ~0x87)

    def segments(self) -> list[Segment]:
        """The area from C0000h to FFFFFh, by address."""
        nibbles = [
            self.config.bytes[self._pam0 + 1 + index // 2] >> index % 2 * 4
            for index in range(SEGMENTS)
        ]
        small = [
            Segment(SEGMENTS_BASE + index * SEGMENT_SIZE, SEGMENT_SIZE, Pam(nibble & 3))
            for index, nibble in enumerate(nibbles)
        ]
        return [*small, Segment(*BIOS_SEGMENT, Pam(self.config.bytes[self._pam0] >> 4 & 3))]

    @property
    def smram_enabled(self) -> bool:
        """Whether a processor in system management mode sees that DRAM."""
        return bool(self.config.bytes[Reg.SMRAM] & Smram.G_SMRAME)

    @property
    def smram_open(self) -> bool:
        """Whether programs see the DRAM from A0000h to BFFFFh instead of the display."""
        smram = self.config.bytes[self._smram]
        return bool(smram & Smram.G_SMRAME and smram & Smram.D_OPEN)

    def open_dram(self) -> None:
        """DRAM in the whole area, as firmware leaves it."""
        for offset, value in enumerate(OPENED):
            self.config.put(self._pam0 + offset, 1, value)
        self._on_map()

    def reset(self) -> None:
        super().reset()
        self._on_map()

    def write_config(self, reg: int, size: int, value: int) -> None:
        """As every function's, but for the lock that SMRAM has in itself."""
        locked = self.config.bytes[self._smram]
        super().write_config(reg, size, value)
        if locked & Smram.D_LCK:  # only D_CLS can still change (datasheet 3.2.21)
            kept = locked & ~Smram.D_CLS | self.config.bytes[self._smram] & Smram.D_CLS
            self.config.put(self._smram, 1, kept)
        elif self.config.bytes[self._smram] & Smram.D_LCK:
            self.config.put(self._smram, 1, self.config.bytes[self._smram] & ~Smram.D_OPEN)
        self._on_map()

    def restore(self, state: State) -> None:
        super().restore(state)
        self._on_map()


class I440fx(HostBridge):
    """Function 0 of slot 0. ``on_map`` is called when PAM or SMRAM changed."""

    identity = Identity(0x8086, 0x1237, class_code=0x060000, revision=2)

    def __init__(self, on_map: Callable[[], None]) -> None:
        super().__init__(on_map, Reg.PAM0, Reg.SMRAM)
        self.config.define(Reg.DRAMT, 1, 0x20, writable=0xFF)
