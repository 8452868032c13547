"""The Ctrl-A escapes of `-nographic` and `mon:stdio`, in front of any character device."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
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

    def start(self, context: Context, frontend: Frontend | None) -> None:
        """Input comes from the mux, once Ctrl-A c has given this place the focus."""
        self._mux.seat(self, context, frontend)


    def send(self, data: bytes) -> None:
        self._mux.write(data)

    def full(self) -> bool:
        return self._mux.full()

    def accept_input(self) -> None:
        self._mux.accept_input()


@dataclass
class Seat:
    """A front-end and what was typed at it."""

    place: Chardev
    frontend: Frontend | None
    queue: bytearray = field(default_factory=bytearray)


class MuxChardev(Chardev):
    """Another chardev with escapes, which work even while the guest takes no input.

    It is the first front-end's place itself; `port` makes room for one more. Who starts first has
    the focus.
    """

    def __init__(self, inner: Chardev) -> None:
        super().__init__(inner.label)
        self.inner = inner
        inner.label = f"{self.label}-base"
        self._seats: list[Seat] = []  # in the order of starting
        self._focus = 0
        inner.on_room = self._room
        inner.on_open = self._opened
        inner.on_close = self._closed
        self._context: Context | None = None
        self._pumping = False
        self._escaped = False
        self._timestamps_from: int | None = None
        self._line_start = True

    def start(self, context: Context, frontend: Frontend | None) -> None:
        self.seat(self, context, frontend)

    def seat(self, place: Chardev, context: Context, frontend: Frontend | None) -> None:
        """A front-end begins, here or at a port."""
        self._seats.append(Seat(place, frontend))
        if self._context is None:
            self._context = context
            self.inner.frontend_open = True
            self.inner.start(context, self)
        if self.inner.is_open:
            place.tell_open()

    def port(self) -> MuxPort:
        """A place for one more front-end, reached by Ctrl-A c."""
        return MuxPort(self)

    @property
    def _seat(self) -> Seat:
        """Who is typed at."""
        return self._seats[self._focus]

    def _room(self) -> None:
        for seat in self._seats:
            seat.place.on_room()

    def _opened(self) -> None:
        for seat in self._seats:
            seat.place.tell_open()

    def _closed(self) -> None:
        for seat in self._seats:
            seat.place.tell_closed()

    def description(self) -> str:
        return "mux"

    def send(self, data: bytes) -> None:
        self.inner.write(data if self._timestamps_from is None else self._stamped(data))

    def full(self) -> bool:
        return self.inner.full()

    def accept_input(self) -> None:
        if self._context is not None and any(seat.queue for seat in self._seats):
            self._context.loop.call_soon_threadsafe(self._pump)

    def close(self) -> None:
        self.inner.close()

    # The inner chardev's front-end is the mux itself.

    def can_receive(self) -> int:
        """Room in the queue: the escapes must not wait for the guest."""
        return QUEUE_LIMIT - len(self._seat.queue)

    def receive(self, data: bytes) -> int:
        """Sort escapes from input."""
        for byte in data:
            if self._escaped:
                self._escaped = False
                self._command(byte)
            elif byte == ESCAPE:
                self._escaped = True
            else:
                self._seat.queue.append(byte)
        if not self._pumping:
            self._pump()
        return len(data)

    def receive_break(self) -> None:
        """A break from below goes through."""
        if self._seat.frontend is not None:
            self._seat.frontend.receive_break()

    def _pump(self) -> None:
        """Feed front-ends what they have room for; come back while some is left."""
        assert self._context is not None
        with self._context.lock:
            self._pumping = any([not self._feed(seat) for seat in self._seats])
            if self._pumping:
                self._context.loop.call_later(ROOM_POLL, self._pump)

    def _feed(self, seat: Seat) -> bool:
        """Whether nothing waits for it any more."""
        if seat.frontend is None:
            seat.queue.clear()
        while seat.queue and seat.frontend is not None:
            room = seat.frontend.can_receive()
            taken = seat.frontend.receive(bytes(seat.queue[:room])) if room > 0 else 0
            del seat.queue[:taken]
            if not taken:
                return False
        return True

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
                self._seat.queue.append(ESCAPE)
            case _:
                pass

    def _switch(self) -> None:
        """Give the next front-end the focus."""
        old, self._focus = self._focus, (self._focus + 1) % len(self._seats)
        if self._focus != old:
            self._seats[old].place.on_focus(False)
            self._seat.place.on_focus(True)

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
