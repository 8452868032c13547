"""ACPI power management: events and SCI, sleep, the PM timer, GPEs, the SMI command port."""

from __future__ import annotations

import pytest

from pytcg.hw.clock import NS_PER_SECOND, FakeClock
from pytcg.hw.core.acpi_pm import AcpiPm, ApmControl, Block

PWRBTN, TMR, WAK = 0x100, 0x001, 0x8000

ACPI_ENABLE, ACPI_DISABLE = 0xF1, 0xF0


class Bench:
    """The block in ACPI mode, and what it asked the board to do."""

    def __init__(self, timer_bits: int = 24) -> None:
        self.clock = FakeClock()
        self.sleeps: list[int] = []
        self.pm = AcpiPm(self.clock, self.sleeps.append, timer_bits=timer_bits)
        self.pm.set_acpi_mode(enabled=True)
        self.read, self.write = self.pm.read, self.pm.write


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_power_button_raises_sci_until_cleared(bench: Bench) -> None:
    bench.write(Block.PM1_EN, PWRBTN, 2)
    bench.pm.power_button()
    assert bench.pm.sci.level
    assert bench.read(Block.PM1_STS, 2) == PWRBTN
    bench.write(Block.PM1_STS, PWRBTN, 2)
    assert bench.read(Block.PM1_STS, 2) == 0
    assert not bench.pm.sci.level


def test_status_is_recorded_without_its_enable(bench: Bench) -> None:
    bench.pm.power_button()
    assert not bench.pm.sci.level
    bench.write(Block.PM1_EN, PWRBTN, 2)
    assert bench.pm.sci.level


def test_no_sci_outside_acpi_mode(bench: Bench) -> None:
    bench.pm.set_acpi_mode(enabled=False)
    bench.write(Block.PM1_EN, PWRBTN, 2)
    bench.pm.power_button()
    assert not bench.pm.sci.level
    bench.pm.set_acpi_mode(enabled=True)
    assert bench.pm.sci.level


def test_sleep_enable_reports_the_type_once(bench: Bench) -> None:
    bench.write(Block.PM1_CNT, 5 << 10 | 1, 2)
    assert bench.sleeps == []
    bench.write(Block.PM1_CNT, 5 << 10 | 1 << 13 | 1, 2)
    assert bench.sleeps == [5]
    assert bench.read(Block.PM1_CNT, 2) == 5 << 10 | 1  # SLP_EN reads 0


def test_sleep_enable_by_a_byte_write(bench: Bench) -> None:
    bench.write(Block.PM1_CNT + 1, (7 << 10 | 1 << 13) >> 8)
    assert bench.sleeps == [7]
    assert bench.read(Block.PM1_CNT) == 1


def test_wake_status(bench: Bench) -> None:
    bench.pm.wake()
    assert bench.read(Block.PM1_STS, 4) == WAK


def test_pm_timer_counts_at_its_rate(bench: Bench) -> None:
    first = bench.read(Block.PM_TMR, 4)
    bench.clock.advance(NS_PER_SECOND)
    assert bench.read(Block.PM_TMR, 4) - first == 3_579_545


@pytest.mark.parametrize("bits", [24, 32])
def test_pm_timer_wraps_at_its_width(bits: int) -> None:
    bench = Bench(bits)
    bench.clock.advance((1 << bits) * NS_PER_SECOND // 3_579_545)
    assert bench.read(Block.PM_TMR, 4) == (1 << bits) - 1
    bench.clock.advance(1000)
    assert bench.read(Block.PM_TMR, 4) < 10


def test_pm_timer_is_read_only(bench: Bench) -> None:
    bench.write(Block.PM_TMR, 0xFFFF, 4)
    assert bench.read(Block.PM_TMR, 4) == 0


def test_timer_carry_interrupts_when_the_top_bit_changes(bench: Bench) -> None:
    bench.write(Block.PM1_EN, TMR, 2)
    half = (1 << 23) * NS_PER_SECOND // 3_579_545
    bench.clock.advance(half)
    assert not bench.pm.sci.level
    bench.clock.advance(1)
    assert bench.pm.sci.level
    bench.write(Block.PM1_STS, TMR, 2)
    assert not bench.pm.sci.level
    bench.clock.advance(half + 1)
    assert bench.pm.sci.level


def test_timer_status_is_seen_without_interrupt(bench: Bench) -> None:
    bench.clock.advance(3 * NS_PER_SECOND)
    assert bench.read(Block.PM1_STS, 2) == TMR


def test_general_purpose_events(bench: Bench) -> None:
    bench.pm.raise_gpe(33)
    assert not bench.pm.sci.level
    bench.write(Block.GPE0_EN + 4, 0x02)
    assert bench.pm.sci.level
    assert bench.read(Block.GPE0_STS + 4) == 2
    bench.write(Block.GPE0_STS + 4, 0x02)
    assert not bench.pm.sci.level


def test_unused_offsets_read_zero(bench: Bench) -> None:
    bench.write(0x10, 0xFFFF_FFFF, 4)
    assert bench.read(0x10, 4) == 0


def test_smi_command_port_switches_acpi_mode(bench: Bench) -> None:
    apm = ApmControl(bench.pm, enable=ACPI_ENABLE, disable=ACPI_DISABLE)
    apm.write(0, ACPI_DISABLE)
    assert bench.read(Block.PM1_CNT) & 1 == 0
    apm.write(0, ACPI_ENABLE)
    assert bench.read(Block.PM1_CNT) & 1 == 1
    apm.write(1, 0x5A)
    assert (apm.read(0), apm.read(1)) == (ACPI_ENABLE, 0x5A)


def test_reset(bench: Bench) -> None:
    bench.write(Block.PM1_EN, PWRBTN, 2)
    bench.pm.power_button()
    bench.pm.reset()
    assert not bench.pm.sci.level
    assert bench.read(Block.PM1_STS, 4) == 0


def test_every_apm_command_is_reported(bench: Bench) -> None:
    seen: list[int] = []
    apm = ApmControl(bench.pm, enable=ACPI_ENABLE, disable=ACPI_DISABLE,
                     on_command=lambda: seen.append(apm.command))  # fmt: skip
    apm.write(1, 5)
    apm.write(0, 7)
    apm.write(0, ACPI_ENABLE)
    assert seen == [7, ACPI_ENABLE]
