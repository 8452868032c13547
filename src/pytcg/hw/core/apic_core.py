"""The local APIC's inside: what it accepts, what it holds back, what it hands to the CPU.

Section numbers: Intel SDM vol. 3A, chapter 11 "Advanced Programmable Interrupt Controller".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from pytcg.hw.clock import Clock
from pytcg.hw.core.apic_bus import (
    BROADCAST,
    X2APIC_BROADCAST,
    DeliveryMode,
    Destination,
    Receiver,
    Trigger,
)
from pytcg.hw.core.apic_regs import (
    BASE_ADDRESS,
    DEFAULT_BASE,
    LVT_WRITABLE,
    SVR_ENABLE,
    Base,
    Esr,
    Lvt,
    Reg,
)
from pytcg.hw.core.apic_timer import ApicTimer, TimerMode
from pytcg.hw.line import Line
from pytcg.hw.state import State, load, save


class SendIpi(Protocol):
    """Where ICR messages go: ApicBus.send_ipi."""

    def __call__(
        self, sender: Receiver, dest: Destination, mode: DeliveryMode, vector: int, trigger: Trigger
    ) -> None: ...


def _nothing() -> None:
    """A pin or message that nobody listens to."""


class ApicCore:
    """Interrupt acceptance and dispatch, the local vector table and the life of the chip.

    The owner fills in the callables: `on_eoi(vector)` (to the I/O APICs), `on_nmi`, `on_smi`,
    `on_init`, `on_startup(vector)`, `on_base` (the page may have moved), and `extint`, the INTA of
    the 8259 behind LINT0.
    """

    _FIELDS = (
        "apic_base", "id", "tpr", "ldr", "dfr", "svr", "isr", "tmr", "irr", "esr", "errors",
        "icr", "lvt", "lint", "extint_message",
    )  # fmt: skip

    def __init__(
        self,
        clock: Clock,
        apic_id: int,
        send_ipi: SendIpi,
        *,
        tsc: Callable[[], int],
        tsc_hz: int,
        bsp: bool = True,
        bus_hz: int = 1_000_000_000,
    ) -> None:
        self.timer = ApicTimer(clock, self._timer_expired, tsc=tsc, tsc_hz=tsc_hz, bus_hz=bus_hz)
        self._send_ipi = send_ipi
        self._initial_id = apic_id
        self._bsp = bsp
        self.intr = Line()
        self.extint: Callable[[], int] = lambda: -1
        self.on_eoi: Callable[[int], None] = lambda vector: None
        self.on_startup: Callable[[int], None] = lambda vector: None
        self.on_nmi: Callable[[], None] = _nothing
        self.on_smi: Callable[[], None] = _nothing
        self.on_init: Callable[[], None] = _nothing
        self.on_base: Callable[[], None] = _nothing
        self.lint = [False, False]
        self.apic_base = 0
        self.reset()

    # --- life ----------------------------------------------------------------------------------

    def reset(self) -> None:
        """Power-up (11.4.7.1): xAPIC mode, software-disabled, all of the LVT masked."""
        self.apic_base = DEFAULT_BASE | Base.EN | (Base.BSP if self._bsp else 0)
        self.id = self._initial_id
        self.on_base()
        self.init()

    def init(self) -> None:
        """INIT (11.4.7.3): as at power-up, but ID and IA32_APIC_BASE stay."""
        self.tpr = self.ldr = self.icr = 0
        self.dfr = 0xFFFF_FFFF
        self.svr = 0xFF
        self.isr = self.tmr = self.irr = 0  # 256 bits each, vector n is bit n
        self.esr = self.errors = 0
        self.lvt = [int(Lvt.MASK)] * len(LVT_WRITABLE)
        self.extint_message = False
        self.timer.reset()
        self._sync()

    def virtual_wire(self) -> None:
        """Leave the APIC as PC firmware does: LINT0 = ExtINT for the 8259, LINT1 = NMI."""
        self.svr = SVR_ENABLE | 0xFF
        self._write_lvt(Reg.LVT_LINT0, DeliveryMode.EXTINT << 8)
        self._write_lvt(Reg.LVT_LINT1, DeliveryMode.NMI << 8)
        self._sync()

    @property
    def enabled(self) -> bool:
        return bool(self.apic_base & Base.EN)

    @property
    def x2apic(self) -> bool:
        return bool(self.apic_base & Base.EXTD)

    @property
    def base(self) -> int:
        """Physical address of the MMIO page; it is decoded while `mmio_enabled`."""
        return self.apic_base & BASE_ADDRESS

    @property
    def mmio_enabled(self) -> bool:
        return self.enabled and not self.x2apic

    @property
    def software_enabled(self) -> bool:
        return self.enabled and bool(self.svr & SVR_ENABLE)

    def state(self) -> State:
        return save(self, 1, self._FIELDS) | {"timer": self.timer.state()}

    def restore(self, state: State) -> None:
        load(self, state, 1, self._FIELDS)
        self.timer.restore(state["timer"])
        self.on_base()
        self._sync()

    # --- interrupts in -------------------------------------------------------------------------

    def accepts(self, destination: Destination) -> bool:
        """Whether a message to this destination is for this APIC (11.6.2)."""
        if not self.enabled:
            return False
        target = destination.id
        if target == X2APIC_BROADCAST or (target == BROADCAST and not self.x2apic):
            return True
        if not destination.logical:
            return target == self.id
        ldr = self._read_ldr()
        if self.x2apic:
            return target >> 16 == ldr >> 16 and bool(target & ldr & 0xFFFF)
        ldr >>= 24
        if self.dfr >> 28 == 0xF:  # flat model
            return bool(target & ldr)
        return target >> 4 in (ldr >> 4, 0xF) and bool(target & ldr & 0xF)

    def priority(self) -> int:
        """Processor priority, for lowest-priority arbitration."""
        return self._ppr()

    def receive(self, mode: DeliveryMode, vector: int, trigger: Trigger) -> None:
        """A message from the bus."""
        match mode:
            case DeliveryMode.FIXED | DeliveryMode.LOWEST_PRIORITY:
                self.deliver(vector, trigger)
            case DeliveryMode.NMI:
                self.on_nmi()
            case DeliveryMode.SMI:
                self.on_smi()
            case DeliveryMode.INIT:
                self.init()
                self.on_init()
            case DeliveryMode.STARTUP:
                self.on_startup(vector)
            case DeliveryMode.EXTINT:
                self.extint_message = True
                self._sync()

    def deliver(self, vector: int, trigger: Trigger) -> None:
        """Accept a fixed interrupt into IRR and TMR (11.8.4)."""
        if not self.software_enabled:
            return
        if vector < 16:
            self._error(Esr.RECEIVE_ILLEGAL_VECTOR)
            return
        bit = 1 << vector
        self.irr |= bit
        self.tmr = self.tmr | bit if trigger is Trigger.LEVEL else self.tmr & ~bit
        self._sync()

    def set_lint(self, n: int, level: bool) -> None:
        """Drive LINT0 or LINT1. A disabled APIC makes them INTR and NMI (11.5.1)."""
        rising = level and not self.lint[n]
        self.lint[n] = level
        if rising and not self.enabled and n == 1:
            self.on_nmi()
        elif rising and self.enabled:
            self._lint_edge(n)
        self._sync()

    def _lint_edge(self, n: int) -> None:
        reg = Reg.LVT_LINT0 + n
        level_fixed = self._lvt_mode(reg) is DeliveryMode.FIXED and self._lvt(reg) & Lvt.LEVEL
        if self._lvt_mode(reg) is not DeliveryMode.EXTINT and not (level_fixed and n == 0):
            self._local_interrupt(reg)

    def _local_interrupt(self, reg: int) -> None:
        """An event behind an LVT entry, as its fields say."""
        entry = self._lvt(reg)
        if not entry & Lvt.MASK:
            # LINT1 and the internal sources are edges whatever bit 15 says.
            level = reg == Reg.LVT_LINT0 and entry & Lvt.LEVEL
            trigger = Trigger.LEVEL if level else Trigger.EDGE
            self.receive(self._lvt_mode(reg), entry & 0xFF, trigger)

    def _timer_expired(self) -> None:
        self._local_interrupt(Reg.LVT_TIMER)

    def _error(self, bit: Esr) -> None:
        # A bad vector in the error entry itself sets its bit once and goes no further.
        first = not self.errors & bit
        self.errors |= bit
        if first:
            self._local_interrupt(Reg.LVT_ERROR)

    # --- interrupts out ------------------------------------------------------------------------

    def acknowledge(self) -> int:
        """The CPU takes the interrupt `intr` announced: its vector, or -1 if it is gone."""
        self.timer.expire()
        vector = self._deliverable()
        if vector is not None:
            bit = 1 << vector
            self.irr &= ~bit
            self.isr |= bit
        elif self._extint_waiting():
            self.extint_message = False
            vector = self.extint()
        self._sync()
        return -1 if vector is None else vector

    def _deliverable(self) -> int | None:
        """The highest request, if its class is above the processor priority (11.8.3)."""
        vector = self.irr.bit_length() - 1
        if vector < 0 or not self.enabled or vector >> 4 <= self._ppr() >> 4:
            return None
        return vector

    def _extint_waiting(self) -> bool:
        if not self.lint[0] and not self.extint_message:
            return False
        if not self.enabled:
            return self.lint[0]
        entry = self._lvt(Reg.LVT_LINT0)
        wired = self._lvt_mode(Reg.LVT_LINT0) is DeliveryMode.EXTINT and not entry & Lvt.MASK
        return self.extint_message or (wired and self.lint[0])

    def _ppr(self) -> int:
        serving = max(self.isr.bit_length() - 1, 0)
        return self.tpr if self.tpr >> 4 >= serving >> 4 else serving & 0xF0

    def _end_of_interrupt(self) -> None:
        vector = self.isr.bit_length() - 1
        if vector < 0:
            return
        self.isr &= ~(1 << vector)
        if self.tmr >> vector & 1:
            lint0 = self._lvt(Reg.LVT_LINT0)
            if lint0 & Lvt.REMOTE_IRR and lint0 & 0xFF == vector:
                self.lvt[Reg.LVT_LINT0 - Reg.LVT_TIMER] = lint0 & ~Lvt.REMOTE_IRR
            self._sync()
            self.on_eoi(vector)

    # --- local vector table --------------------------------------------------------------------

    def _lvt(self, reg: int) -> int:
        return self.lvt[reg - Reg.LVT_TIMER]

    def _lvt_mode(self, reg: int) -> DeliveryMode:
        return DeliveryMode(self._lvt(reg) >> 8 & 7)

    def _write_lvt(self, reg: int, value: int) -> None:
        entry = value & LVT_WRITABLE[Reg(reg)]
        if entry & Lvt.LEVEL:
            entry |= self._lvt(reg) & Lvt.REMOTE_IRR
        if not self.svr & SVR_ENABLE:
            entry |= Lvt.MASK
        self.lvt[reg - Reg.LVT_TIMER] = int(entry)
        if reg == Reg.LVT_TIMER:
            self.timer.set_mode(TimerMode(entry >> 17 & 3))

    def _read_ldr(self) -> int:
        """In x2APIC mode derived from the ID (11.12.10.2)."""
        return self.id >> 4 << 16 | 1 << (self.id & 15) if self.x2apic else self.ldr

    def _sync(self) -> None:
        if self.lint[0]:
            self._sample_lint0()
        self.intr.set(self._deliverable() is not None or self._extint_waiting())

    def _sample_lint0(self) -> None:
        """Accept what a level-triggered LINT0 asks for, once until its EOI."""
        lint0 = self._lvt(Reg.LVT_LINT0)
        blocked = lint0 & (Lvt.MASK | Lvt.REMOTE_IRR)
        fixed_level = lint0 & Lvt.LEVEL and self._lvt_mode(Reg.LVT_LINT0) is DeliveryMode.FIXED
        if fixed_level and not blocked and self.software_enabled:
            self.lvt[Reg.LVT_LINT0 - Reg.LVT_TIMER] = int(lint0 | Lvt.REMOTE_IRR)
            self._local_interrupt(Reg.LVT_LINT0)
