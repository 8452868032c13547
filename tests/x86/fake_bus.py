"""A bus with nothing on it but an interrupt controller of one list of vectors."""

from __future__ import annotations

from collections.abc import Callable


class FakeBus:
    """Notes port writes; `ports` may answer reads; INTA takes from `vectors`."""

    def __init__(self) -> None:
        self.vectors: list[int] = []
        self.written: list[tuple[int, int, int]] = []
        self.on_write: Callable[[int, int], None] = lambda port, value: None
        self.acknowledged: Callable[[], None] = lambda: None

    def read_port(self, port: int, size: int) -> int:
        return (1 << 8 * size) - 1

    def write_port(self, port: int, size: int, value: int) -> None:
        self.written.append((port, size, value))
        self.on_write(port, value)

    def read_mmio(self, address: int, size: int) -> int:
        return (1 << 8 * size) - 1

    def write_mmio(self, address: int, size: int, value: int) -> None:
        pass

    def acknowledge_interrupt(self) -> int:
        vector = self.vectors.pop(0) if self.vectors else -1
        self.acknowledged()
        return vector

    def read_msr(self, index: int) -> int:
        raise KeyError(index)

    def write_msr(self, index: int, value: int) -> None:
        raise KeyError(index)

    def read_cr8(self) -> int:
        return 0

    def write_cr8(self, value: int) -> None:
        pass
