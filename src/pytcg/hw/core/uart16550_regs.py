"""Names and bits of the PC16550D's registers (datasheet, section 8)."""

from __future__ import annotations

from enum import IntEnum, IntFlag

from pytcg.hw.bits import register_bits

CLOCK_HZ = 1_843_200
FIFO_SIZE = 16
TRIGGER_LEVELS = (1, 4, 8, 14)


class Reg(IntEnum):
    """Register addresses; with DLAB set 0 and 1 are the divisor latch."""

    RBR_THR = 0
    IER = 1
    IIR_FCR = 2
    LCR = 3
    MCR = 4
    LSR = 5
    MSR = 6
    SCR = 7


@register_bits
class Ier(IntFlag):
    """Interrupt Enable Register."""

    ERBFI = 0x01
    ETBEI = 0x02
    ELSI = 0x04
    EDSSI = 0x08


class Iir(IntEnum):
    """Interrupt identification, highest priority first but for NONE."""

    NONE = 0x01
    LINE_STATUS = 0x06
    RECEIVED_DATA = 0x04
    TIMEOUT = 0x0C
    THR_EMPTY = 0x02
    MODEM_STATUS = 0x00


IIR_FIFOS = 0xC0


@register_bits
class Fcr(IntFlag):
    """FIFO Control Register; bits 6-7 select the trigger level."""

    ENABLE = 0x01
    CLEAR_RX = 0x02
    CLEAR_TX = 0x04


@register_bits
class Lcr(IntFlag):
    """Line Control Register; bits 0-1 are the word length minus five."""

    STB = 0x04
    PEN = 0x08
    BREAK = 0x40
    DLAB = 0x80


@register_bits
class Mcr(IntFlag):
    """Modem Control Register."""

    DTR = 0x01
    RTS = 0x02
    OUT1 = 0x04
    OUT2 = 0x08
    LOOP = 0x10


@register_bits
class Lsr(IntFlag):
    """Line Status Register."""

    DR = 0x01
    OE = 0x02
    PE = 0x04
    FE = 0x08
    BI = 0x10
    THRE = 0x20
    TEMT = 0x40
    FIFO_ERROR = 0x80


ERRORS = Lsr.OE | Lsr.PE | Lsr.FE | Lsr.BI


@register_bits
class Msr(IntFlag):
    """Modem Status Register: inputs in the high half, what changed in the low."""

    DCTS = 0x01
    DDSR = 0x02
    TERI = 0x04
    DDCD = 0x08
    CTS = 0x10
    DSR = 0x20
    RI = 0x40
    DCD = 0x80
