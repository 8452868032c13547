"""A UHCI host controller whose two ports are empty (Intel's UHCI Design Guide, revision 1.1).

Frames are counted by the clock, and interrupts it has none to raise: with nothing in a port no
driver may put a transfer into the schedule, so the schedule is never looked at.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import Final

from pytcg.hw.bits import register_bits
from pytcg.hw.clock import Clock
from pytcg.hw.pci.bar import BarType
from pytcg.hw.pci.device import Identity, PciDevice
from pytcg.hw.state import State, load, save

WINDOW: Final = 32
FRAME_NS: Final = 1_000_000
FRAMES: Final = 0x800  # FRNUM has 11 bits
PORTS: Final = 2
SERIAL_BUS_RELEASE: Final = 0x60
LEGACY: Final = 0xC0  # keyboard and mouse emulation for real mode


class Reg(IntEnum):
    """Offsets in the I/O window (2.1)."""

    USBCMD = 0x00
    USBSTS = 0x02
    USBINTR = 0x04
    FRNUM = 0x06
    FLBASEADD = 0x08
    SOFMOD = 0x0C
    PORTSC = 0x10  # and the second one behind it


@register_bits
class Command(IntFlag):
    """USBCMD (2.1.1)."""

    RUN = 0x01
    HCRESET = 0x02
    GRESET = 0x04


@register_bits
class Status(IntFlag):
    """USBSTS (2.1.2)."""

    HALTED = 0x20


PORT_READS: Final = 0x0080  # bit 7 is always 1
PORT_KEPT: Final = 0x1240  # suspend, reset and resume detect are stored; enabling needs a device


class Uhci(PciDevice):
    """piix3-usb-uhci."""

    identity = Identity(0x8086, 0x7020, class_code=0x0C0300, revision=1, pin=4)
    _FIELDS = ("command", "status", "interrupts", "frame", "began", "base", "sof", "ports")

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock
        self.config.define(SERIAL_BUS_RELEASE, 1, 0x10)
        self.config.define(LEGACY, 2, 0x2000, writable=0x20BF)
        self.add_bar(4, WINDOW, BarType.IO, self._read, self._write)
        self._clear()

    def _clear(self) -> None:
        self.command = 0
        self.status = int(Status.HALTED)
        self.interrupts = 0
        self.frame = 0  # FRNUM when it was last started or stopped
        self.began = 0
        self.base = 0
        self.sof = 0x40
        self.ports = [0] * PORTS

    def reset(self) -> None:
        super().reset()
        self._clear()

    def _frames(self) -> int:
        if not self.command & Command.RUN:
            return self.frame
        return (self.frame + (self._clock.now() - self.began) // FRAME_NS) % FRAMES

    def _words(self) -> dict[int, int]:
        """Every register of two bytes."""
        return {
            Reg.USBCMD: self.command, Reg.USBSTS: self.status, Reg.USBINTR: self.interrupts,
            Reg.FRNUM: self._frames(), Reg.FLBASEADD: self.base & 0xFFFF,
            Reg.FLBASEADD + 2: self.base >> 16, Reg.SOFMOD: self.sof,
            **{Reg.PORTSC + 2 * n: port | PORT_READS for n, port in enumerate(self.ports)},
        }  # fmt: skip

    def _read(self, offset: int, size: int) -> int:
        words = self._words()
        value = 0
        for place in range(offset, offset + size):
            word = words.get(place & ~1, 0xFF7F if place >= Reg.PORTSC else 0)
            value |= (word >> 8 * (place & 1) & 0xFF) << 8 * (place - offset)
        return value

    def _write(self, offset: int, size: int, value: int) -> None:
        """Bytes are merged with what is there; status bits that are written as ones are cleared."""
        if size == 4:
            self._write(offset, 2, value & 0xFFFF)
            self._write(offset + 2, 2, value >> 16)
        elif size == 1:
            place, shift = offset & ~1, 8 * (offset & 1)
            kept = 0 if place == Reg.USBSTS else self._words().get(place, 0)
            self._store(place, kept & ~(0xFF << shift) | value << shift)
        else:
            self._store(offset, value)

    def _store(self, place: int, value: int) -> None:
        if place == Reg.USBCMD:
            self._run(value)
        elif place == Reg.USBSTS:
            self.status &= ~value | Status.HALTED
        elif place == Reg.USBINTR:
            self.interrupts = value & 0x0F
        elif place == Reg.FRNUM and self.status & Status.HALTED:
            self.frame = value % FRAMES
        elif place == Reg.FLBASEADD:
            self.base = self.base & 0xFFFF0000 | value & 0xF000
        elif place == Reg.FLBASEADD + 2:
            self.base = self.base & 0xFFFF | value << 16
        elif place == Reg.SOFMOD:
            self.sof = value & 0x7F
        elif 0 <= place - Reg.PORTSC < 2 * PORTS:
            self.ports[place - Reg.PORTSC >> 1] = value & PORT_KEPT

    def _run(self, value: int) -> None:
        if value & Command.HCRESET:
            self._clear()
            return
        self.frame, self.began = self._frames(), self._clock.now()
        self.command = value & 0xFF
        if value & Command.GRESET:
            self.ports = [0] * PORTS
        running = bool(value & Command.RUN)
        self.status = self.status & ~Status.HALTED | (0 if running else Status.HALTED)

    def state(self) -> State:
        return super().state() | {"uhci": save(self, 1, self._FIELDS)}

    def restore(self, state: State) -> None:
        super().restore(state)
        load(self, state["uhci"], 1, self._FIELDS)
