"""The human monitor on a character device."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pytcg.monitor.human.monitor import complete, run_line
from pytcg.monitor.human.readline import Readline

if TYPE_CHECKING:
    from pytcg.chardev.base import Chardev
    from pytcg.monitor.human.table import Qmp
    from pytcg.monitor.machine import Machine

PROMPT: Final = "(qemu) "
GREETING: Final = "QEMU 7.2.0 monitor (pytcg) - type 'help' for more information\r\n"
_ROOM: Final = 4096


class HumanSession:
    """A front-end: keys in, text out. Commands run in the main loop, without the device lock."""

    def __init__(self, machine: Machine, chardev: Chardev, qmp: Qmp) -> None:
        self._machine = machine
        self._chardev = chardev
        self._qmp = qmp
        self._context = machine.chardevs.context
        self._readline = Readline(PROMPT, self._show, self._entered, complete)
        self._greeted = False
        self._focus = False
        chardev.on_open = self._opened
        chardev.on_close = self._closed
        chardev.on_focus = self._focused

    def start(self, *, focus: bool) -> None:
        """Begin to serve; without the focus the greeting waits for Ctrl-A c."""
        self._focus = focus
        self._machine.chardevs.connect(self._chardev, self)

    def _opened(self) -> None:
        self._greeted = False
        if self._focus:
            self._greet()

    def _closed(self) -> None:
        self._greeted = False

    def _greet(self) -> None:
        if not self._greeted:
            self._greeted = True
            self._show(GREETING)
        self._readline.start()

    def _focused(self, focus: bool) -> None:
        self._focus = focus
        self._show("\r\n")
        if focus:
            self._greet()

    def can_receive(self) -> int:
        """As much as comes."""
        return _ROOM

    def receive(self, data: bytes) -> int:
        """Keys."""
        self._readline.feed(data)
        return len(data)

    def receive_break(self) -> None:
        """Nothing to monitors."""

    def _show(self, text: str) -> None:
        with self._context.lock:
            self._chardev.write(text.encode(errors="replace"))

    def _entered(self, line: str) -> None:
        self._context.loop.call_soon(self._run, line)

    def _run(self, line: str) -> None:
        self._show(run_line(self._machine, line, self._qmp))
        if self._chardev.is_open:
            self._readline.start()
