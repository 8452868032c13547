"""The local APIC in the kernel: its page of registers (struct kvm_lapic_state)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from pytcg.accel.kvm.abi import struct
from pytcg.accel.kvm.irqchip.mirror import Mirror, StillClock
from pytcg.hw.core.apic import LocalApic
from pytcg.hw.core.apic_regs import LVT_WRITABLE, TSC_DEADLINE_MSR, VERSION, Reg
from pytcg.hw.core.apic_timer import TimerMode

if TYPE_CHECKING:
    from pytcg.accel.kvm.device import KvmFile
    from pytcg.accel.kvm.state import Transfer
    from pytcg.hw.clock import Clock

_SETS: Final = (("isr", Reg.ISR), ("tmr", Reg.TMR), ("irr", Reg.IRR))
_PLAIN: Final = (("tpr", Reg.TPR), ("ldr", Reg.LDR), ("dfr", Reg.DFR), ("svr", Reg.SVR),
                 ("esr", Reg.ESR))  # fmt: skip
_STEP: Final = 4  # words from register to register


class KernelLapic(Mirror[LocalApic]):
    """Pushed when the processor is given to KVM: it must not be in KVM_RUN then.

    ``rest`` has the processor's state come back. What was not changed here is not pushed: an
    interrupt may have come to the kernel's chip meanwhile.
    """

    def __init__(self, vcpu: KvmFile, transfer: Transfer, clock: Clock, rest: Callable[[], None],
                 *, tsc: Callable[[], int], tsc_hz: int) -> None:  # fmt: skip
        still = StillClock(clock)
        super().__init__(LocalApic(still, 0, lambda *_: None, tsc=tsc, tsc_hz=tsc_hz))
        self._vcpu = vcpu
        self._transfer = transfer
        self._rest = rest
        self._dirty = True
        self.lint0: Callable[[], bool] = lambda: False
        """The level of the 8259s' output, which the kernel's chip doesn't remember."""

    def fetch(self) -> LocalApic:
        self._rest()
        if not self._dirty:
            self._fetch()
        return self.model

    def push(self) -> None:
        """Later: see `give`."""
        self._rest()
        self._dirty = True

    def give(self) -> None:
        """Before the processor runs: what was changed here."""
        if self._dirty:
            self._dirty = False
            page = struct("lapic")
            _tell(self.model, page.regs)
            self._vcpu.ioctl("SET_LAPIC", page)
            self._transfer.write_msr(TSC_DEADLINE_MSR, self.model.timer.deadline)

    def pins(self) -> tuple[int, int]:
        """IA32_APIC_BASE and CR8 for the processor's state, which goes to KVM first."""
        if self._dirty:
            return self.model.apic_base, self.model.read_cr8()
        return self._transfer.apic_base, self._transfer.cr8

    def _fetch(self) -> None:
        self.model.apic_base = self._transfer.apic_base
        page = self._vcpu.get("LAPIC", "lapic")
        deadline = self._transfer.read_msr(TSC_DEADLINE_MSR)
        _take(self.model, page.regs, deadline)
        self.model.lint[0] = self.lint0()


def _take(chip: LocalApic, regs: Any, deadline: int) -> None:
    def word(reg: int) -> int:
        return int(regs[reg * _STEP])

    chip.id = word(Reg.ID) if chip.x2apic else word(Reg.ID) >> 24
    for name, reg in _PLAIN:
        setattr(chip, name, word(reg))
    for name, reg in _SETS:
        setattr(chip, name, sum(word(reg + n) << 32 * n for n in range(8)))
    chip.icr = word(Reg.ICR_LOW) | word(Reg.ICR_HIGH) << 32
    chip.lvt = [word(reg) & int(bits) for reg, bits in LVT_WRITABLE.items()]
    mode = TimerMode(word(Reg.LVT_TIMER) >> 17 & 3)
    chip.timer.resume(mode, divide=word(Reg.DIVIDE) & 0xB, initial=word(Reg.INITIAL_COUNT),
                      left=word(Reg.CURRENT_COUNT), deadline=deadline)  # fmt: skip


def _tell(chip: LocalApic, regs: Any) -> None:
    def put(reg: int, value: int) -> None:
        regs[reg * _STEP] = value & 0xFFFF_FFFF

    put(Reg.ID, chip.id if chip.x2apic else chip.id << 24)
    put(Reg.VERSION, VERSION)
    for name, reg in _PLAIN:
        put(reg, getattr(chip, name))
    for name, reg in _SETS:
        for n in range(8):
            put(reg + n, getattr(chip, name) >> 32 * n)
    put(Reg.ICR_LOW, chip.icr)
    put(Reg.ICR_HIGH, chip.icr >> 32)
    for reg, entry in zip(LVT_WRITABLE, chip.lvt, strict=True):
        put(reg, entry)
    put(Reg.INITIAL_COUNT, chip.timer.initial_count)
    put(Reg.CURRENT_COUNT, chip.timer.current_count())
    put(Reg.DIVIDE, chip.timer.divide)
