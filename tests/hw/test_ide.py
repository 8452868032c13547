"""The IDE function: registers, PIO, bus-master DMA, resets; and software that means ill."""

from __future__ import annotations

import random
import struct

import pytest

from hw.dma import DmaBytes
from hw.media import FakeMedium
from pytcg.hw.pci.config import Command
from pytcg.hw.pci.config import Reg as Pci
from pytcg.hw.storage.ata import AtaDisk
from pytcg.hw.storage.ata_drive import AtaDrive
from pytcg.hw.storage.ata_identify import DiskIdentity
from pytcg.hw.storage.atapi_drive import AtapiDrive
from pytcg.hw.storage.piix3_ide import Piix3Ide
from pytcg.hw.storage.scsi.cdrom import CD_ROM, CdRom
from pytcg.hw.storage.scsi.unit import UnitIdentity

SECTORS = 4096
TABLE = 0x1000
BUFFER = 0x10000


@pytest.fixture(autouse=True, params=[True, False], ids=["at-once", "later"])
def both_ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The medium has its bytes at hand, or hasn't."""
    monkeypatch.setattr(FakeMedium, "cached", request.param)


class Slot(DmaBytes):
    """What the PCI function finds: memory and nothing else."""

    def __init__(self) -> None:
        super().__init__(1 << 20)

    def map_bar(self, bar: object) -> None: ...

    def unmap_bar(self, bar: object) -> None: ...

    def set_pin(self, device: object, level: bool) -> None: ...

    def deliver(self, address: int, data: int) -> None: ...


class Pc:
    """A disk on the first channel, a CD-ROM on the second, and a driver for both."""

    def __init__(self) -> None:
        self.medium = FakeMedium(SECTORS * 512)
        self.medium.data[:] = random.Random(1).randbytes(SECTORS * 512)
        self.disc = FakeMedium(400 * 2048, read_only=True)
        self.disc.data[:] = random.Random(2).randbytes(400 * 2048)
        self.ide = Piix3Ide()
        self.slot = Slot()
        self.ide.host = self.slot
        identity = UnitIdentity(CD_ROM, product="QEMU DVD-ROM", removable=True, atapi=True)
        self.cdrom = CdRom(identity, self.disc)
        self.ide.channels[0].connect(0, AtaDrive(AtaDisk(self.medium)))
        self.ide.channels[1].connect(0, AtapiDrive(self.cdrom, DiskIdentity(model="CD")))
        self.ide.reset()
        self.ide.write_config(Pci.COMMAND, 2, Command.IO | Command.BUS_MASTER)
        self.ide.write_config(0x40, 4, 0x80008000)
        self.disk, self.cd = self.ide.channels

    def lba28(self, command: int, lba: int, count: int) -> None:
        for reg, value in enumerate((count, lba & 255, lba >> 8 & 255, lba >> 16 & 255), 2):
            self.disk.write(reg, value & 0xFF)
        self.disk.write(6, 0xE0 | lba >> 24)
        self.disk.write(7, command)

    def lba48(self, command: int, lba: int, count: int) -> None:
        raw = lba.to_bytes(6, "little")
        self.disk.write(6, 0xE0)
        for high, low, reg in ((count >> 8, count & 255, 2), (raw[3], raw[0], 3),
                               (raw[4], raw[1], 4), (raw[5], raw[2], 5)):  # fmt: skip
            self.disk.write(reg, high)
            self.disk.write(reg, low)
        self.disk.write(7, command)

    def table(self, *spans: tuple[int, int]) -> None:
        for index, (address, length) in enumerate(spans):
            end = 0x80000000 if index == len(spans) - 1 else 0
            raw = struct.pack("<LL", address, length & 0xFFFF | end)
            self.slot.memory[TABLE + 8 * index : TABLE + 8 * index + 8] = raw
        self.ide._write(4, 4, TABLE)

    def go(self, *, to_memory: bool) -> None:
        self.ide._write(0, 1, 9 if to_memory else 1)

    def packet(self, cdb: bytes, limit: int = 0xFFFE, *, dma: bool = False) -> bytes:
        """Run a packet by PIO; what the drive gave (or nothing, with DMA)."""
        cd = self.cd
        cd.write(1, int(dma))
        cd.write(4, limit & 255)
        cd.write(5, limit >> 8)
        cd.write(7, 0xA0)
        assert cd.read_alternate() & 0x88 == 0x08 and cd.read(2) == 1
        cdb = cdb.ljust(12, b"\0")
        for at in range(0, 12, 2):
            cd.write_data(2, int.from_bytes(cdb[at : at + 2], "little"))
        data = b""
        while not dma and cd.read_alternate() & 0x08:
            assert cd.irq.level and cd.read(2) == 2
            length = cd.read(4) | cd.read(5) << 8
            assert 0 < length <= limit
            cd.read(7)
            data += b"".join(cd.read_data(2).to_bytes(2, "little") for _ in range(length // 2))
        return data


@pytest.fixture
def pc() -> Pc:
    return Pc()


def words(pc: Pc, count: int) -> bytes:
    return b"".join(pc.disk.read_data(2).to_bytes(2, "little") for _ in range(count))


def test_signatures_after_reset(pc: Pc) -> None:
    assert [pc.disk.read(reg) for reg in range(1, 6)] == [1, 1, 1, 0, 0]
    assert [pc.cd.read(reg) for reg in range(1, 6)] == [1, 1, 1, 0x14, 0xEB]


def test_absent_slave_and_empty_channel(pc: Pc) -> None:
    pc.disk.write(6, 0x10)
    assert pc.disk.read(7) == 0
    assert Piix3Ide().channels[0].read(7) == 0x7F


def test_identify(pc: Pc) -> None:
    pc.lba28(0xEC, 0, 0)
    assert pc.disk.irq.level
    assert pc.disk.read(7) == 0x58
    data = words(pc, 256)
    assert pc.disk.read(7) == 0x50
    assert not sum(data) & 0xFF
    assert struct.unpack_from("<L", data, 120)[0] == SECTORS
    assert struct.unpack_from("<Q", data, 200)[0] == SECTORS
    assert data[54:66] == b"EQUMH RADDSI"


def test_pio_read_interrupts_for_each_sector(pc: Pc) -> None:
    pc.lba28(0x20, 7, 2)
    for sector in (7, 8):
        assert pc.disk.irq.level
        pc.disk.read(7)
        assert not pc.disk.irq.level
        assert words(pc, 256) == pc.medium.data[sector * 512 : sector * 512 + 512]
    assert pc.disk.read(7) == 0x50 and not pc.disk.irq.level


def test_read_multiple_takes_blocks(pc: Pc) -> None:
    pc.lba28(0xC6, 0, 8)
    pc.lba28(0xC4, 0, 20)
    for sectors in (8, 8, 4):
        assert pc.disk.irq.level
        pc.disk.read(7)
        words(pc, 256 * sectors)
    assert pc.disk.read(7) == 0x50


def test_pio_write(pc: Pc) -> None:
    data = bytes(range(256)) * 4
    pc.lba28(0x30, 100, 2)
    assert not pc.disk.irq.level
    for sector in range(2):
        assert pc.disk.read(7) == 0x58
        for at in range(sector * 512, sector * 512 + 512, 2):
            pc.disk.write_data(2, int.from_bytes(data[at : at + 2], "little"))
        assert pc.disk.irq.level
    assert pc.disk.read(7) == 0x50
    assert pc.medium.data[100 * 512 : 102 * 512] == data


def test_dma_scatters_over_the_table(pc: Pc) -> None:
    pc.table((BUFFER, 512), (BUFFER + 0x2000, 1024))
    pc.lba48(0x25, 3, 3)
    assert not pc.disk.irq.level
    pc.go(to_memory=True)
    assert pc.disk.irq.level
    assert pc.ide._read(2, 1) & 7 == 4
    found = pc.slot.memory[BUFFER : BUFFER + 512] + pc.slot.memory[BUFFER + 0x2000 :][:1024]
    assert found == pc.medium.data[3 * 512 : 6 * 512]
    pc.ide._write(2, 1, 4)
    assert pc.ide._read(2, 1) & 7 == 0


def test_dma_write_with_fua_reaches_the_medium(pc: Pc) -> None:
    pc.slot.memory[BUFFER : BUFFER + 1024] = b"y" * 1024
    pc.table((BUFFER, 1024))
    pc.go(to_memory=False)  # started before the command
    pc.lba48(0x3D, 9, 2)
    assert pc.medium.log == [("write", 9 * 512, 1024, True)]
    assert pc.medium.data[9 * 512 : 11 * 512] == b"y" * 1024


def test_dma_table_shorter_and_longer_than_the_transfer(pc: Pc) -> None:
    pc.table((BUFFER, 512))
    pc.lba28(0xC8, 0, 2)
    pc.go(to_memory=True)
    assert pc.disk.read(7) & 1  # it never gets its data: an error, not a hang
    pc.ide._write(0, 1, 0)
    pc.table((BUFFER, 4096))
    pc.lba28(0xC8, 0, 2)
    pc.go(to_memory=True)
    assert pc.ide._read(2, 1) & 7 == 5  # interrupt, still active: the table went on


def test_dma_outside_memory_is_an_error(pc: Pc) -> None:
    pc.table((0xFFFFF000, 1024))
    pc.lba28(0xC8, 0, 2)
    pc.go(to_memory=True)
    assert pc.ide._read(2, 1) & 2
    assert pc.disk.read(7) & 1
    pc.ide._write(4, 4, 0xFFFFFFF0)
    pc.lba28(0xCA, 0, 2)
    pc.ide._write(0, 1, 0)
    pc.go(to_memory=False)
    assert pc.disk.read(7) & 1


def test_request_under_way_is_busy_and_dropped_by_reset(pc: Pc) -> None:
    pc.medium.held = True
    pc.lba28(0x20, 0, 1)
    assert pc.disk.read(7) & 0x80
    pc.lba28(0xEC, 0, 1)  # ignored while busy
    pc.disk.write_control(4)
    assert pc.disk.read_alternate() & 0x80
    pc.disk.write_control(0)
    pc.medium.release()
    assert pc.disk.read(7) == 0x50 and not pc.disk.irq.level


def test_beyond_the_end_and_broken_medium(pc: Pc) -> None:
    pc.lba48(0x24, SECTORS - 1, 2)
    assert pc.disk.read(7) & 1 and pc.disk.read(1) & 0x10
    pc.medium.broken = True
    pc.lba28(0x20, 0, 1)
    assert pc.disk.read(7) & 1 and pc.disk.read(1) == 0x40


def test_flush_ends_when_the_medium_did(pc: Pc) -> None:
    pc.medium.held = True
    pc.lba28(0xE7, 0, 0)
    assert pc.disk.read(7) == 0x80
    pc.medium.release()
    assert pc.disk.irq.level and pc.disk.read(7) == 0x50


def test_trim(pc: Pc) -> None:
    pc.slot.memory[BUFFER : BUFFER + 16] = struct.pack("<QQ", 5 | 3 << 48, 100 | 1 << 48)
    pc.table((BUFFER, 512))
    pc.disk.write(1, 1)
    pc.lba48(0x06, 0, 1)
    pc.go(to_memory=False)
    assert pc.disk.read(7) == 0x50
    assert sorted(pc.medium.log) == [("discard", 2560, 1536), ("discard", 51200, 512)]


def test_chs_addresses(pc: Pc) -> None:
    for reg, value in ((2, 1), (3, 2), (4, 1), (5, 0), (6, 0xA3)):  # cylinder 1, head 3, sector 2
        pc.disk.write(reg, value)
    pc.disk.write(7, 0x20)
    block = (1 * 16 + 3) * 63 + 1
    assert words(pc, 256) == pc.medium.data[block * 512 : block * 512 + 512]


def test_smart_is_healthy(pc: Pc) -> None:
    pc.disk.write(1, 0xDA)
    pc.lba28(0xB0, 0xC24F00, 0)
    assert pc.disk.read(7) == 0x50
    assert (pc.disk.read(4), pc.disk.read(5)) == (0x4F, 0xC2)


def test_nien_hides_the_interrupt(pc: Pc) -> None:
    pc.disk.write_control(2)
    pc.lba28(0xE7, 0, 0)
    assert not pc.disk.irq.level
    pc.disk.write_control(0)
    assert pc.disk.irq.level


# --- the CD-ROM ---------------------------------------------------------------------------------


def test_identify_of_a_packet_device_shows_its_signature(pc: Pc) -> None:
    pc.cd.write(7, 0xEC)
    assert pc.cd.read(7) & 1 and pc.cd.read(1) & 4
    assert (pc.cd.read(4), pc.cd.read(5)) == (0x14, 0xEB)


def test_unit_attention_comes_first(pc: Pc) -> None:
    pc.packet(b"\0")
    assert pc.cd.read(7) & 1 and pc.cd.read(1) >> 4 == 6
    assert pc.packet(bytes([3, 0, 0, 0, 18]))[2:14:10] == bytes([6, 0x29])
    pc.packet(b"\0")
    assert not pc.cd.read(7) & 1 and pc.cd.read(2) == 3


def test_read_by_pio_respects_the_byte_limit(pc: Pc) -> None:
    pc.cdrom.attention = []
    data = pc.packet(struct.pack(">BBLBH", 0x28, 0, 5, 0, 3), 2048)
    assert data == pc.disc.data[5 * 2048 : 8 * 2048]


def test_read_by_dma(pc: Pc) -> None:
    pc.cdrom.attention = []
    pc.slot.memory[TABLE : TABLE + 8] = struct.pack("<LL", BUFFER, 4096 | 0x80000000)
    pc.ide._write(12, 4, TABLE)
    pc.packet(struct.pack(">BBLBH", 0x28, 0, 5, 0, 2), dma=True)
    pc.ide._write(8, 1, 9)
    assert pc.slot.memory[BUFFER : BUFFER + 4096] == pc.disc.data[5 * 2048 : 7 * 2048]
    assert pc.cd.irq.level and pc.cd.read(2) == 3


def test_capacity_toc_and_configuration(pc: Pc) -> None:
    pc.cdrom.attention = []
    assert pc.packet(b"\x25") == struct.pack(">LL", 399, 2048)
    toc = pc.packet(bytes([0x43, 0, 0, 0, 0, 0, 0, 0, 100]))
    assert struct.unpack(">HBB BBBBL BBBBL", toc) == (18, 1, 1, 0, 20, 1, 0, 0, 0, 20, 170, 0, 400)
    assert pc.packet(bytes([0x46, 0, 0, 0, 0, 0, 0, 0, 8]))[6:] == b"\0\x08"


def test_eject_lock_and_change(pc: Pc) -> None:
    pc.cdrom.attention = []
    pc.packet(bytes([0x1E, 0, 0, 0, 1]))
    pc.packet(bytes([0x1B, 0, 0, 0, 2]))
    assert pc.cd.read(1) >> 4 == 5 and not pc.cdrom.tray_open
    pc.packet(bytes([0x1E]))
    pc.packet(bytes([0x1B, 0, 0, 0, 2]))
    assert pc.cdrom.tray_open
    pc.packet(b"\0")
    assert pc.cd.read(1) >> 4 == 2
    pc.cdrom.change(FakeMedium(2048 * 10, read_only=True))
    pc.packet(b"\0")
    assert pc.cd.read(1) >> 4 == 6
    assert pc.packet(b"\x25") == struct.pack(">LL", 9, 2048)


def test_random_accesses_never_raise(pc: Pc) -> None:
    chance = random.Random(7)
    for step in range(60000):
        channel = chance.choice((pc.disk, pc.cd))
        size = chance.choice((1, 2, 4))
        kind = chance.randrange(10)
        if kind < 3:
            value = chance.choice((0xA0, 0xE0, chance.randrange(256)))
            channel.write(chance.randrange(1, 8), value)
        elif kind == 3:
            channel.write(7, chance.choice((0x20, 0x24, 0x30, 0xC8, 0xCA, 0xEC, 0xA0, 0xA1, 6)))
        elif kind == 4:
            channel.read(chance.randrange(1, 8))
        elif kind < 7:
            for _ in range(chance.randrange(300)):
                channel.write_data(size, chance.randrange(1 << size * 8))
                channel.read_data(size)
        elif kind == 7:
            channel.write_control(chance.choice((0, 0, 2, 4, 0x80)))
        else:
            offset = chance.randrange(0, 16, size)
            pc.ide._write(offset, size, chance.randrange(1 << size * 8))
            pc.ide._read(offset, size)
        if step % 50 == 0:
            for at in range(TABLE, TABLE + 64, 8):
                entry = struct.pack("<LL", chance.randrange(1 << 21), chance.randrange(1 << 32))
                pc.slot.memory[at : at + 8] = entry
            pc.ide._write(4, 4, TABLE)


@pytest.mark.parametrize("size", [1, 2, 4])
def test_accesses_in_a_row_are_the_same_as_one_by_one(size: int) -> None:
    one, row = Pc(), Pc()
    for pc in (one, row):
        pc.lba28(0x20, 3, 3)
    counts = (100, 512 // size - 100, 700 // size, 5, 1000 // size)
    for count in counts:
        single = b"".join(one.disk.read_data(size).to_bytes(size, "little") for _ in range(count))
        assert row.disk.read_run(size, count) == single
        assert one.disk.irq.level == row.disk.irq.level
        assert one.disk.read(7) == row.disk.read(7)
    data = random.Random(5).randbytes(1536)
    for pc in (one, row):
        pc.lba28(0x30, 50, 3)
    for at in range(0, 1536, size):
        one.disk.write_data(size, int.from_bytes(data[at : at + size], "little"))
    for at in range(0, 1536, 768):
        row.disk.write_run(size, data[at : at + 768])
    assert one.medium.data == row.medium.data
    assert row.medium.data[50 * 512 : 53 * 512] == data
    assert one.medium.log == row.medium.log and row.disk.read(7) == 0x50
