"""The AHCI controller driven over PCI: disks, CD-ROMs, queued commands, errors, ill will."""

from __future__ import annotations

import json
import random
import struct

import pytest

from hw.ahci_driver import DATA, FISES, LIST, TABLE, Driver
from hw.media import FakeMedium
from pytcg.hw.storage.ahci.hba import Ahci
from pytcg.hw.storage.ahci.regs import Cmd, Ghc, Hba, Irq, Port
from pytcg.hw.storage.ata import AtaDisk
from pytcg.hw.storage.ata_drive import AtaDrive
from pytcg.hw.storage.ata_identify import DiskIdentity
from pytcg.hw.storage.atapi_drive import AtapiDrive
from pytcg.hw.storage.scsi.cdrom import CD_ROM, CdRom
from pytcg.hw.storage.scsi.unit import UnitIdentity

SIZE = 1 << 20
READ_DMA, WRITE_DMA, FLUSH, IDENTIFY, READ_PIO, WRITE_PIO = 0x25, 0x35, 0xEA, 0xEC, 0x24, 0x34
READ_FPDMA, WRITE_FPDMA, PACKET = 0x60, 0x61, 0xA0
OK = 0x50


@pytest.fixture(autouse=True, params=[True, False], ids=["at-once", "later"])
def both_ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The medium has its bytes at hand, or hasn't."""
    monkeypatch.setattr(FakeMedium, "cached", request.param)


def filled(size: int = SIZE, **kind: bool) -> FakeMedium:
    medium = FakeMedium(size, **kind)
    medium.data[:] = random.Random(3).randbytes(size)
    return medium


def disk(medium: FakeMedium) -> AtaDrive:
    return AtaDrive(AtaDisk(medium, queue_depth=32))


@pytest.fixture
def medium() -> FakeMedium:
    return filled()


@pytest.fixture
def driver(medium: FakeMedium) -> Driver:
    return Driver(disk(medium))


@pytest.fixture
def cd() -> Driver:
    unit = CdRom(UnitIdentity(CD_ROM, removable=True, atapi=True), filled(read_only=True))
    driver = Driver(AtapiDrive(unit, DiskIdentity()))
    driver.run(PACKET, [], packet=bytes(12))  # takes the unit attention
    driver.put(Port.CMD, Cmd.RECEIVE)
    driver.start()
    return driver


def test_capabilities_and_signatures(driver: Driver, cd: Driver) -> None:
    cap = driver.hba_get(Hba.CAP)
    assert cap >> 31 and cap >> 30 & 1 and cap & 31 == 5 and driver.hba_get(Hba.PI) == 0x3F
    assert driver.get(Port.SIG) == 0x101 and driver.get(Port.SSTS) == 0x113
    assert cd.get(Port.SIG) == 0xEB140101
    assert driver.hba_get(0x180 + Port.SSTS) == 0
    assert driver.hba_get(0x180 + Port.TFD) == 0x7F
    assert driver.memory[FISES + 0x40] == 0x34 and driver.get(Port.TFD) & 0xFF == OK


def test_identify_by_pio(driver: Driver) -> None:
    assert driver.run(IDENTIFY, [(DATA, 512)]) == OK
    assert driver.moved() == 512 and driver.get(Port.CI) == 0
    words = struct.unpack_from("<256H", driver.memory, DATA)
    assert words[75] == 31 and words[76] & 0x100 and words[100] == SIZE // 512
    assert driver.memory[FISES + 0x20] == 0x5F
    assert driver.acknowledge() == Irq.PIO_SETUP | Irq.DEVICE_TO_HOST


@pytest.mark.parametrize(("read", "write"), [(READ_DMA, WRITE_DMA), (READ_PIO, WRITE_PIO)])
def test_reads_and_writes(driver: Driver, medium: FakeMedium, read: int, write: int) -> None:
    spans = [(DATA, 700), (DATA + 5000, 100), (DATA + 8192, 20480 - 800)]
    before = bytes(medium.data)
    assert driver.run(read, spans, lba=7, count=40) == OK
    assert driver.moved() == 20480
    seen = b"".join(driver.memory[at : at + size] for at, size in spans)
    assert seen == before[7 * 512 : 47 * 512]
    assert driver.run(write, spans, lba=1000, count=40) == OK
    assert medium.data[1000 * 512 : 1040 * 512] == seen
    assert driver.slot.pin
    driver.acknowledge()
    assert not driver.slot.pin


def test_flush_ends_when_the_medium_did(driver: Driver, medium: FakeMedium) -> None:
    medium.held = True
    assert driver.run(FLUSH, []) & 0x80 and driver.get(Port.CI) == 1
    medium.release()
    assert driver.get(Port.CI) == 0 and driver.get(Port.TFD) == OK


def test_issued_commands_run_one_after_the_other(driver: Driver, medium: FakeMedium) -> None:
    medium.held = True
    for slot in range(4):
        driver.prepare(slot, FLUSH, [])
    driver.put(Port.CI, 15)
    for left in (14, 12, 8, 0):
        assert len(medium.waiting) == 1
        medium.release()
        assert driver.get(Port.CI) == left


def test_errors_halt_the_port_until_it_is_restarted(driver: Driver) -> None:
    assert driver.run(READ_DMA, [(DATA, 512)], lba=SIZE // 512, count=1) == 0x14 << 8 | OK | 1
    assert driver.acknowledge() & Irq.TASK_FILE_ERROR
    driver.prepare(1, FLUSH, [])
    driver.put(Port.CI, 2)
    assert driver.get(Port.CI) == 2
    driver.put(Port.CMD, Cmd.RECEIVE)
    assert driver.get(Port.CI) == 0
    driver.start()
    assert driver.run(READ_DMA, [(DATA, 512)], count=1) == OK


def test_queued_commands_end_in_any_order(driver: Driver, medium: FakeMedium) -> None:
    medium.held = True
    for slot, command in ((0, READ_FPDMA), (5, WRITE_FPDMA), (31, READ_FPDMA)):
        driver.prepare(slot, command, [(DATA + slot * 512, 512)], lba=slot + 9, feature=1,
                       count=slot << 3)  # fmt: skip
        driver.put(Port.SACT, 1 << slot)
        driver.put(Port.CI, 1 << slot)
    assert driver.get(Port.CI) == 0 and driver.get(Port.SACT) == 1 << 31 | 1 << 5 | 1
    medium.release(2)
    assert driver.get(Port.SACT) == 1 << 5 | 1
    assert driver.memory[DATA + 31 * 512 :][:512] == medium.data[40 * 512 :][:512]
    assert struct.unpack_from("<BBBBL", driver.memory, FISES + 0x58) == (0xA1, 0x40, OK, 0, 1 << 31)
    assert driver.acknowledge() == Irq.SET_DEVICE_BITS
    medium.release(1)
    medium.release()
    assert driver.get(Port.SACT) == 0
    assert medium.data[14 * 512 : 15 * 512] == bytes(512)


def test_a_failed_queued_command_voids_the_others(driver: Driver, medium: FakeMedium) -> None:
    medium.held = True
    for slot in range(3):
        driver.prepare(slot, READ_FPDMA, [(DATA, 512)], feature=1, count=slot << 3)
        driver.put(Port.SACT, 1 << slot)
        driver.put(Port.CI, 1 << slot)
    medium.broken = True
    medium.release()
    assert driver.acknowledge() & Irq.TASK_FILE_ERROR and driver.get(Port.TFD) & 1
    medium.broken = False
    before = bytes(driver.memory)
    medium.release()
    assert driver.memory == before and driver.get(Port.SACT) == 7
    driver.put(Port.CMD, Cmd.RECEIVE)
    assert driver.get(Port.SACT) == 0


def test_software_and_hardware_reset(driver: Driver, medium: FakeMedium) -> None:
    for control in (4, 0):
        driver.prepare(0, 0, [], is_command=False, control=control)
        driver.put(Port.CI, 1)
        assert driver.get(Port.CI) == 0
    assert driver.get(Port.TFD) == 0x150
    medium.held = True
    driver.run(READ_DMA, [(DATA, 512)], count=1)
    driver.put(Port.CMD, Cmd.RECEIVE)
    driver.put(Port.SCTL, 1)
    driver.put(Port.SCTL, 0)
    before = bytes(driver.memory)
    medium.release()
    assert driver.memory == before and driver.get(Port.SIG) == 0x101


def test_a_table_too_short_or_outside_memory(driver: Driver) -> None:
    assert driver.run(READ_DMA, [(DATA, 512)], count=2) == OK
    assert driver.acknowledge() & Irq.OVERFLOW
    assert driver.run(WRITE_DMA, [(DATA, 512)], count=2) & 1
    driver.put(Port.CMD, Cmd.RECEIVE)
    driver.start()
    driver.run(READ_DMA, [(1 << 40, 512)], count=1)
    assert driver.acknowledge() & Irq.HOST_BUS_DATA
    driver.put(Port.CMD, Cmd.RECEIVE)
    driver.start()
    driver.put(Port.CLB + 4, 1)
    driver.put(Port.CI, 1)
    assert driver.acknowledge() & Irq.HOST_BUS_FATAL


def packet(driver: Driver, cdb: bytes, length: int, *, dma: bool) -> int:
    return driver.run(PACKET, [(DATA, length)], packet=cdb, feature=int(dma), lba=0xFFFE00)


@pytest.mark.parametrize("dma", [True, False])
def test_packets(cd: Driver, dma: bool) -> None:
    assert packet(cd, struct.pack(">BBLBHB2x", 0x28, 0, 3, 0, 4, 0), 8192, dma=dma) & 1 == 0
    expected = filled().data
    assert cd.memory[DATA : DATA + 8192] == expected[3 * 2048 : 7 * 2048] and cd.moved() == 8192
    assert cd.run(0xA1, [(DATA, 512)]) & 1 == 0
    assert struct.unpack_from("<H", cd.memory, DATA)[0] == 0x85C0
    assert packet(cd, b"\xff".ljust(12, b"\0"), 512, dma=dma) & 1
    cd.put(Port.CMD, Cmd.RECEIVE)
    cd.start()
    packet(cd, struct.pack("<BBBBB7x", 3, 0, 0, 0, 18), 18, dma=dma)
    assert cd.memory[DATA + 2] == 5 and cd.memory[DATA + 12] == 0x20


def test_the_index_and_data_pair(driver: Driver) -> None:
    pair = driver.card.bars[0]
    pair.write(0x10, 4, Hba.GHC)
    assert pair.read(0x14, 4) == Ghc.AHCI | Ghc.INTERRUPTS
    pair.write(0x14, 4, Ghc.AHCI)
    assert driver.hba_get(Hba.GHC) == Ghc.AHCI


def test_state_survives_a_trip_through_json(driver: Driver, medium: FakeMedium) -> None:
    driver.run(IDENTIFY, [(DATA, 512)])
    saved = json.loads(json.dumps(driver.card.state()))
    card = Ahci()
    card.ports[0].connect(disk(medium))
    card.host = driver.slot
    card.restore(saved)
    assert card.state() == driver.card.state()
    driver.card = card
    assert driver.run(READ_DMA, [(DATA, 512)], count=1) == OK


def test_random_accesses_never_raise(medium: FakeMedium) -> None:
    rng = random.Random(9)
    for turn in range(40):
        driver = Driver(disk(medium))
        medium.held = turn % 2 == 1
        for _ in range(200):
            _stir(driver, medium, rng)
        medium.waiting.clear()


def _stir(driver: Driver, medium: FakeMedium, rng: random.Random) -> None:
    slot = rng.randrange(4)
    command = rng.choice((READ_DMA, WRITE_DMA, READ_FPDMA, WRITE_FPDMA, IDENTIFY, READ_PIO,
                          WRITE_PIO, PACKET, 0x06, 0xB0, rng.getrandbits(8)))  # fmt: skip
    spans = [(rng.randrange(1 << 21), rng.randrange(1, 9000)) for _ in range(rng.randrange(9))]
    driver.prepare(slot, command, spans, lba=rng.choice((0, 9, rng.getrandbits(48))),
                   count=rng.choice((slot << 3, 1, rng.getrandbits(16))),
                   feature=rng.choice((0, 1, rng.getrandbits(16))),
                   is_command=rng.random() < 0.9, control=rng.getrandbits(8))  # fmt: skip
    if rng.random() < 0.1:
        at = rng.choice((LIST, TABLE)) + rng.randrange(0x200)
        driver.memory[at : at + 8] = rng.randbytes(8)
    driver.put(rng.choice((Port.CI, Port.CI, Port.SACT)), rng.getrandbits(4))
    if rng.random() < 0.2:
        value = rng.choice((Cmd.RECEIVE | Cmd.START, Cmd.RECEIVE, 0, rng.getrandbits(32)))
        driver.put(Port.CMD, value)
    if rng.random() < 0.1:
        driver.hba_put(rng.randrange(0x200) & ~3, rng.getrandbits(32) & ~1)
    driver.hba_get(rng.randrange(0x400), rng.choice((1, 2, 4)))
    if medium.waiting and rng.random() < 0.5:
        medium.release(rng.randrange(len(medium.waiting)))
