"""NOR flash with Intel's commands."""

from __future__ import annotations

import random

import pytest

from pytcg.hw.storage.pflash_cfi01 import BLOCK, Command, PflashCfi01

READY, PROGRAM_ERROR, ERASE_ERROR = 0x80, 0x10, 0x20


class Bench:
    def __init__(self, *, read_only: bool = False) -> None:
        self.bytes = bytearray(b"\xff" * 4 * BLOCK)
        self.modes: list[bool] = []
        self.stores: list[tuple[int, int]] = []
        self.chip = PflashCfi01(memoryview(self.bytes), self.modes.append, self._store,
                                read_only=read_only)  # fmt: skip

    def _store(self, offset: int, length: int) -> None:
        self.stores.append((offset, length))

    def write(self, offset: int, *values: int) -> None:
        for value in values:
            self.chip.write(offset, 1, value)

    def status(self) -> int:
        self.write(0, Command.READ_STATUS)
        value = self.chip.read(0, 1)
        self.write(0, Command.READ_ARRAY)
        return value


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_programming_clears_bits_and_tells_where(bench: Bench) -> None:
    bench.write(0x123, Command.PROGRAM, 0xF0)
    assert bench.chip.read(0x123, 1) == READY
    bench.write(0x123, Command.PROGRAM_ALTERNATE, 0x3C)
    bench.write(0, Command.READ_ARRAY)
    assert bench.chip.read(0x122, 4) == 0xFFFF30FF
    assert bench.stores == [(0x123, 1), (0x123, 1)]
    assert bench.modes == [True, False, True]


def test_erasing_sets_a_block(bench: Bench) -> None:
    bench.bytes[:] = bytes(4 * BLOCK)
    bench.write(BLOCK + 5, Command.ERASE, Command.CONFIRM)
    assert bench.bytes == bytes(BLOCK) + b"\xff" * BLOCK + bytes(2 * BLOCK)
    assert bench.stores == [(BLOCK, BLOCK)]
    bench.write(0, Command.ERASE, 0)
    assert bench.status() == READY | PROGRAM_ERROR | ERASE_ERROR
    assert bench.bytes[:BLOCK] == bytes(BLOCK)


def test_a_buffer_is_programmed_at_its_confirmation(bench: Bench) -> None:
    bench.write(0x210, Command.WRITE_BUFFER, 3)
    for offset, value in enumerate(b"text"):
        bench.write(0x210 + offset, value)
    assert bench.bytes[0x210] == 0xFF
    bench.write(0x210, Command.CONFIRM)
    assert bytes(bench.bytes[0x20F:0x215]) == b"\xfftext\xff"
    assert bench.status() == READY


def test_a_buffer_that_is_left_or_not_confirmed_is_an_error(bench: Bench) -> None:
    bench.write(0x200, Command.WRITE_BUFFER, 1)
    bench.write(0x200, 1)
    bench.write(0x300, 1)
    bench.write(0x200, Command.CONFIRM)
    assert bench.status() & PROGRAM_ERROR and not bench.stores


def test_clearing_the_status_reads_as_edk_ii_expects_of_a_flash(bench: Bench) -> None:
    bench.write(0x10, Command.CLEAR_STATUS, Command.READ_STATUS)
    assert bench.chip.read(0x10, 1) == 0


def test_the_query_tells_size_and_blocks(bench: Bench) -> None:
    bench.write(0x55, Command.CFI_QUERY)
    assert bytes(bench.chip.read(0x10 + n, 1) for n in range(3)) == b"QRY"
    assert 1 << bench.chip.read(0x27, 1) == 4 * BLOCK
    assert bench.chip.read(0x2D, 2) + 1 == 4 and bench.chip.read(0x2F, 2) * 256 == BLOCK
    bench.write(0, Command.READ_ID)
    assert bench.chip.read(0, 2) == 0


def test_a_read_only_flash_refuses(bench: Bench) -> None:
    made = Bench(read_only=True)
    made.write(0, Command.PROGRAM, 0)
    made.write(0, Command.READ_ARRAY)
    made.write(0, Command.ERASE, Command.CONFIRM)
    assert made.status() == READY | PROGRAM_ERROR | ERASE_ERROR
    assert not made.stores and made.bytes == b"\xff" * 4 * BLOCK


def test_state_in_the_middle_of_a_command(bench: Bench) -> None:
    bench.write(0x40, Command.PROGRAM)
    state = bench.chip.state()
    bench.chip.reset()
    bench.chip.restore(state)
    bench.write(0x40, 0x5A)
    assert bench.bytes[0x40] == 0x5A and bench.modes[-1] is False


def test_random_stores_never_set_a_bit_but_by_erasing(bench: Bench) -> None:
    chance = random.Random(1)
    for _ in range(20_000):
        before = bytes(bench.bytes)
        stores = len(bench.stores)
        command = chance.choice([*Command, chance.randrange(256)])
        bench.chip.write(chance.randrange(4 * BLOCK - 4), chance.choice([1, 2, 4]), command)
        bench.chip.read(chance.randrange(4 * BLOCK - 4), 4)
        if len(bench.stores) == stores:
            assert bench.bytes == before
