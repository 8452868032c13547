"""Bytes to and from file descriptors within the main loop, with back-pressure both ways."""

from __future__ import annotations

import asyncio
import os
import select
from collections.abc import Callable
from typing import Final

from pytcg.chardev.base import Context, Frontend

OUTPUT_LIMIT: Final = 64 * 1024
CHUNK: Final = 4096
LAST_WAIT: Final = 1000  # milliseconds a reader may pause when all is over
ROOM_POLL: Final = 0.02  # seconds until a full front-end is asked again, should it say nothing
FILE_POLL: Final = 0.001  # seconds between reads of what can't be waited for: regular files


class FdOutput:
    """Writes at once when the descriptor takes it, else keeps the rest and writes when it can.

    A reader that went away loses the output: the guest goes on.
    """

    def __init__(self, fd: int, on_room: Callable[[], None]) -> None:
        self._fd = fd
        self._on_room = on_room
        self._pending = bytearray()
        self._context: Context | None = None
        self._broken = False

    def start(self, context: Context) -> None:
        """Use the main loop to write what is kept."""
        self._context = context
        if self._pending:
            self._watch()

    def write(self, data: bytes) -> None:
        """Device lock held; any thread."""
        if self._broken:
            return
        if not self._pending:
            data = data[self._attempt(data) :]
        if data and not self._broken:
            idle = not self._pending
            self._pending += data
            if idle and self._context is not None:
                self._context.loop.call_soon_threadsafe(self._watch)

    def full(self) -> bool:
        """Is the limit reached?"""
        return len(self._pending) >= OUTPUT_LIMIT

    def stop(self) -> None:
        """Leave the main loop; what is kept is written as long as the reader takes some."""
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        while self._pending and poll.poll(LAST_WAIT):
            taken = self._attempt(bytes(self._pending[:CHUNK]))
            if not taken:
                break
            del self._pending[:taken]
        self._pending.clear()
        if self._context is not None and not self._context.loop.is_closed():
            self._context.loop.remove_writer(self._fd)

    def _attempt(self, data: bytes) -> int:
        try:
            return os.write(self._fd, data)
        except BlockingIOError:
            return 0
        except OSError:  # the reader is gone, or the disk is full
            self._broken = True
            self._pending.clear()
            return len(data)

    def _watch(self) -> None:
        assert self._context is not None
        try:
            self._context.loop.add_writer(self._fd, self._flush)
        except PermissionError:  # a regular file: it never makes anyone wait
            self._flush()

    def _flush(self) -> None:
        assert self._context is not None
        with self._context.lock:
            was_full = self.full()
            del self._pending[: self._attempt(bytes(self._pending[:CHUNK]))]
            if not self._pending:
                self._context.loop.remove_writer(self._fd)
            if was_full and not self.full():
                self._on_room()


class FdInput:
    """Reads no more than the front-end has room for; the rest waits in the kernel."""

    def __init__(
        self,
        fd: int,
        context: Context,
        frontend: Frontend,
        on_end: Callable[[], None] | None = None,
    ) -> None:
        self._fd = fd
        self._context = context
        self._frontend = frontend
        self._on_end = on_end
        self._running = True
        self._poll = False
        self._waiting: asyncio.TimerHandle | None = None
        self._listen()

    def resume(self) -> None:
        """The front-end has room: don't wait for the next look. Any thread, device lock held."""
        if self._waiting is not None:
            self._context.loop.call_soon_threadsafe(self._resume)

    def _resume(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._listen()

    def stop(self) -> None:
        """Leave the main loop."""
        self._running = False
        if not self._context.loop.is_closed():
            self._context.loop.remove_reader(self._fd)

    def _listen(self) -> None:
        self._waiting = None
        if not self._running:
            return
        if self._poll:
            self._readable()
            return
        try:
            self._context.loop.add_reader(self._fd, self._readable)
        except PermissionError:  # epoll refuses regular files, which are always readable
            self._poll = True
            self._readable()

    def _wait(self, seconds: float) -> None:
        self._context.loop.remove_reader(self._fd)
        self._waiting = self._context.loop.call_later(seconds, self._listen)

    def _readable(self) -> None:
        with self._context.lock:
            room = self._frontend.can_receive()
            if room <= 0:
                self._wait(ROOM_POLL)
                return
            data = self._read(min(room, CHUNK))
            if data:
                self._frontend.receive(data)
            elif data is not None:
                self.stop()
                if self._on_end is not None:
                    self._on_end()
                return
        if self._poll:
            self._wait(FILE_POLL)

    def _read(self, size: int) -> bytes | None:
        """Bytes; empty at the end; None if there is nothing after all."""
        try:
            return os.read(self._fd, size)
        except BlockingIOError:
            return None
        except OSError:  # a terminal that was hung up
            return b""
