"""A client's connection in the transmission phase, shared by any number of threads.

Each caller sends its request and then waits; of those who wait, one receives and hands out the
replies of all. So no thread of our own is needed, and read data lands where it is wanted.
"""

from __future__ import annotations

import errno
import os
import threading
import weakref
from dataclasses import dataclass, field

from pytcg.block.device import BlockError
from pytcg.block.protocols.nbd.channel import Bytes, Channel, ConnectionLost
from pytcg.block.protocols.nbd.handshake import ExportInfo
from pytcg.block.protocols.nbd.protocol import (
    CHUNK_ERROR,
    CHUNK_ERROR_BIT,
    CHUNK_FLAG_DONE,
    CHUNK_HOLE,
    CHUNK_OFFSET,
    EXTENT,
    MAX_EXTENTS,
    SIMPLE_REPLY_MAGIC,
    STRUCTURED_REPLY_MAGIC,
    U32,
    Chunk,
    Command,
    NbdError,
    Request,
    host_error,
)

_MAX_ERROR_CHUNK = 6 + 4096 + 8
_LOST = "NBD server has disconnected"


class Disconnected(BlockError):
    """The connection is lost, through no fault in what the server said: another may serve."""


@dataclass(eq=False)
class Pending:
    """A request waiting for its reply."""

    request: Request
    into: memoryview | None = None
    extents: list[tuple[int, int]] = field(default_factory=list)
    received: int = 0
    error: BlockError | None = None
    done: bool = False


class Connection:
    """Sends requests and matches replies. Raises BlockError.

    `info` is the export as the server described it; `context` the id of the metadata context
    that BLOCK_STATUS tells of, negative if there is none.
    """

    def __init__(self, channel: Channel, info: ExportInfo, *, structured: bool, context: int
                 ) -> None:
        self.info = info
        self.context = context
        self._channel = channel
        self._structured = structured
        self._send_lock = threading.Lock()
        self._state = threading.Condition()
        self._receiving = False
        self._pending: dict[int, Pending] = {}
        self._cookie = 0
        self._lost: BlockError | None = None

    def run(self, command: Command, flags: int, offset: int, length: int, *,
            payload: Bytes = b"", into: memoryview | None = None) -> list[tuple[int, int]]:
        """Do one request and wait for it; BLOCK_STATUS returns (length, status) pairs."""
        with self._state:
            self._cookie += 1
            request = Request(flags, command, self._cookie, offset, length)
            pending = Pending(request, into)
            self._pending[request.cookie] = pending
        self._send(pending, payload)
        self._wait(pending)
        if pending.error is not None:
            raise type(pending.error)(str(pending.error), pending.error.errno)
        return pending.extents

    def close_when_unused(self) -> None:
        """Release the socket of a lost connection once the last of its requests has let go."""
        weakref.finalize(self, self._channel.close)

    def close(self) -> None:
        """Take leave. Nobody may have a request under way."""
        if self._lost is None:
            try:
                self._channel.send(Request(0, Command.DISC, 0, 0, 0).pack())
                self._channel.finish()
            except ConnectionLost:
                pass  # gone already, which is what we want
        self._fail_all(Disconnected(_LOST))
        self._channel.close()

    def _send(self, pending: Pending, payload: Bytes) -> None:
        try:
            with self._send_lock:
                if self._lost is None:
                    self._channel.send(pending.request.pack(), payload)
        except ConnectionLost as error:
            self._fail_all(Disconnected(f"{_LOST}: {error}"))
        if self._lost is not None:
            self._fail_all(self._lost)

    def _wait(self, pending: Pending) -> None:
        while True:
            with self._state:
                self._state.wait_for(lambda: pending.done or not self._receiving)
                if pending.done:
                    return
                self._receiving = True
            try:
                self._receive_reply()
            except ConnectionLost as error:
                self._fail_all(Disconnected(f"{_LOST}: {error}"))
            except NbdError as error:
                self._fail_all(BlockError(f"{_LOST}: {error}"))
            except BaseException as error:  # e.g. Ctrl-C amid a reply: the stream is lost
                self._fail_all(BlockError(f"{_LOST}: {error!r}"))
                raise
            finally:
                with self._state:
                    self._receiving = False
                    self._state.notify_all()

    def _fail_all(self, error: BlockError) -> None:
        with self._state:
            self._lost = self._lost or error
            for pending in self._pending.values():
                pending.error = pending.error or self._lost
                pending.done = True
            self._pending.clear()
            self._state.notify_all()
        self._channel.shutdown()

    # ---- replies ----

    def _receive_reply(self) -> None:
        (magic,) = U32.unpack(self._channel.receive(4))
        if magic == SIMPLE_REPLY_MAGIC:
            self._simple_reply()
        elif magic == STRUCTURED_REPLY_MAGIC and self._structured:
            self._structured_reply()
        else:
            raise NbdError(f"invalid magic (got 0x{magic:x})")

    def _find(self, cookie: int) -> Pending:
        pending = self._pending.get(cookie)
        if pending is None:
            raise NbdError(f"reply to an unknown request {cookie}")
        return pending

    def _simple_reply(self) -> None:
        rest = self._channel.receive(12)
        code = int.from_bytes(rest[:4], "big")
        pending = self._find(int.from_bytes(rest[4:], "big"))
        command = pending.request.command
        if self._structured and command in (Command.READ, Command.BLOCK_STATUS) and not code:
            raise NbdError("protocol error: simple reply when structured reply chunk was expected")
        if code:
            pending.error = _error(code, "")
        elif pending.into is not None:
            self._channel.receive_into(pending.into)
            pending.received = len(pending.into)
        self._finish(pending)

    def _structured_reply(self) -> None:
        header = self._channel.receive(16)
        flags, kind = (int.from_bytes(header[at : at + 2], "big") for at in (0, 2))
        pending = self._find(int.from_bytes(header[4:12], "big"))
        length = int.from_bytes(header[12:], "big")
        if kind & CHUNK_ERROR_BIT:
            self._error_chunk(pending, length)
        elif kind == Chunk.OFFSET_DATA:
            self._data_chunk(pending, length)
        elif kind == Chunk.OFFSET_HOLE:
            self._hole_chunk(pending, length)
        elif kind == Chunk.BLOCK_STATUS:
            self._status_chunk(pending, length)
        elif kind != Chunk.NONE or length:
            raise NbdError(f"protocol error: unexpected chunk type {kind} of {length} bytes")
        if flags & CHUNK_FLAG_DONE:
            self._finish(pending)

    def _error_chunk(self, pending: Pending, length: int) -> None:
        if not CHUNK_ERROR.size <= length <= _MAX_ERROR_CHUNK:
            raise NbdError(f"protocol error: invalid payload for error chunk ({length} bytes)")
        body = self._channel.receive(length)
        code, size = CHUNK_ERROR.unpack_from(body)
        if not code or size > length - CHUNK_ERROR.size:
            raise NbdError("protocol error: invalid payload for error chunk")
        message = body[CHUNK_ERROR.size : CHUNK_ERROR.size + size].decode(errors="replace")
        pending.error = pending.error or _error(code, message)

    def _part(self, pending: Pending, offset: int, length: int) -> memoryview:
        start = offset - pending.request.offset
        if pending.into is None or start < 0 or not length or start + length > len(pending.into):
            raise NbdError("protocol error: server sent chunk exceeding requested region")
        pending.received += length
        return pending.into[start : start + length]

    def _data_chunk(self, pending: Pending, length: int) -> None:
        if length <= CHUNK_OFFSET.size:
            raise NbdError("protocol error: invalid payload for OFFSET_DATA")
        (offset,) = CHUNK_OFFSET.unpack(self._channel.receive(CHUNK_OFFSET.size))
        self._channel.receive_into(self._part(pending, offset, length - CHUNK_OFFSET.size))

    def _hole_chunk(self, pending: Pending, length: int) -> None:
        if length != CHUNK_HOLE.size:
            raise NbdError("protocol error: invalid payload for OFFSET_HOLE")
        offset, size = CHUNK_HOLE.unpack(self._channel.receive(length))
        part = self._part(pending, offset, size)
        part[:] = bytes(size)

    def _status_chunk(self, pending: Pending, length: int) -> None:
        count = (length - 4) // EXTENT.size
        if (length - 4) % EXTENT.size or not 1 <= count <= MAX_EXTENTS:
            raise NbdError(f"protocol error: invalid payload for BLOCK_STATUS ({length} bytes)")
        body = self._channel.receive(length)
        if pending.request.command != Command.BLOCK_STATUS:
            raise NbdError("protocol error: BLOCK_STATUS nobody asked for")
        if U32.unpack_from(body)[0] == self.context:
            pending.extents.extend(EXTENT.iter_unpack(memoryview(body)[4:]))
            if len(pending.extents) > MAX_EXTENTS:
                raise NbdError("protocol error: too many extents")

    def _finish(self, pending: Pending) -> None:
        wanted = pending.into
        if wanted is not None and pending.error is None and pending.received != len(wanted):
            pending.error = BlockError("server sent less than was asked for", errno.EIO)
        with self._state:
            self._pending.pop(pending.request.cookie, None)
            pending.done = True
            self._state.notify_all()


def _error(code: int, message: str) -> BlockError:
    number = host_error(code)
    return BlockError(message or os.strerror(number), number)
