"""The NVM commands: a namespace on a medium (NVMe 1.4, 6)."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final, Protocol

from pytcg.hw.pci.device import DmaMap
from pytcg.hw.storage.medium import Done, Medium, read_into
from pytcg.hw.storage.nvme.command import Command, Failed, Status
from pytcg.hw.storage.nvme.identify import MAX_TRANSFER, SECTOR
from pytcg.hw.storage.nvme.pointers import Spans

FUA: Final = 1 << 30  # in CDW12
DEALLOCATE: Final = 1 << 25
AD: Final = 1 << 2  # in CDW11 of DATASET MANAGEMENT
RANGE: Final = struct.Struct("<LLQ")
EVERY_NAMESPACE: Final = 0xFFFFFFFF
FLUSH: Final = 0x00

End = Callable[[Status], None]


class Memory(Protocol):
    """How a command's data is reached; Failed where it is not."""

    epoch: int

    def spans(self, command: Command, length: int) -> Spans: ...

    def map(self, spans: Spans) -> DmaMap | None: ...

    def gather(self, spans: Spans) -> bytes: ...

    def scatter(self, spans: Spans, data: bytes) -> None: ...


class Namespace:
    """`run` starts a command, which calls ``end`` with its status; or Failed."""

    def __init__(self, medium: Medium, memory: Memory, *, write_cache: bool) -> None:
        self.medium = medium
        self._memory = memory
        self.write_cache = write_cache
        self.bytes_read = self.bytes_written = self.reads = self.writes = 0

    @property
    def sectors(self) -> int:
        """Of 512 bytes."""
        return self.medium.size // SECTOR

    def run(self, command: Command, end: End) -> None:
        """Any I/O command."""
        handler = _COMMANDS.get(command.opcode)
        if handler is None:
            raise Failed(Status.INVALID_OPCODE)
        handler(self, command, end)

    def _range(self, command: Command) -> tuple[int, int]:
        """Offset and length in bytes."""
        first, count = command.cdw10 | command.cdw11 << 32, (command.cdw12 & 0xFFFF) + 1
        if first + count > self.sectors:
            raise Failed(Status.LBA_OUT_OF_RANGE)
        return first * SECTOR, count * SECTOR

    def _transfer(self, command: Command) -> tuple[int, int, Spans]:
        offset, length = self._range(command)
        if length > MAX_TRANSFER:
            raise Failed(Status.INVALID_FIELD)
        return offset, length, self._memory.spans(command, length)

    def _writable(self) -> None:
        if self.medium.read_only:
            raise Failed(Status.READ_ONLY)

    def _flush(self, _: Command, end: End) -> None:
        self.medium.flush(_plain(end))

    def _read(self, command: Command, end: End) -> None:
        offset, length, spans = self._transfer(command)
        self.bytes_read += length
        self.reads += 1
        target = self._memory.map(spans)
        if read_into(self.medium, offset, target):
            end(Status.SUCCESS)
            return
        epoch = self._memory.epoch

        def done(data: bytes, errno: int) -> None:
            try:
                if not errno and epoch == self._memory.epoch:
                    self._memory.scatter(spans, data)
            except Failed as failure:
                end(failure.status)
                return
            end(Status.READ_ERROR if errno else Status.SUCCESS)

        self.medium.read(offset, length, done, waits=target is not None)

    def _write(self, command: Command, end: End) -> None:
        self._writable()
        offset, length, spans = self._transfer(command)
        through = bool(command.cdw12 & FUA) or not self.write_cache
        source = None if through else self._memory.map(spans)
        if source is not None and self.medium.write_now(offset, source.views):
            end(Status.SUCCESS)
        else:
            self.medium.write(offset, self._memory.gather(spans), _plain(end), fua=through,
                              waits=source is not None)  # fmt: skip
        self.bytes_written += length
        self.writes += 1

    def _compare(self, command: Command, end: End) -> None:
        offset, length, spans = self._transfer(command)
        wanted = self._memory.gather(spans)

        def done(data: bytes, errno: int) -> None:
            if errno:
                end(Status.READ_ERROR)
            else:
                end(Status.SUCCESS if data == wanted else Status.COMPARE_FAILURE)

        self.medium.read(offset, length, done)

    def _write_zeroes(self, command: Command, end: End) -> None:
        self._writable()
        offset, length = self._range(command)
        unmap = bool(command.cdw12 & DEALLOCATE)
        self.medium.write_zeroes(offset, length, _plain(end), may_unmap=unmap)

    def _manage(self, command: Command, end: End) -> None:
        """DATASET MANAGEMENT: deallocation, one range after the other; the rest are hints."""
        self._writable()
        count = (command.cdw10 & 0xFF) + 1
        data = self._memory.gather(self._memory.spans(command, count * RANGE.size))
        ranges = [(first, blocks) for _, blocks, first in RANGE.iter_unpack(data) if blocks]
        if any(first + blocks > self.sectors for first, blocks in ranges):
            raise Failed(Status.LBA_OUT_OF_RANGE)

        def step(_: bytes, errno: int) -> None:
            if errno or not ranges:
                end(Status.WRITE_FAULT if errno else Status.SUCCESS)
                return
            first, blocks = ranges.pop()
            self.medium.discard(first * SECTOR, blocks * SECTOR, step)

        if not command.cdw11 & AD:
            ranges.clear()
        step(b"", 0)


def _plain(end: End) -> Done:
    return lambda _, errno: end(Status.WRITE_FAULT if errno else Status.SUCCESS)


_COMMANDS: Final[dict[int, Callable[[Namespace, Command, End], None]]] = {
    FLUSH: Namespace._flush, 0x01: Namespace._write, 0x02: Namespace._read,
    0x05: Namespace._compare, 0x08: Namespace._write_zeroes, 0x09: Namespace._manage,
}  # fmt: skip
