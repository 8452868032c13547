"""Names and bits of the local APIC (section numbers: Intel SDM vol. 3A, chapter 11)."""

from __future__ import annotations

from enum import IntEnum, IntFlag

from pytcg.hw.bits import register_bits

APIC_BASE_MSR = 0x1B
TSC_DEADLINE_MSR = 0x6E0
X2APIC_MSRS = range(0x800, 0x900)
DEFAULT_BASE = 0xFEE0_0000
VERSION = 0x0005_0014
"""Integrated APIC, six LVT entries."""


@register_bits
class Base(IntFlag):
    """IA32_APIC_BASE (11.4.4)."""

    BSP = 1 << 8
    EXTD = 1 << 10
    EN = 1 << 11


BASE_ADDRESS = 0x00FF_FFFF_F000
"""What IA32_APIC_BASE has of an address of 40 bits; those above are reserved."""


class Reg(IntEnum):
    """Registers by MMIO offset >> 4, the same as x2APIC MSR - 800h (table 11-6)."""

    ID = 0x02
    VERSION = 0x03
    TPR = 0x08
    APR = 0x09
    PPR = 0x0A
    EOI = 0x0B
    RRD = 0x0C
    LDR = 0x0D
    DFR = 0x0E
    SVR = 0x0F
    ISR = 0x10
    TMR = 0x18
    IRR = 0x20
    ESR = 0x28
    ICR_LOW = 0x30
    ICR_HIGH = 0x31
    LVT_TIMER = 0x32
    LVT_THERMAL = 0x33
    LVT_PERFORMANCE = 0x34
    LVT_LINT0 = 0x35
    LVT_LINT1 = 0x36
    LVT_ERROR = 0x37
    INITIAL_COUNT = 0x38
    CURRENT_COUNT = 0x39
    DIVIDE = 0x3E
    SELF_IPI = 0x3F


@register_bits
class Lvt(IntFlag):
    """Local vector table entry; vector in bits 0-7, delivery mode in 8-10 (11.5.1)."""

    DELIVS = 1 << 12
    POLARITY = 1 << 13
    REMOTE_IRR = 1 << 14
    LEVEL = 1 << 15
    MASK = 1 << 16
    TIMER_MODE = 3 << 17


SVR_ENABLE = 1 << 8
ICR_LOGICAL = 1 << 11
ICR_DELIVERY_STATUS = 1 << 12
ICR_ASSERT = 1 << 14
ICR_LEVEL = 1 << 15

LVT_WRITABLE = {
    Reg.LVT_TIMER: 0xFF | Lvt.MASK | Lvt.TIMER_MODE,
    Reg.LVT_THERMAL: 0x7FF | Lvt.MASK,
    Reg.LVT_PERFORMANCE: 0x7FF | Lvt.MASK,
    Reg.LVT_LINT0: 0x7FF | Lvt.POLARITY | Lvt.LEVEL | Lvt.MASK,
    Reg.LVT_LINT1: 0x7FF | Lvt.POLARITY | Lvt.LEVEL | Lvt.MASK,
    Reg.LVT_ERROR: 0xFF | Lvt.MASK,
}
WRITE_ONLY = {Reg.EOI, Reg.SELF_IPI}
X2APIC_WRITABLE = {
    **{reg: bits | Lvt.DELIVS | Lvt.REMOTE_IRR for reg, bits in LVT_WRITABLE.items()},
    Reg.TPR: 0xFF, Reg.EOI: 0, Reg.SVR: 0x3FF, Reg.ESR: 0, Reg.DIVIDE: 0xB,
    Reg.SELF_IPI: 0xFF, Reg.INITIAL_COUNT: 0xFFFF_FFFF, Reg.ICR_LOW: 0xFFFF_FFFF_000C_DFFF,
}  # fmt: skip
"""Bits that an x2APIC WRMSR may have set, read-only ones included: any other is #GP (11.12.1.3)."""


@register_bits
class Esr(IntFlag):
    """Error status (11.5.3)."""

    SEND_ILLEGAL_VECTOR = 1 << 5
    RECEIVE_ILLEGAL_VECTOR = 1 << 6
    ILLEGAL_REGISTER = 1 << 7
