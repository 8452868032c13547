"""Where the processor would be: registers that can be read and set, and nothing that runs."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from pytcg.machine.none import NoVcpu


class Fields(defaultdict[str, int]):
    """Registers by name, 0 until they are set; state fields by name and index likewise."""

    def __init__(self) -> None:
        super().__init__(int)

    def get(self, name: str, index: Any = 0) -> int:
        """One element of a field."""
        return self[f"{name}.{index}" if index else name]

    def set(self, name: str, value: int, index: int = 0) -> None:
        """Store one."""
        self[f"{name}.{index}" if index else name] = value


class QtestVcpu(NoVcpu):
    """A `Vcpu` that waits."""

    tsc_frequency = 1_000_000_000

    def __init__(self) -> None:
        super().__init__()
        self._fields = Fields()

    @property
    def regs(self) -> Any:
        """All of them 0 after a reset."""
        return self._fields

    @property
    def state(self) -> Any:
        """The same by other names."""
        return self._fields

    def reset(self, *given: object) -> None:
        """Forget what was set."""
        del given
        self._fields.clear()

    def save(self) -> dict[str, Any]:
        """What was set."""
        return dict(self._fields)

    def restore(self, saved: dict[str, Any]) -> None:
        """Be as `save` found it."""
        self._fields.clear()
        self._fields.update(saved)
