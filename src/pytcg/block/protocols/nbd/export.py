"""One export of an NBD server: a disk under a name, with what the protocol may do to it."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from dataclasses import dataclass, field

from pytcg.block.device import BlockDevice, BlockError
from pytcg.block.filters.filter import zeroes_fast
from pytcg.block.protocols.nbd.protocol import (
    ALLOCATION_DEPTH,
    BASE_ALLOCATION,
    DIRTY_BITMAP,
    MAX_PAYLOAD,
    AllocationState,
    Command,
    CommandFlag,
    TransmissionFlag,
    whole_blocks,
)

_STEP = 1 << 20
_WRITES = (Command.WRITE, Command.TRIM, Command.WRITE_ZEROES)

#: Which flags a command may carry; any other is an error the client made.
ALLOWED_FLAGS = {
    Command.READ: CommandFlag.FUA | CommandFlag.DF,
    Command.WRITE: CommandFlag.FUA,
    Command.FLUSH: CommandFlag.FUA,
    Command.TRIM: CommandFlag.FUA,
    Command.CACHE: CommandFlag.FUA,
    Command.WRITE_ZEROES: CommandFlag.FUA | CommandFlag.NO_HOLE | CommandFlag.FAST_ZERO,
    Command.BLOCK_STATUS: CommandFlag.FUA | CommandFlag.REQ_ONE,
}


@dataclass
class Export:
    """A device offered to clients; the server closes no device it was given.

    `shared` says that several clients may come at once. All go through this one device, so a
    flush on any connection covers the writes of all, which is what multi-conn promises.
    """

    device: BlockDevice
    name: str = ""
    description: str = ""
    read_only: bool = False
    shared: bool = False
    allocation_depth: bool = False
    bitmaps: tuple[str, ...] = ()
    size: int = field(init=False)
    _holders: list[BlockDevice] = field(init=False)

    def __post_init__(self) -> None:
        self.size = self.device.size
        self.read_only = self.read_only or self.device.read_only
        self._holders = [self._holder(name) for name in self.bitmaps]

    def _holder(self, bitmap: str) -> BlockDevice:
        """The image with this bitmap: the disk's own, else the next below that has it."""
        for layer in self.device.layers():
            if layer.size >= self.size and bitmap in layer.bitmap_names():
                return layer
        raise BlockError(f"Bitmap '{bitmap}' is not found", errno.ENOENT)

    @property
    def min_block(self) -> int:
        """What requests should be multiples of, and block status is."""
        return self.device.request_alignment

    def flags(self, *, structured: bool) -> TransmissionFlag:
        """The transmission flags of a connection."""
        flags = (
            TransmissionFlag.HAS_FLAGS
            | TransmissionFlag.SEND_FLUSH
            | TransmissionFlag.SEND_FUA
            | TransmissionFlag.SEND_CACHE
        )
        if structured:
            flags |= TransmissionFlag.SEND_DF
        if self.read_only:
            flags |= TransmissionFlag.READ_ONLY
        else:
            flags |= TransmissionFlag.SEND_TRIM
            flags |= TransmissionFlag.SEND_WRITE_ZEROES | TransmissionFlag.SEND_FAST_ZERO
        if self.shared:
            flags |= TransmissionFlag.CAN_MULTI_CONN
        return flags

    def contexts(self) -> dict[str, int]:
        """Metadata contexts by name, with the ids they have on the wire."""
        names = [BASE_ALLOCATION, ALLOCATION_DEPTH, *(DIRTY_BITMAP + bm for bm in self.bitmaps)]
        offered = {name: number for number, name in enumerate(names)}
        if not self.allocation_depth:
            del offered[ALLOCATION_DEPTH]
        return offered

    def check(self, command: int, flags: int, offset: int, length: int) -> None:
        """Refuse what the protocol forbids, before the device sees it."""
        if command not in ALLOWED_FLAGS:
            raise BlockError(f"invalid request type ({command}) received", errno.EINVAL)
        if flags & ~ALLOWED_FLAGS[Command(command)]:
            raise BlockError(f"unsupported flags for command {Command(command).name}"
                             f" (got 0x{flags:x})", errno.EINVAL)
        if command in (Command.READ, Command.WRITE, Command.CACHE) and length > MAX_PAYLOAD:
            raise BlockError(f"len ({length}) is larger than max len ({MAX_PAYLOAD})",
                             errno.EINVAL)
        if self.read_only and command in _WRITES:
            raise BlockError("Export is read-only", errno.EPERM)
        if command != Command.FLUSH and offset + length > self.size:
            grows = command in (Command.WRITE, Command.WRITE_ZEROES)
            raise BlockError(f"operation past EOF; From: {offset}, Len: {length},"
                             f" Size: {self.size}", errno.ENOSPC if grows else errno.EINVAL)

    def write_zeroes(self, offset: int, length: int, flags: int) -> None:
        """WRITE_ZEROES with its flags."""
        if flags & CommandFlag.FAST_ZERO and not zeroes_fast(self.device):
            raise BlockError("zeroing is no faster than writing", errno.ENOTSUP)
        self.device.write_zeroes(
            offset, length,
            may_unmap=not flags & CommandFlag.NO_HOLE, fua=bool(flags & CommandFlag.FUA),
        )

    def trim(self, offset: int, length: int, flags: int) -> None:
        """TRIM with its flags."""
        self.device.discard(offset, length)
        if flags & CommandFlag.FUA:
            self.device.flush()

    def status(self, context: int, offset: int, length: int, limit: int
               ) -> Iterator[tuple[int, int]]:
        """At most `limit` (length, status) pairs of one context, neighbours merged.

        The pairs cover a prefix of the range; never more than it.
        """
        run_length, run_status, found = 0, 0, 0
        for step, status in self._raw_status(context, offset, length):
            if run_length and status == run_status:
                run_length += step
                continue
            if run_length:
                yield run_length, run_status
                found += 1
                if found >= limit:
                    return
            run_length, run_status = step, status
        yield run_length, run_status

    def _raw_status(self, context: int, offset: int, length: int) -> Iterator[tuple[int, int]]:
        end = offset + length
        while offset < end:
            if context >= 2:
                # In pieces, as a bitmap answers for the whole range it is asked about.
                name, holder = self.bitmaps[context - 2], self._holders[context - 2]
                piece = min(end - offset, 1 << 30)
                for step, dirty in holder.bitmap_status(name, offset, piece):
                    yield step, int(dirty)
                offset += piece
                continue
            extent = self.device.status_at(offset, end - offset)
            if context == 0:
                status = 0 if extent.data else AllocationState.HOLE
                status |= AllocationState.ZERO if extent.zero else 0
                step, status = whole_blocks(extent.length, status, self.min_block)
            else:
                step, status = extent.length, extent.depth + 1 if extent.present else 0
            yield step, int(status)
            offset += step
