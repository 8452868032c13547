"""Native command queuing: READ and WRITE FPDMA QUEUED (ACS-3, 7.24 and 7.63)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from pytcg.hw.pci.device import DmaError
from pytcg.hw.storage.ahci.regions import Regions
from pytcg.hw.storage.ahci.regs import HostFis
from pytcg.hw.storage.ata import SECTOR, AtaDisk, Error
from pytcg.hw.storage.medium import read_into

READ: Final = 0x60
WRITE: Final = 0x61
QUEUED: Final = (READ, WRITE)
FUA: Final = 0x80  # in the device register

End = Callable[[int], None]
"""Called with the error register's bits, 0 for success."""


class QueuedCommand:
    """One command on its way; ``current`` says whether somebody still waits for it."""

    def __init__(self, disk: AtaDisk, regions: Regions, fis: HostFis,
                 current: Callable[[], bool]) -> None:  # fmt: skip
        self._disk = disk
        self._regions = regions
        self._fis = fis
        self._current = current

    def run(self, end: End) -> None:
        """Start it."""
        first, count = self._fis.lba, self._fis.feature or 0x10000
        if first + count > self._disk.sectors:
            end(Error.IDNF | Error.ABRT)
        elif self._fis.command == READ:
            self._read(first * SECTOR, count * SECTOR, end)
        else:
            self._write(first * SECTOR, count * SECTOR, end)

    def _read(self, offset: int, length: int, end: End) -> None:
        target = self._regions.map(length)
        if read_into(self._disk.medium, offset, target):
            end(0)
            return

        def done(data: bytes, errno: int) -> None:
            if not self._current():
                return
            try:
                if not errno:
                    self._regions.scatter(data)
            except DmaError:
                end(Error.ABRT)
                return
            end(Error.UNC if errno else 0)

        self._disk.medium.read(offset, length, done, waits=target is not None)

    def _write(self, offset: int, length: int, end: End) -> None:
        medium = self._disk.medium
        fua = bool(self._fis.device & FUA) or not self._disk.write_cache
        source = None if fua or medium.read_only else self._regions.map(length)
        if source is not None and medium.write_now(offset, source.views):
            end(0)
            return
        try:
            data = self._regions.gather(length)
        except DmaError:
            data = b""
        if len(data) < length or medium.read_only:
            end(Error.ABRT)
            return

        def done(_: bytes, errno: int) -> None:
            if self._current():
                end(Error.ABRT if errno else 0)

        medium.write(offset, data, done, fua=fua, waits=source is not None)
