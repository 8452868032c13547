"""Local APIC: priorities, LVT, timers, IPIs, and the two register interfaces."""

from __future__ import annotations

import pytest

from pytcg.hw.clock import NS_PER_SECOND, FakeClock
from pytcg.hw.core.apic import LocalApic
from pytcg.hw.core.apic_bus import ApicBus, DeliveryMode, Destination, Trigger
from pytcg.hw.core.apic_regs import Reg
from pytcg.hw.core.i8259 import I8259Pair

TSC_HZ = 3_000_000_000
BASE_MSR, DEADLINE_MSR, X2 = 0x1B, 0x6E0, 0x800
ENABLE_X2APIC = 0xFEE0_0000 | 0xD00
MASKED = 1 << 16
PERIODIC, TSC_DEADLINE = 1 << 17, 2 << 17
EDGE, LEVEL = Trigger.EDGE, Trigger.LEVEL


class Bench:
    """Two processors' APICs on a bus; the first is software-enabled, spurious vector FFh."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.bus = ApicBus()
        self.events: list[str] = []
        self.apic = self._make(0)
        self.other = self._make(1)
        self.read, self.write = self.apic.read, self.apic.write

    def _make(self, number: int) -> LocalApic:
        apic = LocalApic(
            self.clock, number, self.bus.send_ipi, tsc=self.tsc, tsc_hz=TSC_HZ, bsp=number == 0
        )
        self.bus.attach(apic)
        apic.write(Reg.SVR, 0x1FF)
        apic.on_nmi = lambda: self.events.append(f"nmi {number}")
        apic.on_smi = lambda: self.events.append(f"smi {number}")
        apic.on_init = lambda: self.events.append(f"init {number}")
        apic.on_startup = lambda vector: self.events.append(f"startup {number} {vector:#x}")
        apic.on_eoi = lambda vector: self.events.append(f"eoi {vector:#x}")
        return apic

    def tsc(self) -> int:
        return self.clock.now() * TSC_HZ // NS_PER_SECOND

    def enter_x2apic(self) -> None:
        self.apic.write_msr(BASE_MSR, ENABLE_X2APIC)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_power_up_state() -> None:
    bus = ApicBus()
    apic = LocalApic(FakeClock(), 3, bus.send_ipi, tsc=lambda: 0, tsc_hz=TSC_HZ)
    assert apic.read_msr(BASE_MSR) == 0xFEE0_0900
    assert apic.read(Reg.ID) == 3 << 24
    assert apic.read(Reg.VERSION) & 0xFF00FF == 0x050014
    assert apic.read(Reg.SVR) == 0xFF
    assert apic.read(Reg.LVT_LINT0) == MASKED
    apic.deliver(0x40, EDGE)
    assert not apic.intr.level


def test_interrupt_is_accepted_served_and_ended(bench: Bench) -> None:
    bench.apic.deliver(0x41, EDGE)
    assert bench.apic.intr.level
    assert bench.read(Reg.IRR + 2) == 2
    assert bench.apic.acknowledge() == 0x41
    assert (bench.read(Reg.IRR + 2), bench.read(Reg.ISR + 2)) == (0, 2)
    assert not bench.apic.intr.level
    bench.write(Reg.EOI, 0)
    assert bench.read(Reg.ISR + 2) == 0
    assert bench.events == []


def test_higher_class_preempts_same_class_waits(bench: Bench) -> None:
    bench.apic.deliver(0x45, EDGE)
    bench.apic.acknowledge()
    bench.apic.deliver(0x4F, EDGE)
    assert not bench.apic.intr.level
    bench.apic.deliver(0x51, EDGE)
    assert bench.apic.acknowledge() == 0x51
    bench.write(Reg.EOI, 0)
    bench.write(Reg.EOI, 0)
    assert bench.apic.acknowledge() == 0x4F


def test_tpr_and_cr8_hold_back(bench: Bench) -> None:
    bench.write(Reg.TPR, 0x50)
    bench.apic.deliver(0x5F, EDGE)
    assert not bench.apic.intr.level
    assert bench.apic.acknowledge() == -1
    assert bench.apic.read_cr8() == 5
    bench.apic.write_cr8(4)
    assert bench.apic.intr.level
    assert bench.read(Reg.TPR) == 0x40


def test_ppr_is_the_higher_of_tpr_and_service(bench: Bench) -> None:
    bench.apic.deliver(0x63, EDGE)
    bench.apic.acknowledge()
    bench.write(Reg.TPR, 0x31)
    assert bench.read(Reg.PPR) == 0x60
    bench.write(Reg.TPR, 0x65)
    assert bench.read(Reg.PPR) == 0x65


def test_level_interrupt_broadcasts_its_eoi(bench: Bench) -> None:
    bench.apic.deliver(0x70, LEVEL)
    assert bench.read(Reg.TMR + 3) == 1 << 16
    bench.apic.acknowledge()
    bench.write(Reg.EOI, 0)
    assert bench.events == ["eoi 0x70"]


def test_software_disable_masks_the_lvt_and_refuses_interrupts(bench: Bench) -> None:
    bench.write(Reg.LVT_TIMER, 0x40)
    bench.write(Reg.SVR, 0xFF)
    bench.write(Reg.LVT_TIMER, 0x40)
    assert bench.read(Reg.LVT_TIMER) == MASKED | 0x40
    bench.apic.deliver(0x50, EDGE)
    assert not bench.apic.intr.level


def test_one_shot_timer(bench: Bench) -> None:
    bench.write(Reg.DIVIDE, 0x3)  # by 16
    bench.write(Reg.LVT_TIMER, 0xEC)
    bench.write(Reg.INITIAL_COUNT, 1000)
    bench.clock.advance(8_000)
    assert bench.read(Reg.CURRENT_COUNT) == 500
    bench.clock.advance(7_999)
    assert not bench.apic.intr.level
    bench.clock.advance(1)
    assert bench.apic.acknowledge() == 0xEC
    assert bench.read(Reg.CURRENT_COUNT) == 0
    bench.write(Reg.EOI, 0)
    bench.clock.advance(1_000_000)
    assert not bench.apic.intr.level


def test_periodic_timer_does_not_drift(bench: Bench) -> None:
    bench.write(Reg.DIVIDE, 0xB)  # by 1
    bench.write(Reg.LVT_TIMER, PERIODIC | 0xEC)
    bench.write(Reg.INITIAL_COUNT, 1_000_000)
    times: list[int] = []
    while len(times) < 50:
        bench.clock.advance(100_000)
        if bench.apic.intr.level:
            bench.apic.acknowledge()
            bench.write(Reg.EOI, 0)
            times.append(bench.clock.now())
    assert times == [n * 1_000_000 for n in range(1, 51)]


def test_periodic_timer_keeps_its_phase_when_late(bench: Bench) -> None:
    bench.write(Reg.DIVIDE, 0xB)
    bench.write(Reg.LVT_TIMER, PERIODIC | 0xEC)
    bench.write(Reg.INITIAL_COUNT, 1_000_000)
    bench.clock.skip(5_300_000)
    bench.clock.advance(0)
    assert bench.apic.acknowledge() == 0xEC
    bench.write(Reg.EOI, 0)
    assert not bench.apic.intr.level
    bench.clock.advance(700_000)
    assert bench.apic.intr.level


def test_absurdly_short_period_does_not_hang_the_host(bench: Bench) -> None:
    bench.write(Reg.DIVIDE, 0xB)
    bench.write(Reg.LVT_TIMER, PERIODIC | 0xEC)
    bench.write(Reg.INITIAL_COUNT, 1)
    bench.clock.advance(1_000_000)
    assert bench.apic.intr.level


def test_masked_timer_counts_silently(bench: Bench) -> None:
    bench.write(Reg.DIVIDE, 0xB)
    bench.write(Reg.INITIAL_COUNT, 1000)
    bench.clock.advance(2000)
    assert not bench.apic.intr.level
    assert bench.read(Reg.CURRENT_COUNT) == 0


def test_initial_count_0_stops_the_timer(bench: Bench) -> None:
    bench.write(Reg.DIVIDE, 0xB)
    bench.write(Reg.LVT_TIMER, PERIODIC | 0xEC)
    bench.write(Reg.INITIAL_COUNT, 30_000)
    bench.write(Reg.INITIAL_COUNT, 0)
    bench.clock.advance(100_000)
    assert not bench.apic.intr.level


@pytest.mark.parametrize(
    ("code", "divisor"),
    [(0, 2), (1, 4), (2, 8), (3, 16), (8, 32), (9, 64), (10, 128), (11, 1)],
)
def test_divide_configuration(bench: Bench, code: int, divisor: int) -> None:
    bench.write(Reg.DIVIDE, code)
    bench.write(Reg.INITIAL_COUNT, 0xFFFF_FFFF)
    bench.clock.advance(128_000)
    assert 0xFFFF_FFFF - bench.read(Reg.CURRENT_COUNT) == 128_000 // divisor


def test_linux_calibrates_the_timer_against_jiffies(bench: Bench) -> None:
    """calibrate_APIC_clock(): the count's difference over 100 ms, one-shot, masked."""
    bench.write(Reg.LVT_TIMER, MASKED | 0xEC)
    bench.write(Reg.DIVIDE, 0x3)
    bench.write(Reg.INITIAL_COUNT, 0xFFFF_FFFF)
    first = bench.read(Reg.CURRENT_COUNT)
    bench.clock.advance(100_000_000)
    assert (first - bench.read(Reg.CURRENT_COUNT)) * 16 * 10 == 1_000_000_000


def test_tsc_deadline(bench: Bench) -> None:
    bench.apic.write_msr(DEADLINE_MSR, 1000)
    assert bench.apic.read_msr(DEADLINE_MSR) == 0  # not in TSC-deadline mode
    bench.write(Reg.LVT_TIMER, TSC_DEADLINE | 0xEC)
    bench.write(Reg.INITIAL_COUNT, 5)
    assert bench.read(Reg.INITIAL_COUNT) == 0
    bench.apic.write_msr(DEADLINE_MSR, 3_000_000)
    bench.clock.advance(999_999)
    assert not bench.apic.intr.level
    assert bench.apic.read_msr(DEADLINE_MSR) == 3_000_000
    bench.clock.advance(1)
    assert bench.apic.acknowledge() == 0xEC
    assert bench.apic.read_msr(DEADLINE_MSR) == 0


def test_past_tsc_deadline_fires_at_once_and_0_disarms(bench: Bench) -> None:
    bench.clock.advance(1_000_000)
    bench.write(Reg.LVT_TIMER, TSC_DEADLINE | 0xEC)
    bench.apic.write_msr(DEADLINE_MSR, 1)
    assert bench.apic.acknowledge() == 0xEC
    bench.write(Reg.EOI, 0)
    bench.apic.write_msr(DEADLINE_MSR, 6_000_000)
    bench.apic.write_msr(DEADLINE_MSR, 0)
    bench.clock.advance(10_000_000)
    assert not bench.apic.intr.level


def test_leaving_tsc_deadline_mode_disarms(bench: Bench) -> None:
    bench.write(Reg.LVT_TIMER, TSC_DEADLINE | 0xEC)
    bench.apic.write_msr(DEADLINE_MSR, 2**64 - 1)
    bench.write(Reg.LVT_TIMER, 0xEC)
    assert bench.apic.read_msr(DEADLINE_MSR) == 0


def test_accesses_do_not_queue_timers_again(bench: Bench) -> None:
    bench.write(Reg.LVT_TIMER, TSC_DEADLINE | 0xEC)
    bench.apic.write_msr(DEADLINE_MSR, 10**12)
    queued = bench.clock.queued
    for _ in range(100):
        bench.clock.advance(7)
        bench.write(Reg.TPR, 0)
    assert bench.clock.queued == queued


def test_virtual_wire_passes_the_8259(bench: Bench) -> None:
    pic = I8259Pair()
    for reg, value in ((0, 0x11), (1, 0x30), (1, 4), (1, 1)):
        pic.master.write(reg, value)
    bench.apic.extint = pic.acknowledge
    pic.intr.connect(lambda level: bench.apic.set_lint(0, level))
    pic.set_irq(0, True)
    assert not bench.apic.intr.level  # LINT0 is masked at power-up
    bench.apic.virtual_wire()
    assert bench.apic.intr.level
    assert bench.apic.acknowledge() == 0x30
    assert not bench.apic.intr.level
    assert bench.read(Reg.ISR + 1) == 0


def test_disabled_apic_is_a_wire(bench: Bench) -> None:
    bench.apic.extint = lambda: 0x08
    bench.apic.write_msr(BASE_MSR, 0xFEE0_0100)
    bench.apic.set_lint(0, True)
    assert bench.apic.acknowledge() == 0x08
    bench.apic.set_lint(1, True)
    assert bench.events == ["nmi 0"]


def test_lint1_nmi(bench: Bench) -> None:
    bench.write(Reg.LVT_LINT1, 0x400)
    bench.apic.set_lint(1, True)
    bench.apic.set_lint(1, True)
    assert bench.events == ["nmi 0"]


def test_lint0_fixed_edge_and_level(bench: Bench) -> None:
    bench.write(Reg.LVT_LINT0, 0x31)
    bench.apic.set_lint(0, True)
    assert bench.apic.acknowledge() == 0x31
    bench.write(Reg.EOI, 0)
    assert not bench.apic.intr.level
    bench.write(Reg.LVT_LINT0, 0x8031)
    assert bench.read(Reg.LVT_LINT0) == 0xC031  # remote IRR
    assert bench.apic.acknowledge() == 0x31
    bench.write(Reg.EOI, 0)
    assert bench.apic.intr.level  # the pin is still high
    bench.apic.acknowledge()
    bench.apic.set_lint(0, False)
    bench.write(Reg.EOI, 0)
    assert not bench.apic.intr.level


def test_extint_message_of_an_io_apic(bench: Bench) -> None:
    bench.apic.extint = lambda: 0x20
    bench.bus.deliver(Destination(0), DeliveryMode.EXTINT, 0, EDGE)
    assert bench.apic.acknowledge() == 0x20
    assert not bench.apic.intr.level


@pytest.mark.parametrize(
    ("high", "low", "expected"),
    [
        (1, 0x0_4050, [False, True]),
        (0, 0x4_4050, [True, False]),
        (0, 0x8_4050, [True, True]),
        (0, 0xC_4050, [False, True]),
        (0xFF, 0x0_4050, [True, True]),
        (2, 0x0_4050, [False, False]),
    ],
)
def test_fixed_ipi_destinations(bench: Bench, high: int, low: int, expected: list[bool]) -> None:
    bench.write(Reg.ICR_HIGH, high << 24)
    bench.write(Reg.ICR_LOW, low)
    assert [bench.apic.intr.level, bench.other.intr.level] == expected
    assert bench.read(Reg.ICR_LOW) == low
    assert bench.read(Reg.ICR_HIGH) == high << 24


@pytest.mark.parametrize(
    ("dfr", "ldrs", "mda", "expected"),
    [
        (0xFFFF_FFFF, (0x01, 0x02), 0x02, [False, True]),
        (0xFFFF_FFFF, (0x01, 0x02), 0x03, [True, True]),
        (0x0FFF_FFFF, (0x11, 0x12), 0x12, [False, True]),
        (0x0FFF_FFFF, (0x11, 0x21), 0x21, [False, True]),
        (0x0FFF_FFFF, (0x11, 0x21), 0xF1, [True, True]),
    ],
)
def test_logical_destinations(
    bench: Bench, dfr: int, ldrs: tuple[int, int], mda: int, expected: list[bool]
) -> None:
    for apic, ldr in zip((bench.apic, bench.other), ldrs, strict=True):
        apic.write(Reg.DFR, dfr)
        apic.write(Reg.LDR, ldr << 24)
    bench.bus.deliver(Destination(mda, logical=True), DeliveryMode.FIXED, 0x50, EDGE)
    assert [bench.apic.intr.level, bench.other.intr.level] == expected


def test_lowest_priority_goes_to_the_idler_processor(bench: Bench) -> None:
    bench.write(Reg.TPR, 0x20)
    bench.bus.deliver(Destination(0xFF), DeliveryMode.LOWEST_PRIORITY, 0x50, EDGE)
    assert [bench.apic.intr.level, bench.other.intr.level] == [False, True]


def test_init_startup_and_nmi_ipis(bench: Bench) -> None:
    bench.write(Reg.ICR_HIGH, 1 << 24)
    bench.write(Reg.ICR_LOW, 0xC500)  # INIT, level, assert
    bench.write(Reg.ICR_LOW, 0x8500)  # and its de-assert
    bench.write(Reg.ICR_LOW, 0x0699)
    bench.write(Reg.ICR_LOW, 0x0400)
    assert bench.events == ["init 1", "startup 1 0x99", "nmi 1"]
    assert bench.other.read(Reg.SVR) == 0xFF


def test_error_register_and_its_interrupt(bench: Bench) -> None:
    bench.write(Reg.LVT_ERROR, 0xFE)
    bench.write(Reg.ICR_LOW, 0x4_4005)  # self-IPI with vector 5
    assert bench.read(Reg.ESR) == 0
    assert bench.apic.acknowledge() == 0xFE
    bench.write(Reg.ESR, 0)
    assert bench.read(Reg.ESR) == 0x20
    bench.apic.deliver(3, EDGE)
    bench.read(0x01)
    bench.write(Reg.ESR, 0)
    assert bench.read(Reg.ESR) == 0xC0


def test_bad_vector_in_the_error_entry_does_not_recurse(bench: Bench) -> None:
    bench.write(Reg.LVT_ERROR, 0x03)
    bench.apic.deliver(1, EDGE)
    bench.write(Reg.ESR, 0)
    assert bench.read(Reg.ESR) == 0x40


def test_x2apic_registers(bench: Bench) -> None:
    with pytest.raises(KeyError):
        bench.apic.read_msr(X2 + Reg.ID)
    bench.enter_x2apic()
    apic = bench.apic
    assert not apic.mmio_enabled
    assert apic.read_msr(X2 + Reg.ID) == 0
    assert apic.read_msr(X2 + Reg.LDR) == 1
    apic.write_msr(X2 + Reg.SELF_IPI, 0x60)
    assert apic.acknowledge() == 0x60
    apic.write_msr(X2 + Reg.EOI, 0)
    apic.write_msr(X2 + Reg.TPR, 0x20)
    assert apic.read_cr8() == 2


def test_x2apic_icr_is_one_register(bench: Bench) -> None:
    bench.enter_x2apic()
    bench.other.write_msr(BASE_MSR, 0xFEE0_0C00)
    bench.apic.write_msr(X2 + Reg.ICR_LOW, 1 << 32 | 0x4050)
    assert bench.other.acknowledge() == 0x50
    assert bench.apic.read_msr(X2 + Reg.ICR_LOW) == 1 << 32 | 0x4050
    bench.apic.write_msr(X2 + Reg.ICR_LOW, 0x2 << 32 | 0x4861)  # logical, cluster 0, bit 1
    assert bench.other.acknowledge() == 0x61


@pytest.mark.parametrize(
    ("reg", "value"),
    [
        (Reg.ID, 0), (Reg.VERSION, 0), (Reg.DFR, 0), (Reg.ICR_HIGH, 0), (Reg.PPR, 0),
        (Reg.EOI, 1), (Reg.ESR, 1), (Reg.TPR, 0x100), (Reg.LVT_TIMER, 1 << 20),
        (Reg.SELF_IPI, 0x100), (0xFF, 0),
    ],
)  # fmt: skip
def test_x2apic_writes_that_fault(bench: Bench, reg: int, value: int) -> None:
    bench.enter_x2apic()
    with pytest.raises((KeyError, ValueError)):
        bench.apic.write_msr(X2 + reg, value)


@pytest.mark.parametrize("reg", [Reg.EOI, Reg.SELF_IPI, Reg.DFR, Reg.ICR_HIGH, 0x00, 0xFF])
def test_x2apic_reads_that_fault(bench: Bench, reg: int) -> None:
    bench.enter_x2apic()
    with pytest.raises(KeyError):
        bench.apic.read_msr(X2 + reg)


def test_mode_transitions(bench: Bench) -> None:
    apic = bench.apic
    for bad in (0xFEE0_0500, 0xFEE0_0900 | 1 << 40, 0xFEE0_0901):
        with pytest.raises(ValueError):
            apic.write_msr(BASE_MSR, bad)
    apic.write_msr(BASE_MSR, ENABLE_X2APIC)
    with pytest.raises(ValueError):
        apic.write_msr(BASE_MSR, 0xFEE0_0900)  # x2APIC to xAPIC
    apic.write_msr(BASE_MSR, 0xFEE0_0100)
    with pytest.raises(ValueError):
        apic.write_msr(BASE_MSR, ENABLE_X2APIC)  # disabled to x2APIC
    apic.write_msr(BASE_MSR, 0xFEE0_0900)
    assert apic.mmio_enabled
    assert apic.read(Reg.SVR) == 0xFF


def test_base_can_move(bench: Bench) -> None:
    bases: list[int] = []
    bench.apic.on_base = lambda: bases.append(bench.apic.base)
    bench.apic.write_msr(BASE_MSR, 0xFEC8_0900)
    state = bench.apic.state()
    bench.apic.reset()
    bench.apic.restore(state)
    assert bases == [0xFEC8_0000, 0xFEE0_0000, 0xFEC8_0000]
