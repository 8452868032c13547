"""Intel 8259A programmable interrupt controller, alone and as the PC's cascaded pair.

Section names are those of the 8259A datasheet (order number 231468). As on the datasheet a
request that goes away before INTA is not remembered, in edge mode either: the CPU then gets the
default IR7. ELCR is the EISA register (82371SB, 2.5.4.8) that makes single inputs level-triggered.
"""

from __future__ import annotations

from enum import IntFlag
from functools import partial

from pytcg.hw.bits import register_bits
from pytcg.hw.line import Line
from pytcg.hw.state import State, load, save


@register_bits
class Icw1(IntFlag):
    """Initialization Command Word 1."""

    IC4 = 0x01
    SNGL = 0x02
    LTIM = 0x08
    INIT = 0x10


@register_bits
class Icw4(IntFlag):
    """Initialization Command Word 4."""

    UPM = 0x01
    AEOI = 0x02
    SFNM = 0x10


@register_bits
class Ocw2(IntFlag):
    """Operation Control Word 2; the low three bits are the level."""

    EOI = 0x20
    SL = 0x40
    R = 0x80


@register_bits
class Ocw3(IntFlag):
    """Operation Control Word 3."""

    RIS = 0x01
    RR = 0x02
    P = 0x04
    OCW3 = 0x08
    SMM = 0x20
    ESMM = 0x40


CASCADE = 2
"""The master's input that the PC's second controller hangs on."""


class I8259:
    """One 8259A. Registers: 0 = A0 low, 1 = A0 high, 2 = ELCR."""

    _FIELDS = (
        "irr", "isr", "imr", "inputs", "elcr", "icw1", "icw2", "icw3", "icw4", "expect",
        "lowest", "special_mask", "rotate_on_aeoi", "poll", "read_isr",
    )  # fmt: skip

    def __init__(self, *, slaves: dict[int, I8259] | None = None, elcr_mask: int = 0xFF) -> None:
        self.intr = Line()
        self.elcr_mask = elcr_mask
        self.slaves = slaves or {}
        self.inputs = 0
        self.elcr = 0
        self._clear()
        for level, slave in self.slaves.items():
            slave.intr.connect(partial(self.set_irq, level))

    def _clear(self) -> None:
        self.irr = self.isr = self.imr = 0
        self.icw1, self.icw2, self.icw3, self.icw4 = Icw1(0), 0, 0, Icw4(0)
        self.expect = 0
        self.lowest = 7
        self.special_mask = self.rotate_on_aeoi = self.poll = self.read_isr = False

    def reset(self) -> None:
        """Power-on: nothing programmed; the inputs keep the level they have."""
        self._clear()
        self.elcr = 0
        self._sync()

    def set_irq(self, n: int, level: bool) -> None:
        """Drive input IRn. IRR latches a rising edge, or follows a level-triggered input."""
        bit = 1 << n
        if level and not self.inputs & bit:
            self.irr |= bit
        if not level:
            self.irr &= ~bit
        self.inputs = self.inputs | bit if level else self.inputs & ~bit
        self._sync()

    def read(self, reg: int) -> int:
        if reg == 2:
            return self.elcr
        if self.poll:
            return self._poll()
        if reg == 1:
            return self.imr
        return self.isr if self.read_isr else self.irr

    def write(self, reg: int, value: int) -> None:
        value &= 0xFF
        if reg == 2:
            self.elcr = value & self.elcr_mask
        elif reg == 1:
            self._write_data(value)
        elif value & Icw1.INIT:
            self._write_icw1(Icw1(value & 0x1F))
        elif value & Ocw3.OCW3:
            self._write_ocw3(value)
        else:
            self._write_ocw2(value)
        self._sync()

    def acknowledge(self) -> int:
        """INTA cycles: the vector. With no request left it is IR7's, without an ISR bit."""
        level = self._pending()
        if level is None:
            return self.icw2 | 7
        self._begin_service(level)
        slave = self.slaves.get(level)
        vector = slave.acknowledge() if slave else self.icw2 | level
        self._pulse_intr()
        return vector

    def state(self) -> State:
        return save(self, 1, self._FIELDS)

    def restore(self, state: State) -> None:
        load(self, state, 1, self._FIELDS)
        self._sync()

    def _level_triggered(self) -> int:
        return 0xFF if self.icw1 & Icw1.LTIM else self.elcr

    def _by_priority(self, bits: int) -> int | None:
        """Highest-priority set bit ("Automatic Rotation": the one after `lowest` comes first)."""
        for step in range(1, 9):
            level = (self.lowest + step) & 7
            if bits >> level & 1:
                return level
        return None

    def _pending(self) -> int | None:
        """The request that INT stands for: unmasked and above everything in service."""
        request = self._by_priority(self.irr & ~self.imr)
        if request is None:
            return None
        blocking = self.isr & ~self.imr if self.special_mask else self.isr
        if self.icw4 & Icw4.SFNM:
            # Special fully nested mode: a slave in service may interrupt through its input again.
            blocking &= ~sum(1 << level for level in self.slaves)
        serving = self._by_priority(blocking)
        if serving is not None and self._rank(serving) <= self._rank(request):
            return None
        return request

    def _rank(self, level: int) -> int:
        return (level - self.lowest - 1) & 7

    def _begin_service(self, level: int) -> None:
        bit = 1 << level
        if not self._level_triggered() & bit:
            self.irr &= ~bit
        if self.icw4 & Icw4.AEOI:
            if self.rotate_on_aeoi:
                self.lowest = level
        else:
            self.isr |= bit

    def _poll(self) -> int:
        """Poll command: the read is the INTA and answers in data bits 7 and 2-0."""
        self.poll = False
        level = self._pending()
        if level is None:
            return 0
        self._begin_service(level)
        self._pulse_intr()
        return 0x80 | level

    def _pulse_intr(self) -> None:
        # INT drops during INTA: a cascaded master needs the edge for the slave's next request.
        self.intr.set(False)
        self._sync()

    def _write_icw1(self, value: Icw1) -> None:
        self._clear()
        self.icw1 = value
        self.expect = 2

    def _write_data(self, value: int) -> None:
        """A0 high: ICW2 to ICW4 in their order, else OCW1 (the mask)."""
        if self.expect == 2:
            self.icw2 = value & 0xF8
            self.expect = 3
            if self.icw1 & Icw1.SNGL:
                self._after_icw3()
        elif self.expect == 3:
            self.icw3 = value
            self._after_icw3()
        elif self.expect == 4:
            self.icw4 = Icw4(value & 0x1F)
            self.expect = 0
        else:
            self.imr = value

    def _after_icw3(self) -> None:
        self.expect = 4 if self.icw1 & Icw1.IC4 else 0

    def _write_ocw2(self, value: int) -> None:
        level: int | None = value & 7
        command = Ocw2(value & 0xE0)
        if not command & Ocw2.SL:
            serving = self.isr & ~self.imr if self.special_mask else self.isr
            level = self._by_priority(serving)
        if command & Ocw2.EOI:
            if level is not None:
                self.isr &= ~(1 << level)
                if command & Ocw2.R:
                    self.lowest = level
        elif command == Ocw2.R | Ocw2.SL:
            self.lowest = value & 7
        elif not command & Ocw2.SL:
            self.rotate_on_aeoi = bool(command & Ocw2.R)

    def _write_ocw3(self, value: int) -> None:
        if value & Ocw3.ESMM:
            self.special_mask = bool(value & Ocw3.SMM)
        self.poll = bool(value & Ocw3.P)
        if value & Ocw3.RR:
            self.read_isr = bool(value & Ocw3.RIS)

    def _sync(self) -> None:
        level = self._level_triggered()
        self.irr = (self.irr & ~level) | (self.inputs & level)
        self.intr.set(self._pending() is not None)


class I8259Pair:
    """The PC's two controllers: IRQ 0-7 on the master, 8-15 through its IR2."""

    def __init__(self) -> None:
        # ELCR leaves the timer, keyboard, cascade, RTC and FPU inputs edge-triggered for good.
        self.slave = I8259(elcr_mask=0xDE)
        self.master = I8259(slaves={CASCADE: self.slave}, elcr_mask=0xF8)
        self.intr = self.master.intr

    def reset(self) -> None:
        self.slave.reset()
        self.master.reset()

    def set_irq(self, n: int, level: bool) -> None:
        """Drive ISA interrupt request n (0-15)."""
        chip = self.slave if n >= 8 else self.master
        chip.set_irq(n & 7, level)

    def acknowledge(self) -> int:
        return self.master.acknowledge()

    def state(self) -> State:
        own = save(self, 1, ())
        return own | {"master": self.master.state(), "slave": self.slave.state()}

    def restore(self, state: State) -> None:
        load(self, state, 1, ())
        self.slave.restore(state["slave"])
        self.master.restore(state["master"])
