"""National PC16550D UART with FIFOs.

Section names are the PC16550D datasheet's. Transmission isn't paced by the baud rate: a byte
leaves at once, and THRE falls only while the sink says it is full. The baud rate does time the
character time-out interrupt. INTRPT is a function of the registers, renewed after every access.
A PC board gates INTRPT with OUT2; the chip only offers both lines.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from pytcg.hw.clock import NS_PER_SECOND, Clock, Deadline
from pytcg.hw.core.uart16550_regs import (
    CLOCK_HZ,
    ERRORS,
    FIFO_SIZE,
    IIR_FIFOS,
    TRIGGER_LEVELS,
    Fcr,
    Ier,
    Iir,
    Lcr,
    Lsr,
    Mcr,
    Msr,
    Reg,
)
from pytcg.hw.line import Line
from pytcg.hw.state import State, load, save


def _discard(data: bytes) -> None:
    """The sink of an unconnected SOUT pin."""


def _nothing() -> None:
    """The listener of an unconnected UART."""


class Uart16550:
    """The chip. The far end calls `receive` and, once it has room again, `drain`."""

    _FIELDS = (
        "ier", "lcr", "mcr", "scr", "divisor", "fifos", "trigger", "rx", "tx", "overrun",
        "thre_pending", "modem_inputs", "msr_deltas", "timeout_at",
    )  # fmt: skip

    def __init__(
        self,
        clock: Clock,
        transmit: Callable[[bytes], None] = _discard,
        *,
        can_transmit: Callable[[], bool] = lambda: True,
        receive_ready: Callable[[], None] = _nothing,
    ) -> None:
        """receive_ready is called when `can_receive` grows from 0."""
        self._clock = clock
        self._timer = Deadline(clock, self._sync)
        self.transmit = transmit
        self.can_transmit = can_transmit
        self.receive_ready = receive_ready
        self.irq = Line()
        self.dtr, self.rts, self.out1, self.out2 = Line(), Line(), Line(), Line()
        self.break_out = Line()
        self.modem_inputs = Msr.CTS | Msr.DSR | Msr.DCD
        self.divisor = 12  # undefined at reset; 9600 baud
        self.scr = 0
        self._clear()

    def _clear(self) -> None:
        self.ier, self.lcr, self.mcr = Ier(0), 0, Mcr(0)
        self.fifos, self.trigger = False, 1
        self.rx: deque[int] = deque()  # characters, with their LSR error bits << 8
        self.tx: deque[int] = deque()
        self.overrun = self.thre_pending = False
        self.msr_deltas = Msr(0)
        self.timeout_at: int | None = None
        self._had_room = True

    def reset(self) -> None:
        """Master reset ("Table II"): the divisor latch and scratch register keep their values."""
        self._clear()
        self._sync_pins()
        self._sync()

    # --- the far end ---------------------------------------------------------------------------

    def can_receive(self) -> int:
        """How many bytes `receive` would take now; none while SIN is cut off by the loopback."""
        return 0 if self.mcr & Mcr.LOOP else max(self._capacity() - len(self.rx), 0)

    def receive(self, data: bytes) -> int:
        """Characters arrive; returns how many were accepted (the others would overrun)."""
        accepted = data[: self.can_receive()]
        for byte in accepted:
            self._receive(byte)
        self._sync()
        return len(accepted)

    def receive_break(self) -> None:
        """The far end holds the line: one zero character with BI, whatever room there is."""
        if not self.mcr & Mcr.LOOP:
            self._receive(Lsr.BI << 8)
            self._sync()

    def set_modem(self, *, cts: bool, dsr: bool, ri: bool, dcd: bool) -> None:
        """Drive the modem inputs."""
        before = self._modem_status()
        pins = {Msr.CTS: cts, Msr.DSR: dsr, Msr.RI: ri, Msr.DCD: dcd}
        self.modem_inputs = Msr(sum(bit for bit, level in pins.items() if level))
        self._note_modem_change(before)
        self._sync()

    def drain(self) -> None:
        """The sink has room again: send what waited."""
        self._send()
        self._sync()

    # --- registers -----------------------------------------------------------------------------

    def read(self, reg: int) -> int:
        value = self._read(reg)
        self._sync()
        return value

    def write(self, reg: int, value: int) -> None:
        self._write(reg, value & 0xFF)
        if reg in (Reg.LCR, Reg.MCR):
            self._sync_pins()
        self._sync()

    def state(self) -> State:
        return save(self, 1, self._FIELDS)

    def restore(self, state: State) -> None:
        load(self, state, 1, self._FIELDS)
        self._sync_pins()
        self._sync()

    def _read(self, reg: int) -> int:
        if reg < 2 and self.lcr & Lcr.DLAB:
            return self.divisor >> 8 * reg & 0xFF
        match reg:
            case Reg.RBR_THR:
                return self._read_rbr()
            case Reg.IER:
                return self.ier
            case Reg.IIR_FCR:
                return self._read_iir()
            case Reg.LCR:
                return self.lcr
            case Reg.MCR:
                return self.mcr
            case Reg.LSR:
                return self._read_lsr()
            case Reg.MSR:
                value = self._modem_status() | self.msr_deltas
                self.msr_deltas = Msr(0)
                return value
            case _:
                return self.scr

    def _write(self, reg: int, value: int) -> None:
        if reg < 2 and self.lcr & Lcr.DLAB:
            shift = 8 * reg
            self.divisor = self.divisor & ~(0xFF << shift) | value << shift
            return
        match reg:
            case Reg.RBR_THR:
                self._write_thr(value)
            case Reg.IER:
                enabled = Ier(value & 0x0F)
                if enabled & Ier.ETBEI and not self.ier & Ier.ETBEI and not self.tx:
                    self.thre_pending = True
                self.ier = enabled
            case Reg.IIR_FCR:
                self._write_fcr(value)
            case Reg.LCR:
                self.lcr = value
            case Reg.MCR:
                before = self._modem_status()
                self.mcr = Mcr(value & 0x1F)
                self._note_modem_change(before)
            case Reg.SCR:
                self.scr = value

    def _capacity(self) -> int:
        return FIFO_SIZE if self.fifos else 1

    def _read_rbr(self) -> int:
        if not self.rx:
            return 0
        byte = self.rx.popleft() & 0xFF
        self._restart_timeout()
        return byte

    def _write_thr(self, byte: int) -> None:
        self.thre_pending = False
        if len(self.tx) >= self._capacity():
            self.tx.pop()  # THR is overwritten, a full FIFO's last place too
        self.tx.append(byte)
        self._send()

    def _send(self) -> None:
        while self.tx and (self.mcr & Mcr.LOOP or self.can_transmit()):
            byte = self.tx.popleft()
            if self.mcr & Mcr.LOOP:
                self._receive(byte & (1 << self._word_length()) - 1)
            else:
                self.transmit(bytes([byte]))
            if not self.tx:
                self.thre_pending = True

    def _receive(self, character: int) -> None:
        if len(self.rx) >= self._capacity():
            self.overrun = True
            if self.fifos:
                return  # the FIFO keeps what it has; RBR is overwritten
            self.rx.clear()
        self.rx.append(character)
        self._restart_timeout()

    def _write_fcr(self, value: int) -> None:
        """Bits other than ENABLE take effect only with it; a change of it clears both FIFOs."""
        enable = bool(value & Fcr.ENABLE)
        toggled = enable != self.fifos
        self.fifos = enable
        self.trigger = TRIGGER_LEVELS[value >> 6] if enable else 1
        if toggled or (value & Fcr.CLEAR_RX and enable):
            self.rx.clear()
            self.timeout_at = None
        if (toggled or (value & Fcr.CLEAR_TX and enable)) and self.tx:
            self.tx.clear()
            self.thre_pending = True

    # --- status --------------------------------------------------------------------------------

    def _line_status(self) -> Lsr:
        status = Lsr(self.rx[0] >> 8) | Lsr.DR if self.rx else Lsr(0)
        if self.overrun:
            status |= Lsr.OE
        if not self.tx:
            status |= Lsr.THRE | Lsr.TEMT
        if self.fifos and any(character >> 8 for character in self.rx):
            status |= Lsr.FIFO_ERROR
        return status

    def _read_lsr(self) -> int:
        """OE and the errors of the character on top go with the read."""
        status = self._line_status()
        self.overrun = False
        if self.rx:
            self.rx[0] &= 0xFF
        return status

    def _modem_status(self) -> Msr:
        if not self.mcr & Mcr.LOOP:
            return self.modem_inputs
        wires = {Mcr.RTS: Msr.CTS, Mcr.DTR: Msr.DSR, Mcr.OUT1: Msr.RI, Mcr.OUT2: Msr.DCD}
        return Msr(sum(to for source, to in wires.items() if self.mcr & source))

    def _note_modem_change(self, before: Msr) -> None:
        now = self._modem_status()
        changed = (before ^ now) >> 4
        if not before & ~now & Msr.RI:
            changed &= ~Msr.TERI  # trailing edge of the ring indicator only
        self.msr_deltas |= Msr(changed)

    def _word_length(self) -> int:
        return 5 + (self.lcr & 3)

    def _restart_timeout(self) -> None:
        """FIFO time-out: four character times without an arrival or a read of RBR."""
        if not (self.fifos and self.rx):
            self.timeout_at = None
            return
        bits = 2 + self._word_length() + bool(self.lcr & Lcr.PEN) + bool(self.lcr & Lcr.STB)
        character = bits * 16 * (self.divisor or 1) * NS_PER_SECOND // CLOCK_HZ
        self.timeout_at = self._clock.now() + 4 * character

    def _timed_out(self) -> bool:
        return self.timeout_at is not None and self._clock.now() >= self.timeout_at

    def _interrupt(self) -> Iir:
        """The pending enabled interrupt of highest priority ("Table IV")."""
        if self.ier & Ier.ELSI and self._line_status() & ERRORS:
            return Iir.LINE_STATUS
        if self.ier & Ier.ERBFI and self.rx:
            if len(self.rx) >= self.trigger:
                return Iir.RECEIVED_DATA
            if self._timed_out():
                return Iir.TIMEOUT
        if self.ier & Ier.ETBEI and self.thre_pending:
            return Iir.THR_EMPTY
        if self.ier & Ier.EDSSI and self.msr_deltas:
            return Iir.MODEM_STATUS
        return Iir.NONE

    def _read_iir(self) -> int:
        source = self._interrupt()
        if source is Iir.THR_EMPTY:
            self.thre_pending = False  # reported, so reset
        return source | (IIR_FIFOS if self.fifos else 0)

    def _sync_pins(self) -> None:
        """The modem and break outputs, which MCR and LCR alone decide."""
        looped = bool(self.mcr & Mcr.LOOP)  # loopback forces them inactive
        pins = {Mcr.DTR: self.dtr, Mcr.RTS: self.rts, Mcr.OUT1: self.out1, Mcr.OUT2: self.out2}
        for bit, line in pins.items():
            line.set(bool(self.mcr & bit) and not looped)
        self.break_out.set(bool(self.lcr & Lcr.BREAK) and not looped)

    def _sync(self) -> None:
        self.irq.set(self._interrupt() is not Iir.NONE)
        waits = len(self.rx) < self.trigger and not self._timed_out()
        self._timer.set(self.timeout_at if waits else None)
        self._announce_room()

    def _announce_room(self) -> None:
        had_room, self._had_room = self._had_room, self.can_receive() > 0
        if self._had_room and not had_room:
            self.receive_ready()
