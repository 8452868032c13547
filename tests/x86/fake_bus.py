"""A bus with nothing on it but an interrupt controller of one list of vectors."""

from __future__ import annotations

from collections.abc import Callable

from pytcg.cpu import NoBus


class FakeBus(NoBus):
    """Notes port writes and stores to devices; INTA takes from `vectors`."""

    def __init__(self) -> None:
        self.vectors: list[int] = []
        self.written: list[tuple[int, int, int]] = []
        self.stored: list[tuple[int, int, int]] = []
        self.on_write: Callable[[int, int], None] = lambda port, value: None
        self.fpu_errors = 0
        self.acknowledged: Callable[[], None] = lambda: None

    def fpu_error(self) -> None:
        self.fpu_errors += 1

    def write_port(self, port: int, size: int, value: int) -> None:
        self.written.append((port, size, value))
        self.on_write(port, value)

    def write_mmio(self, address: int, size: int, value: int) -> None:
        self.stored.append((address, size, value))

    def acknowledge_interrupt(self) -> int:
        vector = self.vectors.pop(0) if self.vectors else -1
        self.acknowledged()
        return vector
