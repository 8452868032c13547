"""PCI configuration mechanism 1 in front of an empty bus: it answers, and finds nobody."""

from __future__ import annotations

from typing import Final

NOBODY: Final = 0xFFFFFFFF
ADDRESS_WRITABLE: Final = 0x80FFFFFC


class EmptyPciBus:
    """CONFIG_ADDRESS keeps what is written; CONFIG_DATA is a master abort: all ones."""

    def __init__(self) -> None:
        self._address = 0

    def reset(self) -> None:
        """RST#."""
        self._address = 0

    def read_address(self) -> int:
        """CONFIG_ADDRESS, as a double word."""
        return self._address

    def write_address(self, value: int) -> None:
        """CONFIG_ADDRESS, as a double word."""
        self._address = value & ADDRESS_WRITABLE

    def read_data(self) -> int:
        """CONFIG_DATA."""
        return NOBODY

    def write_data(self, value: int) -> None:
        """CONFIG_DATA: nobody takes it."""
