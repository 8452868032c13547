"""virtio-rng, virtio-balloon and virtio-scsi, driven over PCI; random command blocks."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable

from hw.media import FakeMedium
from hw.virtio_driver import DATA, Driver
from pytcg.hw.clock import FakeClock
from pytcg.hw.storage.scsi.cdrom import CD_ROM, CdRom
from pytcg.hw.storage.scsi.disk import DISK, ScsiDisk
from pytcg.hw.storage.scsi.unit import Response, UnitIdentity
from pytcg.hw.virtio.balloon import VirtioBalloon
from pytcg.hw.virtio.pci import VirtioPci
from pytcg.hw.virtio.rng import VirtioRng
from pytcg.hw.virtio.scsi import VirtioScsi

ONE = 1 << 32
RESPONSE = DATA + 0x1000


class Source:
    """Entropy that is ready, or comes when the test calls ``waiting``."""

    def __init__(self, *, ready: bool = True) -> None:
        self.ready = ready
        self.waiting: Callable[[bytes], None] | None = None
        self.asked: list[int] = []

    def request(self, length: int, done: Callable[[bytes], None]) -> None:
        self.asked.append(length)
        if self.ready:
            done(b"r" * length)
        else:
            self.waiting = done

    def cancel(self, done: Callable[[bytes], None]) -> None:
        assert self.waiting is done
        self.waiting = None


def test_rng_gives_so_much_a_period() -> None:
    clock, source = FakeClock(), Source()
    driver = Driver(VirtioPci(VirtioRng(source, clock, most=100, period_ms=10), 0x00FF00), ONE)
    driver.offer([(DATA, 80, True)])
    assert driver.finished() == 80
    driver.offer([(DATA, 80, True)])
    assert driver.finished() == 20
    driver.offer([(DATA, 80, True)])
    assert driver.finished() is None
    clock.advance(9_000_000)
    assert driver.finished() is None
    clock.advance(1_000_000)
    assert driver.finished() == 80
    assert source.asked == [80, 20, 80]


def test_rng_waits_for_its_source_and_forgets_it_when_it_is_reset() -> None:
    source = Source(ready=False)
    driver = Driver(VirtioPci(VirtioRng(source, FakeClock()), 0x00FF00), ONE)
    driver.offer([(DATA, 80, True)])
    assert driver.finished() is None and source.waiting is not None
    source.waiting(b"abc")
    assert driver.finished() == 3
    driver.offer([(DATA, 80, True)])
    late = source.waiting
    driver.card.reset()
    assert source.waiting is None
    late(b"late")


def test_rng_fills_what_it_is_offered() -> None:
    driver = Driver(VirtioPci(VirtioRng(Source(), FakeClock()), 0x00FF00), ONE)
    driver.offer([(DATA, 100, True), (DATA + 200, 28, True)])
    assert driver.finished() == 128
    assert driver.slot.memory[DATA : DATA + 101] == b"r" * 100 + b"\0"
    driver.offer([(DATA, 0xFFFFFFFF, True)])  # past the memory
    assert driver.broken or driver.finished() == 1 << 16


def test_balloon_gives_pages_back() -> None:
    given: list[tuple[int, int]] = []
    balloon = VirtioBalloon(lambda address, length: given.append((address, length)))
    driver = Driver(VirtioPci(balloon, 0x00FF00), ONE)
    driver.store(DATA, "<LL", 7, 9)
    driver.offer([(DATA, 8, False)])
    assert driver.finished() == 0
    assert given == [(7 << 12, 4096), (9 << 12, 4096)]
    balloon.set_target(100)
    assert driver.isr() & 2 and driver.config(0, 4) == 100
    driver.card.write_device(4, 4, 2)
    assert balloon.actual == 2


class Bus:
    """An adapter with a disk at target 0 and a CD-ROM at target 1."""

    def __init__(self) -> None:
        self.medium = FakeMedium(1 << 20)
        self.medium.data[:] = random.Random(4).randbytes(1 << 20)
        adapter = VirtioScsi()
        adapter.units[0, 0] = ScsiDisk(UnitIdentity(DISK, serial="s"), self.medium)
        disc = FakeMedium(1 << 16, read_only=True)
        adapter.units[1, 0] = CdRom(UnitIdentity(CD_ROM, removable=True), disc)
        self.driver = Driver(VirtioPci(adapter, 0x010000), ONE, queue=2)

    def command(self, cdb: bytes, *, data_in: int = 0, data_out: bytes = b"", target: int = 0,
                lun: int = 0) -> tuple[int, int, bytes, bytes]:  # fmt: skip
        """Response code, status, sense, data."""
        head = struct.pack(">BBH4x", 1, target, 0x4000 | lun) + bytes(11) + cdb.ljust(32, b"\0")
        memory = self.driver.slot.memory
        memory[DATA : DATA + 51] = head
        memory[DATA + 64 : DATA + 64 + len(data_out)] = data_out
        chain = [(DATA, 51, False)]
        if data_out:
            chain.append((DATA + 64, len(data_out), False))
        chain.append((RESPONSE, 108, True))
        if data_in:
            chain.append((RESPONSE + 108, data_in, True))
        self.driver.offer(chain)
        written = self.driver.finished()
        assert written is not None
        length, _, _, status, code = struct.unpack_from("<LLHBB", memory, RESPONSE)
        sense = bytes(memory[RESPONSE + 12 : RESPONSE + 12 + length])
        return code, status, sense, bytes(memory[RESPONSE + 108 : RESPONSE + written])


def test_scsi_commands() -> None:
    bus = Bus()
    _, status, sense, _ = bus.command(b"\0")
    assert (status, sense[2], sense[12]) == (2, 6, 0x29)  # the reset
    assert bus.command(b"\0")[:2] == (0, 0)
    assert bus.command(b"\x25", data_in=8)[3] == struct.pack(">LL", 2047, 512)
    read = bus.command(struct.pack(">BBLBH", 0x28, 0, 3, 0, 2), data_in=1024)
    assert read == (0, 0, b"", bytes(bus.medium.data[1536:2560]))
    write = struct.pack(">BBLBH", 0x2A, 8, 5, 0, 1)
    assert bus.command(write, data_out=b"w" * 512)[:2] == (0, 0)
    assert bus.medium.log[-1] == ("write", 2560, 512, True)
    assert bus.command(write, data_out=b"w" * 100)[1] == 2  # too little
    assert bus.command(struct.pack(">BBLBH", 0x28, 0, 2047, 0, 2), data_in=1024)[1] == 2
    assert bus.command(b"\x12\0\0\0\x24", data_in=36)[3][8:16] == b"QEMU    "
    unmap = struct.pack(">HH4xQL4x", 22, 16, 8, 4)
    assert bus.command(b"\x42" + bytes(6) + b"\0\x18", data_out=unmap)[:2] == (0, 0)
    assert bus.medium.log[-1] == ("discard", 4096, 2048)


def test_scsi_targets_and_luns() -> None:
    bus = Bus()
    assert bus.command(b"\0", target=9)[0] == 3
    assert bus.command(b"\0", lun=5)[2][12] == 0x25
    assert bus.command(b"\x12\0\0\0\x24", data_in=36, lun=5)[3][0] == 0x7F
    luns = bus.command(b"\xa0" + bytes(5) + struct.pack(">L", 64), data_in=64)[3]
    assert luns == struct.pack(">L12x", 8)
    assert bus.command(b"\x12\0\0\0\x24", data_in=36, target=1)[3][0] == CD_ROM


def test_random_command_blocks_never_raise() -> None:
    chance = random.Random(11)
    medium = FakeMedium(1 << 20)
    units = (ScsiDisk(UnitIdentity(DISK, serial="s"), medium),
             CdRom(UnitIdentity(CD_ROM), FakeMedium(1 << 20, read_only=True)))  # fmt: skip
    ended: list[Response] = []
    for step in range(20000):
        unit = units[step & 1]
        cdb = bytearray(chance.randbytes(chance.choice((0, 1, 6, 10, 12, 16))))
        if cdb and chance.randrange(4):
            cdb[0] = chance.choice(list(unit.commands))
        for at in range(2, len(cdb) - 1):
            if chance.randrange(2):
                cdb[at] = 0
        request = unit.command(bytes(cdb))
        request.run(chance.randbytes(min(request.length, 4096)), ended.append)
        assert len(ended) == step + 1
