"""The DMA controllers of an AT."""

from __future__ import annotations

import random

import pytest

from hw.test_fw_cfg import Memory
from pytcg.hw.core.i8237 import I8237, DmaChannel, DmaPages

READ, WRITE, AUTO, DOWN = 0x08, 0x04, 0x10, 0x20


class Bench:
    def __init__(self) -> None:
        self.memory = Memory()
        self.low, self.high = I8237(self.memory, 1), I8237(self.memory, 2)
        self.pages = DmaPages(self.low, self.high)

    def program(self, chip: I8237, channel: int, mode: int, address: int, count: int) -> None:
        chip.write(12, 0)
        for reg, value in (2 * channel, address), (2 * channel + 1, count):
            chip.write(reg, value & 0xFF)
            chip.write(reg, value >> 8)
        chip.write(11, mode | channel)
        chip.write(10, channel)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_a_floppy_reads_a_sector_into_memory(bench: Bench) -> None:
    channel = DmaChannel(bench.low, 2)
    assert channel.room() == 0, "masked after reset"
    bench.program(bench.low, 2, WRITE, 0x1000, 511)
    assert channel.room() == 512
    assert channel.receive(b"a" * 256) == (256, False)
    assert channel.receive(b"b" * 300) == (256, True)
    assert bench.memory.bytes[0x10FF:0x1201] == b"a" + b"b" * 256 + b"\0"
    assert channel.room() == 0, "masked by the terminal count"
    assert bench.low.read(8) == 0x04
    assert bench.low.read(8) == 0x00, "read once"


def test_words_go_out_of_a_page_of_128_kib(bench: Bench) -> None:
    bench.memory.bytes[0x8000:0x8004] = b"data"
    bench.program(bench.high, 1, READ, 0x4000, 1)
    assert DmaChannel(bench.high, 1).send(100) == (b"data", True)


def test_auto_initialisation_starts_over(bench: Bench) -> None:
    bench.memory.bytes[0x100:0x104] = b"ring"
    bench.program(bench.low, 1, READ | AUTO, 0x100, 3)
    channel = DmaChannel(bench.low, 1)
    assert [channel.send(4) for _ in range(3)] == [(b"ring", True)] * 3
    assert channel.room() == 4


def test_addresses_wrap_within_their_page(bench: Bench) -> None:
    bench.memory.bytes[0xFFFE:0x10000] = b"he"
    bench.memory.bytes[0:2] = b"re"
    bench.program(bench.low, 3, READ, 0xFFFE, 3)
    assert DmaChannel(bench.low, 3).send(4) == (b"here", True)


def test_downwards(bench: Bench) -> None:
    bench.program(bench.low, 0, WRITE | DOWN, 0x203, 3)
    assert DmaChannel(bench.low, 0).receive(b"abcd") == (4, True)
    assert bench.memory.bytes[0x200:0x204] == b"dcba"


def test_a_verify_moves_nothing_and_counts(bench: Bench) -> None:
    bench.program(bench.low, 2, 0, 0, 7)
    assert DmaChannel(bench.low, 2).receive(b"x" * 8) == (8, True)
    assert not any(bench.memory.bytes)


def test_page_registers_belong_to_their_channels(bench: Bench) -> None:
    bench.pages.write(1, 0x12)
    bench.pages.write(0xB, 0x34)
    bench.pages.write(4, 0x56)
    assert (bench.low.pages[2], bench.high.pages[1]) == (0x12, 0x34)
    assert [bench.pages.read(reg) for reg in (1, 0xB, 4)] == [0x12, 0x34, 0x56]
    bench.program(bench.low, 2, WRITE, 0, 0)
    assert DmaChannel(bench.low, 2).receive(b"x") == (1, True), "no memory there: lost"


def test_the_flip_flop_and_the_masks(bench: Bench) -> None:
    bench.program(bench.low, 1, READ, 0x1234, 0x5678)
    bench.low.write(12, 0)
    assert [bench.low.read(2), bench.low.read(2)] == [0x34, 0x12]
    assert [bench.low.read(3), bench.low.read(3)] == [0x78, 0x56]
    bench.low.write(15, 0x0F)
    assert bench.low.room(1) == 0
    bench.low.write(14, 0)
    assert bench.low.room(1) == 0x5679
    bench.low.write(8, 4)
    assert bench.low.room(1) == 0, "the controller is off"
    DmaChannel(bench.low, 1).request(True)
    assert bench.low.read(8) == 0x20


def test_state_goes_on_in_the_middle(bench: Bench) -> None:
    bench.program(bench.low, 2, WRITE, 0x10, 9)
    bench.low.receive(2, b"12345")
    state = bench.low.state()
    other = I8237(bench.memory, 1)
    other.restore(state)
    assert other.receive(2, b"6789012") == (5, True)
    assert bench.memory.bytes[0x10:0x1A] == b"1234567890"


def test_random_programs_stay_in_memory(bench: Bench) -> None:
    chance = random.Random(2)
    for _ in range(5000):
        chip = chance.choice([bench.low, bench.high])
        chip.write(chance.randrange(16), chance.randrange(256))
        channel = chance.randrange(4)
        data, _ = chip.send(channel, 64)
        assert len(data) <= 64
        assert chip.receive(channel, b"x" * 64)[0] <= 64
