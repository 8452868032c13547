"""`stdio`: the guest on the terminal, in raw mode, which every way out restores."""

from __future__ import annotations

import atexit
import os
import signal
import sys
import termios
from typing import Any

from pytcg.chardev.base import Chardev, ChardevError, Context, Frontend
from pytcg.chardev.stream import FdInput, FdOutput

_IFLAG, _OFLAG, _CFLAG, _LFLAG, _CC = 0, 1, 2, 3, 6


class RawTerminal:
    """A terminal's settings: raw while entered, as found afterwards."""

    def __init__(self, fd: int, *, signals: bool) -> None:
        self._fd = fd
        self._signals = signals  # Ctrl-C ends the emulator instead of going to the guest
        self._found: list[Any] | None = None

    def enter(self) -> None:
        """Raw mode, output processing left on so that our own messages read well."""
        settings = termios.tcgetattr(self._fd)
        if self._found is None:
            self._found = termios.tcgetattr(self._fd)
            atexit.register(self.restore)
        settings[_IFLAG] &= ~(
            termios.IGNBRK | termios.BRKINT | termios.PARMRK | termios.ISTRIP
            | termios.INLCR | termios.IGNCR | termios.ICRNL | termios.IXON
        )  # fmt: skip
        settings[_OFLAG] |= termios.OPOST
        settings[_CFLAG] = (settings[_CFLAG] & ~(termios.CSIZE | termios.PARENB)) | termios.CS8
        settings[_LFLAG] &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.IEXTEN)
        if not self._signals:
            settings[_LFLAG] &= ~termios.ISIG
        settings[_CC][termios.VMIN] = 1
        settings[_CC][termios.VTIME] = 0
        termios.tcsetattr(self._fd, termios.TCSANOW, settings)

    def restore(self) -> None:
        """The settings found; harmless when never entered."""
        if self._found is None:
            return
        found, self._found = self._found, None
        atexit.unregister(self.restore)
        # In the background of a shell, touching the terminal would stop the process.
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})
        try:
            termios.tcsetattr(self._fd, termios.TCSANOW, found)
        except termios.error:
            pass  # the terminal is gone
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


class StdioChardev(Chardev):
    """Standard input and output; there is one in a process."""

    taken = False

    def __init__(
        self, label: str, *, signals: bool = True, input_fd: int = 0, output_fd: int = 1
    ) -> None:
        super().__init__(label)
        if StdioChardev.taken:
            raise ChardevError("cannot use stdio by multiple character devices")
        StdioChardev.taken = True
        self._input_fd = input_fd
        self._output_fd = output_fd
        self._input: FdInput | None = None
        self._output = FdOutput(output_fd, lambda: self.on_room())
        self._terminal = RawTerminal(input_fd, signals=signals)
        self._context: Context | None = None
        self._was_blocking = True
        self._open = True

    def start(self, context: Context, frontend: Frontend | None) -> None:
        self._context = context
        sys.stdout.flush()
        self._was_blocking = _get_blocking(self._output_fd)
        if self._was_blocking:
            os.set_blocking(self._output_fd, False)
        self._output.start(context)
        if frontend is not None and _is_open(self._input_fd):
            self._listen(context, frontend)
        self.tell_open()

    def _listen(self, context: Context, frontend: Frontend) -> None:
        if os.isatty(self._input_fd):
            self._terminal.enter()
            # After Ctrl-Z and fg the shell has set the terminal its own way.
            context.loop.add_signal_handler(signal.SIGCONT, self._terminal.enter)
        self._input = FdInput(self._input_fd, context, frontend)

    def description(self) -> str:
        return "stdio"

    def send(self, data: bytes) -> None:
        self._output.write(data)

    def full(self) -> bool:
        return self._output.full()

    def accept_input(self) -> None:
        if self._input is not None:
            self._input.resume()

    def close(self) -> None:
        if not self._open:
            return
        self._open = False
        StdioChardev.taken = False
        if self._input is not None:
            self._input.stop()
        self._output.stop()
        if self._context is not None:
            if not self._context.loop.is_closed():
                self._context.loop.remove_signal_handler(signal.SIGCONT)
            if self._was_blocking:
                os.set_blocking(self._output_fd, True)
        self._terminal.restore()


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def _get_blocking(fd: int) -> bool:
    """The descriptor's mode; False for one that is closed, so that nobody changes it."""
    return os.get_blocking(fd) if _is_open(fd) else False
