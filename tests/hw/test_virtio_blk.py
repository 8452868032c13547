"""virtio-blk driven over PCI: both rings, indirect tables, errors, and drivers that mean ill."""

from __future__ import annotations

import random
import struct

import pytest

from hw.media import FakeMedium
from hw.virtio_driver import DATA, DRIVER, INDIRECT, MEMORY, TABLE, Driver
from pytcg.hw.virtio.blk import VirtioBlk
from pytcg.hw.virtio.modern import Reg
from pytcg.hw.virtio.pci import VirtioPci

SECTORS = 2048
FLUSH, DISCARD, ZEROES, CHAIN, EVENT, ONE, PACKED = 9, 13, 14, 28, 29, 32, 34
STATUS = DATA + 0x8000
RINGS = {"split": 0, "packed": 1 << PACKED, "event": 1 << EVENT, "both": 1 << PACKED | 1 << EVENT}


@pytest.fixture(autouse=True, params=[True, False], ids=["at-once", "later"])
def both_ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The medium has its bytes at hand, or hasn't."""
    monkeypatch.setattr(FakeMedium, "cached", request.param)


class Disk:
    def __init__(self, features: int = 0, *, read_only: bool = False) -> None:
        self.medium = FakeMedium(SECTORS * 512, read_only=read_only)
        self.medium.data[:] = random.Random(3).randbytes(SECTORS * 512)
        device = VirtioBlk(self.medium, "abc")
        device.options |= 1 << PACKED
        self.card = VirtioPci(device, 0x010000)
        self.driver = Driver(self.card, features | 1 << ONE | 1 << CHAIN | 1 << FLUSH)

    def request(self, kind: int, sector: int, data: list[tuple[int, int, bool]], *,
                indirect: bool = False) -> None:  # fmt: skip
        self.driver.store(DATA, "<LLQ", kind, 0, sector)
        self.driver.slot.memory[STATUS] = 0xEE
        chain = [(DATA, 16, False), *data, (STATUS, 1, True)]
        self.driver.offer(chain, indirect=indirect)

    @property
    def status(self) -> int:
        return self.driver.slot.memory[STATUS]


@pytest.mark.parametrize("indirect", [False, True])
@pytest.mark.parametrize("ring", RINGS)
def test_reads_and_writes(ring: str, indirect: bool) -> None:
    disk = Disk(RINGS[ring])
    memory = disk.driver.slot.memory
    for turn in range(30):  # several times round the ring
        disk.request(0, turn, [(DATA + 512, 512, True), (DATA + 4096, 1024, True)],
                     indirect=indirect)  # fmt: skip
        assert (disk.status, disk.driver.finished()) == (0, 1537)
        found = memory[DATA + 512 : DATA + 1024] + memory[DATA + 4096 : DATA + 5120]
        assert found == disk.medium.data[turn * 512 : turn * 512 + 1536]
        disk.request(1, 100 + turn, [(DATA + 512, 512, False)], indirect=indirect)
        assert (disk.status, disk.driver.finished()) == (0, 1)
        assert disk.medium.data[(100 + turn) * 512 :][:512] == memory[DATA + 512 : DATA + 1024]
    assert disk.driver.isr() & 1
    if disk.medium.cached:  # every read said so, no write did
        assert (disk.driver.slot.maps, disk.driver.slot.stores) == (60, 30)


def test_flush_waits_for_the_medium() -> None:
    disk = Disk()
    disk.medium.held = True
    disk.request(4, 0, [])
    assert disk.driver.finished() is None
    disk.medium.release()
    assert (disk.status, disk.driver.finished()) == (0, 1)


def test_requests_end_in_any_order_and_reset_forgets_them() -> None:
    disk = Disk()
    disk.medium.held = True
    disk.request(0, 0, [(DATA + 512, 512, True)])
    disk.request(4, 0, [])
    disk.medium.release(1)
    assert disk.driver.finished() == 1
    disk.driver.put(Reg.DEVICE_STATUS, 1, 0)
    before = bytes(disk.driver.slot.memory)
    disk.medium.release()
    assert disk.driver.slot.memory == before


def test_without_a_cache_writes_go_through() -> None:
    disk = Disk(1 << 11)
    disk.request(1, 1, [(DATA + 512, 512, False)])
    disk.card._write(0x2020, 1, 0)
    disk.request(1, 2, [(DATA + 512, 512, False)])
    assert [row[3] for row in disk.medium.log] == [False, True]


def test_identity_configuration_and_unknown_requests() -> None:
    disk = Disk()
    disk.request(8, 0, [(DATA + 512, 20, True)])
    assert disk.driver.slot.memory[DATA + 512 : DATA + 516] == b"abc\0"
    assert disk.driver.config(0, 4) == SECTORS
    disk.request(77, 0, [])
    assert disk.status == 2


def test_discard_and_zeroes() -> None:
    disk = Disk(1 << DISCARD | 1 << ZEROES)
    disk.driver.store(DATA + 512, "<QLL", 8, 4, 0)
    disk.request(11, 0, [(DATA + 512, 16, False)])
    assert disk.status == 0 and disk.medium.log[-1] == ("discard", 4096, 2048)
    disk.driver.store(DATA + 512, "<QLL", 8, 4, 1)
    disk.request(13, 0, [(DATA + 512, 16, False)])
    assert disk.status == 0 and disk.medium.log[-1] == ("zeroes", 4096, 2048, True)
    disk.driver.store(DATA + 512, "<QLL", SECTORS, 4, 0)
    disk.request(11, 0, [(DATA + 512, 16, False)])
    assert disk.status == 1


@pytest.mark.parametrize(
    ("kind", "sector", "data"),
    [
        (0, SECTORS, [(DATA + 512, 512, True)]),
        (0, (1 << 64) - 1, [(DATA + 512, 512, True)]),
        (0, 0, [(DATA + 512, 100, True)]),
        (1, SECTORS - 1, [(DATA + 512, 1024, False)]),
        (0, 0, [(DATA, 0xFFFFFFFF, True)] * 3),
    ],
)
def test_impossible_requests_are_errors(kind: int, sector: int,
                                        data: list[tuple[int, int, bool]]) -> None:  # fmt: skip
    disk = Disk()
    disk.request(kind, sector, data)
    assert disk.status == 1 and not disk.driver.broken


def test_read_only_and_broken_media() -> None:
    disk = Disk(read_only=True)
    assert disk.card.device.features >> 5 & 1
    disk.request(1, 0, [(DATA + 512, 512, False)])
    assert disk.status == 1
    disk.medium.broken = True
    disk.request(0, 0, [(DATA + 512, 512, True)])
    assert disk.status == 1


def hostile_loop(driver: Driver) -> None:
    driver.store(TABLE, "<QLHH", DATA, 16, 1, 1)
    driver.store(TABLE + 16, "<QLHH", DATA, 16, 1, 0)


def hostile_next(driver: Driver) -> None:
    driver.store(TABLE, "<QLHH", DATA, 16, 1, 999)


def hostile_address(driver: Driver) -> None:
    driver.store(TABLE, "<QLHH", MEMORY - 8, 16, 1, 1)
    driver.store(TABLE + 16, "<QLHH", DATA, 16, 2, 0)


def hostile_nesting(driver: Driver) -> None:
    driver.store(TABLE, "<QLHH", INDIRECT, 16, 4, 0)
    driver.store(INDIRECT, "<QLHH", INDIRECT, 16, 4, 0)


def hostile_indirect_length(driver: Driver) -> None:
    driver.store(TABLE, "<QLHH", INDIRECT, 17, 4, 0)


def hostile_order(driver: Driver) -> None:
    driver.store(TABLE, "<QLHH", DATA, 16, 3, 1)
    driver.store(TABLE + 16, "<QLHH", DATA, 16, 0, 0)


def hostile_status(driver: Driver) -> None:
    driver.store(TABLE, "<QLHH", DATA, 16, 1, 1)
    driver.store(TABLE + 16, "<QLHH", MEMORY, 1, 2, 0)


@pytest.mark.parametrize(
    "prepare",
    [hostile_loop, hostile_next, hostile_address, hostile_nesting, hostile_indirect_length,
     hostile_order, hostile_status],
)  # fmt: skip
def test_a_hostile_ring_needs_a_reset(prepare: object) -> None:
    disk = Disk()
    driver = disk.driver
    assert callable(prepare)
    prepare(driver)
    driver.store(DATA, "<LLQ", 8, 0, 0)
    driver.store(DRIVER + 4, "<H", 0)
    driver.store(DRIVER + 2, "<H", 1)
    driver.kick()
    assert driver.broken
    assert driver.isr() & 2
    driver.kick()
    again = Driver(disk.card, 1 << ONE)
    assert not again.broken


def test_more_buffers_than_the_ring_holds() -> None:
    disk = Disk()
    disk.driver.store(DRIVER + 2, "<H", 9)
    disk.driver.kick()
    assert disk.driver.broken


def test_features_that_are_not_offered_are_refused() -> None:
    disk = Disk()
    disk.driver.put(Reg.DEVICE_STATUS, 1, 0)
    disk.driver.put(Reg.DRIVER_FEATURE_SELECT, 4, 1)
    disk.driver.put(Reg.DRIVER_FEATURE, 4, 1 | 1 << 20)
    disk.driver.put(Reg.DEVICE_STATUS, 1, 11)
    assert not disk.driver.get(Reg.DEVICE_STATUS, 1) & 8


def test_window_in_configuration_space() -> None:
    disk = Disk()
    at = disk.card._window
    disk.card.write_config(at + 4, 1, 4)
    disk.card.write_config(at + 8, 4, 0x2000)
    disk.card.write_config(at + 12, 4, 4)
    assert disk.card.read_config(at + 16, 4) == SECTORS


@pytest.mark.parametrize("ring", RINGS)
def test_random_rings_never_raise(ring: str) -> None:
    chance = random.Random(ring)
    disk = Disk(RINGS[ring])
    for _ in range(500):
        if disk.driver.broken or not chance.randrange(50):
            disk = Disk(RINGS[ring])
        driver = disk.driver
        driver.store(DATA, "<LLQ", chance.choice((0, 1, 4, 8, 11, 13)), 0, chance.randrange(4096))
        for index in range(8):
            for table in (TABLE, INDIRECT):
                address = chance.choice((DATA, INDIRECT, MEMORY - 16, chance.randrange(1 << 64)))
                length = chance.choice((1, 16, 32, 512, chance.randrange(1 << 32)))
                flags = chance.choice((0, 1, 1, 2, 3, 4, 0x80, 0x81, 0x82, 0x83, 0x84, 0x8001))
                tail = (flags, chance.randrange(9))
                row = (address, length, *(tail if not driver.packed else tail[::-1]))
                struct.pack_into("<QLHH", driver.slot.memory, table + 16 * index, *row)
        driver.store(DRIVER + 2, "<H", disk.driver.next + chance.randrange(3) & 0xFFFF)
        driver.store(DRIVER + 4, "<8H", *(chance.randrange(9) for _ in range(8)))
        driver.kick()
        driver.put(chance.randrange(0, 0x3C, 2), 2, chance.randrange(1 << 16))


def test_legacy_registers() -> None:
    medium = FakeMedium(SECTORS * 512)
    card = VirtioPci(VirtioBlk(medium), 0x010000, modern=False)
    legacy = card._legacy
    assert card.config.get(2, 2) == 0x1001 and card.config.get(0x2E, 2) == 2
    assert legacy.read(12, 2) == 256
    assert legacy.read(20, 4) == SECTORS
    legacy.write(18, 1, 3)
    legacy.write(4, 4, 1 << FLUSH)
    legacy.write(8, 4, 16)
    assert legacy.read(8, 4) == 16
    queue = card.device.queues[0]
    assert (queue.table, queue.driver, queue.used) == (0x10000, 0x11000, 0x12000)
