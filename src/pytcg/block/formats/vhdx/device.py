"""VHDX, Hyper-V's format: regions, metadata items, a block allocation table and a log for both.

Reference: Microsoft's [MS-VHDX]. Integers are little-endian.
"""

from __future__ import annotations

import errno
import os
import struct
import sys
from collections.abc import Callable

from pytcg.block.device import BlockDevice, BlockError, ImageFormatError, NotSupported
from pytcg.block.formats.mapped import ABSENT, ZERO, Block, MappedImage, read_table
from pytcg.block.formats.vhdx.format import (
    BAT,
    FILE_PARAMETERS,
    LOGICAL_SECTOR_SIZE,
    MAX_DISK,
    METADATA,
    MIB,
    NO_LOG,
    PARAMETER_HAS_PARENT,
    STATE_FULLY_PRESENT,
    STATE_NOT_PRESENT,
    STATE_UNDEFINED,
    STATE_UNMAPPED,
    STATE_ZERO,
    VIRTUAL_DISK_SIZE,
    read_header,
    read_metadata,
    read_regions,
)
from pytcg.typed import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytcg.block.check_result import CheckResult
    from pytcg.block.formats.vhdx.log import Log
    from pytcg.block.open import OpenFlags


def _item(items: dict[bytes, bytes], ident: bytes, length: int) -> bytes:
    data = items.get(ident, b"")
    if len(data) < length:
        raise ImageFormatError("VHDX image lacks a metadata item")
    return data


class VhdxDevice(MappedImage):
    """A VHDX image."""

    format_name = "vhdx"
    writable_format = True

    def __init__(self, file: BlockDevice, *, check: bool = False) -> None:
        if file.pread(0, 8) != b"vhdxfile":
            raise ImageFormatError("Image not in VHDX format")
        self._header = read_header(file)
        self._log: Log | None = None
        self.replayed = self._replay(file)
        regions = read_regions(file)
        items = read_metadata(file, regions[METADATA][0])
        block_size, flags = struct.unpack_from("<II", _item(items, FILE_PARAMETERS, 8))
        size = int.from_bytes(_item(items, VIRTUAL_DISK_SIZE, 8)[:8], "little")
        sector = int.from_bytes(_item(items, LOGICAL_SECTOR_SIZE, 4)[:4], "little")
        if flags & PARAMETER_HAS_PARENT:
            raise NotSupported("VHDX differencing disks are not supported")
        if block_size & (block_size - 1) or not 1 << 20 <= block_size <= 256 << 20:
            raise ImageFormatError("VHDX block size is invalid")
        if sector not in (512, 4096) or size % sector or size > MAX_DISK:
            raise ImageFormatError("VHDX disk size is invalid")
        super().__init__(file, size, block_size)
        self._chunk_ratio: int = (sector << 23) // block_size
        blocks = -(-size // block_size)
        entries = blocks + max(0, blocks - 1) // self._chunk_ratio
        self._bat_at, bat_length = regions[BAT]
        if entries * 8 > bat_length:
            raise ImageFormatError("VHDX block allocation table is too small")
        self._bat = read_table(file, self._bat_at, entries, "Q", what="VHDX BAT")
        self._regions = [*regions.values(), (0, MIB),
                         (self._header.log_offset, self._header.log_length)]
        if not check:
            for problem in self._problems():
                raise ImageFormatError(problem)

    @classmethod
    def open(cls, file: BlockDevice, flags: OpenFlags) -> VhdxDevice:
        """Open an image."""
        return cls(file, check=flags.check)

    def _replay(self, file: BlockDevice) -> bool:
        if self._header.log_guid == NO_LOG:
            return False
        from pytcg.block.formats.vhdx.log import replay

        done = replay(file, self._header)
        self._header = read_header(file)
        return done

    def _entry_index(self, index: int) -> int:
        """A block's entry: after each chunk of them comes one for a sector bitmap."""
        return index + index // self._chunk_ratio

    def block(self, index: int) -> Block:
        entry = self._bat[self._entry_index(index)]
        state, host = entry & 7, entry >> 20 << 20
        if state == STATE_FULLY_PRESENT:
            return Block(True, False, host)
        if state in (STATE_NOT_PRESENT, STATE_UNDEFINED):
            return ABSENT
        if state in (STATE_ZERO, STATE_UNMAPPED):
            return ZERO
        raise ImageFormatError(f"VHDX block {index} has state {state}, which is invalid here")

    def fill(self, index: int, inside: int, part: memoryview) -> None:
        # A block is large: the file grows by a hole and only the part is written.
        host = -(-self.file.size // MIB) * MIB
        if host >> 63:
            raise BlockError(os.strerror(errno.EINVAL), errno.EINVAL)
        self.file.truncate(host + self.block_size)
        self.file.pwrite(host + inside, part)
        at, entry = self._entry_index(index), host | STATE_FULLY_PRESENT
        self._logged().update(self._bat_at + 8 * at, entry.to_bytes(8, "little"))
        self._bat[at] = entry

    def _logged(self) -> Log:
        if self._log is None:
            from pytcg.block.formats.vhdx.log import Log

            self._log = Log(self.file, self._header)
        return self._log

    def _problems(self) -> list[str]:
        """Blocks that lie outside the file, or in something else's place."""
        end = self.file.size
        found = []
        for index, entry in enumerate(self._bat):
            if entry & 7 != STATE_FULLY_PRESENT:
                continue
            start = entry >> 20 << 20
            # The last block may be there in part, as old QEMUs wrote it.
            stop = start + max(0, min(self.block_size, self._size - index * self.block_size))
            where = f"VHDX BAT entry {index}"
            if start >= end:
                found.append(f"{where} start offset {start} points after end of file ({end}). "
                             "Image has probably been truncated.")
            elif stop > end:
                found.append(f"{where} end offset {stop - 1} points after end of file ({end}). "
                             "Image has probably been truncated.")
            for region, length in self._regions:
                if start < region + length and region < start + self.block_size:
                    found.append(f"VHDX region {start}-{start + self.block_size} overlaps with "
                                 f"region {region}-{region + length}")
        return found

    def check(self, *, repair: str | None = None,
              report: Callable[[str], None] = lambda line: print(line, file=sys.stderr)
              ) -> CheckResult:
        """Look at every block's place; what can be repaired is the log, on opening."""
        from pytcg.block.check_result import CheckResult

        result = CheckResult()
        result.corruptions_fixed = int(self.replayed)
        for problem in self._problems():
            report(problem)
            result.corruptions += 1
        self.replayed = False
        return result

    def close(self) -> None:
        if self._log is not None:
            log, self._log = self._log, None
            log.close()
        super().close()

    @staticmethod
    def create_image(path: str, size: int, values: dict[str, Any]) -> None:
        """Make an image."""
        from pytcg.block.formats.vhdx.create import create_vhdx

        create_vhdx(path, size, values)
