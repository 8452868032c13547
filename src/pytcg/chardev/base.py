"""What a character device is: a byte sink that never blocks, and a source that waits for room."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, Protocol

if TYPE_CHECKING:
    import asyncio
    import threading


class ChardevError(Exception):
    """A character device can't be opened; the text names it and the reason."""


class Frontend(Protocol):
    """The guest's end: a UART. Called in the main loop, with the device lock held."""

    def can_receive(self) -> int:
        """How many bytes there is room for now."""
        ...

    def receive(self, data: bytes) -> int:
        """Take the bytes; returns how many were taken."""
        ...

    def receive_break(self) -> None:
        """The line was held low for a character's time."""
        ...


class Context(NamedTuple):
    """What a chardev works with while the machine runs."""

    loop: asyncio.AbstractEventLoop
    lock: threading.RLock
    quit: Callable[[], None]  # ends the emulator


def do_nothing() -> None:
    """The listener where there is none."""


def do_nothing_with(value: bool) -> None:
    """Likewise."""


class Chardev:
    """Base: swallows output and gives no input. Overridden by what has either."""

    def __init__(self, label: str) -> None:
        self.label = label
        self.log: BinaryIO | None = None  # `logfile=`: all that is written, once more
        self.is_open = False  # there is a peer
        self.frontend: Frontend | None = None
        self.frontend_open = False  # the guest's side is there, and listens
        self.on_room: Callable[[], None] = do_nothing  # called when `full` ends, lock held
        self.on_open: Callable[[], None] = do_nothing  # a peer has come; main loop, lock held
        self.on_close: Callable[[], None] = do_nothing  # and has gone
        self.on_focus: Callable[[bool], None] = do_nothing_with  # a mux gives or takes the keys

    def start(self, context: Context, frontend: Frontend | None) -> None:
        """Begin to move bytes; without a front-end, input stays unread.

        `on_open` is called then where nobody has to connect, else whenever a peer comes.
        """
        self.tell_open()

    def tell_open(self) -> None:
        """A peer has come; main loop, lock held."""
        if not self.is_open:
            self.is_open = True
            self.on_open()

    def tell_break(self) -> None:
        """Hand a break to the front-end, if it is one that knows of it; lock held."""
        if self.frontend is not None:
            self.frontend.receive_break()

    def tell_closed(self) -> None:
        """The peer has gone."""
        if self.is_open:
            self.is_open = False
            self.on_close()

    def description(self) -> str:
        """What it is connected to, as `query-chardev` calls it."""
        return self.label

    def write(self, data: bytes) -> None:
        """Take bytes from the guest; any thread, device lock held; never blocks."""
        if self.log is not None:
            self.log.write(data)
        self.send(data)

    def send(self, data: bytes) -> None:
        """What `write` does, a log apart."""

    def full(self) -> bool:
        """Is so much output waiting that the guest should hold back?"""
        return False

    def accept_input(self) -> None:
        """The front-end has room again; any thread, device lock held."""

    def close(self) -> None:
        """Undo what opening did; may be called twice."""


class NullChardev(Chardev):
    """`null` and `none`: output vanishes, nothing comes in."""

    def description(self) -> str:
        return "null"
