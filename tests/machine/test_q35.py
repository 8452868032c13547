"""The `q35` board: its chipset's functions, configuration space as memory, interrupt lines."""

from __future__ import annotations

import threading

import pytest

from machine.fakes import FakeVcpu, board_memory
from pytcg.hw.chipset import ich9
from pytcg.hw.clock import FakeClock
from pytcg.hw.pci.config import Reg
from pytcg.hw.state import State
from pytcg.machine import pc_map as at
from pytcg.machine.pc import Pc, PcConfig

RAM = 64 << 20


def make() -> Pc:
    board = Pc(PcConfig(RAM, epoch=0, q35=True), FakeClock(), threading.RLock(),
               board_memory(RAM), lambda bus: FakeVcpu(bus, FakeVcpu.wait))  # fmt: skip
    board.boot = lambda vcpu: None
    board.start()
    return board


@pytest.fixture
def board() -> Pc:
    return make()


def ecam(slot: int, function: int = 0) -> int:
    return at.Q35_ECAM + (slot << 15) + (function << 12)


@pytest.mark.parametrize(
    ("slot", "function", "identity"),
    [(0, 0, 0x29C08086), (31, 0, 0x29188086), (31, 2, 0x29228086), (31, 3, 0x29308086),
     (9, 0, 0xFFFFFFFF)],
)  # fmt: skip
def test_functions_by_ports_and_by_memory(board: Pc, slot: int, function: int, identity: int
                                          ) -> None:  # fmt: skip
    bus = board.cpu_bus
    assert bus.read_mmio(ecam(slot, function), 4) == identity
    bus.write_port(0xCF8, 4, 0x80000000 | slot << 11 | function << 8)
    assert bus.read_port(0xCFC, 4) == identity


def test_configuration_space_is_memory_where_its_register_says(board: Pc) -> None:
    bus = board.cpu_bus
    bus.write_mmio(ecam(31, 2) + Reg.INTERRUPT_LINE, 1, 0x55)
    assert bus.read_mmio(ecam(31, 2) + Reg.INTERRUPT_LINE, 1) == 0x55
    assert bus.read_mmio(ecam(31, 2) + 0x100, 4) == 0xFFFFFFFF  # no extended capabilities
    bus.write_mmio(ecam(0) + 0x60, 4, 0xC0000000 | 2 | 1)  # 128 MiB of it, elsewhere
    assert bus.read_mmio(0xC0000000, 4) == 0x29C08086
    assert bus.read_mmio(at.Q35_ECAM, 4) != 0x29C08086


def test_pins_reach_the_io_apic_and_the_routed_interrupts(board: Pc) -> None:
    bus, sata = board.cpu_bus, board.sata
    assert sata is not None
    assert [ich9.swizzle(31, 1), ich9.swizzle(2, 1), ich9.swizzle(3, 2)] == [0, 6, 4]
    bus.write_mmio(ecam(31) + ich9.Reg.PIRQ_A, 1, 10)
    sata.set_intx(True)
    assert board.interrupts.pic.slave.irr & 4
    low = 0x10 + 2 * at.PIRQ_PIN
    board.interrupts.ioapic.write(0, low)
    board.interrupts.ioapic.write(1, 0x8000 | 0x41)  # level triggered
    board.interrupts.ioapic.write(0, low)
    assert board.interrupts.ioapic.read(1) >> 14 & 1  # remote IRR: it was sent


def test_power_management_ports(board: Pc) -> None:
    bus = board.cpu_bus
    before = bus.read_port(at.PM_BASE + 8, 4)
    assert isinstance(board.backplane.clock, FakeClock)
    board.backplane.clock.advance(1_000_000_000)
    assert bus.read_port(at.PM_BASE + 8, 4) - before & 0xFFFFFF == 3_579_545
    assert bus.read_port(at.PM_BASE + ich9.SMI_ENABLE, 4) & 0x20


def test_state_survives(board: Pc) -> None:
    chips = board.backplane.chips
    saved: list[State] = [chip.state() for chip in chips]
    other = make()
    for _ in range(2):
        for chip, state in zip(other.backplane.chips, saved, strict=True):
            chip.restore(state)
    assert [chip.state() for chip in other.backplane.chips] == saved
