"""Intel 82093AA I/O APIC with 24 inputs, reporting version 20h and its EOI register.

Section numbers are the 82093AA datasheet's (290566). A Line is asserted or not, whatever the
voltage: INTPOL is stored for the guest and changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum, IntFlag

from pytcg.hw.bits import register_bits
from pytcg.hw.core.apic_bus import DeliveryMode, Destination, Trigger
from pytcg.hw.state import State, load, save

PINS = 24
VERSION = 0x20


class Reg(IntEnum):
    """Memory-mapped registers: address offset >> 4 (3.1)."""

    IOREGSEL = 0
    IOWIN = 1
    EOI = 4


class Index(IntEnum):
    """Indirect registers (3.2); redirection entry n is at REDTBL + 2n."""

    ID = 0x00
    VERSION = 0x01
    ARBITRATION = 0x02
    REDTBL = 0x10


@register_bits
class Redirection(IntFlag):
    """Redirection table entry, low word (3.2.4); vector in bits 0-7, destination in 56-63."""

    DESTMOD = 1 << 11
    DELIVS = 1 << 12
    INTPOL = 1 << 13
    REMOTE_IRR = 1 << 14
    LEVEL = 1 << 15
    MASK = 1 << 16


READ_ONLY = Redirection.DELIVS | Redirection.REMOTE_IRR
WRITABLE = 0xFF00_0000_0001_FFFF & ~READ_ONLY
REMOTE_MODES = {DeliveryMode.FIXED, DeliveryMode.LOWEST_PRIORITY}
"""Delivery modes that may be level-triggered."""

Deliver = Callable[[Destination, DeliveryMode, int, Trigger], None]


class IoApic:
    """The chip; registers are given as offset >> 4 within its 4 KiB page."""

    _FIELDS = ("index", "id", "inputs", "entries")

    def __init__(self, deliver: Deliver, *, apic_id: int = 0) -> None:
        self._deliver = deliver
        self._id_at_reset = apic_id
        self.on_pin: Callable[[int, bool], None] = lambda pin, level: None
        """Sees what the inputs are driven to."""
        self.on_entries: Callable[[list[int]], None] = lambda entries: None
        """Called with the redirection table when it has changed."""
        self.inputs = 0
        self._clear()

    def _clear(self) -> None:
        self.index = 0
        self.id = self._id_at_reset
        self.entries = [int(Redirection.MASK)] * PINS

    def reset(self) -> None:
        """All entries masked; the inputs keep their level."""
        self._clear()
        self.on_entries(self.entries)

    def set_irq(self, pin: int, level: bool) -> None:
        """Drive input INTIN<pin>. A masked edge is lost (3.2.4, "Interrupt Mask")."""
        self.on_pin(pin, level)
        bit = 1 << pin
        rising = level and not self.inputs & bit
        self.inputs = self.inputs | bit if level else self.inputs & ~bit
        if rising and not self.entries[pin] & (Redirection.MASK | Redirection.LEVEL):
            self._send(pin)
        self._sync()

    def end_of_interrupt(self, vector: int) -> None:
        """EOI message of a local APIC, or a write to EOIR: level inputs may interrupt again."""
        for pin, entry in enumerate(self.entries):
            if entry & Redirection.REMOTE_IRR and entry & 0xFF == vector:
                self.entries[pin] = entry & ~Redirection.REMOTE_IRR
        self._sync()

    def read(self, reg: int) -> int:
        if reg == Reg.IOREGSEL:
            return self.index
        return self._read_indirect() if reg == Reg.IOWIN else 0

    def write(self, reg: int, value: int) -> None:
        if reg == Reg.IOREGSEL:
            self.index = value & 0xFF
        elif reg == Reg.IOWIN:
            self._write_indirect(value)
        elif reg == Reg.EOI:
            self.end_of_interrupt(value & 0xFF)

    def state(self) -> State:
        return save(self, 1, self._FIELDS)

    def restore(self, state: State) -> None:
        load(self, state, 1, self._FIELDS)
        self.on_entries(self.entries)
        self._sync()

    def _read_indirect(self) -> int:
        if self.index in (Index.ID, Index.ARBITRATION):
            return self.id << 24
        if self.index == Index.VERSION:
            return VERSION | PINS - 1 << 16
        pin, high = divmod(self.index - Index.REDTBL, 2)
        if not 0 <= pin < PINS:
            return 0
        return self.entries[pin] >> 32 * high & 0xFFFF_FFFF

    def _write_indirect(self, value: int) -> None:
        if self.index == Index.ID:
            self.id = value >> 24 & 15
            return
        pin, high = divmod(self.index - Index.REDTBL, 2)
        if not 0 <= pin < PINS:
            return
        kept = self.entries[pin] & (0xFFFF_FFFF << 32 * (1 - high) | READ_ONLY)
        entry = kept | (value & 0xFFFF_FFFF) << 32 * high & WRITABLE
        if not entry & Redirection.LEVEL:
            # Remote IRR has no meaning for edges; switching to edge and back is how drivers
            # clear a stuck one.
            entry &= ~Redirection.REMOTE_IRR
        self.entries[pin] = entry
        self.on_entries(self.entries)
        self._sync()

    def _mode(self, pin: int) -> DeliveryMode:
        return DeliveryMode(self.entries[pin] >> 8 & 7)

    def _send(self, pin: int) -> None:
        entry = self.entries[pin]
        dest = Destination(entry >> 56, logical=bool(entry & Redirection.DESTMOD))
        trigger = Trigger.LEVEL if entry & Redirection.LEVEL else Trigger.EDGE
        self._deliver(dest, self._mode(pin), entry & 0xFF, trigger)

    def _sync(self) -> None:
        """Send every level-triggered request that is unmasked and not in service."""
        for pin, entry in enumerate(self.entries):
            waiting = entry & (Redirection.LEVEL | Redirection.MASK | Redirection.REMOTE_IRR)
            if (
                self.inputs >> pin & 1
                and waiting == Redirection.LEVEL
                and self._mode(pin) in REMOTE_MODES
            ):
                self.entries[pin] = int(entry | Redirection.REMOTE_IRR)
                self._send(pin)
