"""What a character device is: a byte sink that never blocks, and a source that waits for room."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import NamedTuple, Protocol


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


class Chardev:
    """Base: swallows output and gives no input. Overridden by what has either."""

    def __init__(self, label: str) -> None:
        self.label = label
        self.on_room: Callable[[], None] = do_nothing  # called when `full` ends, lock held
        self.on_open: Callable[[], None] = do_nothing  # a peer has come; main loop, lock held
        self.on_close: Callable[[], None] = do_nothing  # and has gone

    def start(self, context: Context, frontend: Frontend | None) -> None:
        """Begin to move bytes; without a front-end, input stays unread."""

    def description(self) -> str:
        """What it is connected to, as `query-chardev` calls it."""
        return self.label

    def write(self, data: bytes) -> None:
        """Send bytes from the guest; any thread, device lock held; never blocks."""

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
