"""QEMU's educational PCI device (its docs/specs/edu): factorials, interrupts, DMA.

What QEMU's does in a thread or after a while is done at once here; a driver that waits for the busy
bits finds them clear.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import Final

from pytcg.hw.bits import register_bits
from pytcg.hw.pci.bar import BarType
from pytcg.hw.pci.device import DmaError, Identity, PciDevice
from pytcg.hw.state import State, load, save

WINDOW: Final = 1 << 20
BUFFER: Final = 0x40000  # where the device sees its own memory
BUFFER_SIZE: Final = 4096
DMA_IRQ: Final = 0x100
FACTORIAL_IRQ: Final = 0x001
DMA_BITS: Final = 28
IDENTITY: Final = 0x010000ED


class Reg(IntEnum):
    """Offsets in the window; from DMA_SOURCE on they are 64 bits wide."""

    IDENTITY = 0x00
    LIVENESS = 0x04
    FACTORIAL = 0x08
    STATUS = 0x20
    IRQ_STATUS = 0x24
    IRQ_RAISE = 0x60
    IRQ_ACKNOWLEDGE = 0x64
    DMA_SOURCE = 0x80
    DMA_DESTINATION = 0x88
    DMA_COUNT = 0x90
    DMA_COMMAND = 0x98


@register_bits
class Status(IntFlag):
    """STATUS."""

    COMPUTING = 0x01
    IRQ_WHEN_DONE = 0x80


@register_bits
class DmaCommand(IntFlag):
    """DMA_COMMAND."""

    RUN = 0x01
    TO_RAM = 0x02
    IRQ_WHEN_DONE = 0x04


class Edu(PciDevice):
    """The card. ``dma_mask`` bounds the addresses it can reach."""

    identity = Identity(0x1234, 0x11E8, class_code=0x00FF00, revision=0x10, pin=1)
    _FIELDS = ("inverted", "factorial", "status", "irq_status", "buffer", "dma")

    def __init__(self, dma_mask: int = (1 << DMA_BITS) - 1) -> None:
        super().__init__()
        self._dma_mask = dma_mask
        self.buffer = bytearray(BUFFER_SIZE)
        self._clear()
        self.add_bar(0, WINDOW, BarType.MEMORY, self._read, self._write)
        self.add_msi()

    def _clear(self) -> None:
        self.inverted = self.factorial = self.status = self.irq_status = 0
        self.dma = [0, 0, 0, 0]  # source, destination, count, command
        self.buffer[:] = bytes(BUFFER_SIZE)

    def reset(self) -> None:
        self._clear()
        super().reset()

    def _read(self, offset: int, size: int) -> int:
        ones = (1 << 8 * size) - 1
        if offset < Reg.DMA_SOURCE and size != 4:
            return ones
        match offset:
            case Reg.IDENTITY:
                return IDENTITY
            case Reg.LIVENESS:
                return self.inverted
            case Reg.FACTORIAL:
                return self.factorial
            case Reg.STATUS:
                return self.status
            case Reg.IRQ_STATUS:
                return self.irq_status
        if Reg.DMA_SOURCE <= offset < Reg.DMA_COMMAND + 8 and size in (4, 8):
            return self.dma[offset - Reg.DMA_SOURCE >> 3] >> 8 * (offset & 4) & ones
        return ones

    def _write(self, offset: int, size: int, value: int) -> None:
        if Reg.DMA_SOURCE <= offset < Reg.DMA_COMMAND + 8 and size in (4, 8):
            self._write_dma(offset, size, value)
        if size != 4:
            return
        match offset:
            case Reg.LIVENESS:
                self.inverted = ~value & 0xFFFFFFFF
            case Reg.FACTORIAL:
                self.factorial = _factorial(value)
                if self.status & Status.IRQ_WHEN_DONE:
                    self._raise(FACTORIAL_IRQ)
            case Reg.STATUS:
                self.status = value & Status.IRQ_WHEN_DONE
            case Reg.IRQ_RAISE:
                self._raise(value)
            case Reg.IRQ_ACKNOWLEDGE:
                self.irq_status &= ~value
                self.set_intx(bool(self.irq_status))

    def _raise(self, bits: int) -> None:
        self.irq_status |= bits
        if self.irq_status and not self.notify():
            self.set_intx(True)

    def _write_dma(self, offset: int, size: int, value: int) -> None:
        index, shift = offset - Reg.DMA_SOURCE >> 3, 8 * (offset & 4)
        kept = self.dma[index] & ~((1 << 8 * size) - 1 << shift)
        self.dma[index] = (kept | value << shift) & (1 << 64) - 1
        if index == 3 and not shift and value & DmaCommand.RUN:
            self._transfer()
            self.dma[3] &= ~DmaCommand.RUN
            if value & DmaCommand.IRQ_WHEN_DONE:
                self._raise(DMA_IRQ)

    def _transfer(self) -> None:
        """Copy between the buffer and memory; what leaves the buffer is ignored."""
        source, destination, count, command = self.dma
        inside = (source if command & DmaCommand.TO_RAM else destination) - BUFFER
        if count > BUFFER_SIZE or not 0 <= inside <= BUFFER_SIZE - count:
            return
        try:
            if command & DmaCommand.TO_RAM:
                data = bytes(self.buffer[inside : inside + count])
                self.dma_write(destination & self._dma_mask, data)
            else:
                data = self.dma_read(source & self._dma_mask, count)
                self.buffer[inside : inside + count] = data
        except DmaError:
            return  # the status register has it

    def state(self) -> State:
        return super().state() | {"edu": save(self, 1, self._FIELDS)}

    def restore(self, state: State) -> None:
        load(self, state.get("edu", {}), 1, self._FIELDS)
        super().restore(state)


def _factorial(number: int) -> int:
    """The factorial modulo 2^32, which is 0 from 34 on."""
    result = 1
    for factor in range(2, min(number, 40) + 1):
        result = result * factor & 0xFFFFFFFF
    return result
