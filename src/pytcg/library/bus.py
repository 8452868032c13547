"""What a library processor is connected to: ports and MMIO that are Python functions."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytcg.cpu import Cpu


class Callbacks:
    """A device of two functions: `MmioHandler`. Without one, reads are 0 and writes lost."""

    def __init__(self, read: Callable[[int, int], int] | None,
                 write: Callable[[int, int, int], object] | None):  # fmt: skip
        self._read = read
        self._write = write

    def read(self, offset: int, size: int) -> int:
        return self._read(offset, size) if self._read is not None else 0

    def write(self, offset: int, size: int, value: int) -> None:
        if self._write is not None:
            self._write(offset, size, value)


class NoBus:
    """A processor alone: ports and memory that is not there read all ones."""

    def read_port(self, port: int, size: int) -> int:
        return (1 << (8 * size)) - 1

    def write_port(self, port: int, size: int, value: int) -> None:
        pass

    def read_mmio(self, address: int, size: int) -> int:
        return (1 << (8 * size)) - 1

    def write_mmio(self, address: int, size: int, value: int) -> None:
        pass

    def acknowledge_interrupt(self) -> int:
        return -1

    def read_msr(self, index: int) -> int:
        raise KeyError(index)

    def write_msr(self, index: int, value: int) -> None:
        raise KeyError(index)

    def fpu_error(self) -> None:
        pass

    def read_cr8(self) -> int:
        return 0

    def write_cr8(self, value: int) -> None:
        pass


class Journal:
    """Answers of the outside world, to be given again when the past is run once more."""

    def __init__(self) -> None:
        self._answers: list[int] = []
        self.position = 0

    def answer(self, ask: Callable[[], int]) -> int:
        """The answer kept for this place, else a new one."""
        if self.position == len(self._answers):
            self._answers.append(ask())
        self.position += 1
        return self._answers[self.position - 1]

    def cut(self) -> None:
        """What follows will be different."""
        del self._answers[self.position :]


class LibraryBus(NoBus):
    """A processor's `CpuBus`: there is no board."""

    def __init__(self, cpu: Cpu):
        self._cpu = weakref.ref(cpu)
        self.journal: Journal | None = None

    def _owner(self) -> Cpu:
        cpu = self._cpu()
        assert cpu is not None
        return cpu

    def read_port(self, port: int, size: int) -> int:
        if self.journal is not None:
            return self.journal.answer(lambda: self._read_port(port, size))
        return self._read_port(port, size)

    def _read_port(self, port: int, size: int) -> int:
        value = self._owner().hooks.read_port(port, size)
        return super().read_port(port, size) if value is None else value

    def write_port(self, port: int, size: int, value: int) -> None:
        self._owner().hooks.write_port(port, size, value)
        super().write_port(port, size, value)

    def read_mmio(self, address: int, size: int) -> int:
        if self.journal is not None:
            return self.journal.answer(lambda: self._read_mmio(address, size))
        return self._read_mmio(address, size)

    def _read_mmio(self, address: int, size: int) -> int:
        region = self._owner().memory.find(address)
        if region is None or region.handler is None:
            return (1 << (8 * size)) - 1
        value = region.handler.read(address - region.address + region.offset, size)
        return int(value) & (1 << (8 * size)) - 1

    def write_mmio(self, address: int, size: int, value: int) -> None:
        region = self._owner().memory.find(address)
        if region is not None and region.handler is not None:
            region.handler.write(address - region.address + region.offset, size,
                                 value & (1 << (8 * size)) - 1)  # fmt: skip
