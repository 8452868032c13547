"""The board's wiring, seen from the processor's bus."""

from __future__ import annotations

import threading

import pytest

from machine.fakes import FakeVcpu, board_memory
from pytcg.chardev.base import Chardev
from pytcg.exec.bus import ExitReason
from pytcg.hw.clock import FakeClock
from pytcg.machine.board.debug import attach_debug_exit
from pytcg.machine.pc import Pc, PcConfig
from pytcg.machine.runner import Event, PowerRequest

MS = 1_000_000
APIC_EOI = 0xFEE000B0
BIOS = bytes(0x3FFF0) + b"\xea\x5b\xe0\x00\xf0 reset here"


class Terminal(Chardev):
    """Keeps what the guest sends; says it is full when told to."""

    def __init__(self) -> None:
        super().__init__("serial0")
        self.shown = bytearray()
        self.stuck = False

    def write(self, data: bytes) -> None:
        self.shown += data

    def full(self) -> bool:
        return self.stuck


class Bench:
    """A board on a fake clock, with two serial ports, a debug console and a debug exit."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.memory = board_memory(64 << 20)
        self.com1, self.com2, self.debugcon = Terminal(), Terminal(), Terminal()
        config = PcConfig(
            64 << 20, [self.com1, self.com2], self.debugcon, epoch=0,
            bios=BIOS,
        )  # fmt: skip
        self.board = Pc(
            config,
            self.clock,
            threading.RLock(),
            self.memory,
            lambda bus: FakeVcpu(bus, FakeVcpu.wait),
        )
        attach_debug_exit(self.board.backplane, 0xF4, 4)
        assert isinstance(self.board.vcpu, FakeVcpu)
        self.vcpu = self.board.vcpu
        self.bus = self.board.cpu_bus
        self.board.boot = lambda vcpu: None
        self.board.start()

    def inb(self, port: int) -> int:
        return self.bus.read_port(port, 1)

    def outb(self, port: int, value: int) -> None:
        self.bus.write_port(port, 1, value)

    def unmask_pic(self, *irqs: int) -> None:
        mask = 0xFFFF
        for irq in irqs:
            mask &= ~(1 << irq)
        self.outb(0x21, mask & 0xFF & ~4)
        self.outb(0xA1, mask >> 8)

    def route(self, pin: int, vector: int, *, level: bool = False) -> None:
        """Enable the local APIC and unmask one pin of the I/O APIC."""
        self.bus.write_mmio(0xFEE000F0, 4, 0x1FF)
        self.bus.write_mmio(0xFEC00000, 4, 0x10 + 2 * pin)
        self.bus.write_mmio(0xFEC00010, 4, vector | level << 15)

    def start_timer(self, hz: int) -> None:
        divisor = 1193182 // hz
        self.outb(0x43, 0x34)
        self.outb(0x40, divisor & 0xFF)
        self.outb(0x40, divisor >> 8)

    def enable_uart_interrupts(self) -> None:
        self.outb(0x3FC, 0x08)  # OUT2
        self.outb(0x3F9, 0x01)


@pytest.fixture
def pc() -> Bench:
    return Bench()


def test_unassigned_ports_and_addresses_read_all_ones(pc: Bench) -> None:
    assert pc.bus.read_port(0x300, 4) == 0xFFFFFFFF
    assert pc.inb(0x3E8) == 0xFF  # COM3 is not there
    assert pc.bus.read_mmio(0xB8000, 2) == 0xFFFF
    assert pc.bus.read_mmio(0xFED40000, 8) == 0xFFFFFFFFFFFFFFFF  # no TPM


def test_hpet_takes_over_the_timer_interrupt(pc: Bench) -> None:
    pc.unmask_pic(0)
    pc.start_timer(1000)
    pc.bus.write_mmio(0xFED00010, 4, 3)  # on, legacy routing
    pc.clock.advance(5 * MS)
    assert not pc.vcpu.intr, "the 8254 is cut off"
    pc.bus.write_mmio(0xFED00100, 4, 4)
    pc.bus.write_mmio(0xFED00108, 4, 700_000)
    pc.clock.advance(5 * MS)
    assert pc.bus.acknowledge_interrupt() == 0x08


def test_serial_ports_send_to_their_own_chardevs(pc: Bench) -> None:
    pc.outb(0x3F8, ord("a"))
    pc.outb(0x2F8, ord("b"))
    assert [bytes(com.shown) for com in (pc.com1, pc.com2)] == [b"a", b"b"]


def test_a_full_chardev_holds_the_uart_back_until_it_drains(pc: Bench) -> None:
    pc.com1.stuck = True
    pc.outb(0x3F8, ord("x"))
    assert not pc.inb(0x3FD) & 0x20
    assert not pc.com1.shown
    pc.com1.stuck = False
    pc.com1.on_room()
    assert pc.inb(0x3FD) & 0x20
    assert pc.com1.shown == b"x"


def test_serial_interrupt_arrives_through_the_8259(pc: Bench) -> None:
    pc.unmask_pic(4)
    pc.enable_uart_interrupts()
    assert not pc.vcpu.intr
    pc.board.serial_links[0].uart.receive(b"k")
    assert pc.vcpu.intr
    assert pc.bus.acknowledge_interrupt() == 0x08 + 4
    assert pc.inb(0x3F8) == ord("k")
    assert not pc.vcpu.intr


def test_serial_interrupt_needs_out2(pc: Bench) -> None:
    pc.unmask_pic(4)
    pc.outb(0x3F9, 0x01)
    pc.board.serial_links[0].uart.receive(b"k")
    assert not pc.vcpu.intr


def test_serial_interrupt_arrives_through_the_io_apic(pc: Bench) -> None:
    pc.route(4, 0x41)
    pc.enable_uart_interrupts()
    pc.board.serial_links[0].uart.receive(b"k")
    assert pc.vcpu.intr
    assert pc.bus.acknowledge_interrupt() == 0x41
    assert not pc.vcpu.intr
    pc.bus.write_mmio(APIC_EOI, 4, 0)
    assert pc.bus.acknowledge_interrupt() == -1


def test_timer_ticks_on_irq_0_of_the_8259(pc: Bench) -> None:
    pc.unmask_pic(0)
    pc.start_timer(1000)
    pc.clock.advance(2 * MS)
    assert pc.vcpu.intr
    assert pc.bus.acknowledge_interrupt() == 0x08


def test_timer_ticks_on_pin_2_of_the_io_apic(pc: Bench) -> None:
    pc.route(2, 0x30)
    pc.start_timer(1000)
    pc.clock.advance(2 * MS)
    assert pc.bus.acknowledge_interrupt() == 0x30


def test_a_disabled_local_apic_leaves_the_8259_connected(pc: Bench) -> None:
    pc.bus.write_msr(0x1B, 0xFEE00100)
    pc.unmask_pic(0)
    pc.start_timer(1000)
    pc.clock.advance(2 * MS)
    assert pc.bus.acknowledge_interrupt() == 0x08
    assert pc.bus.read_mmio(0xFEE00020, 4) == 0xFFFFFFFF


def test_rtc_and_keyboard_interrupts_reach_their_vectors(pc: Bench) -> None:
    pc.unmask_pic(1, 8)
    pc.outb(0x64, 0x60)
    pc.outb(0x60, 0x01)  # command byte: keyboard interrupt on
    assert pc.bus.acknowledge_interrupt() == 0x08 + 1
    assert pc.inb(0x60) == 0xAA  # the keyboard's self test, after the reset
    pc.outb(0x20, 0x20)
    pc.outb(0x70, 0x0B)
    pc.outb(0x71, 0x42)  # periodic interrupt
    pc.clock.advance(2 * MS)
    assert pc.bus.acknowledge_interrupt() == 0x70


def test_coprocessor_error_is_irq_13_until_port_f0h_is_written(pc: Bench) -> None:
    pc.unmask_pic(2, 13)
    pc.bus.fpu_error()
    assert pc.bus.acknowledge_interrupt() == 0x75
    pc.outb(0xA0, 0x20)
    pc.outb(0x20, 0x20)
    pc.outb(0xF0, 0)
    pc.bus.fpu_error()
    assert pc.bus.acknowledge_interrupt() == 0x75


def test_cmos_tells_the_memory_size(pc: Bench) -> None:
    sizes = []
    for index in (0x34, 0x35):
        pc.outb(0x70, index)
        sizes.append(pc.inb(0x71))
    assert (sizes[0] | sizes[1] << 8) * 65536 + (16 << 20) == 64 << 20


def test_pm_timer_is_read_in_one_piece(pc: Bench) -> None:
    pc.clock.advance(1000 * MS)
    assert pc.bus.read_port(0x608, 4) == 3579545


def test_debug_console_takes_bytes_and_reads_its_number(pc: Bench) -> None:
    pc.outb(0xE9, ord("!"))
    assert pc.debugcon.shown == b"!"
    assert pc.inb(0xE9) == 0xE9


def test_an_empty_pci_slot_reads_all_ones(pc: Bench) -> None:
    pc.bus.write_port(0xCF8, 4, 0x8000F800)
    assert pc.bus.read_port(0xCF8, 4) == 0x8000F800
    assert pc.bus.read_port(0xCFC, 4) == 0xFFFFFFFF
    assert pc.bus.read_port(0xCFE, 2) == 0xFFFF


def test_a_rom_answers_at_the_reset_vector_and_below_one_mebibyte(pc: Bench) -> None:
    pc.board.boot = None
    pc.board.start()
    for address in (0xFFFFFFF0, 0xFFFF0):
        assert pc.memory.read(address, 5) == b"\xea\x5b\xe0\x00\xf0"
    pc.memory.store(0xFFFF0, b"dropped")
    assert pc.memory.read(0xFFFF0, 1) == b"\xea"
    pc.bus.write_port(0xCF8, 4, 0x80000058)
    pc.bus.write_port(0xCFD, 1, 0x30)  # PAM0: DRAM at F0000h
    assert pc.memory.read(0xFFFF0, 1) == b"\0"
    pc.memory.store(0xFFFF0, b"taken")
    pc.bus.write_port(0xCFD, 1, 0x10)
    pc.memory.store(0xFFFF0, b"x")
    assert pc.memory.read(0xFFFF0, 5) == b"taken"


def test_a_bios_copies_itself_into_the_dram_below(pc: Bench) -> None:
    pc.board.boot = None
    pc.board.start()
    pc.bus.write_port(0xCF8, 4, 0x80000058)
    pc.bus.write_port(0xCFD, 1, 0x20)  # reads go to the ROM, writes to DRAM
    pc.memory.store(0xF0000, pc.memory.read(0xF0000, 0x10000))
    pc.bus.write_port(0xCFD, 1, 0x10)
    assert pc.memory.read(0xFFFF0, 16) == BIOS[-16:]


def test_either_gate_moves_a20_and_the_last_word_counts(pc: Bench) -> None:
    pc.outb(0x64, 0xDD)
    assert not pc.vcpu.a20
    pc.outb(0x92, 2)
    assert pc.vcpu.a20
    pc.outb(0x92, 0)
    assert not pc.vcpu.a20
    pc.outb(0x64, 0xDF)
    assert pc.vcpu.a20


def test_pci_interrupts_arrive_where_the_router_sends_them(pc: Bench) -> None:
    pc.unmask_pic(10, 11)
    pc.outb(0x4D1, 0x0C)
    pc.bus.write_port(0xCF8, 4, 0x80000860)
    pc.bus.write_port(0xCFC, 1, 10)
    pc.board.pci.pirq[0].set(True)
    assert pc.bus.acknowledge_interrupt() == 0x72
    pc.outb(0xA0, 0x20)
    pc.outb(0x20, 0x20)
    pc.bus.write_port(0xCFC, 1, 11)
    assert pc.bus.acknowledge_interrupt() == 0x73
    pc.outb(0xA0, 0x20)
    pc.outb(0x20, 0x20)
    pc.bus.write_port(0xCFC, 1, 0x80)
    assert not pc.vcpu.intr


@pytest.mark.parametrize(
    "writes",
    [
        [(0x64, 1, 0xFE)],  # i8042 pulse
        [(0xCF9, 1, 0x02), (0xCF9, 1, 0x06)],  # reset control, as the ACPI reset register
        [(0x92, 1, 0x01)],  # fast reset
    ],
)
def test_every_way_to_reset_asks_for_one(pc: Bench, writes: list[tuple[int, int, int]]) -> None:
    for port, size, value in writes:
        pc.bus.write_port(port, size, value)
    assert pc.vcpu.exit.is_set()
    assert pc.board.take_request() == PowerRequest(Event.RESET)
    assert pc.board.take_request() is None


def test_s5_powers_off(pc: Bench) -> None:
    pc.outb(0xB2, 0xF1)
    assert pc.bus.read_port(0x604, 2) & 1  # SCI_EN
    pc.bus.write_port(0x604, 2, 1 << 13)
    assert pc.board.take_request() == PowerRequest(Event.POWER_OFF)


@pytest.mark.parametrize("size", [1, 2, 4])
def test_debug_exit_gives_the_status(pc: Bench, size: int) -> None:
    pc.bus.write_port(0xF4, size, 0x10)
    assert pc.board.take_request() == PowerRequest(Event.DEBUG_EXIT, 0x21)


def test_the_first_request_counts(pc: Bench) -> None:
    pc.outb(0xF4, 1)
    pc.outb(0x64, 0xFE)
    assert pc.board.take_request() == PowerRequest(Event.DEBUG_EXIT, 3)


def test_reset_clears_chips_and_boots_again(pc: Bench) -> None:
    booted: list[int] = []
    pc.board.boot = lambda vcpu: booted.append(vcpu.tsc_frequency)
    pc.enable_uart_interrupts()
    pc.route(4, 0x41)
    pc.board.start()
    assert pc.inb(0x3FC) == 0
    assert (pc.inb(0x21), pc.inb(0xA1)) == (0xFF, 0xFF)
    pc.bus.write_mmio(0xFEC00000, 4, 0x18)
    assert pc.bus.read_mmio(0xFEC00010, 4) == 0x10000
    assert pc.vcpu.resets == 2
    assert len(booted) == 1


def test_fw_cfg_tells_of_the_memory_by_port_and_by_dma(pc: Bench) -> None:
    pc.bus.write_port(0x510, 2, 0)
    assert bytes(pc.inb(0x511) for _ in range(5)) == b"QEMU\0"
    pc.bus.write_port(0x510, 2, 3)
    assert sum(pc.inb(0x511) << 8 * n for n in range(8)) == 64 << 20
    pc.memory.write(0x1000, (3 << 16 | 0x0A).to_bytes(4, "big") + (8).to_bytes(4, "big")
                    + (0x2000).to_bytes(8, "big"))  # fmt: skip
    pc.bus.write_port(0x514, 4, 0)
    pc.bus.write_port(0x518, 4, int.from_bytes((0x1000).to_bytes(4, "big"), "little"))
    assert pc.memory.read(0x1000, 4) == b"\0\0\0\0"
    assert pc.memory.read(0x2000, 8) == (64 << 20).to_bytes(8, "little")


def test_firmware_leaves_tables_and_the_bios_data_area(pc: Bench) -> None:
    assert pc.memory.read(0xF0000, 8) == b"RSD PTR "
    assert pc.memory.read(0x400, 8) == b"\xf8\x03\xf8\x02\0\0\0\0"


def test_cr8_is_the_task_priority(pc: Bench) -> None:
    pc.bus.write_cr8(5)
    assert pc.bus.read_cr8() == 5
    assert pc.bus.read_mmio(0xFEE00080, 4) == 0x50


def test_an_unknown_msr_is_a_key_error(pc: Bench) -> None:
    with pytest.raises(KeyError):
        pc.bus.read_msr(0x800)  # x2APIC mode is off
    assert pc.bus.read_msr(0x1B) == 0xFEE00900


def test_fake_vcpu_waits_for_the_request(pc: Bench) -> None:
    pc.outb(0x64, 0xFE)
    assert pc.vcpu.run() is ExitReason.REQUESTED
