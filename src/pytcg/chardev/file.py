"""`file:PATH`: the guest's output in a file."""

from __future__ import annotations

import os
from typing import Final

from pytcg.chardev.base import Chardev, ChardevError, Context, Frontend
from pytcg.chardev.stream import FdOutput

GIVEN: Final = "/dev/fd/"
"""What follows is a descriptor of ours, as whoever opened it wanted it."""


class FileChardev(Chardev):
    """Output to a file, emptied when opened; a named pipe or device works too."""

    def __init__(self, label: str, path: str, *, append: bool = False) -> None:
        super().__init__(label)
        place = os.O_APPEND if append else os.O_TRUNC
        flags = os.O_WRONLY | os.O_CREAT | place | os.O_CLOEXEC
        given = path.removeprefix(GIVEN)
        try:
            if given != path and given.isdecimal():
                self._fd = os.dup(int(given))
            else:
                self._fd = os.open(path, flags, 0o666)
        except OSError as error:
            raise ChardevError(f"could not open '{path}': {error.strerror}") from error
        os.set_blocking(self._fd, False)
        self._output = FdOutput(self._fd, lambda: self.on_room())
        self._open = True

    def start(self, context: Context, frontend: Frontend | None) -> None:
        self._output.start(context)
        self.tell_open()

    def description(self) -> str:
        return "file"

    def send(self, data: bytes) -> None:
        self._output.write(data)

    def full(self) -> bool:
        return self._output.full()

    def close(self) -> None:
        if self._open:
            self._open = False
            self._output.stop()
            os.close(self._fd)
