"""Port and MMIO dispatch."""

from __future__ import annotations

import threading

import pytest

from pytcg.machine.bus import Claimed, MmioBus, MmioRegion, PortBus, PortHandlers
from pytcg.machine.cpu_bus import PcCpuBus


class Registers:
    """Four byte registers."""

    def __init__(self) -> None:
        self.values = [0x10, 0x11, 0x12, 0x13]

    def read(self, reg: int) -> int:
        return self.values[reg]

    def write(self, reg: int, value: int) -> None:
        self.values[reg] = value


@pytest.fixture
def device() -> Registers:
    return Registers()


def test_byte_registers_answer_at_their_ports(device: Registers) -> None:
    bus = PortBus()
    bus.attach(device, 0x3F8, count=4)
    bus.write(0x3FA, 1, 0x55)
    assert [bus.read(0x3F8 + n, 1) for n in range(4)] == [0x10, 0x11, 0x55, 0x13]


def test_wide_accesses_are_split_into_bytes_low_first(device: Registers) -> None:
    bus = PortBus()
    bus.attach(device, 0x100, count=4)
    assert bus.read(0x100, 4) == 0x13121110
    bus.write(0x100, 2, 0xBEEF)
    assert device.values == [0xEF, 0xBE, 0x12, 0x13]


def test_unassigned_ports_read_all_ones_and_swallow_writes(device: Registers) -> None:
    bus = PortBus()
    bus.attach(device, 0x100, count=1)
    assert [bus.read(0x300, size) for size in (1, 2, 4)] == [0xFF, 0xFFFF, 0xFFFFFFFF]
    assert bus.read(0x100, 2) == 0xFF10
    bus.write(0x300, 4, 1)


def test_last_port_wraps_to_port_zero(device: Registers) -> None:
    bus = PortBus()
    bus.attach(device, 0xFFFF, count=1)
    assert bus.read(0xFFFF, 2) == 0xFF10


def test_a_handler_of_one_width_leaves_the_other_widths_alone(device: Registers) -> None:
    bus = PortBus()
    latch: list[int] = []
    bus.attach(device, 0xCF9, count=1)
    bus.attach_port(PortHandlers(lambda: 0x80000000, latch.append), 0xCF8, size=4)
    assert bus.read(0xCF8, 4) == 0x80000000
    assert bus.read(0xCF9, 1) == 0x10
    bus.write(0xCF8, 4, 7)
    assert latch == [7]


def test_two_devices_on_one_port_are_refused(device: Registers) -> None:
    bus = PortBus()
    bus.attach(device, 0x100, count=2)
    with pytest.raises(Claimed, match="0x101"):
        bus.attach(device, 0x101, count=1)


def test_mmio_reaches_the_region_by_offset() -> None:
    bus = MmioBus()
    stores: list[tuple[int, int, int]] = []
    bus.attach(
        MmioRegion(0xFEE00000, 0x1000, lambda offset, size: offset << 8 | size,
                   lambda offset, size, value: stores.append((offset, size, value)))
    )  # fmt: skip
    assert bus.read(0xFEE00030, 4) == 0x3004
    bus.write(0xFEE000B0, 4, 0)
    assert stores == [(0xB0, 4, 0)]


def test_mmio_nobody_answers_reads_all_ones() -> None:
    bus = MmioBus()
    assert bus.read(0xA0000, 8) == 0xFFFFFFFFFFFFFFFF
    bus.write(0xA0000, 4, 1)


def test_two_regions_in_one_page_are_refused() -> None:
    bus = MmioBus()
    region = MmioRegion(0x1000, 0x10, lambda offset, size: 0, lambda offset, size, value: None)
    bus.attach(region)
    with pytest.raises(Claimed):
        bus.attach(region._replace(base=0x1800))


def test_work_after_a_store_has_no_lock_and_is_done_before_the_processor_goes_on() -> None:
    lock = threading.RLock()
    found: list[bool] = []
    ports, mmio = PortBus(), MmioBus()
    bus = PcCpuBus(ports, mmio, lock)

    def look() -> None:
        found.append(lock.acquire(timeout=5))
        lock.release()

    def is_free() -> None:
        thread = threading.Thread(target=look)
        thread.start()
        thread.join()

    def store(*_: int) -> None:
        before = len(found)
        assert bus.after_store(is_free) and len(found) == before

    ports.attach_port(PortHandlers(lambda: 0, store), 0x80, size=1)
    mmio.attach(MmioRegion(0x1000, 0x1000, lambda at, size: 0, store))
    bus.write_port(0x80, 1, 0)
    bus.write_mmio(0x1000, 4, 0)
    assert found == [True, True] and not bus.after_store(is_free)
