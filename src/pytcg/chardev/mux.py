"""The Ctrl-A escapes of `-nographic` and `mon:stdio`, in front of any character device."""

from __future__ import annotations

import time
from typing import Final

from pytcg.chardev.base import Chardev, Context, Frontend
from pytcg.chardev.stream import ROOM_POLL

ESCAPE: Final = 0x01  # Ctrl-A
QUEUE_LIMIT: Final = 4096
HELP: Final = """
C-a h    print this help
C-a x    exit emulator
C-a t    toggle console timestamps
C-a b    send break (magic sysrq)
C-a c    switch between console and monitor
C-a C-a  sends C-a
"""


class MuxPort(Chardev):
    """A further front-end's place on a mux: it may always write, and reads while it has focus."""

    def __init__(self, mux: MuxChardev) -> None:
        super().__init__(mux.label)
        self._mux = mux
        self.frontend: Frontend | None = None

    def start(self, context: Context, frontend: Frontend | None) -> None:
        """Input comes from the mux, once Ctrl-A c has given this place the focus."""
        del context
        self.frontend = frontend

    def description(self) -> str:
        return self._mux.description()

    def write(self, data: bytes) -> None:
        self._mux.write(data)

    def full(self) -> bool:
        return self._mux.full()

    def accept_input(self) -> None:
        self._mux.accept_input()


class MuxChardev(Chardev):
    """Another chardev with escapes, which work even while the guest takes no input.

    Its own front-end is the first of several; `port` makes room for one more.
    """

    def __init__(self, inner: Chardev) -> None:
        super().__init__(inner.label)
        self.inner = inner
        self._ports: list[MuxPort] = []
        self._focus = 0  # 0: the first front-end, else one more than the port's number
        inner.on_room = self._room
        inner.on_open = lambda: self._to_all("on_open")
        inner.on_close = lambda: self._to_all("on_close")
        self._first: Frontend | None = None
        self._context: Context | None = None
        self._queue = bytearray()
        self._pumping = False
        self._escaped = False
        self._timestamps_from: int | None = None
        self._line_start = True

    def start(self, context: Context, frontend: Frontend | None) -> None:
        self._first = frontend
        if self._context is None:  # the monitor may have been first
            self._context = context
            self.inner.start(context, self)

    def port(self) -> MuxPort:
        """A place for one more front-end, reached by Ctrl-A c."""
        self._ports.append(MuxPort(self))
        return self._ports[-1]

    @property
    def _frontend(self) -> Frontend | None:
        """Who is typed at."""
        return self._first if not self._focus else self._ports[self._focus - 1].frontend

    def _room(self) -> None:
        self.on_room()
        for port in self._ports:
            port.on_room()

    def _to_all(self, event: str) -> None:
        for place in (self, *self._ports):
            getattr(place, event)()

    def description(self) -> str:
        return self.inner.description()

    def write(self, data: bytes) -> None:
        self.inner.write(data if self._timestamps_from is None else self._stamped(data))

    def full(self) -> bool:
        return self.inner.full()

    def accept_input(self) -> None:
        if self._queue and self._context is not None:
            self._context.loop.call_soon_threadsafe(self._pump)

    def close(self) -> None:
        self.inner.close()

    # The inner chardev's front-end is the mux itself.

    def can_receive(self) -> int:
        """Room in the queue: the escapes must not wait for the guest."""
        return QUEUE_LIMIT - len(self._queue)

    def receive(self, data: bytes) -> int:
        """Sort escapes from input."""
        for byte in data:
            if self._escaped:
                self._escaped = False
                self._command(byte)
            elif byte == ESCAPE:
                self._escaped = True
            else:
                self._queue.append(byte)
        if not self._pumping:
            self._pump()
        return len(data)

    def receive_break(self) -> None:
        """A break from below goes through."""
        if self._frontend is not None:
            self._frontend.receive_break()

    def _pump(self) -> None:
        """Feed the guest what it has room for; come back while some is left."""
        assert self._context is not None
        with self._context.lock:
            if self._frontend is None:
                self._queue.clear()
                return
            while self._queue and (room := self._frontend.can_receive()) > 0:
                taken = self._frontend.receive(bytes(self._queue[:room]))
                del self._queue[:taken]
                if not taken:
                    break
            self._pumping = bool(self._queue)
            if self._pumping:
                self._context.loop.call_later(ROOM_POLL, self._pump)

    def _command(self, byte: int) -> None:
        assert self._context is not None
        match bytes([byte]):
            case b"x":
                self.inner.write(b"\r\npytcg: Terminated\r\n")
                self._context.quit()
            case b"h" | b"?":
                self.inner.write(HELP.replace("\n", "\r\n").encode())
            case b"b":
                self.receive_break()
            case b"t":
                running = self._timestamps_from is not None
                self._timestamps_from = None if running else time.monotonic_ns()
            case b"c":
                self._switch()
            case b"\x01":
                self._queue.append(ESCAPE)
            case _:
                pass

    def _switch(self) -> None:
        """Give the next front-end the focus; it hears of it as of a peer that comes."""
        count = len(self._ports) + 1
        old, self._focus = self._focus, (self._focus + 1) % count
        if self._focus != old:
            places = (self, *self._ports)
            self._queue.clear()
            places[old].on_close()
            places[self._focus].on_open()

    def _stamped(self, data: bytes) -> bytes:
        """A time since the toggle in front of each line."""
        assert self._timestamps_from is not None
        result = bytearray()
        for byte in data:
            if self._line_start:
                milliseconds = (time.monotonic_ns() - self._timestamps_from) // 1_000_000
                seconds = milliseconds // 1000
                clock = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
                result += f"[{clock}.{milliseconds % 1000:03}] ".encode()
            self._line_start = byte == 0x0A
            result.append(byte)
        return bytes(result)
