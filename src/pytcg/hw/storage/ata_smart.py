"""SMART of a disk that never wears out: its minimum, as tools and firmware ask for it."""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

SECTOR: Final = 512
READ_DATA: Final = 0xD0
READ_THRESHOLDS: Final = 0xD1
AUTOSAVE: Final = 0xD2
EXECUTE_OFFLINE: Final = 0xD4
READ_LOG: Final = 0xD5
ENABLE: Final = 0xD8
DISABLE: Final = 0xD9
RETURN_STATUS: Final = 0xDA


class Attribute(NamedTuple):
    """One row: number, flags, raw value, threshold."""

    number: int
    flags: int
    raw: int
    threshold: int


ATTRIBUTES: Final = (
    Attribute(1, 0x0003, 0, 6),  # raw read errors
    Attribute(3, 0x0003, 16, 0),  # spin-up time
    Attribute(4, 0x0002, 100, 20),  # start-stop count
    Attribute(5, 0x0003, 0, 36),  # reallocated sectors
    Attribute(9, 0x0003, 1, 0),  # power-on hours
    Attribute(12, 0x0003, 0, 0),  # power cycles
    Attribute(190, 0x0003, 31, 50),  # temperature
)


def _summed(data: bytearray) -> bytes:
    data[511] = -sum(data[:511]) & 0xFF
    return bytes(data)


class Smart:
    """Attributes, thresholds, an empty error log and self-tests that pass."""

    def __init__(self, serial: str) -> None:
        self.serial = serial
        self.enabled = True
        self.autosave = True
        self.self_tests: list[int] = []

    def read(self, feature: int, log: int, count: int) -> bytes | None:
        """Data of READ DATA, READ THRESHOLDS and READ LOG; None if there is none."""
        if not self.enabled:
            return None
        if feature == READ_DATA:
            return self._data()
        if feature == READ_THRESHOLDS:
            return self._thresholds()
        return self._log(log, count)

    def control(self, feature: int, count: int, subcommand: int) -> bool:
        """The subcommands without data; whether there is such a one."""
        if feature == ENABLE:
            self.enabled = True
            return True
        if not self.enabled:
            return False
        if feature == DISABLE:
            self.enabled = False
        elif feature == AUTOSAVE and count in (0x00, 0xF1):
            self.autosave = count == 0xF1
        elif feature == EXECUTE_OFFLINE and subcommand in (0, 1, 2):
            self.self_tests = [subcommand, *self.self_tests][:21]
        elif feature != RETURN_STATUS:
            return False
        return True

    def _data(self) -> bytes:
        data = bytearray(SECTOR)
        data[0] = 1
        for index, row in enumerate(ATTRIBUTES):
            struct.pack_into("<BHBBQ", data, 2 + 12 * index, row.number, row.flags, 100, 100,
                             row.raw)  # fmt: skip
        data[362] = 0x02 | (0x80 if self.autosave else 0)  # off-line collection was completed
        data[364:366] = (20).to_bytes(2, "little")
        data[367] = 0x19  # off-line immediate, self-tests
        data[368:370] = (3).to_bytes(2, "little")
        data[370] = 1
        data[372], data[373] = 2, 54  # minutes of self-tests
        return _summed(data)

    def _thresholds(self) -> bytes:
        data = bytearray(SECTOR)
        data[0] = 1
        for index, row in enumerate(ATTRIBUTES):
            data[2 + 12 * index], data[3 + 12 * index] = row.number, row.threshold
        return _summed(data)

    def _log(self, log: int, count: int) -> bytes | None:
        if count != 1:
            return None
        data = bytearray(SECTOR)
        data[0] = 1
        if log == 0x00:  # the directory
            data[2] = data[12] = 1
            return bytes(data)
        if log == 0x06:  # self-tests, the newest last
            for index, subcommand in enumerate(reversed(self.self_tests)):
                data[2 + 24 * index] = subcommand
            data[508] = len(self.self_tests)
        elif log != 0x01:
            return None
        return _summed(data)
