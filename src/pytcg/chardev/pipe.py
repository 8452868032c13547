"""`pipe:PATH`: two named pipes, PATH.in and PATH.out, or one that serves both ways."""

from __future__ import annotations

import os

from pytcg.chardev.base import Chardev, ChardevError, Context, Frontend
from pytcg.chardev.stream import FdInput, FdOutput


class PipeChardev(Chardev):
    """Opened for reading and writing, so that it never sees an end while others come and go."""

    def __init__(self, label: str, path: str) -> None:
        super().__init__(label)
        self._input: FdInput | None = None
        self._fds: list[int] = []
        try:
            for name in (f"{path}.in", f"{path}.out"):
                self._fds.append(os.open(name, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC))
        except FileNotFoundError:
            self._close_files()
            try:
                fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
            except OSError as error:
                raise ChardevError(f"Could not open '{path}': {error.strerror}") from error
            self._fds = [fd, os.dup(fd)]
        except OSError as error:
            self._close_files()
            raise ChardevError(f"Could not open '{path}': {error.strerror}") from error
        self._output = FdOutput(self._fds[1], lambda: self.on_room())

    def description(self) -> str:
        return "pipe"

    def start(self, context: Context, frontend: Frontend | None) -> None:
        self._output.start(context)
        if frontend is not None:
            self._input = FdInput(self._fds[0], context, frontend)
        self.tell_open()

    def send(self, data: bytes) -> None:
        self._output.write(data)

    def full(self) -> bool:
        return self._output.full()

    def accept_input(self) -> None:
        if self._input is not None:
            self._input.resume()

    def close(self) -> None:
        if self._fds:
            if self._input is not None:
                self._input.stop()
            self._output.stop()
            self._close_files()

    def _close_files(self) -> None:
        while self._fds:
            os.close(self._fds.pop())
