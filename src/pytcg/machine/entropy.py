"""Sources of entropy: `-object rng-builtin` and `rng-random`."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytcg.chardev.base import Context

Done = Callable[[bytes], None]


class HostEntropy:
    """The host's generator: what is asked for is there."""

    def request(self, length: int, done: Done) -> None:
        """Random bytes; device lock held."""
        done(os.urandom(length))

    def cancel(self, done: Done) -> None:
        """Nothing ever waits."""


class FileEntropy:
    """A file, a device or a pipe: requests wait, in order, until there is something to read.

    Each gets what is there, up to its length. At a file's end they wait for ever, as in QEMU.
    """

    def __init__(self, path: str, context: Context) -> None:
        """OSError if it can't be opened."""
        self._fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        self._context = context
        self._waiting: deque[tuple[int, Done]] = deque()
        self._listening = False

    def request(self, length: int, done: Done) -> None:
        """``done`` is called with the device lock, at once or from the main loop."""
        self._waiting.append((length, done))
        self._serve()

    def cancel(self, done: Done) -> None:
        """Its client is gone."""
        self._waiting = deque(each for each in self._waiting if each[1] is not done)

    def _serve(self) -> None:
        while self._waiting:
            try:
                data = os.read(self._fd, self._waiting[0][0])
            except BlockingIOError:
                self._listen()
                return
            except OSError:
                return
            if not data:
                return
            self._waiting.popleft()[1](data)

    def _listen(self) -> None:
        if not self._listening:
            self._listening = True
            self._context.loop.call_soon_threadsafe(
                self._context.loop.add_reader, self._fd, self._readable)  # fmt: skip

    def _readable(self) -> None:
        self._context.loop.remove_reader(self._fd)
        with self._context.lock:
            self._listening = False
            self._serve()

    def close(self) -> None:
        """Nobody asks any more."""
        if self._listening:
            self._context.loop.remove_reader(self._fd)
        os.close(self._fd)
