"""The local APIC's register interfaces: the xAPIC page, the x2APIC MSRs, CR8.

Section numbers: Intel SDM vol. 3A, chapter 11 "Advanced Programmable Interrupt Controller". Not
modelled, as on the P4 and later: arbitration priority and remote read. Directed EOI isn't offered
(version register bit 24 is clear). Delivery of messages is instant, so delivery status bits always
read 0.
"""

from __future__ import annotations

from pytcg.hw.core.apic_bus import DeliveryMode, Destination, Shorthand, Trigger
from pytcg.hw.core.apic_core import ApicCore
from pytcg.hw.core.apic_regs import (
    APIC_BASE_MSR,
    BASE_ADDRESS,
    ICR_ASSERT,
    ICR_DELIVERY_STATUS,
    ICR_LEVEL,
    ICR_LOGICAL,
    LVT_WRITABLE,
    SVR_ENABLE,
    TSC_DEADLINE_MSR,
    VERSION,
    WRITE_ONLY,
    X2APIC_MSRS,
    X2APIC_WRITABLE,
    Base,
    Esr,
    Lvt,
    Reg,
)


class LocalApic(ApicCore):
    """One local APIC. MMIO registers are given as offset >> 4 within the 4 KiB page."""

    # --- MMIO ----------------------------------------------------------------------------------

    def read(self, reg: int) -> int:
        """An aligned 32-bit read of the xAPIC page."""
        self.timer.expire()
        value = self._read(reg)
        if value is None:
            value = 0
            if reg not in (*WRITE_ONLY, Reg.APR, Reg.RRD):
                self._error(Esr.ILLEGAL_REGISTER)
        self._sync()
        return value << 24 if reg == Reg.ID else value & 0xFFFF_FFFF

    def write(self, reg: int, value: int) -> None:
        """An aligned 32-bit write to the xAPIC page."""
        self.timer.expire()
        if reg == Reg.ICR_HIGH:
            self.icr = self.icr & 0xFFFF_FFFF | (value & 0xFF00_0000) << 32
        elif reg == Reg.ICR_LOW:
            self._write_icr(self.icr & ~0xFFFF_FFFF | value & 0x000C_CFFF)
        elif reg == Reg.LDR:
            self.ldr = value & 0xFF00_0000
        elif reg == Reg.DFR:
            self.dfr = value | 0x0FFF_FFFF
        elif reg == Reg.ID:
            self.id = value >> 24
        elif not self._write(reg, value & 0xFFFF_FFFF):
            self._error(Esr.ILLEGAL_REGISTER)
        self._sync()

    def _read(self, reg: int) -> int | None:
        """A register common to both modes; None where there is none to read."""
        for first, bits in ((Reg.ISR, self.isr), (Reg.TMR, self.tmr), (Reg.IRR, self.irr)):
            if first <= reg < first + 8:
                return bits >> 32 * (reg - first) & 0xFFFF_FFFF
        if reg in LVT_WRITABLE:
            return self._lvt(reg)
        match reg:
            case Reg.ID:
                return self.id
            case Reg.VERSION:
                return VERSION
            case Reg.TPR:
                return self.tpr
            case Reg.PPR:
                return self._ppr()
            case Reg.LDR:
                return self._read_ldr()
            case Reg.DFR:
                return self.dfr
            case Reg.SVR:
                return self.svr
            case Reg.ESR:
                return self.esr
            case Reg.ICR_LOW:
                return self.icr
            case Reg.ICR_HIGH:
                return self.icr >> 32
            case Reg.INITIAL_COUNT:
                return self.timer.initial_count
            case Reg.CURRENT_COUNT:
                return self.timer.current_count()
            case Reg.DIVIDE:
                return self.timer.divide
            case _:
                return None

    def _write(self, reg: int, value: int) -> bool:
        """A register common to both modes; False where there is none to write."""
        if reg in LVT_WRITABLE:
            self._write_lvt(reg, value)
            return True
        match reg:
            case Reg.TPR:
                self.tpr = value & 0xFF
            case Reg.EOI:
                self._end_of_interrupt()
            case Reg.SVR:
                self._write_svr(value)
            case Reg.ESR:
                self.esr, self.errors = self.errors, 0
            case Reg.INITIAL_COUNT:
                self.timer.start(value)
            case Reg.DIVIDE:
                self.timer.set_divide(value & 0xB)
            case Reg.VERSION | Reg.PPR | Reg.CURRENT_COUNT | Reg.APR | Reg.RRD:
                pass  # read-only: the write is ignored
            case _:
                return False
        return True

    def _write_svr(self, value: int) -> None:
        self.svr = value & 0x1FF
        if not self.svr & SVR_ENABLE:
            self.lvt = [int(entry | Lvt.MASK) for entry in self.lvt]

    def _write_icr(self, value: int) -> None:
        self.icr = value & ~ICR_DELIVERY_STATUS
        mode, trigger = DeliveryMode(value >> 8 & 7), Trigger(bool(value & ICR_LEVEL))
        if mode is DeliveryMode.INIT and trigger is Trigger.LEVEL and not value & ICR_ASSERT:
            return  # INIT level de-assert: nothing on the P4 and later (11.6.1)
        vector = value & 0xFF
        fixed = mode in (DeliveryMode.FIXED, DeliveryMode.LOWEST_PRIORITY)
        if fixed and vector < 16:
            self._error(Esr.SEND_ILLEGAL_VECTOR)
            return
        shorthand = Shorthand(value >> 18 & 3)
        target = value >> 32 if self.x2apic else value >> 56
        dest = Destination(target, logical=bool(value & ICR_LOGICAL), shorthand=shorthand)
        # Fixed IPIs are edges whatever the level bit says.
        self._send_ipi(self, dest, mode, vector, Trigger.EDGE)

    # --- MSRs and CR8 --------------------------------------------------------------------------

    def read_cr8(self) -> int:
        return self.tpr >> 4

    def write_cr8(self, value: int) -> None:
        self.tpr = (value & 15) << 4
        self._sync()

    def read_msr(self, index: int) -> int:
        """RDMSR of the APIC's MSRs; KeyError is #GP."""
        self.timer.expire()
        if index == APIC_BASE_MSR:
            return self.apic_base
        if index == TSC_DEADLINE_MSR:
            return self.timer.deadline
        reg = index - X2APIC_MSRS.start
        value = self._read(reg) if index in X2APIC_MSRS and self.x2apic else None
        if value is None or reg in (Reg.DFR, Reg.ICR_HIGH):
            raise KeyError(index)
        return value

    def write_msr(self, index: int, value: int) -> None:
        """WRMSR; KeyError (no such MSR) and ValueError (bad value) are #GP."""
        self.timer.expire()
        if index == APIC_BASE_MSR:
            self._write_base(value)
        elif index == TSC_DEADLINE_MSR:
            self.timer.set_deadline(value)
        elif index in X2APIC_MSRS and self.x2apic:
            self._write_x2apic(index - X2APIC_MSRS.start, value)
        else:
            raise KeyError(index)
        self._sync()

    def _write_x2apic(self, reg: int, value: int) -> None:
        if reg not in X2APIC_WRITABLE:
            raise KeyError(reg + X2APIC_MSRS.start)
        if value & ~X2APIC_WRITABLE[Reg(reg)]:
            raise ValueError(f"x2APIC register {reg:#x}: reserved bits in {value:#x}")
        if reg == Reg.ICR_LOW:
            self._write_icr(value)
        elif reg == Reg.SELF_IPI:
            self._write_icr(value | Shorthand.SELF << 18)
        else:
            self._write(reg, value)

    def _write_base(self, value: int) -> None:
        """Mode transitions (figure 11-27): illegal ones and reserved bits are #GP."""
        if value & ~(BASE_ADDRESS | Base.BSP | Base.EXTD | Base.EN):
            raise ValueError(f"IA32_APIC_BASE: reserved bits in {value:#x}")
        enable, extend = bool(value & Base.EN), bool(value & Base.EXTD)
        if (extend and not (enable and self.enabled)) or (enable and self.x2apic and not extend):
            raise ValueError(f"IA32_APIC_BASE: no such transition to {value:#x}")
        was_x2apic, was_enabled = self.x2apic, self.enabled
        self.apic_base = value
        self.on_base()
        if was_enabled and not enable:
            self.id = self._initial_id
            self.init()
        elif extend and not was_x2apic:
            self.id = self._initial_id
            self.icr &= 0xFFFF_FFFF  # ICR_HIGH is not kept (11.12.5)
