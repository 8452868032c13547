"""`UcContext`: registers put away, to be restored, looked at or pickled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytcg.cpu import Context, Cpu
from pytcg.unicorn import registers
from pytcg.unicorn.unicorn_const import UC_ARCH_X86

if TYPE_CHECKING:
    from collections.abc import Iterable

MODES = {2: "real", 4: "protected", 8: "long"}


class UcContext:
    """What `Uc.context_save` returns."""

    def __init__(self, mode: int, data: bytes):
        self._mode = mode
        self._data = data

    @property
    def size(self) -> int:
        """In bytes."""
        return len(self._data)

    @property
    def arch(self) -> int:
        return UC_ARCH_X86

    @property
    def mode(self) -> int:
        return self._mode

    def _cpu(self) -> Cpu:
        """A processor in this state, to read registers from."""
        cpu = Cpu(MODES[self._mode], "threaded")
        cpu.restore_context(self.saved())
        return cpu

    def saved(self) -> Context:
        return Context(MODES[self._mode], self._data)

    def take(self, cpu: Cpu) -> None:
        """Become the present state of a processor."""
        self._data = cpu.save_context().data

    def reg_read(self, reg_id: int, aux: Any = None) -> Any:
        return registers.read(self._cpu().regs, reg_id, aux)

    def reg_write(self, reg_id: int, value: Any) -> None:
        cpu = self._cpu()
        registers.write(cpu, reg_id, value)
        self.take(cpu)

    def reg_read_batch(self, reg_data: Iterable[int | tuple[int, Any]]) -> tuple[Any, ...]:
        return registers.read_batch(self._cpu().regs, reg_data)

    def reg_write_batch(self, reg_data: Iterable[tuple[int, Any]]) -> None:
        cpu = self._cpu()
        registers.write_batch(cpu, reg_data)
        self.take(cpu)

    def __bytes__(self) -> bytes:
        return self._data

    def __getstate__(self) -> tuple[bytes, int]:
        return self._data, self._mode

    def __setstate__(self, state: tuple[bytes, int]) -> None:
        self._data, self._mode = state
