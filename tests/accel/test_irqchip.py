"""Interrupt controllers and timer in the kernel: their state, to the kernel and back; messages."""

from __future__ import annotations

import ctypes
import os
from typing import Any

import pytest

from accel.test_kvm import needs_kvm
from pytcg.accel.kvm.abi import IOCTLS, STRUCTS
from pytcg.accel.kvm.core import KvmCpu
from pytcg.accel.kvm.cpuid import host_rows
from pytcg.accel.kvm.device import Kvm
from pytcg.accel.kvm.irqchip.chips import KernelChips
from pytcg.accel.kvm.irqchip.lapic import KernelLapic
from pytcg.hw.clock import FakeClock
from pytcg.hw.core.apic_regs import Reg
from pytcg.hw.core.i8254_counter import Mode
from pytcg.machine import firmware
from pytcg.softmmu.address_map import AddressMap
from pytcg.softmmu.ram import RamWindow
from pytcg_x86.core.reset import StateTable

MESSAGE = 0xFEE0_0000


@pytest.mark.parametrize(("name", "size"), [
    ("pic", 520), ("ioapic", 520), ("lapic", 1024), ("pit", 112), ("pit_config", 64),
    ("route", 48), ("msi", 32), ("irqfd", 32), ("ioeventfd", 64), ("clock", 48),
    ("enable_cap", 104), ("dirty_log", 16),
])  # fmt: skip
def test_structures_have_the_kernels_sizes(name: str, size: int) -> None:
    assert ctypes.sizeof(STRUCTS[name]) == size


def test_ioctl_numbers() -> None:
    assert IOCTLS["GET_IRQCHIP"] == 0xC208_AE62
    assert IOCTLS["SET_IRQCHIP"] == 0x8208_AE63
    assert IOCTLS["GET_PIT2"] == 0x8070_AE9F
    assert IOCTLS["SIGNAL_MSI"] == 0x4020_AEA5


class Station:
    """A virtual machine with all chips of the kernel's, and a processor that stands."""

    def __init__(self, irqchip: str = "on") -> None:
        kvm, table = Kvm(), StateTable(0x663)
        memory = AddressMap(RamWindow(1 << 20))
        rows = host_rows(kvm.supported_cpuid(), lapic=True)
        self.core = KvmCpu(kvm, memory, table.state, table.regs, rows, irqchip=irqchip)
        assert self.core.chips is not None
        self.chips: KernelChips = self.core.chips
        self.clock = FakeClock(10**9)
        self.core.transfer.load(0xFEE0_0900, 0, reset=True)
        self.lapic = KernelLapic(self.core.file, self.core.transfer, self.clock, lambda: None,
                                 tsc=lambda: 0, tsc_hz=10**9)  # fmt: skip

    def pending(self) -> int:
        """The local APIC's IRR."""
        return self.lapic.fetch().irr


@pytest.fixture
def station() -> Station:
    return Station()


def there_and_back(mirror: Any) -> None:
    """What the chip is now comes back from the kernel as it went."""
    before = mirror.model.state()
    mirror.push()
    mirror.model.reset()
    assert mirror.state() == before


@needs_kvm
def test_8259(station: Station) -> None:
    mirror = station.chips.make_pic()
    firmware.program_pics(mirror.model)
    there_and_back(mirror)
    mirror.model.master.write(1, 0xA5)
    mirror.model.slave.write(0, 0x0B)  # reads show ISR
    mirror.model.slave.write(0, 0xC3)  # priority
    mirror.model.master.write(0, 0x11)  # half set up
    mirror.model.master.icw3 = 4
    there_and_back(mirror)


@needs_kvm
def test_8259s_lines_reach_the_kernels(station: Station) -> None:
    mirror = station.chips.make_pic()
    with mirror.changed() as pair:
        firmware.program_pics(pair)
    station.chips.set_line(10, True)
    assert mirror.fetch().slave.irr == 1 << 2
    station.chips.set_line(10, False)


@needs_kvm
def test_io_apic(station: Station) -> None:
    mirror = station.chips.make_ioapic()
    mirror.model.write(0, 0x10 + 2 * 9)
    mirror.model.write(1, 0x1A0AB)  # masked, level
    mirror.model.id = 3
    there_and_back(mirror)


@needs_kvm
def test_pit(station: Station) -> None:
    mirror = station.chips.make_pit(station.clock)
    chip = mirror.model
    for value, reg in ((0x34, 3), (0x00, 0), (0x10, 0), (0xB6, 3), (0x34, 2), (0x12, 2)):
        chip.write(reg, value)
    mirror.push()
    chip.reset()
    counters = mirror.fetch().counters
    assert (counters[0].mode, counters[0].count) == (Mode.RATE_GENERATOR, 0x1000)
    assert (counters[2].mode, counters[2].count) == (Mode.SQUARE_WAVE, 0x1234)
    assert counters[1].origin is None
    mirror.set_gate(2, True)
    assert mirror.fetch().counters[2].gate


@needs_kvm
def test_local_apic(station: Station) -> None:
    mirror = station.lapic
    chip = mirror.model
    chip.virtual_wire()
    for reg, value in ((Reg.LDR, 1 << 24), (Reg.TPR, 0x20), (Reg.LVT_TIMER, 0x20051),
                       (Reg.DIVIDE, 3), (Reg.INITIAL_COUNT, 10**9)):  # fmt: skip
        chip.write(reg, value)
    chip.irr = 1 << 0x61 | 1 << 0xFE
    before = chip.state()
    mirror.give()
    chip.reset()
    after = mirror.state()
    assert 0 <= before["timer"].pop("_expires") - after["timer"].pop("_expires") < 5 * 10**8
    assert after == before


@needs_kvm
def test_messages_and_routes(station: Station) -> None:
    with station.lapic.changed() as chip:
        chip.virtual_wire()
    station.lapic.give()
    station.chips.send(MESSAGE, 0x61)
    gsi = station.chips.route_message(None, (MESSAGE, 0x72))
    fd = os.eventfd(0, os.EFD_NONBLOCK)
    try:
        station.chips.attach(fd, gsi)
        os.eventfd_write(fd, 1)
        assert station.pending() == 1 << 0x61 | 1 << 0x72
        station.chips.route_message(gsi, (MESSAGE, 0x83))
        os.eventfd_write(fd, 1)
        assert station.pending() >> 0x83 & 1
        station.chips.attach(fd, gsi, attached=False)
        station.chips.forget_message(gsi)
        os.eventfd_write(fd, 1)
        assert os.eventfd_read(fd) == 1
    finally:
        os.close(fd)


@needs_kvm
def test_an_io_apic_of_ours_with_a_local_apic_of_the_kernels() -> None:
    station = Station("split")
    with station.lapic.changed() as chip:
        chip.virtual_wire()
    station.lapic.give()
    station.chips.route_entries([0x1_0000] * 9 + [0x80A4] + [0x1_0000] * 14)
    station.chips.send(MESSAGE, 0xC0A4)
    told = station.lapic.fetch()
    assert told.irr == told.tmr == 1 << 0xA4
