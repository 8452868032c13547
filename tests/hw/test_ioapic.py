"""I/O APIC by itself, and Linux's timer check with the 8259 and the local APIC around it."""

from __future__ import annotations

import pytest

from pytcg.hw.clock import FakeClock
from pytcg.hw.core.apic import LocalApic
from pytcg.hw.core.apic_bus import ApicBus, DeliveryMode, Destination, Trigger
from pytcg.hw.core.apic_regs import Reg
from pytcg.hw.core.i8254 import I8254
from pytcg.hw.core.i8259 import I8259Pair
from pytcg.hw.core.ioapic import IoApic

MASK, LEVEL, REMOTE_IRR = 1 << 16, 1 << 15, 1 << 14


class Bench:
    """An I/O APIC whose messages are recorded."""

    def __init__(self) -> None:
        self.sent: list[tuple[Destination, DeliveryMode, int, Trigger]] = []
        self.chip = IoApic(lambda *message: self.sent.append(message))

    def get(self, index: int) -> int:
        self.chip.write(0, index)
        return self.chip.read(1)

    def put(self, index: int, value: int) -> None:
        self.chip.write(0, index)
        self.chip.write(1, value)

    def entry(self, pin: int, low: int, high: int = 0) -> None:
        self.put(0x11 + 2 * pin, high)
        self.put(0x10 + 2 * pin, low)

    def vectors(self) -> list[int]:
        vectors = [message[2] for message in self.sent]
        self.sent.clear()
        return vectors


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_identification(bench: Bench) -> None:
    assert bench.get(1) == 0x0017_0020
    bench.put(0, 0x0F00_0000)
    assert (bench.get(0), bench.get(2)) == (0x0F00_0000, 0x0F00_0000)
    assert bench.chip.read(0) == 2


def test_entries_are_masked_at_reset_and_hold_64_bits(bench: Bench) -> None:
    assert bench.get(0x10 + 2 * 23) == MASK
    bench.entry(3, 0x0001_A931, 0xAB00_0000)
    assert (bench.get(0x16), bench.get(0x17)) == (0x0001_A931, 0xAB00_0000)
    bench.put(0x16, 0xFFFF_FFFF)
    assert bench.get(0x16) == 0x0001_AFFF
    assert bench.get(0x40) == 0


def test_edge_is_sent_once(bench: Bench) -> None:
    bench.entry(4, 0x0931, 0x0300_0000)
    bench.chip.set_irq(4, True)
    bench.chip.set_irq(4, True)
    lowest = DeliveryMode.LOWEST_PRIORITY
    assert bench.sent == [(Destination(3, logical=True), lowest, 0x31, Trigger.EDGE)]
    bench.chip.set_irq(4, False)
    bench.chip.set_irq(4, True)
    assert bench.vectors() == [0x31, 0x31]


def test_masked_edge_is_lost(bench: Bench) -> None:
    bench.entry(4, MASK | 0x31)
    bench.chip.set_irq(4, True)
    bench.entry(4, 0x31)
    assert bench.vectors() == []


def test_level_waits_for_eoi_and_repeats(bench: Bench) -> None:
    bench.entry(9, LEVEL | 0x41)
    bench.chip.set_irq(9, True)
    assert bench.vectors() == [0x41]
    assert bench.get(0x10 + 18) & REMOTE_IRR
    bench.chip.end_of_interrupt(0x40)
    assert bench.vectors() == []
    bench.chip.end_of_interrupt(0x41)
    assert bench.vectors() == [0x41]
    bench.chip.set_irq(9, False)
    bench.chip.write(4, 0x41)  # the EOI register
    assert bench.vectors() == []
    assert not bench.get(0x10 + 18) & REMOTE_IRR


def test_masked_level_is_sent_when_unmasked(bench: Bench) -> None:
    bench.entry(9, LEVEL | MASK | 0x41)
    bench.chip.set_irq(9, True)
    bench.entry(9, LEVEL | 0x41)
    assert bench.vectors() == [0x41]


def test_switching_to_edge_clears_remote_irr(bench: Bench) -> None:
    bench.entry(9, LEVEL | 0x41)
    bench.chip.set_irq(9, True)
    bench.vectors()
    bench.entry(9, MASK | 0x41)
    bench.entry(9, LEVEL | 0x41)
    assert bench.vectors() == [0x41]


def test_remote_irr_cannot_be_written(bench: Bench) -> None:
    bench.entry(9, LEVEL | REMOTE_IRR | MASK | 0x41)
    assert not bench.get(0x10 + 18) & REMOTE_IRR


class Wired:
    """PIT to 8259 IRQ0 and I/O APIC pin 2; 8259 INT to LINT0 and I/O APIC pin 0."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        bus = ApicBus()
        self.apic = LocalApic(self.clock, 0, bus.send_ipi, tsc=lambda: 0, tsc_hz=1)
        bus.attach(self.apic)
        self.ioapic = IoApic(bus.deliver)
        self.apic.on_eoi = self.ioapic.end_of_interrupt
        self.pic = I8259Pair()
        self.apic.extint = self.pic.acknowledge
        self.pic.intr.connect(lambda level: self.apic.set_lint(0, level))
        self.pic.intr.connect(lambda level: self.ioapic.set_irq(0, level))
        pit = I8254(self.clock)
        pit.out[0].connect(lambda level: self.pic.set_irq(0, level))
        pit.out[0].connect(lambda level: self.ioapic.set_irq(2, level))
        for reg, value in ((0, 0x11), (1, 0x30), (1, 4), (1, 1), (1, 0xFF)):
            self.pic.master.write(reg, value)
        for reg, value in ((3, 0x34), (0, 11932 & 0xFF), (0, 11932 >> 8)):
            pit.write(reg, value)
        self.apic.write(Reg.SVR, 0x1FF)

    def entry(self, pin: int, low: int) -> None:
        for index, value in ((0x11 + 2 * pin, 0), (0x10 + 2 * pin, low)):
            self.ioapic.write(0, index)
            self.ioapic.write(1, value)

    def ticks_in_40_ms(self, vector: int) -> int:
        """What timer_irq_works() looks at: interrupts in about four periods."""
        count = 0
        for _ in range(400):
            self.clock.advance(100_000)
            while self.apic.intr.level:
                assert self.apic.acknowledge() == vector
                self.apic.write(Reg.EOI, 0)
                self.pic.master.write(0, 0x20)
                count += 1
        return count


def test_linux_timer_check_by_pin_2() -> None:
    wired = Wired()
    wired.entry(2, 0x30)
    assert wired.ticks_in_40_ms(0x30) in (3, 4)


def test_linux_timer_check_by_the_8259_on_pin_0() -> None:
    """ "...trying to set up timer (IRQ0) through the 8259A": ExtINT through the I/O APIC."""
    wired = Wired()
    wired.entry(0, DeliveryMode.EXTINT << 8)
    wired.pic.master.write(1, 0xFE)
    assert wired.ticks_in_40_ms(0x30) in (3, 4)


def test_linux_timer_check_as_extint() -> None:
    """ "...trying to set up timer as ExtINT IRQ": the virtual wire."""
    wired = Wired()
    wired.apic.write(Reg.LVT_LINT0, DeliveryMode.EXTINT << 8)
    wired.pic.master.write(1, 0xFE)
    assert wired.ticks_in_40_ms(0x30) in (3, 4)
