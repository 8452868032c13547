"""The floppy disk controller with its DMA channel: commands, results, changed disks, ill will."""

from __future__ import annotations

import json
import random

import pytest

from hw.media import FakeMedium
from pytcg.hw.core.i8237 import I8237, DmaChannel
from pytcg.hw.pci.device import DmaError
from pytcg.hw.storage.floppy.drive import FORMATS, FloppyDrive, Kind, format_of
from pytcg.hw.storage.floppy.fdc import Fdc82077
from pytcg.hw.storage.floppy.regs import Reg

SIZE = 1440 << 10
BUFFER = 0x8000
READ, WRITE, FORMAT = 0xE6, 0xC5, 0x4D


class Memory:
    def __init__(self) -> None:
        self.bytes = bytearray(1 << 18)

    def dma_read(self, address: int, length: int) -> bytes:
        if address + length > len(self.bytes):
            raise DmaError("nobody")
        return bytes(self.bytes[address : address + length])

    def dma_write(self, address: int, data: bytes) -> None:
        if address + len(data) > len(self.bytes):
            raise DmaError("nobody")
        self.bytes[address : address + len(data)] = data


class Pc:
    """A controller with a disk in drive 0, set up as a BIOS does."""

    def __init__(self, medium: FakeMedium | None, kind: Kind | None = None) -> None:
        self.memory = Memory()
        self.dma = I8237(self.memory, 1)
        self.fdc = Fdc82077(DmaChannel(self.dma, 2))
        self.drive = FloppyDrive(medium, kind)
        self.fdc.drives[0] = self.drive
        self.fdc.write(Reg.DOR, 0x0C)
        for _ in range(4):
            assert self.command(0x08)[0] & 0xC0 == 0xC0
        self.command(0x03, 0xAF, 0x02)
        self.fdc.write(Reg.CCR, 0)
        self.fdc.write(Reg.DOR, 0x1C)
        self.command(0x07, 0)
        assert self.command(0x08) == [0x20, 0]

    def command(self, *data: int) -> list[int]:
        """Write a command; the result, if there is one now."""
        for byte in data:
            assert self.fdc.read(Reg.MSR) & 0xC0 == 0x80
            self.fdc.write(Reg.FIFO, byte)
        return self.result()

    def result(self) -> list[int]:
        found = []
        while self.fdc.read(Reg.MSR) & 0xF0 == 0xD0:
            found.append(self.fdc.read(Reg.FIFO))
        return found

    def aim(self, length: int, *, to_memory: bool) -> None:
        """Program DMA channel 2."""
        self.dma.write(12, 0)
        self.dma.write(11, 0x46 if to_memory else 0x4A)
        for value in (BUFFER & 0xFF, BUFFER >> 8):
            self.dma.write(4, value)
        for value in (length - 1 & 0xFF, length - 1 >> 8):
            self.dma.write(5, value)
        self.dma.write(10, 2)

    def sectors(self, command: int, cylinder: int, head: int, sector: int, last: int = 18
                ) -> list[int]:  # fmt: skip
        return self.command(command, head << 2, cylinder, head, sector, 2, last, 0x1B, 0xFF)


@pytest.fixture
def medium() -> FakeMedium:
    medium = FakeMedium(SIZE)
    medium.data[:] = random.Random(1).randbytes(SIZE)
    return medium


@pytest.fixture
def pc(medium: FakeMedium) -> Pc:
    return Pc(medium)


def test_formats_are_told_by_their_sizes() -> None:
    assert [format_of(kib << 10).sectors for kib in (1440, 720, 1200, 360, 2880)] \
        == [18, 9, 15, 9, 36]  # fmt: skip
    assert format_of(1000).sectors == 18 and format_of(1440 << 10, Kind.EXTENDED).sectors == 18
    assert all(format.size <= 48 * 80 * 2 * 512 for format in FORMATS)


@pytest.mark.parametrize("count", [1, 18, 36])
def test_read_over_heads(pc: Pc, medium: FakeMedium, count: int) -> None:
    pc.aim(512 * count, to_memory=True)
    result = pc.sectors(READ, 0, 0, 1)
    assert result[0] & 0xC0 == 0 and pc.fdc.read(Reg.MSR) == 0x80
    assert pc.memory.bytes[BUFFER : BUFFER + 512 * count] == medium.data[: 512 * count]
    ends = {1: [0, 0, 2], 18: [0, 1, 1], 36: [1, 0, 1]}
    assert result[3:] == [*ends[count], 2]


def test_a_command_interrupts_and_its_result_takes_it_back(pc: Pc) -> None:
    pc.aim(512, to_memory=True)
    for byte in (READ, 0, 0, 0, 1, 2, 18, 0x1B, 0xFF):
        pc.fdc.write(Reg.FIFO, byte)
    assert pc.fdc.irq.level
    pc.fdc.read(Reg.FIFO)
    assert not pc.fdc.irq.level


def test_write_seek_and_format(pc: Pc, medium: FakeMedium) -> None:
    assert pc.command(0x0F, 0, 5) == [] and pc.command(0x08) == [0x20, 5]
    pc.memory.bytes[BUFFER : BUFFER + 1024] = b"ab" * 512
    pc.aim(1024, to_memory=False)
    assert pc.sectors(WRITE, 5, 1, 3)[:3] == [4, 0, 0]
    at = ((5 * 2 + 1) * 18 + 2) * 512
    assert medium.data[at : at + 1024] == b"ab" * 512
    pc.aim(72, to_memory=False)
    assert pc.command(FORMAT, 0, 2, 18, 0x54, 0xF6)[0] == 0
    at = 5 * 2 * 18 * 512
    assert medium.data[at : at + 18 * 512] == b"\xf6" * 9216


def test_without_dma_data_goes_by_the_fifo(pc: Pc, medium: FakeMedium) -> None:
    pc.command(0x03, 0xAF, 0x03)
    assert pc.sectors(READ & 0x7F, 0, 0, 17) == []
    seen = []
    while pc.fdc.read(Reg.MSR) == 0xF0:
        seen.append(pc.fdc.read(Reg.FIFO))
    assert bytes(seen) == medium.data[16 * 512 : 18 * 512]
    assert pc.result()[:2] == [0x40, 0x80]
    assert pc.sectors(WRITE & 0x7F, 0, 0, 18) == []
    for _ in range(512):
        assert pc.fdc.read(Reg.MSR) == 0xB0
        pc.fdc.write(Reg.FIFO, 7)
    assert pc.result()[:2] == [0x40, 0x80] and medium.data[17 * 512 : 18 * 512] == b"\7" * 512


def test_what_goes_wrong(medium: FakeMedium) -> None:
    pc = Pc(medium)
    pc.aim(512, to_memory=True)
    assert pc.sectors(READ, 3, 0, 1)[:3] == [0x40, 4, 0x10]  # another cylinder
    assert pc.sectors(READ, 0, 0, 19)[:2] == [0x40, 4]
    assert pc.command(READ, 1, 0, 0, 1, 2, 18, 0x1B, 0xFF)[:2] == [0x41, 1]  # no drive
    pc.fdc.write(Reg.CCR, 2)
    assert pc.command(0x4A, 0)[:2] == [0x40, 1]  # another rate
    pc.fdc.write(Reg.CCR, 0)
    assert pc.command(0x4A, 0)[:2] == [0, 0]
    medium.broken = True
    assert pc.sectors(READ, 0, 0, 1)[:2] == [0x40, 0x20]
    pc.dma.write(10, 6)
    medium.broken = False
    assert pc.sectors(READ, 0, 0, 1)[:2] == [0x40, 0x10]  # the channel is masked
    assert pc.command(0x1F) == [0x80] and pc.command(0x08) == [0x80]
    locked = Pc(FakeMedium(SIZE, read_only=True))
    locked.aim(512, to_memory=False)
    assert locked.sectors(WRITE, 0, 0, 1)[:2] == [0x40, 2]
    assert locked.command(0x04, 0) == [0x78]
    empty = Pc(None)
    assert empty.command(0x4A, 0)[:2] == [0x40, 1]


def test_the_change_line_until_a_step_with_a_disk(pc: Pc, medium: FakeMedium) -> None:
    assert not pc.fdc.read(Reg.DIR)
    pc.drive.change(None)
    assert pc.fdc.read(Reg.DIR) == 0x80
    pc.command(0x0F, 0, 1)
    assert pc.fdc.read(Reg.DIR) == 0x80
    pc.drive.change(medium)
    pc.command(0x0F, 0, 2)
    assert not pc.fdc.read(Reg.DIR)


def test_what_it_says_of_itself(pc: Pc) -> None:
    assert pc.command(0x10) == [0x90] and pc.command(0x18) == [0x41]
    assert pc.command(0x13, 0, 0x57, 0) == [] and pc.command(0x94) == [0x10]
    assert len(pc.command(0x0E)) == 10
    pc.fdc.write(Reg.DSR, 0x80)
    assert pc.command(0x0E)[8] == 0x57  # locked: a reset leaves it


def test_a_reset_forgets_what_is_under_way(pc: Pc, medium: FakeMedium) -> None:
    pc.aim(512, to_memory=True)
    medium.held = True
    assert pc.sectors(READ, 0, 0, 1) == [] and pc.fdc.read(Reg.MSR) == 0x10
    pc.fdc.write(Reg.DOR, 0x18)
    pc.fdc.write(Reg.DOR, 0x1C)
    medium.release()
    assert pc.fdc.read(Reg.MSR) == 0x80 and not any(pc.memory.bytes)


def test_state_survives_a_trip_through_json(pc: Pc, medium: FakeMedium) -> None:
    pc.aim(512, to_memory=True)
    for byte in (READ, 0, 0, 0):
        pc.fdc.write(Reg.FIFO, byte)
    other = Fdc82077(DmaChannel(pc.dma, 2))
    other.drives[0] = FloppyDrive(medium)
    other.restore(json.loads(json.dumps(pc.fdc.state())))
    assert other.state() == pc.fdc.state()
    pc.fdc = other
    assert pc.command(1, 2, 18, 0x1B, 0xFF)[:3] == [0, 0, 0]
    assert pc.memory.bytes[BUFFER : BUFFER + 512] == medium.data[:512]


def test_random_accesses_never_raise(medium: FakeMedium) -> None:
    rng = random.Random(4)
    pc = Pc(medium)
    codes = [code | modifier for code in range(32) for modifier in (0, 0x40, 0xC0, 0xE0)]
    for _ in range(6000):
        if rng.random() < 0.02:
            pc.fdc.write(rng.choice((Reg.DOR, Reg.DSR, Reg.CCR, Reg.TDR)), rng.getrandbits(8))
            pc.fdc.write(Reg.DOR, 0x1C)
            pc.aim(rng.randrange(1, 40000), to_memory=rng.random() < 0.5)
        pc.fdc.write(Reg.FIFO, rng.choice((rng.choice(codes), rng.randrange(20))))
        pc.fdc.read(rng.randrange(8))
        medium.held = rng.random() < 0.1
        if medium.waiting:
            medium.release()
