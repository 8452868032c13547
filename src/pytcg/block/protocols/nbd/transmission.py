"""The server's transmission phase: requests of one connection, several at a time.

Worker threads take turns at the socket: whoever holds the receive lock reads one request, hands
the lock on, does the request and sends its reply. So a request never changes threads, replies
leave in whatever order they finish, and the number of workers bounds what is in flight.
"""

from __future__ import annotations

import errno
import logging
import os
import threading

from pytcg.block.device import BlockError
from pytcg.block.memory import page_aligned
from pytcg.block.protocols.nbd.channel import Bytes, ConnectionLost
from pytcg.block.protocols.nbd.negotiation import Session
from pytcg.block.protocols.nbd.protocol import (
    CHUNK_ERROR,
    CHUNK_FLAG_DONE,
    CHUNK_HOLE,
    CHUNK_OFFSET,
    EXTENT,
    MAX_EXTENTS,
    MAX_PAYLOAD,
    REQUEST,
    SIMPLE_REPLY,
    SIMPLE_REPLY_MAGIC,
    STRUCTURED_REPLY,
    STRUCTURED_REPLY_MAGIC,
    U32,
    Chunk,
    Command,
    CommandFlag,
    NbdError,
    Request,
    wire_error,
)
from pytcg.block.protocols.nbd.splice import LEAST, Splicer

log = logging.getLogger("pytcg.nbd")

MAX_IN_FLIGHT = 16
#: As many threads do for disks in the page cache; more of them only wait for each other.
MAX_IN_FLIGHT_CACHED = 4
#: Bytes of payload one connection may make us hold.
MAX_BYTES_IN_FLIGHT = 2 * MAX_PAYLOAD
#: Each worker keeps a buffer of this size; larger payloads get one of their own.
_KEPT_BUFFER = 1 << 20
#: How many requests' worth of block status a read asks for, as the next ones often follow on.
_LOOK_AHEAD = 16
_STOP = Request(0, Command.DISC, 0, 0, 0)


class ByteBudget:
    """Payload bytes a connection may hold; whoever asks for more waits until others are done."""

    def __init__(self, capacity: int) -> None:
        self._left = capacity
        self._changed = threading.Condition()

    def take(self, count: int) -> None:
        """Reserve `count` bytes, waiting for them; `count` is at most the capacity."""
        with self._changed:
            self._changed.wait_for(lambda: self._left >= count)
            self._left -= count

    def give(self, count: int) -> None:
        """Return them."""
        with self._changed:
            self._left += count
            self._changed.notify()


class Worker:
    """One thread's own buffer and pipe."""

    def __init__(self) -> None:
        self._kept = memoryview(b"")
        self.splicer = Splicer()

    def buffer(self, length: int) -> memoryview:
        """`length` bytes to use until the next call."""
        if length > _KEPT_BUFFER:
            # Pages nobody has touched take no memory: what counts is what a client really sends.
            return memoryview(page_aligned(length))
        if length > len(self._kept):
            self._kept = memoryview(page_aligned(max(length, 64 << 10)))
        return self._kept[:length]


class Transmission:
    """Serves one session until the client leaves or `stop` is called."""

    def __init__(self, session: Session) -> None:
        self._channel = session.channel
        self._export = session.export
        self._structured = session.structured
        self._contexts = session.contexts
        self._receive_lock = threading.Lock()
        self._send_lock = threading.Lock()
        self._state_lock = threading.Lock()
        self._idle = 0  # workers at the receive lock, or behind it
        self._helpers: list[threading.Thread] = []
        cached = session.export.device.is_cached
        self._most_helpers = (MAX_IN_FLIGHT_CACHED if cached else MAX_IN_FLIGHT) - 1
        self._ended = False
        self._budget = ByteBudget(MAX_BYTES_IN_FLIGHT)
        self._known_data = (0, 0)

    def run(self) -> None:
        """Serve; returns when every reply is out and every worker is gone."""
        self._work()
        for helper in self._helpers:  # no worker starts another once `_ended` is set
            helper.join()

    def stop(self) -> None:
        """Make `run` return soon, from any thread."""
        self._ended = True
        self._channel.shutdown()

    # ---- receiving ----

    def _work(self) -> None:
        worker = Worker()
        try:
            self._serve_requests(worker)
        finally:
            worker.splicer.close()

    def _serve_requests(self, worker: Worker) -> None:
        while True:
            with self._state_lock:
                self._idle += 1
            with self._receive_lock:
                request, payload = self._next(worker)
                if request.command == Command.DISC:
                    self._ended = True
                    return
                self._keep_a_receiver()
            try:
                self._serve(worker, request, payload)
            except ConnectionLost as error:
                log.debug("reply lost: %s", error)
                self.stop()

    def _keep_a_receiver(self) -> None:
        with self._state_lock:
            self._idle -= 1
            if self._idle or self._ended or len(self._helpers) >= self._most_helpers:
                return
            helper = threading.Thread(target=self._work, name="nbd-worker", daemon=True)
            self._helpers.append(helper)
        try:
            helper.start()
        except RuntimeError:  # no threads left: those that are there will do
            with self._state_lock:
                self._helpers.remove(helper)

    def _next(self, worker: Worker) -> tuple[Request, memoryview | BlockError | None]:
        """The next request with its payload, or why it fails; DISC when there is no next."""
        if self._ended:
            return _STOP, None
        try:
            request = Request.unpack(self._channel.receive(REQUEST.size))
            return request, self._accept(worker, request)
        except ConnectionLost as error:
            log.debug("client gone: %s", error)
        except NbdError as error:
            log.info("client broke the protocol: %s", error)
        return _STOP, None

    def _accept(self, worker: Worker, request: Request) -> memoryview | BlockError | None:
        if request.command == Command.DISC:
            return None
        failed: BlockError | None = None
        try:
            self._export.check(request.command, request.flags, request.offset, request.length)
        except BlockError as error:
            failed = error
        if request.command == Command.WRITE:
            return self._payload(worker, request, failed)
        if failed is None and request.command == Command.READ:
            self._budget.take(request.length)
        return failed

    def _payload(self, worker: Worker, request: Request, failed: BlockError | None
                 ) -> memoryview | BlockError:
        if request.length > MAX_PAYLOAD:
            # Too long to read past: answer, and let the stream end here.
            self._fail(request, failed or BlockError("payload too long", errno.EINVAL))
            raise NbdError(f"WRITE of {request.length} bytes")
        if failed is not None:
            self._channel.drain(request.length)
            return failed
        self._budget.take(request.length)
        try:
            view = worker.buffer(request.length)
            self._channel.receive_into(view)
            return view
        except BaseException:
            self._budget.give(request.length)
            raise

    # ---- doing ----

    def _serve(self, worker: Worker, request: Request,
               payload: memoryview | BlockError | None) -> None:
        if isinstance(payload, BlockError):
            self._fail(request, payload)
            return
        try:
            self._perform(worker, request, payload)
        except BlockError as error:
            self._fail(request, error)
        except OSError as error:
            self._fail(request, BlockError.from_os("request failed", error))
        except MemoryError:
            self._fail(request, BlockError("out of memory", errno.ENOMEM))
        except ConnectionLost:
            raise
        except Exception:  # a fault of ours is no reason to leave a client without a reply
            log.exception("request %s failed", request)
            self._fail(request, BlockError("internal error", errno.EIO))
        finally:
            if request.command in (Command.READ, Command.WRITE):
                self._budget.give(request.length)

    def _perform(self, worker: Worker, request: Request, payload: memoryview | None) -> None:
        device = self._export.device
        offset, length, flags = request.offset, request.length, request.flags
        fua = bool(flags & CommandFlag.FUA)
        match request.command:
            case Command.READ:
                return self._read(worker, request)
            case Command.BLOCK_STATUS:
                return self._block_status(request)
            case Command.WRITE:
                assert payload is not None
                device.pwrite(offset, payload, fua=fua)
            case Command.FLUSH:
                device.flush()
            case Command.TRIM:
                self._export.trim(offset, length, flags)
            case Command.WRITE_ZEROES:
                self._export.write_zeroes(offset, length, flags)
            case Command.CACHE:
                device.cache_range(offset, length)
        return self._succeed(request)

    def _read(self, worker: Worker, request: Request) -> None:
        offset, length = request.offset, request.length
        if not self._structured:
            data = self._data(worker, offset, length)
            self._send_data(worker, SIMPLE_REPLY.pack(SIMPLE_REPLY_MAGIC, 0, request.cookie),
                            data, length)
        elif not length:
            self._chunk(request, Chunk.NONE, done=True)
        elif request.flags & CommandFlag.DF:
            self._read_chunk(worker, request, offset, length, done=True)
        else:
            self._sparse_read(worker, request)

    def _read_chunk(self, worker: Worker, request: Request, offset: int, length: int, *,
                    done: bool) -> None:
        data = self._data(worker, offset, length)
        header = STRUCTURED_REPLY.pack(
            STRUCTURED_REPLY_MAGIC, CHUNK_FLAG_DONE if done else 0, Chunk.OFFSET_DATA,
            request.cookie, CHUNK_OFFSET.size + length)
        self._send_data(worker, header + CHUNK_OFFSET.pack(offset), data, length)

    def _data(self, worker: Worker, offset: int, length: int) -> memoryview | None:
        """The bytes of a range; None if they wait in the worker's pipe."""
        if length >= LEAST and self._channel.can_splice:
            place = self._export.device.host_range(offset, length)
            if place is not None and worker.splicer.load(*place, length):
                return None
        view = worker.buffer(length)
        self._export.device.read_into(offset, view)
        return view

    def _send_data(self, worker: Worker, header: bytes, data: memoryview | None, length: int
                   ) -> None:
        with self._send_lock:
            if data is not None:
                self._channel.send(header, data)
            else:
                self._channel.send(header)
                worker.splicer.unload(self._channel, length)

    def _sparse_read(self, worker: Worker, request: Request) -> None:
        """Holes as holes, the rest as data, each extent as a chunk of its own."""
        at, end = request.offset, request.offset + request.length
        while at < end:
            known, zero = self._status_ahead(at, request.length)
            step = min(known, end - at)
            done = at + step == end
            if zero:
                hole = CHUNK_HOLE.pack(at, step)
                self._chunk(request, Chunk.OFFSET_HOLE, hole, done=done)
            else:
                self._read_chunk(worker, request, at, step, done=done)
            at += step

    def _status_ahead(self, at: int, wanted: int) -> tuple[int, bool]:
        """(length, zero) of the extent at an offset, remembering where data goes on.

        A hole that has been punched there meanwhile is sent as the zeroes it reads as, so what
        is remembered may be old but never wrong.
        """
        start, end = self._known_data
        if start <= at < end:
            return end - at, False
        reach = min(wanted * _LOOK_AHEAD, self._export.size - at)
        extent = self._export.device.status_at(at, reach)
        if not extent.zero:
            self._known_data = at, at + extent.length
        return extent.length, extent.zero

    def _block_status(self, request: Request) -> None:
        if not self._contexts:
            raise BlockError("CMD_BLOCK_STATUS not negotiated", errno.EINVAL)
        if not request.length:
            raise BlockError("need non-zero length", errno.EINVAL)
        limit = 1 if request.flags & CommandFlag.REQ_ONE else MAX_EXTENTS
        for context in self._contexts:
            body = bytearray(U32.pack(context))
            pairs = self._export.status(context, request.offset, request.length, limit)
            for length, status in pairs:
                body += EXTENT.pack(length, status)
            self._chunk(request, Chunk.BLOCK_STATUS, body, done=context == self._contexts[-1])

    # ---- replying ----

    def _send(self, *parts: Bytes) -> None:
        with self._send_lock:
            self._channel.send(*parts)

    def _chunk(self, request: Request, kind: Chunk, *parts: Bytes, done: bool) -> None:
        length = sum(len(part) for part in parts)
        header = STRUCTURED_REPLY.pack(
            STRUCTURED_REPLY_MAGIC, CHUNK_FLAG_DONE if done else 0, kind, request.cookie, length
        )
        self._send(header, *parts)

    def _succeed(self, request: Request) -> None:
        self._send(SIMPLE_REPLY.pack(SIMPLE_REPLY_MAGIC, 0, request.cookie))

    def _fail(self, request: Request, error: BlockError) -> None:
        log.debug("command %d failed: %s", request.command, error)
        code = wire_error(error.errno)
        if not self._structured:
            self._send(SIMPLE_REPLY.pack(SIMPLE_REPLY_MAGIC, code, request.cookie))
            return
        message = (str(error) or os.strerror(error.errno)).encode(errors="replace")[:1024]
        body = CHUNK_ERROR.pack(code, len(message)) + message
        self._chunk(request, Chunk.ERROR, body, done=True)
