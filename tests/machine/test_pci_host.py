"""A PCI card in the board, driven through the processor's bus."""

from __future__ import annotations

import threading

import pytest

from machine.fakes import FakeVcpu, board_memory
from pytcg.hw.clock import FakeClock
from pytcg.hw.pci.bar import Backing, BarType
from pytcg.hw.pci.device import DmaError, Identity, PciDevice
from pytcg.machine.pc import Pc, PcConfig

LOCAL_APIC = 0xFEE00000
SPURIOUS, IRR = 0xF0, 0x200


class Card(PciDevice):
    """64 bytes of registers in the I/O space and in memory, and one message."""

    identity = Identity(0x1234, 0x0002, class_code=0xFF0000, pin=1)

    def __init__(self) -> None:
        super().__init__()
        self.registers = bytearray(64)
        self.add_bar(0, 64, BarType.IO, self._read, self._write)
        self.add_bar(1, 64, BarType.MEMORY, self._read, self._write)
        self.add_msi()

    def _read(self, offset: int, size: int) -> int:
        return int.from_bytes(self.registers[offset : offset + size], "little")

    def _write(self, offset: int, size: int, value: int) -> None:
        self.registers[offset : offset + size] = value.to_bytes(size, "little")


class Bench:
    """A board with 4 MiB and the card in slot 4."""

    def __init__(self) -> None:
        memory = board_memory(4 << 20)
        self.board = Pc(PcConfig(4 << 20, epoch=0), FakeClock(), threading.RLock(), memory,
                        lambda bus: FakeVcpu(bus, FakeVcpu.wait))
        self.bus = self.board.cpu_bus
        self.card = Card()
        self.board.pci.plug(self.card, 4)
        self.board.start()

    def config(self, reg: int, size: int, value: int) -> None:
        self.bus.write_port(0xCF8, 4, 0x80000000 | 4 << 11 | reg & 0xFC)
        self.bus.write_port(0xCFC + (reg & 3), size, value)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_windows_answer_where_the_guest_puts_them(bench: Bench) -> None:
    bench.config(0x10, 4, 0xC000)
    bench.config(0x14, 4, 0xFEB00000)
    bench.config(0x04, 2, 3)
    bench.bus.write_port(0xC008, 4, 0x11223344)
    assert bench.bus.read_mmio(0xFEB00008, 4) == 0x11223344
    bench.config(0x14, 4, 0xFEC80000)
    assert bench.bus.read_mmio(0xFEB00008, 4) == 0xFFFFFFFF
    assert bench.bus.read_mmio(0xFEC80008, 2) == 0x3344
    bench.config(0x04, 2, 0)
    assert bench.bus.read_port(0xC008, 4) == 0xFFFFFFFF


def test_fixed_devices_win_over_a_window_that_covers_them(bench: Bench) -> None:
    bench.config(0x10, 4, 0xCC0)
    bench.config(0x04, 2, 1)
    assert bench.bus.read_port(0xCF8, 4) == 0x80002004, "CONFIG_ADDRESS, not the card"


def test_configuration_registers_are_read_by_byte_and_word(bench: Bench) -> None:
    bench.bus.write_port(0xCF8, 4, 0x80000000 | 4 << 11)
    assert bench.bus.read_port(0xCFC, 4) == 0x00021234
    assert bench.bus.read_port(0xCFE, 2) == 0x0002
    assert bench.bus.read_port(0xCFD, 1) == 0x12


def test_a_message_reaches_the_local_apic(bench: Bench) -> None:
    bench.bus.write_mmio(LOCAL_APIC + SPURIOUS, 4, 0x1FF)
    place = bench.card.read_config(0x34, 1)
    bench.config(place + 4, 4, LOCAL_APIC)
    bench.config(place + 12, 2, 0x61)
    bench.config(place + 2, 2, 1)
    bench.config(0x04, 2, 4)
    assert bench.card.notify()
    assert bench.bus.read_mmio(LOCAL_APIC + IRR + 0x30, 4) == 1 << 1


def test_dma_reaches_ram_and_nothing_else(bench: Bench) -> None:
    bench.config(0x04, 2, 4)
    bench.card.dma_write(0x100000, b"data")
    assert bench.card.dma_read(0x100000, 4) == b"data"
    with pytest.raises(DmaError):
        bench.card.dma_read(0x400000, 4)


class FrameBuffer(PciDevice):
    """16 KiB of memory that the guest maps where it likes."""

    identity = Identity(0x1234, 0x1111, class_code=0x030000)

    def __init__(self, backing: Backing) -> None:
        super().__init__()
        self.add_memory_bar(0, BarType.MEMORY | BarType.PREFETCH, backing)


def test_a_window_onto_memory_is_memory_where_nothing_else_is(bench: Bench) -> None:
    memory = bench.board.memory
    offset = memory.allocate(0x4000)
    view = memory.view(offset, 0x4000)
    bench.board.pci.plug(FrameBuffer(Backing(view, offset)), 5)

    def place(base: int) -> None:
        bench.bus.write_port(0xCF8, 4, 0x80002810)
        bench.bus.write_port(0xCFC, 4, base)

    bench.bus.write_port(0xCF8, 4, 0x80002804)
    bench.bus.write_port(0xCFC, 2, 2)
    place(0xE0000000)
    memory.store(0xE0000000, b"pixel")
    assert bytes(view[:5]) == b"pixel"
    place(0xE0004000)
    assert memory.find(0xE0000000) is None
    assert memory.read(0xE0004000, 5) == b"pixel"
    place(0xFEBFC000)
    assert memory.read(0xFEBFC000, 5) == b"pixel"
    place(0xFEC00000)
    assert memory.find(0xFEC00000) is None, "the I/O APIC's page"
    assert memory.find(0xFEC01000) is not None
    place(0x00100000)
    memory.write(0x100000, b"RAM")
    assert bytes(view[:3]) == b"pix"
    place(0xFFFFFFFF)
    assert memory.find(0xFFFFC000) is None
