"""Devices for test kernels."""

from __future__ import annotations

import math
import random

import pytest

from hw.test_pci import Board, command
from pytcg.hw.pci.config import Command
from pytcg.hw.testing.edu import Edu
from pytcg.hw.testing.pc_testdev import PcTestdev


class Bench:
    """An edu card in slot 4, memory and bus mastering on."""

    def __init__(self) -> None:
        self.board, self.card = Board(), Edu()
        self.board.bus.plug(self.card, 4)
        command(self.card, Command.MEMORY, Command.BUS_MASTER)
        self.bar = self.card.bars[0]

    def read(self, offset: int, size: int = 4) -> int:
        return self.bar.read(offset, size)

    def write(self, offset: int, value: int, size: int = 4) -> None:
        self.bar.write(offset, size, value)

    @property
    def pin(self) -> bool:
        return any(line.level for line in self.board.bus.pirq)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_identity_and_liveness(bench: Bench) -> None:
    assert bench.read(0) == 0x010000ED
    bench.write(4, 0x12345678)
    assert bench.read(4) == 0xEDCBA987
    assert bench.read(4, 2) == 0xFFFF, "registers are 32 bits wide"


@pytest.mark.parametrize("number", [0, 1, 5, 12, 13, 33, 34, 0xFFFFFFFF])
def test_factorials(bench: Bench, number: int) -> None:
    bench.write(8, number)
    assert bench.read(8) == math.factorial(min(number, 40)) & 0xFFFFFFFF
    assert not bench.pin


def test_interrupts_until_they_are_acknowledged(bench: Bench) -> None:
    bench.write(0x20, 0x80)
    bench.write(8, 4)
    assert bench.pin and bench.read(0x24) == 1
    bench.write(0x60, 0x10)
    bench.write(0x64, 1)
    assert bench.pin
    bench.write(0x64, 0x10)
    assert not bench.pin and bench.read(0x24) == 0


def test_dma_both_ways(bench: Bench) -> None:
    bench.board.memory[0x1000:0x1004] = b"data"
    for offset, value in ((0x80, 0x1000), (0x88, 0x40000), (0x90, 4), (0x98, 1)):
        bench.write(offset, value, 8)
    for offset, value in ((0x80, 0x40000), (0x88, 0x2000), (0x90, 4), (0x98, 7)):
        bench.write(offset, value)
    assert bench.board.memory[0x2000:0x2004] == b"data"
    assert bench.read(0x98) & 1 == 0 and bench.read(0x24) == 0x100 and bench.pin


def test_dma_outside_the_buffer_or_of_memory_changes_nothing(bench: Bench) -> None:
    for source, count in ((0x1000, 0x1001), (0x0FF00000, 4)):
        for offset, value in ((0x80, source), (0x88, 0x40000), (0x90, count), (0x98, 1)):
            bench.write(offset, value, 8)
    assert not any(bench.card.buffer)


def test_state_and_random_stores(bench: Bench) -> None:
    chance = random.Random(4)
    for _ in range(3000):
        bench.write(chance.randrange(0, 0xA0, 4), chance.getrandbits(32))
        bench.read(chance.randrange(0, 0x100), chance.choice([1, 2, 4, 8]))
    state = bench.card.state()
    other = Edu()
    other.restore(state)
    assert other.state() == state


def test_the_test_devices_latches_interrupts_and_memory() -> None:
    device = PcTestdev()
    device.write_latch(0, 4, 0x11223344)
    device.write_latch(1, 1, 0xAA)
    assert device.read_latch(0, 4) == 0x1122AA44 and device.read_latch(2, 2) == 0x1122
    device.write_irq(5, 1)
    device.write_irq(20, 1)
    assert [n for n, line in enumerate(device.irq) if line.level] == [5]
    device.write_memory(0xFFF8, 8, 0x0102030405060708)
    assert device.read_memory(0xFFFC, 4) == 0x01020304
    state = device.state()
    device.reset()
    assert not device.irq[5].level
    device.restore(state)
    assert device.irq[5].level
