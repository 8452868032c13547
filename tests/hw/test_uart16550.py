"""16550A: interrupts as functions of state, FIFOs, and what Linux's 8250 driver asks of it."""

from __future__ import annotations

import pytest

from pytcg.hw.clock import FakeClock
from pytcg.hw.core.uart16550 import Uart16550

RBR = THR = DLL = 0
IER = DLM = 1
IIR = FCR = 2
LCR, MCR, LSR, MSR, SCR = 3, 4, 5, 6, 7
RDI, THRI, RLSI, MSI = 1, 2, 4, 8
NO_INT, IIR_THRI, IIR_RDI, IIR_RLSI, IIR_TIMEOUT = 1, 2, 4, 6, 0x0C


class Bench:
    """A UART whose far end records what it is sent."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.sent = bytearray()
        self.room = 1 << 30
        self.ready = 0
        self.uart = Uart16550(
            self.clock, self._take, can_transmit=lambda: self.room > 0, receive_ready=self._ready
        )
        self.read, self.write = self.uart.read, self.uart.write

    def _take(self, data: bytes) -> None:
        self.sent += data
        self.room -= len(data)

    def _ready(self) -> None:
        self.ready += 1


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
def fifo(bench: Bench) -> Bench:
    """FIFOs on with trigger level 8, 115200 baud, 8N1, receive interrupts on."""
    for reg, value in ((LCR, 0x83), (DLL, 1), (DLM, 0), (LCR, 3), (FCR, 0x87), (IER, RDI)):
        bench.write(reg, value)
    return bench


def test_bytes_written_leave_at_once(bench: Bench) -> None:
    for byte in b"hello":
        bench.write(THR, byte)
    assert bench.sent == b"hello"
    assert bench.read(LSR) == 0x60


def test_received_byte_raises_and_reading_it_drops(bench: Bench) -> None:
    bench.write(IER, RDI)
    assert bench.uart.receive(b"A") == 1
    assert bench.uart.irq.level
    assert bench.read(IIR) == IIR_RDI
    assert bench.read(LSR) & 1
    assert bench.read(RBR) == 0x41
    assert not bench.uart.irq.level
    assert bench.read(IIR) == NO_INT


def test_without_fifo_one_byte_is_taken(bench: Bench) -> None:
    assert bench.uart.can_receive() == 1
    assert bench.uart.receive(b"AB") == 1
    assert bench.uart.can_receive() == 0


def test_far_end_is_told_when_there_is_room_again(bench: Bench) -> None:
    bench.uart.receive(b"A")
    assert bench.ready == 0
    bench.read(RBR)
    assert bench.ready == 1


def test_enabling_thri_with_thr_empty_interrupts(bench: Bench) -> None:
    bench.write(IER, THRI)
    assert bench.uart.irq.level
    assert bench.read(IIR) == IIR_THRI


def test_thre_irq_drops_after_iir_read(bench: Bench) -> None:
    bench.write(IER, THRI)
    bench.read(IIR)
    assert not bench.uart.irq.level
    assert bench.read(IIR) == NO_INT
    assert bench.read(LSR) & 0x20


def test_thre_irq_comes_back_after_a_byte(bench: Bench) -> None:
    bench.write(IER, THRI)
    bench.read(IIR)
    bench.write(THR, 0x41)
    assert bench.uart.irq.level
    assert bench.read(IIR) == IIR_THRI


def test_iir_read_of_another_source_keeps_thre_pending(bench: Bench) -> None:
    bench.write(IER, THRI | RDI)
    bench.uart.receive(b"A")
    assert bench.read(IIR) == IIR_RDI
    bench.read(RBR)
    assert bench.read(IIR) == IIR_THRI


def test_full_sink_holds_thre_down_until_it_drains(bench: Bench) -> None:
    bench.room = 0
    bench.write(IER, THRI)
    bench.read(IIR)
    bench.write(THR, 0x41)
    assert not bench.read(LSR) & 0x60
    assert not bench.uart.irq.level
    bench.room = 10
    bench.uart.drain()
    assert bench.sent == b"A"
    assert bench.read(LSR) & 0x60 == 0x60
    assert bench.read(IIR) == IIR_THRI


def test_fifo_holds_sixteen_bytes_for_a_full_sink(fifo: Bench) -> None:
    fifo.room = 0
    for byte in range(16):
        fifo.write(THR, byte)
    fifo.room = 100
    fifo.uart.drain()
    assert fifo.sent == bytes(range(16))


def test_iir_shows_the_fifos(fifo: Bench) -> None:
    assert fifo.read(IIR) == 0xC0 | NO_INT


@pytest.mark.parametrize(("code", "level"), [(0, 1), (1, 4), (2, 8), (3, 14)])
def test_trigger_levels(fifo: Bench, code: int, level: int) -> None:
    fifo.write(FCR, code << 6 | 1)
    fifo.uart.receive(bytes(level - 1))
    assert not fifo.uart.irq.level
    fifo.uart.receive(b"x")
    assert fifo.read(IIR) == 0xC0 | IIR_RDI


def test_timeout_interrupt_after_four_characters(fifo: Bench) -> None:
    fifo.uart.receive(b"abc")
    assert not fifo.uart.irq.level
    four_characters = 4 * 10 * 1_000_000_000 // 115200
    fifo.clock.advance(four_characters - 10)
    assert not fifo.uart.irq.level
    fifo.clock.advance(20)
    assert fifo.uart.irq.level
    assert fifo.read(IIR) == 0xC0 | IIR_TIMEOUT
    fifo.read(RBR)
    assert not fifo.uart.irq.level
    fifo.clock.advance(four_characters)
    assert fifo.read(IIR) == 0xC0 | IIR_TIMEOUT
    fifo.read(RBR)
    fifo.read(RBR)
    assert not fifo.uart.irq.level


def test_fifo_takes_sixteen_bytes_and_no_more(fifo: Bench) -> None:
    assert fifo.uart.receive(bytes(20)) == 16
    assert fifo.uart.can_receive() == 0


def test_clearing_the_receive_fifo(fifo: Bench) -> None:
    fifo.uart.receive(bytes(10))
    fifo.write(FCR, 0x83)
    assert not fifo.read(LSR) & 1
    assert not fifo.uart.irq.level


def test_turning_fifos_off_loses_their_bytes(fifo: Bench) -> None:
    fifo.uart.receive(bytes(3))
    fifo.write(FCR, 0)
    assert not fifo.read(LSR) & 1
    assert fifo.read(IIR) & 0xC0 == 0


def test_break_is_an_error_of_its_own_character(fifo: Bench) -> None:
    fifo.write(IER, RDI | RLSI)
    fifo.uart.receive(b"a")
    fifo.uart.receive_break()
    assert fifo.read(LSR) == 0x61 | 0x80  # an error in the FIFO, not on top
    assert fifo.read(RBR) == 0x61
    assert fifo.read(IIR) == 0xC0 | IIR_RLSI
    assert fifo.read(LSR) & 0x11 == 0x11
    assert fifo.read(LSR) & 0x90 == 0
    assert fifo.read(RBR) == 0


def test_break_control_drives_its_line(bench: Bench) -> None:
    bench.write(LCR, 0x43)
    assert bench.uart.break_out.level


def test_overrun_in_loopback(bench: Bench) -> None:
    bench.write(LCR, 3)
    bench.write(MCR, 0x10)
    bench.write(IER, RLSI)
    bench.write(THR, 0x41)
    bench.write(THR, 0x42)
    assert bench.read(IIR) == IIR_RLSI
    assert bench.read(LSR) & 0x03 == 0x03
    assert bench.read(IIR) == NO_INT
    assert bench.read(RBR) == 0x42


def test_loopback_returns_bytes_cut_to_the_word_length(bench: Bench) -> None:
    bench.write(LCR, 0x02)  # seven bits
    bench.write(MCR, 0x10)
    bench.write(THR, 0xC1)
    assert bench.read(RBR) == 0x41
    assert bench.sent == b""
    assert bench.uart.can_receive() == 0


def test_modem_inputs_and_deltas(bench: Bench) -> None:
    assert bench.read(MSR) == 0xB0
    bench.write(IER, MSI)
    bench.uart.set_modem(cts=False, dsr=True, ri=True, dcd=True)
    assert bench.uart.irq.level
    assert bench.read(IIR) == 0
    assert bench.read(MSR) == 0xE1
    assert not bench.uart.irq.level
    bench.uart.set_modem(cts=False, dsr=True, ri=False, dcd=True)
    assert bench.read(MSR) == 0xA4  # trailing edge of RI
    assert bench.read(MSR) == 0xA0


def test_modem_outputs_are_lines_and_inactive_in_loopback(bench: Bench) -> None:
    uart = bench.uart
    bench.write(MCR, 0x0B)
    assert (uart.dtr.level, uart.rts.level, uart.out1.level, uart.out2.level) == (1, 1, 0, 1)
    bench.write(MCR, 0x1B)
    assert not (uart.dtr.level or uart.rts.level or uart.out2.level)


def test_divisor_latch_and_scratch(bench: Bench) -> None:
    bench.write(LCR, 0x83)
    bench.write(DLL, 0x34)
    bench.write(DLM, 0x12)
    assert (bench.read(DLL), bench.read(DLM)) == (0x34, 0x12)
    bench.write(LCR, 0x03)
    assert bench.read(IER) == 0
    bench.write(SCR, 0xA5)
    assert bench.read(SCR) == 0xA5


def test_linux_8250_autoconfig(bench: Bench) -> None:
    """8250_port.c autoconfig(): IER probe, loopback test, then the FIFO type."""
    bench.write(IER, 0)
    assert bench.read(IER) & 0x0F == 0
    bench.write(IER, 0x0F)
    assert bench.read(IER) == 0x0F
    bench.write(IER, 0)
    bench.write(MCR, 0x10 | 0x0A)
    assert bench.read(MSR) & 0xF0 == 0x90
    bench.write(MCR, 0)
    bench.write(LCR, 0)
    bench.write(FCR, 1)
    assert bench.read(IIR) >> 6 == 3  # a 16550A
    # autoconfig_16550a: no 64-byte FIFO, no EFR, no bank-select; so it is a plain 16550A.
    bench.write(LCR, 0x80)
    bench.write(FCR, 1 | 0x20)
    assert bench.read(IIR) & 0x20 == 0
    bench.write(FCR, 1)
    bench.write(LCR, 0)


def test_linux_8250_thre_test(bench: Bench) -> None:
    """serial8250_do_startup(): THRI must be reported each time it is enabled."""
    answers = []
    for _ in range(2):
        bench.write(IER, THRI)
        answers.append(bench.read(IIR))
        bench.write(IER, 0)
        assert bench.read(IIR) == NO_INT
    assert answers == [IIR_THRI, IIR_THRI]


def test_linux_transmit_interrupt_loop(fifo: Bench) -> None:
    """Interrupt, IIR, up to 16 bytes, return; until THRI is turned off with nothing to send."""
    todo = list(b"The quick brown fox jumps over the lazy dog.")
    fifo.write(IER, RDI | THRI)
    rounds = 0
    while fifo.uart.irq.level:
        assert fifo.read(IIR) & 0x0F == IIR_THRI
        rounds += 1
        if not todo:
            fifo.write(IER, RDI)
        for byte in todo[:16]:
            fifo.write(THR, byte)
        del todo[:16]
    assert fifo.sent == b"The quick brown fox jumps over the lazy dog."
    assert rounds == 4


def test_interrupt_line_stays_up_between_two_sources(fifo: Bench) -> None:
    """Input that arrives while a THRE interrupt is handled is not lost."""
    fifo.write(IER, RDI | THRI)
    fifo.uart.receive(bytes(8))
    assert fifo.read(IIR) & 0x0F == IIR_RDI
    assert fifo.uart.irq.level
    for _ in range(8):
        fifo.read(RBR)
    assert fifo.read(IIR) & 0x0F == IIR_THRI
    assert not fifo.uart.irq.level


def test_master_reset(fifo: Bench) -> None:
    fifo.uart.receive(b"abc")
    fifo.write(MCR, 0x0F)
    fifo.uart.reset()
    assert [fifo.read(reg) for reg in (IER, IIR, LCR, MCR, LSR)] == [0, 1, 0, 0, 0x60]
    assert not fifo.uart.out2.level
