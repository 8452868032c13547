"""An export of an NBD server as a BlockDevice."""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterator, Mapping

from pytcg.block.device import BlockDevice, BlockError, Extent
from pytcg.block.protocols.nbd.address import NbdAddress, parse_options, take_seconds
from pytcg.block.protocols.nbd.channel import Bytes
from pytcg.block.protocols.nbd.connection import Connection, Disconnected
from pytcg.block.protocols.nbd.handshake import ClientHandshake
from pytcg.block.protocols.nbd.protocol import (
    ALLOCATION_DEPTH,
    BASE_ALLOCATION,
    MAX_PAYLOAD,
    AllocationState,
    Command,
    CommandFlag,
    TransmissionFlag,
    whole_blocks,
)
from pytcg.typed import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytcg.block.protocols.nbd.redial import Redial

_MAX_STATUS = 1 << 31
Data = bytes | bytearray | memoryview


def open_nbd(options: Mapping[str, Any], *, read_only: bool = False) -> NbdDevice:
    """Open an export by a name (`filename`) or by QEMU's nbd driver options.

    Raises BlockError that says what is wrong; whose image it was, the caller says.
    """
    left = dict(options)
    context = str(left.pop("x-dirty-bitmap", BASE_ALLOCATION))
    open_timeout = take_seconds(left, "open-timeout")
    reconnect_delay = take_seconds(left, "reconnect-delay")
    return NbdDevice(parse_options(left), read_only=read_only, context=context,
                     open_timeout=open_timeout, reconnect_delay=reconnect_delay)


class NbdDevice(BlockDevice):
    """An export, over one connection at a time.

    A lost connection is made again. Requests wait for that up to `reconnect_delay` seconds from
    the first that notices, and are then sent again; those that come later fail until it is made.
    """

    format_name = "nbd"

    def __init__(self, address: NbdAddress, *, read_only: bool = False,
                 context: str = BASE_ALLOCATION, open_timeout: int = 0, reconnect_delay: int = 0
                 ) -> None:
        self._address = address
        self.filename = address.name
        self.read_only = read_only
        self._context_name = context
        self._reconnect_delay = reconnect_delay
        self._closed = False
        self._edge_lock = threading.Lock()  # read-modify-write of part blocks
        self._lost_lock = threading.Lock()  # guards the two below where a connection is lost
        self._redial: Redial | None = None
        self._use(self._connect_within(open_timeout) if open_timeout else self._connect())

    # ---- connecting ----

    def _connect(self) -> Connection:
        handshake = ClientHandshake(self._address)
        info = handshake.open(self._context_name)
        return Connection(handshake.channel, info, structured=handshake.structured,
                          context=info.contexts.get(self._context_name, -1))

    def _connect_within(self, seconds: int) -> Connection:
        from pytcg.block.protocols.nbd.redial import Redial

        redial = Redial(self._connect, seconds)
        connection = redial.wait()
        if connection is None:
            redial.cancel()
            raise redial.error or BlockError("Connection attempt timed out", errno.ETIMEDOUT)
        return connection

    def _use(self, connection: Connection) -> None:
        """Send requests over this connection, unless it can't serve what we were opened for."""
        try:
            self._check_usable(connection)
        except BlockError:
            connection.close()
            raise
        info = connection.info
        self.request_alignment = info.min_block or 1
        self._max = min(info.max_block or MAX_PAYLOAD, MAX_PAYLOAD)
        self._flags = info.flags
        self._connection = connection

    def _check_usable(self, connection: Connection) -> None:
        if TransmissionFlag.READ_ONLY in connection.info.flags and not self.read_only:
            raise BlockError("Permission denied", errno.EACCES)
        if self._context_name != BASE_ALLOCATION and connection.context < 0:
            raise BlockError(f"requested x-dirty-bitmap {self._context_name} not found",
                             errno.EINVAL)

    def _run(self, command: Command, flags: int, offset: int, length: int, *,
             payload: Bytes = b"", into: memoryview | None = None) -> list[tuple[int, int]]:
        """Do one request, over another connection if the first is lost meanwhile."""
        while True:
            connection = self._connection
            try:
                return connection.run(command, flags, offset, length, payload=payload, into=into)
            except Disconnected as lost:
                self._replace(connection, lost)

    def _replace(self, dead: Connection, lost: Disconnected) -> None:
        """Return with another connection in use than `dead`, or raise `lost`."""
        from pytcg.block.protocols.nbd.redial import Redial

        with self._lost_lock:
            if self._connection is not dead:
                return
            if self._closed:
                raise lost
            redial = self._redial = self._redial or Redial(self._connect, self._reconnect_delay)
        made = redial.wait()
        if made is None:
            raise lost
        with self._lost_lock:
            if self._redial is redial:
                self._redial = None
                self._use(made)
                dead.close_when_unused()

    @property
    def size(self) -> int:
        return self._connection.info.size

    @property
    def connected_flags(self) -> TransmissionFlag:
        """What the server can do."""
        return self._flags

    # ---- reading ----

    def read_into(self, offset: int, buffer: memoryview) -> None:
        self.check_range(offset, len(buffer))
        align = self.request_alignment
        if offset % align or len(buffer) % align:
            start, end = self._padded(offset, len(buffer))
            whole = memoryview(bytearray(end - start))
            self._read_aligned(start, whole)
            buffer[:] = whole[offset - start : offset - start + len(buffer)]
        else:
            self._read_aligned(offset, buffer)

    def _read_aligned(self, offset: int, buffer: memoryview) -> None:
        for at, step in self._pieces(0, len(buffer), self._max):
            part = buffer[at : at + step]
            self._run(Command.READ, 0, offset + at, step, into=part)

    def layer_status(self, offset: int, length: int) -> Extent:
        align = self.request_alignment
        data = Extent(length, True, False, offset=offset, filename=self.filename)
        if self._connection.context < 0:
            return data
        start, end = self._padded(offset, min(length, _MAX_STATUS))
        pairs = self._run(Command.BLOCK_STATUS, CommandFlag.REQ_ONE, start, end - start)
        if not pairs or not pairs[0][0]:
            raise BlockError("server sent no block status", errno.EIO)
        run, status = pairs[0]
        if start + run < self.size:  # servers have been known to break their own alignment
            run, status = whole_blocks(run, status, align)
        run = min(start + run, offset + length) - offset
        if self._context_name == ALLOCATION_DEPTH:
            status = min(status, 2)  # QEMU's reading: 0 data, 1 unallocated, 2 any backing file
        hole = bool(status & AllocationState.HOLE)
        zero = bool(status & AllocationState.ZERO)
        return Extent(run, not hole, zero, offset=offset, filename=self.filename)

    # ---- writing ----

    def pwrite(self, offset: int, data: Data, *, fua: bool = False) -> None:
        self.check_range(offset, len(data), write=True)
        view = memoryview(data).cast("B")
        align = self.request_alignment
        if offset % align or len(view) % align:
            self._write_unaligned(offset, view, fua=fua)
        else:
            self._write_aligned(offset, view, fua=fua)

    def _write_aligned(self, offset: int, view: memoryview, *, fua: bool) -> None:
        flags = self._fua_flag(wanted=fua)
        for at, step in self._pieces(0, len(view), self._max):
            part = view[at : at + step]
            self._run(Command.WRITE, flags, offset + at, step, payload=part)
        if fua and not flags:
            self.flush()

    def _write_unaligned(self, offset: int, view: memoryview, *, fua: bool) -> None:
        start, end = self._padded(offset, len(view))
        with self._edge_lock:
            whole = memoryview(bytearray(end - start))
            self._read_aligned(start, whole)
            whole[offset - start : offset - start + len(view)] = view
            self._write_aligned(start, whole, fua=fua)

    def write_zeroes(self, offset: int, length: int, *, may_unmap: bool = True,
                     fua: bool = False) -> None:
        self.check_range(offset, length, write=True)
        align = self.request_alignment
        start, end = -(-offset // align) * align, (offset + length) // align * align
        if start >= end or TransmissionFlag.SEND_WRITE_ZEROES not in self._flags:
            super().write_zeroes(offset, length, fua=fua)
            return
        if start > offset:
            super().write_zeroes(offset, start - offset, fua=fua)
        if offset + length > end:
            super().write_zeroes(end, offset + length - end, fua=fua)
        flags = self._fua_flag(wanted=fua)
        kind = flags | (0 if may_unmap else CommandFlag.NO_HOLE)
        for at, step in self._pieces(start, end - start, self._max):
            self._run(Command.WRITE_ZEROES, kind, at, step)
        if fua and not flags:
            self.flush()

    def discard(self, offset: int, length: int) -> None:
        self.check_range(offset, length, write=True)
        if TransmissionFlag.SEND_TRIM not in self._flags:
            return
        align = self.request_alignment
        start, end = -(-offset // align) * align, (offset + length) // align * align
        for at, step in self._pieces(start, end - start, _MAX_STATUS):
            self._run(Command.TRIM, 0, at, step)

    def flush(self) -> None:
        if TransmissionFlag.SEND_FLUSH in self._flags:
            self._run(Command.FLUSH, 0, 0, 0)

    def cache_range(self, offset: int, length: int) -> None:
        self.check_range(offset, length)
        if TransmissionFlag.SEND_CACHE not in self._flags:
            return
        start, end = self._padded(offset, length)
        for at, step in self._pieces(start, end - start, self._max):
            self._run(Command.CACHE, 0, at, step)

    def truncate(self, size: int, *, preallocation: str = "off") -> None:
        if size != self.size:
            raise BlockError("Cannot resize NBD nodes", errno.ENOTSUP)

    def close(self) -> None:
        with self._lost_lock:
            already, self._closed = self._closed, True
        if already:
            return
        if self._redial is not None:
            self._redial.cancel()
        self._connection.close()

    # ---- arithmetic ----

    def _fua_flag(self, *, wanted: bool) -> int:
        return CommandFlag.FUA if wanted and TransmissionFlag.SEND_FUA in self._flags else 0

    def _padded(self, offset: int, length: int) -> tuple[int, int]:
        """The range widened to whole blocks, within the export."""
        align = self.request_alignment
        return offset // align * align, min(-(-(offset + length) // align) * align, self.size)

    @staticmethod
    def _pieces(offset: int, length: int, largest: int) -> Iterator[tuple[int, int]]:
        end = offset + length
        while offset < end:
            step = min(end - offset, largest)
            yield offset, step
            offset += step
