"""`pty`: a new pseudo-terminal, for a terminal program of the user's choice."""

from __future__ import annotations

import os
import select
import tty
from typing import Final

from pytcg.chardev.base import Chardev, ChardevError, Context, Frontend
from pytcg.chardev.stream import FdInput, FdOutput

CONNECT_POLL: Final = 0.2  # seconds between looks whether someone has opened our other end


class PtyChardev(Chardev):
    """The master side; while nobody has the slave open, output is dropped as QEMU does."""

    def __init__(self, label: str) -> None:
        super().__init__(label)
        try:
            self._fd, slave = os.openpty()
        except OSError as error:
            raise ChardevError(f"could not open a pty: {error.strerror}") from error
        self.name = os.ttyname(slave)
        tty.setraw(slave)
        os.close(slave)  # so that the master tells us (POLLHUP) when nobody else has it open
        os.set_blocking(self._fd, False)
        self._output = FdOutput(self._fd, lambda: self.on_room())
        self._input: FdInput | None = None
        self._context: Context | None = None
        self._frontend: Frontend | None = None
        self._open = True

    def announcement(self) -> str:
        """The line that tells where it is."""
        return f"char device redirected to {self.name} (label {self.label})"

    def start(self, context: Context, frontend: Frontend | None) -> None:
        self._context = context
        self._frontend = frontend
        print(self.announcement(), flush=True)
        self._output.start(context)
        self._look()

    def description(self) -> str:
        return f"pty:{self.name}"

    def send(self, data: bytes) -> None:
        if self._connected():
            self._output.write(data)

    def full(self) -> bool:
        return self._connected() and self._output.full()

    def accept_input(self) -> None:
        if self._input is not None:
            self._input.resume()

    def close(self) -> None:
        if self._open:
            self._open = False
            if self._input is not None:
                self._input.stop()
            self._output.stop()
            os.close(self._fd)

    def _connected(self) -> bool:
        poll = select.poll()
        poll.register(self._fd, 0)
        return not poll.poll(0)

    def _look(self) -> None:
        """Read while the slave is open, look again later while it is not."""
        if not self._open or self._context is None or self._frontend is None:
            return
        if self._connected():
            with self._context.lock:
                self._input = FdInput(self._fd, self._context, self._frontend, self._disconnected)
                self.tell_open()
        else:
            self._context.loop.call_later(CONNECT_POLL, self._look)

    def _disconnected(self) -> None:
        assert self._context is not None
        self.tell_closed()
        self._context.loop.call_later(CONNECT_POLL, self._look)
